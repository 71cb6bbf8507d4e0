"""`python tests/terminal/take_screenshots.py RUNS_DIR DATA_DIR OUT_DIR`: the menu's screens as SVG, for the documents.

The runs are those of a folder; the newest one is watched. What is asked of Talk and Data is done by the real processes.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from textual.pilot import Pilot
from textual.widgets import Input, Static

from moe_hub.terminal.menu import dashboard as dashboard_screen
from moe_hub.terminal.menu.app import MenuApp
from moe_hub.terminal.menu.bench import open_bench

SIZE, WIDE = (120, 36), (152, 40)
FONTS = re.compile(r"@font-face\s*\{[^}]*\}")  # Rich names a font on another host: documents need no network
Scene = Callable[[MenuApp, Pilot[Any]], Awaitable[None]]


def as_file(app: MenuApp) -> str:
    """The screen as SVG that needs nothing from elsewhere."""
    svg = FONTS.sub("", app.export_screenshot(simplify=True))
    return svg.replace("Fira Code", "monospace")


async def new_run(app: MenuApp, pilot: Pilot[Any]) -> None:
    """A wrong value beside its field."""
    await pilot.pause(0.5)
    field = app.screen.query_one("#field-model-num_experts", Input)
    field.focus()
    field.value = "99"


async def watch(app: MenuApp, pilot: Pilot[Any]) -> None:
    """The newest run."""


async def runs(app: MenuApp, pilot: Pilot[Any]) -> None:
    """All of them."""


async def talk(app: MenuApp, pilot: Pilot[Any]) -> None:
    """A held-out task, answered and judged."""
    await pilot.press("f9")
    for _ in range(600):
        await pilot.pause(0.1)
        note = str(app.screen.query_one("#talk-note", Static).content)
        if "done" in note or "fail" in note:
            return


async def data(app: MenuApp, pilot: Pilot[Any]) -> None:
    """The quality report of generated tasks."""
    app.screen.query_one("#source").value = "lambda"  # type: ignore[attr-defined]
    await pilot.press("f9")
    for _ in range(600):
        await pilot.pause(0.1)
        if "usable" in str(app.screen.query_one("#data-note", Static).content):
            return


async def dashboard(app: MenuApp, pilot: Pilot[Any]) -> None:
    """Before it is started."""


SCENES: tuple[tuple[str, str, Scene], ...] = (
    ("new", "new-run", new_run), ("watch", "watch", watch), ("runs", "runs", runs), ("talk", "talk", talk),
    ("data", "data", data), ("dashboard", "dashboard", dashboard),
)  # fmt: skip


async def take(bench_folders: tuple[Path, Path], key: str, scene: Scene, *, light: bool, size: tuple[int, int]) -> str:
    """The SVG of one screen after its scene."""
    with tempfile.TemporaryDirectory() as jobs:
        app = MenuApp(open_bench(*bench_folders, Path(jobs)), light=light, first=key)
        async with app.run_test(size=size) as pilot:
            await pilot.pause(1.0)
            await scene(app, pilot)
            await pilot.pause(1.0)
            return as_file(app)


def main(arguments: Sequence[str]) -> int:
    """Writes all screens, dark; and Watch also light and in 80 x 24."""
    runs_dir, data_dir, out = map(Path, arguments[:3])
    only = set(arguments[3:])
    out.mkdir(parents=True, exist_ok=True)
    os.environ["USER"] = "you"
    dashboard_screen.socket.gethostname = lambda: "login-node"  # no document names a machine
    shots = [(key, name, scene, False, WIDE if key == "new" else SIZE) for key, name, scene in SCENES]
    shots += [("watch", "watch-light", watch, True, SIZE), ("watch", "watch-80x24", watch, False, (80, 24))]
    for key, name, scene, light, size in shots:
        if not only or name in only:
            svg = asyncio.run(take((runs_dir, data_dir), key, scene, light=light, size=size))
            (out / f"{name}.svg").write_text(svg, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
