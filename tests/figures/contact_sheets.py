"""`python tests/figures/contact_sheets.py OUT [KEY ...]`: every figure with few, many, NaN and no rows, light and dark,
drawn by Plotly.js on sheets to look at: OUT/<theme>-<width>-<n>.png."""

from __future__ import annotations

import itertools
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import plotly
from conftest import CONFIG, made_history, made_row
from playwright.sync_api import sync_playwright

from moe_hub.figures import serve
from moe_hub.figures.registry import FIGURES
from moe_hub.figures.view import THEMES, Theme, View
from moe_hub.runs.history import RunHistory

PLOTLY = Path(plotly.__file__).parent / "package_data" / "plotly.min.js"
A_SHEET = 5  # figures
WIDTHS = (480, 390)
DRAW = """async ([cells, width]) => {
  document.body.style.cssText = 'margin:0;display:grid;gap:6px;background:#888';
  document.body.style.gridTemplateColumns = `repeat(4,${width}px)`;
  document.body.replaceChildren();
  for (const text of cells) {
    const place = document.createElement('div');
    place.style.height = '330px';
    document.body.append(place);
    const figure = JSON.parse(text);
    await Plotly.newPlot(place, figure.data, figure.layout, {displayModeBar: false});
  }
}"""


def spoiled(rows: int) -> RunHistory:
    """A run in which every fourth row holds NaN in every metric."""
    rng = np.random.default_rng(3)
    table = [made_row(index, rows, 5, rng, 0) for index in range(rows)]
    for row in table[3::4]:
        for name in set(row) - {"step", "time", "tokens"}:
            row[name] = "NaN" if np.ndim(row[name]) == 0 else np.full(np.shape(row[name]), np.nan)
    return RunHistory("20261124-155512-nan-0002", CONFIG, None, table)


def cases(several: bool) -> list[list[RunHistory]]:
    """Few rows, many, NaN, none; figures that compare get several runs of each."""
    nothing = RunHistory("20261124-155512-empty-0000", CONFIG)
    if not several:
        return [[made_history(4)], [made_history(3000)], [spoiled(60)], [nothing]]
    changes: list[Any] = [{"train": {"learning_rate": rate}} for rate in (1e-3, 3e-3)]
    pair = [made_history(4, seed, changes=changes[seed]) for seed in range(2)]
    many = [made_history(200, seed, changes=changes[seed % 2]) for seed in range(20)]
    return [pair, many, [spoiled(60), made_history(60, 1)], [nothing, RunHistory("20261124-155512-empty-0001", CONFIG)]]


def cells(keys: list[str], theme: Theme, width: int) -> Iterator[str]:
    """The figures of a sheet, four for each key."""
    for key in keys:
        for histories in cases(FIGURES[key].several > 1 or key == "final-metrics-of-runs"):
            view = View(theme=theme, width_px=width, threshold=0.5, group_by="train.learning_rate"
                        if key == "overlay-of-runs" and len(histories) > 5 else None)  # fmt: skip
            figure = json.loads(serve.figure_json(key, histories, view))
            yield json.dumps(figure)


def main(out: Path, keys: list[str]) -> None:
    """Writes the sheets."""
    out.mkdir(parents=True, exist_ok=True)
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    flags = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=flags)
        for theme, width in itertools.product(THEMES, WIDTHS):
            page = browser.new_page(viewport={"width": 4 * (width + 6), "height": 1700}, offline=True)
            page.set_content("<html></html>")
            page.add_script_tag(path=str(PLOTLY))
            for first in range(0, len(keys), A_SHEET):
                part = keys[first : first + A_SHEET]
                page.evaluate(DRAW, [list(cells(part, theme, width)), width])
                path = out / f"{theme}-{width}-{first // A_SHEET}.png"
                page.screenshot(path=path, full_page=True)
                print(path, *part)
            page.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] or list(FIGURES))
