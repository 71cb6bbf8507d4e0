"""`python tests/web/take_screenshots.py RUNS_DIR DATA_DIR OUT_DIR [SCENE ...]`: the page in both themes and two widths,
for the documents.

The runs are those of a folder, the newest one is selected; take `page` while it trains, the others when it has ended.
What is asked of Inference, Models and Data is done by the real processes.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from browser import FLAGS, Site, chromium, drawn_points, until
from PIL import Image
from playwright.sync_api import sync_playwright

from moe_hub.runs.store import RunStore

SIZES = {"1440": (1440, 900), "390": (390, 844)}
SETTLE_MS = 800
PUBLIC = "lambda_reductions.json"


def page_itself(page: Any) -> str:
    """The live figure; returns what to scroll to."""
    until(lambda: drawn_points(page) > 1)
    return ""


def analysis(page: Any) -> str:
    """The grid of figures."""
    open_tab(page, "analysis")
    until(lambda: page.locator("#panel-analysis .main-svg").count() >= 2)
    return ".tabs-panel"


def inference(page: Any) -> str:
    """A held-out task, answered and judged."""
    open_tab(page, "inference")
    until(lambda: page.input_value("#prompt-input"))
    page.fill("#sample-max", "60")
    page.click("#generate-button")
    until(lambda: page.is_visible("#lambda-verdict"), 120)
    return ".tabs-panel"


def models(page: Any) -> str:
    """The checkpoints."""
    open_tab(page, "models")
    until(lambda: page.locator("#panel-models tbody tr").count() > 0)
    return ".tabs-panel"


def compare(page: Any) -> str:
    """The first two checkpoints on the same data."""
    models(page)
    boxes = page.locator("#panel-models tbody input[type=checkbox]")
    boxes.nth(0).check()
    boxes.nth(boxes.count() - 1).check()
    page.click("#model-actions >> text=Compare")
    until(lambda: "Whole answer right" in page.inner_text("#compare-scores"), 240)
    return "#model-comparison"


def data(page: Any) -> str:
    """A file with many duplicates, inspected."""
    open_tab(page, "data")
    until(lambda: page.locator("#data-source-select option", has_text=PUBLIC).count())
    page.select_option("#data-source-select", index=1)
    until(lambda: page.locator("#dataset-preview tbody tr").count())
    page.click("#inspect-button")
    until(lambda: "Report" in page.inner_text("#data-report"), 120)
    return ".tabs-panel"


SCENES: dict[str, Callable[[Any], str]] = {
    "page": page_itself, "analysis": analysis, "inference": inference, "models": models, "compare": compare,
    "data": data,
}  # fmt: skip


def open_tab(page: Any, name: str) -> None:
    """Chooses one of the tabs below the figure."""
    until(lambda: drawn_points(page) > 1)
    page.click(f"#tab-{name}")


def take(chrome: Any, address: str, scene: Callable[[Any], str], *, theme: str, size: tuple[int, int]) -> bytes:
    """The PNG of one scene."""
    width, height = size
    context = chrome.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
    page = context.new_page()
    page.goto(address)
    place = scene(page)
    if place:
        page.eval_on_selector(place, "(node) => window.scrollTo(0, node.getBoundingClientRect().top + scrollY - 60)")
    page.wait_for_timeout(SETTLE_MS)
    picture = page.screenshot()
    context.close()
    return smaller(picture)


def smaller(picture: bytes) -> bytes:
    """The same picture in 256 colours: half are the most frequent, so that no ground is tinted, half cover the rest,
    so that no small dot takes the colour of another."""
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    counted = sorted(image.getcolors(image.width * image.height) or [], reverse=True)[:128]
    rare = image.quantize(128, method=Image.Quantize.MAXCOVERAGE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for _, colour in counted for part in colour] + rare)
    content = io.BytesIO()
    image.quantize(palette=palette, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
    return content.getvalue()


def main(arguments: Sequence[str]) -> int:
    """Writes the scenes that are named, or all."""
    runs_dir, data_dir, out = map(Path, arguments[:3])
    chosen = arguments[3:] or list(SCENES)
    out.mkdir(parents=True, exist_ok=True)
    site = Site(out)
    site.runs_dir, site.data_dir, site.log = runs_dir, data_dir, runs_dir.parent / "server.log"
    site.start()
    run_id = RunStore(runs_dir).ids()[0]
    try:
        with sync_playwright() as driver:
            chrome = driver.chromium.launch(executable_path=chromium(), args=FLAGS)
            for name in chosen:
                for theme in ("light", "dark"):
                    for label, size in SIZES.items():
                        address = f"{site.address}?run={run_id}"
                        content = take(chrome, address, SCENES[name], theme=theme, size=size)
                        (out / f"{name}-{theme}-{label}.png").write_bytes(content)
            chrome.close()
    finally:
        site.kill()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
