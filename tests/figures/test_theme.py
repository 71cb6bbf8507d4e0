"""Colours: contrast with the background, and differences that colour-blind people see too."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from moe_hub.errors import ConfigError
from moe_hub.figures import theme
from moe_hub.figures.theme import PALETTES, Palette, mix, plain_text, wrap
from moe_hub.figures.view import View, read_view

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
BLINDNESS = {
    "none": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}  # fmt: skip
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = np.array([0.9505, 1.0, 1.089])


def linear(colour: str) -> np.ndarray:
    value = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2 contrast ratio."""
    low, high = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(colour: str, blindness: str) -> np.ndarray:
    seen = TO_XYZ @ np.clip(BLINDNESS[blindness] @ linear(colour), 0, 1) / WHITE
    root = np.where(seen > 0.008856, np.cbrt(seen), 7.787 * seen + 16 / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


@pytest.mark.parametrize("palette", PALETTES.values(), ids=PALETTES)
def test_text_and_lines_stand_out(palette: Palette) -> None:
    assert contrast(palette.text, palette.paper) >= 7
    assert contrast(palette.muted, palette.paper) >= 4.5
    assert contrast(palette.alarm, palette.paper) >= 4.5
    for colour in palette.lines:
        assert contrast(colour, palette.paper) >= 3, colour


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("palette", PALETTES.values(), ids=PALETTES)
def test_the_first_lines_can_be_told_apart_by_everyone(palette: Palette, blindness: str) -> None:
    """CIE76 differences; 2.3 is just noticeable. All eight have a further difference in dash or label."""
    for count, least in ((5, 14.0), (8, 8.0)):
        for one, other in itertools.combinations(palette.lines[:count], 2):
            distance = float(np.linalg.norm(lab(one, blindness) - lab(other, blindness)))
            assert distance >= least, (one, other, distance)


@pytest.mark.parametrize("palette", PALETTES.values(), ids=PALETTES)
@pytest.mark.parametrize("blindness", BLINDNESS)
def test_sequential_colours_rise_or_fall_in_lightness(palette: Palette, blindness: str) -> None:
    steps = np.diff([lab(colour, blindness)[0] for colour in palette.sequential])
    assert (steps > 3).all() or (steps < -3).all()


@pytest.mark.parametrize("palette", PALETTES.values(), ids=PALETTES)
def test_words_stand_out_on_every_cell(palette: Palette) -> None:
    for colours in (palette.sequential, palette.diverging):
        scale = theme.color_scale(colours)
        for share in np.linspace(0, 1, 101):
            cell = theme.color_at(scale, share)
            assert contrast(theme.text_on(cell), cell) >= 4.5, cell
        assert [theme.color_at(scale, each) for each in np.linspace(0, 1, len(colours))] == list(colours)


def test_mix_and_text() -> None:
    assert mix("#000000", "#ff8000", 0.5) == "#804000"
    assert plain_text("<b>&%{x}") == "&lt;b&gt;&amp;%&#123;x}"
    assert all(len(line) <= 60 for line in wrap("word " * 60, View(width_px=390)).split("<br>"))


def test_a_view_from_a_query_string() -> None:
    view = read_view({"x": "tokens", "log_x": "1", "x0": "2", "x1": "3", "smoothing": "0.9", "width_px": "390.4",
                      "theme": "dark", "other": "kept alone", "layer": "1", "group_by": "seed"})  # fmt: skip
    assert view == View("tokens", True, False, 0.9, (100.0, 1000.0), 1, 390, "dark", group_by="seed")
    assert read_view({}) == View()


@pytest.mark.parametrize(
    ("name", "value"),
    [("x", "steps"), ("smoothing", "1"), ("smoothing", "nan"), ("layer", "-1"), ("layer", "x"), ("theme", "blue"),
     ("width_px", "0"), ("log_y", "yes please"), ("threshold", "inf")],
)  # fmt: skip
def test_a_wrong_view_says_what_is_allowed(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=f"view: {name}"):
        read_view({name: value})


def test_a_range_must_be_one() -> None:
    with pytest.raises(ConfigError, match="x_range"):
        View(x_range=(2.0, 2.0))
    with pytest.raises(ConfigError, match="too large"):
        read_view({"log_x": "1", "x0": "1", "x1": "400"})
