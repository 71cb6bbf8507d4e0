"""A figure as plain data: traces and a layout as dictionaries, arrays as numpy arrays, and its JSON."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

Trace = dict[str, Any]


@dataclass
class Drawing:
    """What a figure function returns.

    `panels` are (title with unit) of y axes y, y2, ... from top to bottom, which share the x axis; a figure without
    panels sets its own axes in `layout`. `notes` are short sentences about how the data are shown; they stand under
    the title. `height_px` is the height below which the figure is hard to read; `layers` how many layers can be
    chosen from, 0 where there is no choice; `run_axis` says that the x axis is that of the view, so that a zoom may be
    asked for as its range. `run` is the id of the run that is shown where the figure shows one of several.
    """

    traces: list[Trace] = field(default_factory=list)
    panels: list[str] = field(default_factory=list)
    x_axis: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    layout: dict[str, Any] = field(default_factory=dict)
    height_px: int = 0
    layers: int = 0
    run_axis: bool = False
    run: str = ""
    log_y: bool | None = None  # None: as the view says

    def note(self, text: str) -> None:
        """Adds a sentence once."""
        if text and text not in self.notes:
            self.notes.append(text)


def to_json(figure: dict[str, Any]) -> bytes:
    """The figure as Plotly.js reads it; numeric arrays as {dtype, bdata, shape}, which keeps NaN and needs no text."""
    return orjson.dumps(_encode(figure))


def compact(values: npt.ArrayLike, *, exact: bool) -> npt.NDArray[Any]:
    """float64 where the person may read single values, else float32: a screen shows no more than 7 digits.

    Whole numbers go as int32 where they fit; float32 would lose them above 16,777,216.
    """
    array = np.asarray(values)
    if array.dtype.kind in "iu" or (array.dtype.kind == "f" and _is_whole(array)):
        small = array.size == 0 or (array.min() >= -(2**31) and array.max() < 2**31)
        return array.astype(np.int32 if small else np.float64)
    return array.astype(np.float64 if exact else np.float32)


def _is_whole(array: npt.NDArray[Any]) -> bool:
    return bool(np.isfinite(array).all() and (array == np.floor(array)).all())


_DTYPES = {"f8": "f8", "f4": "f4", "i4": "i4", "i2": "i2", "i1": "i1", "u4": "u4", "u2": "u2", "u1": "u1"}


def _encode(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _encode_array(value)
    if isinstance(value, dict):
        return {key: _encode(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _encode_array(array: npt.NDArray[Any]) -> Any:
    dtype = _DTYPES.get(f"{array.dtype.kind}{array.dtype.itemsize}")
    if dtype is None:
        return [_encode(item) for item in array.tolist()]
    content = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    encoded = {"dtype": dtype, "bdata": base64.b64encode(content.data).decode("ascii")}
    if array.ndim > 1:
        encoded["shape"] = ", ".join(str(size) for size in array.shape)
    return encoded
