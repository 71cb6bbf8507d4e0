"""Curves, heatmaps and panels made of characters."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from moe_hub.runs.history import RunHistory
from moe_hub.terminal.drawing.cells import SHADES, as_ansi, as_text, colour, merged
from moe_hub.terminal.drawing.curves import Curve, chart, legend, level, short
from moe_hub.terminal.drawing.panels import MOST_ROWS, layers_of, panels
from moe_hub.terminal.drawing.shades import bars, heatmap

LABEL = 10  # numbers and the line beside a chart


def curve(y: list[float] | np.ndarray, name: str = "loss") -> Curve:
    """A curve over 1, 2, 3, ..."""
    values = np.asarray(y, dtype=np.float64)
    return Curve(name, np.arange(1, len(values) + 1, dtype=np.float64), values)


def dots(lines: list[str]) -> np.ndarray:
    """The dots of a Braille chart without its labels and its foot, (4 rows, 2 columns)."""
    width = max(len(line) for line in lines[:-1]) - LABEL
    found = np.zeros((4 * (len(lines) - 1), 2 * width), bool)
    bits = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
    for row, line in enumerate(lines[:-1]):
        for column, character in enumerate(line[LABEL:]):
            code = ord(character) - 0x2800
            for y in range(4):
                for x in range(2):
                    if 0 <= code < 256:
                        found[4 * row + y, 2 * column + x] = code & bits[y][x]
    return found


def test_a_straight_line_is_straight() -> None:
    found = dots(as_text(chart([curve(np.arange(80.0))], 40 + LABEL, 21)))
    rows, columns = np.nonzero(found)
    assert found.any(0).all()  # no hole in any column of dots
    expected = (found.shape[0] - 1) * (1 - columns / (found.shape[1] - 1))
    assert np.abs(rows - expected).max() <= 1


def test_one_spike_of_a_million_rows_is_seen() -> None:
    y = np.full(1_000_000, 1.0)
    y[123_456] = 9.0
    found = dots(as_text(chart([curve(y)], 60, 11)))
    top = np.nonzero(found[0])[0]
    assert top.size
    assert abs(top[0] / found.shape[1] - 0.123456) < 0.02


def test_the_range_stands_beside_and_below() -> None:
    lines = as_text(chart([curve([2.0, 0.5, 1.0])], 40, 8))
    assert lines[0].startswith("        2│")
    assert lines[6].startswith("      0.5│")
    assert lines[7].split() == ["1", "3"]
    assert len(lines) == 8
    assert all(len(line) <= 40 for line in lines)


def test_what_is_not_finite_is_marked_where_it_is_and_leaves_a_hole() -> None:
    y = np.ones(100)
    y[40:60] = math.nan
    y[50] = math.inf
    lines = as_text(chart([curve(y)], 50 + LABEL, 6))
    marks = [index - LABEL for index, character in enumerate(lines[-2]) if character == "×"]
    assert marks[0] == pytest.approx(20, abs=1)
    assert marks[-1] == pytest.approx(29, abs=1)
    middle = [line[LABEL + 22 : LABEL + 28].strip() for line in lines[:-2]]
    assert middle == [""] * len(middle)


@pytest.mark.parametrize(
    "y", [[], [5.0], [math.nan], [math.inf, -math.inf], [0.0, 0.0], [-1e300, 1e300], [1e-12, 2e-12]]
)
@pytest.mark.parametrize("size", [(14, 2), (40, 6), (300, 60)])
def test_odd_curves_are_drawn_in_their_place(y: list[float], size: tuple[int, int]) -> None:
    lines = as_text(chart([curve(y)], *size))
    assert len(lines) == size[1]
    assert all(len(line) <= size[0] for line in lines)


def test_ascii_only_is_ascii() -> None:
    curves = [curve([1.0, math.nan, 2.0]), level("threshold", 1.5)]
    assert "".join(as_text([*chart(curves, 40, 8, ascii_only=True), legend(curves, 40, ascii_only=True)])).isascii()
    table = heatmap(np.arange(3), np.array([[0.1], [math.nan], [0.3]]), ["a"], 30, low=0, high=1, ascii_only=True)
    assert "".join(as_text([*table, *bars([("a", 0.5)], 30, ascii_only=True)])).isascii()


def test_a_threshold_lies_under_the_curve_at_its_height() -> None:
    lines = as_text(chart([curve([0.0, 1.0]), level("threshold", 0.5)], 40, 10))
    found = dots(lines)
    assert found[found.shape[0] // 2 - 2 : found.shape[0] // 2 + 2].any(1).any()
    row = int(np.argmax(found[:, ::3].sum(1)))
    assert row / (found.shape[0] - 1) == pytest.approx(0.5, abs=0.05)


def test_legend_is_cut_and_numbers_are_short() -> None:
    row = legend([curve([1.0], f"expert {index}") for index in range(20)], 40)
    assert len("".join(text for text, _ in row)) <= 43
    assert row[-1][0] == "..."
    assert all(len(short(value)) <= 8 for value in (0.0, 1.0, -123456.0, 1.5e-300, -9.87654321e-05))
    assert short(math.nan) == "nan"


def test_a_heatmap_is_darker_where_values_are_larger() -> None:
    values = np.stack([np.linspace(0, 1, 50), np.full(50, math.nan)], axis=1)
    rows = heatmap(np.arange(50), values, ["grows", "gone"], 70, low=0.0, high=1.0)
    shades = [int(style.removeprefix("shade ")) for _, style in rows[0] if style.startswith("shade")]
    assert shades == list(range(SHADES))
    assert as_text(rows)[0].endswith(" 1")
    assert set(rows[1][1][0]) == {"×"}
    assert as_text(rows)[2].split() == ["0", "49"]


def test_bars_are_as_long_as_their_values() -> None:
    lines = as_text(bars([("none", 0.0), ("half", 0.5), ("all", 1.0), ("more", 7.0), ("lost", math.nan)], 52))
    lengths = [line.count("█") for line in lines]
    assert lengths[:4] == [0, 20, 40, 40]
    assert lines[4].endswith("× nan")


def test_colours_are_those_of_the_page_and_of_256_where_needed() -> None:
    rows = [[("a", "line 0"), ("b", ""), ("c", "alarm")]]
    assert as_ansi(rows, true_colour=True) == ["\x1b[38;2;86;180;233ma\x1b[39mb\x1b[38;2;255;107;107mc\x1b[39m"]
    assert re.fullmatch(r"\x1b\[38;5;\d+ma\x1b\[39mb\x1b\[38;5;\d+mc\x1b\[39m", as_ansi(rows)[0])
    assert all(colour(f"shade {shade}", theme) for shade in range(SHADES) for theme in ("light", "dark"))
    assert merged([("a", "x"), ("b", "x"), ("c", "")]) == [("ab", "x"), ("c", "")]


# --- panels


def rows_of(key: str, history: RunHistory, layer: int = 0, size: tuple[int, int] = (80, 10)) -> str:
    """A panel as text."""
    panel = next(each for each in panels(history, layer) if each.key == key)
    return "\n".join([panel.title, *as_text(panel.draw(*size, False))])


def test_panels_without_data_say_what_would_stand_there() -> None:
    found = {panel.key: panel for panel in panels(RunHistory("r"))}
    assert list(found) == ["loss", "load", "rotation", "saturation", "phases", "alarms"]
    assert [panel.known for panel in found.values()] == [False] * 5 + [True]
    assert "no step has been logged yet" in rows_of("loss", RunHistory("r"))
    assert layers_of(RunHistory("r")) == 1


def test_panels_show_the_layer_that_is_asked_for() -> None:
    rows = [
        {"step": step, "expert/load": [[0.5, 0.5], [0.9, 0.1]], "ghost/saturation": [0.1, 0.7], "ghost/threshold": 0.25,
         "ghost/activation": [[0.0], [1.0]], "rotation/theta_rad": [[[0.1], [0.2]], [[0.3], [0.4]]]}
        for step in range(1, 4)
    ]  # fmt: skip
    history = RunHistory("r", rows=rows)
    assert layers_of(history) == 2
    assert "0.9" in rows_of("load", history, 1)
    assert "0.9" not in rows_of("load", history, 0)
    assert "threshold 0.25" in rows_of("saturation", history, 1)
    assert "1 of 2 ghosts awake" in rows_of("saturation", history)
    assert "layer 1" in rows_of("rotation", history, 7)  # there is no layer 7
    assert "none" in rows_of("alarms", history)


def test_long_tables_are_thinned_and_keep_their_last_row() -> None:
    count = 3 * MOST_ROWS + 1
    rows = [{"step": step, "expert/load": [[0.0 if step < count else 1.0]]} for step in range(1, count + 1)]
    text = rows_of("load", RunHistory("r", rows=rows))
    assert f"{count:,}" in text
    assert " 1\n" in text
