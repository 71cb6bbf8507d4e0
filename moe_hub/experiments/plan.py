"""The plan of an experiment: arms, seeds and the metrics that decide, read from a YAML file.

name: couplings
preset: basic_comparison
set: {train.max_steps: 2000}
seeds: [0, 1, 2]
metrics: {val/loss: min, val/exact_match: max}
baseline: dense
arms:
  dense: {model.architecture: dense}
  hgnn: {model.architecture: hgnn}
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from moe_hub.config import Config
from moe_hub.config.plans import planned_config, read_plan_file
from moe_hub.config.schema import Section, did_you_mean
from moe_hub.errors import ConfigError

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,39}$")]


class Plan(Section):
    """What is compared. `set` holds config keys of all arms, `arms` those of each; differences are from `baseline`.

    `equal_compute`: the arm whose operations are the budget of that column; by default the cheapest.
    """

    name: Name
    question: str = ""
    preset: str | None = None
    set: dict[str, Any] = {}
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    metrics: dict[str, Literal["min", "max"]] = Field(default={"val/loss": "min"}, min_length=1)
    arms: dict[Name, dict[str, Any]] = Field(min_length=1)
    baseline: Name | None = None
    equal_compute: Name | None = None

    def cells(self) -> Iterator[tuple[str, int]]:
        """(arm, seed), all arms of a seed before the next seed, so that a stop leaves whole seeds."""
        for seed in self.seeds:
            for arm in self.arms:
                yield arm, seed

    def config(self, arm: str, seed: int) -> Config:
        """The config of one run; raises `ConfigError`."""
        values = {**self.set, **self.arms[arm], "seed": seed, "name": _run_name(self.name, arm)}
        return planned_config(self.preset, values)


def read_plan(path: Path) -> Plan:
    """The plan of a file, every config in it checked; raises `ConfigError`."""
    plan = read_plan_file(path, "experiment", Plan)
    for key, named in (("baseline", plan.baseline), ("equal_compute", plan.equal_compute)):
        if named is not None and named not in plan.arms:
            raise ConfigError(f"experiment {path}: {key}: {named} is no arm{did_you_mean(named, plan.arms)}")
    for arm, seed in plan.cells():
        try:
            plan.config(arm, seed)
        except ConfigError as error:
            raise ConfigError(f"experiment {path}, arm {arm}: {error}") from None
    return plan


def _run_name(plan: str, arm: str) -> str:
    return f"{plan}-{arm}".replace(".", "-")[:40]
