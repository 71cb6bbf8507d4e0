"""How a person looks at a figure: axis, scales, smoothing, visible range, layer, size and theme."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

from moe_hub.errors import ConfigError

Axis = Literal["step", "tokens", "active_time", "time"]
Theme = Literal["light", "dark"]

AXES: tuple[Axis, ...] = get_args(Axis)
THEMES: tuple[Theme, ...] = get_args(Theme)
MOST_PIXELS = 8192


@dataclass(frozen=True)
class View:
    """What a person chose. The defaults draw a run from its first to its last row.

    `x_range` is in the units of the axis (not in their logarithm): rows, tokens, or seconds. `layer` counts from 0.
    `metric` and `group_by` (a dotted config key) are read by the Compare figures, `threshold` by the replay of
    ghost activation.
    """

    x: Axis = "step"
    log_x: bool = False
    log_y: bool = False
    smoothing: float = 0.0
    x_range: tuple[float, float] | None = None
    layer: int = 0
    width_px: int = 1000
    theme: Theme = "light"
    metric: str | None = None
    group_by: str | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        _expect(self.x in AXES, "x", self.x, f"allowed: {', '.join(AXES)}")
        _expect(self.theme in THEMES, "theme", self.theme, f"allowed: {', '.join(THEMES)}")
        _expect(0 <= self.smoothing < 1, "smoothing", self.smoothing, "allowed: 0 to below 1; 0 turns it off")
        _expect(self.layer >= 0, "layer", self.layer, "layers count from 0")
        _expect(1 <= self.width_px <= MOST_PIXELS, "width_px", self.width_px, f"allowed: 1 to {MOST_PIXELS}")
        if self.x_range is not None:
            low, high = self.x_range
            _expect(math.isfinite(low) and math.isfinite(high) and low < high, "x_range", self.x_range,
                    "two finite numbers, the lower one first")  # fmt: skip
        if self.threshold is not None:
            _expect(math.isfinite(self.threshold), "threshold", self.threshold, "a finite number")


def read_view(values: Mapping[str, str]) -> View:
    """A view from the texts of a query string; raises `ConfigError` for what cannot be read.

    `x0` and `x1` are the range as Plotly reports it, so on a log axis the exponents of ten. Names that are no part
    of a view are left alone: they are somebody else's.
    """
    chosen: dict[str, Any] = {}
    for name in ("x", "theme", "metric", "group_by"):
        if values.get(name):
            chosen[name] = values[name]
    for name in ("log_x", "log_y"):
        if name in values:
            chosen[name] = _flag(name, values[name])
    for name in ("layer", "width_px"):
        if values.get(name):
            chosen[name] = int(_number(name, values[name]))
    for name in ("smoothing", "threshold"):
        if values.get(name):
            chosen[name] = _number(name, values[name])
    if values.get("x0") and values.get("x1"):
        chosen["x_range"] = _range(values["x0"], values["x1"], bool(chosen.get("log_x")))
    return View(**chosen)


def _range(first: str, second: str, log_x: bool) -> tuple[float, float]:
    low, high = sorted((_number("x0", first), _number("x1", second)))
    if log_x:
        try:
            low, high = 10.0**low, 10.0**high
        except OverflowError:
            raise ConfigError(f"view: x0 = {first!r}, x1 = {second!r}: too large for a log axis") from None
    return low, high


def _flag(name: str, text: str) -> bool:
    known = {"1": True, "true": True, "on": True, "0": False, "false": False, "off": False, "": False}
    if text.lower() not in known:
        raise ConfigError(f"view: {name} = {text!r}; allowed: 1 or 0")
    return known[text.lower()]


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"view: {name} = {text!r}; a finite number is needed")
    return value


def _expect(holds: bool, name: str, value: object, allowed: str) -> None:
    if not holds:
        raise ConfigError(f"view: {name} = {cast(Any, value)!r}; {allowed}")
