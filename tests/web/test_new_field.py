"""A field that is added to a section of the schema is on the page, in --help and in the document by itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import moe_hub

ROOT = Path(moe_hub.__file__).parent.parent
LINE = '    max_steps: int = option(600, "Steps"'
ADDED = '    new_knob: float = option(0.25, "New knob", "What it does.", unit="turns", ge=0, le=1)\n'
LAYOUT = """
import json, sys
from moe_hub.web import create_dashboard
client = create_dashboard(runs_dir=sys.argv[1], data_dir=sys.argv[1]).server.test_client()
print(client.get("/_dash-layout").text)
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_new_field_appears_everywhere(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "moe_hub", tmp_path / "moe_hub", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("configs", "assets"):
        (tmp_path / name).symlink_to(ROOT / name)
    section = tmp_path / "moe_hub" / "config" / "train.py"
    text = section.read_text()
    assert text.count(LINE) == 1
    section.write_text(text.replace(LINE, ADDED + LINE))

    def run(*words: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
        done = subprocess.run(
            [sys.executable, *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    layout = json.dumps(json.loads(run("-c", LAYOUT, str(tmp_path / "data"))))
    assert '"id": "field-train-new_knob"' in layout
    assert '"id": "slider-train-new_knob"' in layout
    assert "What it does. Allowed: 0 to 1 turns." in layout
    assert "train.new_knob = 0.25: What it does." in run("-m", "moe_hub.train", "--help")
    assert "| `train.new_knob` | `0.25` | 0 to 1 turns | New knob. What it does. |" in run(
        "-m", "moe_hub.config.reference"
    )
    assert "new_knob: 0.5" in run(
        "-m", "moe_hub.train", "--preset", "basic_comparison", "--set", "train.new_knob=0.5", "--print-config"
    )
