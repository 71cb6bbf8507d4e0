"""The document shows the newest result of each part and keeps what was not measured anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import document
from benchmarks.__main__ import FULL, QUICK
from benchmarks.document import DOCUMENT

MACHINE = {"commit": "abc", "cpu": "X", "cores": 2, "torch": "2", "transformers": "5", "load_1_5_15_min": [0.5, 0, 0]}


def write(folder: Path, name: str, part: str, ratio: str, **more: Any) -> None:
    goal = {"text": "speed", "measured": 2.0, "bound": 3.0, "kind": "at least", "low": None, "high": None, "met": False}
    table = {"title": "Steps", "columns": ["step", "ratio"], "rows": [["a", ratio]]}
    result = {"tables": [table], "goals": [goal], "notes": ["noisy"], **more}
    run = {"started": "2026-01-02T03:04:05", "command": ["python", "-m", "benchmarks"], "machine": MACHINE}
    (folder / name).write_text(json.dumps({**run, "parts": {part: result}}))


def test_the_newest_result_replaces_its_block_alone(tmp_path: Path) -> None:
    write(tmp_path, "20260102.json", "step", "old")
    write(tmp_path, "20260103.json", "step", "new")
    write(tmp_path, "20260104.json", "step", "broken", error="RuntimeError")
    text = "A\n<!-- bench step -->\nx\n<!-- end step -->\nB\n<!-- bench peak -->\nkept\n<!-- end peak -->\n"
    found = document.update(text, document.newest(tmp_path))
    assert "| a    | new   |" in found
    assert "MISSED by 1" in found
    assert "commit abc" in found
    assert "\nB\n<!-- bench peak -->\nkept\n<!-- end peak -->\n" in found
    assert document.update(found, document.newest(tmp_path)) == found


def test_the_document_has_a_block_for_every_part() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for name in [*QUICK, *FULL]:
        assert text.count(f"<!-- bench {name} -->") == text.count(f"<!-- end {name} -->") == 1
