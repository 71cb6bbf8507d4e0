"""The plan of a sweep: which config keys are searched, where, and what decides, read from a YAML file.

name: rates
preset: geometric_lambda
set: {train.max_steps: 600}
metric: val/loss
direction: min
trials: 20
space:
  train.learning_rate: {low: 1e-4, high: 1e-2, log: true}
  model.num_experts: {low: 2, high: 8, step: 2}
  model.readout: {choices: [mean, gate]}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from moe_hub.config import Config, field_paths
from moe_hub.config.plans import planned_config, read_plan_file
from moe_hub.config.schema import Section, did_you_mean
from moe_hub.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")]
Number = int | float


class Range(Section):
    """Where one key is searched: from low to high (whole numbers where both are), or among choices."""

    low: Number | None = None
    high: Number | None = None
    step: Number | None = Field(default=None, gt=0)
    log: bool = False
    choices: tuple[Any, ...] | None = Field(default=None, min_length=2)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.choices is not None and (self.low is not None or self.high is not None or self.log or self.step):
            raise ValueError("choices stand alone: without low, high, step and log")
        if self.choices is None and (self.low is None or self.high is None):
            raise ValueError("give either low and high, or two choices or more")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low {self.low} must be under high {self.high}")
        if self.log and (self.step is not None or (self.low is not None and self.low <= 0)):
            raise ValueError("log needs a low over 0, and no step")
        return self

    def is_whole(self) -> bool:
        """Whether the range takes whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def corners(self) -> tuple[Any, ...]:
        """Values whose check covers the range: its ends, or every choice."""
        return self.choices if self.choices is not None else (self.low, self.high)


class SweepPlan(Section):
    """What is searched, and for what. A trial trains one run for each seed; their mean decides."""

    name: Name
    question: str = ""
    preset: str | None = None
    set: dict[str, Any] = {}
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    metric: str = "val/loss"
    direction: Literal["min", "max"] = "min"
    trials: int = Field(default=20, ge=1, le=10_000)
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    sampler_seed: int = Field(default=0, ge=0)
    prune: bool = False
    space: dict[str, Range] = Field(min_length=1)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.prune and len(self.seeds) > 1:
            raise ValueError("prune needs one seed: a mean over seeds is known only at the end")
        if self.sampler == "grid":
            for key, span in self.space.items():
                if span.choices is None and not (span.is_whole() or span.step):
                    raise ValueError(f"sampler: grid needs choices, whole numbers or a step for {key}")
        return self

    def config(self, values: Mapping[str, Any], seed: int, number: int) -> Config:
        """The config of one run of a trial; raises `ConfigError`."""
        keys = {**self.set, **values, "seed": seed, "name": f"{self.name}-t{number}"}
        return planned_config(self.preset, keys)


def read_sweep_plan(path: Path) -> SweepPlan:
    """The plan of a file, every key and bound of its space checked; raises `ConfigError`."""
    plan = read_plan_file(path, "sweep", SweepPlan, (Range,))
    _check_space(path, plan)
    return plan


def _check_space(path: Path, plan: SweepPlan) -> None:
    """Every end and choice is allowed for its own field; which of them go together only a trial shows."""
    known = field_paths()
    for key, span in plan.space.items():
        if key not in known:
            raise ConfigError(f"sweep {path}: space: unknown config key {key}{did_you_mean(key, known)}")
        problems = []
        for value in span.corners():
            try:
                plan.config({key: value}, plan.seeds[0], 0)
            except ConfigError as error:
                problems.append(str(error))
        if len(problems) == len(span.corners()) or any(text.startswith((f"{key} ", f"{key}:")) for text in problems):
            raise ConfigError(f"sweep {path}: space: {problems[0]}")
