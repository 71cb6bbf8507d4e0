"""Out-of-distribution sets: each leaves the training range in one named way.

They are not filtered by split, because none of their terms can be a training sample; reducts may lie in the range.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from moe_hub.errors import ConfigError
from moe_hub.lambda_calculus.levels import LEVELS
from moe_hub.lambda_calculus.tasks import LARGEST_SIZE, Sample, TaskSettings, draw_sample

MORE_NODES = 11
MORE_BINDERS = 6
LONG_LEVEL = 5
CHURCH_LEVEL = 6


@dataclass(frozen=True)
class OutOfDistribution:
    """A set: its name, what it varies, and how its settings follow from those of the training data."""

    name: str
    title: str
    settings: Callable[[TaskSettings, int], TaskSettings]


def ood_settings(name: str, training: TaskSettings, max_tokens: int | None = None) -> TaskSettings:
    """Settings of a set beside a training range. Longer samples are usual, so `max_tokens` may be raised.

    Raises `ConfigError` for an unknown name, and where the training range leaves no room outside it.
    """
    if name not in OOD_SETS:
        raise ConfigError(f"out-of-distribution set {name!r} does not exist; there are {', '.join(OOD_SETS)}")
    return OOD_SETS[name].settings(training, training.max_tokens if max_tokens is None else max_tokens)


def make_ood_sample(name: str, training: TaskSettings, seed: int, index: int, max_tokens: int | None = None) -> Sample:
    """Sample number `index` of a set, a pure function of its arguments. Raises `ConfigError` as `ood_settings`."""
    return draw_sample(ood_settings(name, training, max_tokens), None, seed, index)


def _larger(training: TaskSettings, max_tokens: int) -> TaskSettings:
    if training.max_size >= LARGEST_SIZE:
        raise ConfigError(f"set size: training already goes up to {LARGEST_SIZE} nodes, the largest; lower max_size")
    largest = min(LARGEST_SIZE, training.max_size + MORE_NODES)
    return replace(training, min_size=training.max_size + 1, max_size=largest, max_tokens=max_tokens)


def _longer(training: TaskSettings, max_tokens: int) -> TaskSettings:
    covered = [level for level in training.levels if _covers(level, training)]
    if covered:
        raise ConfigError(f"set steps: levels {covered} already show reductions of 5 to 8 steps; train without them")
    size = max(training.max_size, LEVELS[LONG_LEVEL].smallest_max_size)
    return replace(training, levels=(LONG_LEVEL,), max_size=size, max_tokens=max_tokens)


def _covers(level: int, training: TaskSettings) -> bool:
    """Whether a level may hold terms of 5 steps or more: level 8 and, asked for one step only, levels 1 and 2 do."""
    one_step = training.layout == "segments" and LEVELS[level].question == "step"
    return not one_step and any(last > 4 for _, last in LEVELS[level].strata)


def _deeper(training: TaskSettings, max_tokens: int) -> TaskSettings:
    least = training.max_binder_depth + 1
    if least > training.max_size - 4:
        raise ConfigError(
            f"set binder_depth: training terms of {training.max_size} nodes may nest as many binders as "
            f"max_binder_depth = {training.max_binder_depth}; train with {training.max_size - 5} or less"
        )
    return replace(
        training, min_binder_depth=least, max_binder_depth=training.max_binder_depth + MORE_BINDERS,
        max_tokens=max_tokens,
    )  # fmt: skip


def _mixed(training: TaskSettings, max_tokens: int) -> TaskSettings:
    if CHURCH_LEVEL not in training.levels or training.mixed:
        raise ConfigError(
            f"set compositions: levels = {list(training.levels)}, mixed = {training.mixed}; it belongs to training "
            f"with level {CHURCH_LEVEL} and without mixed"
        )
    return replace(training, levels=(CHURCH_LEVEL,), mixed=True, max_tokens=max_tokens)


OOD_SETS: dict[str, OutOfDistribution] = {
    row.name: row
    for row in (
        OutOfDistribution("size", "larger terms than any in training", _larger),
        OutOfDistribution("steps", "reductions of 5 to 8 steps after training on up to 4", _longer),
        OutOfDistribution("binder_depth", "more nested binders than any training term", _deeper),
        OutOfDistribution("compositions", "operators of different families composed", _mixed),
    )
}
