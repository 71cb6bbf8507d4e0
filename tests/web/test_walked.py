"""Every test that walked.md names is there."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent.parent


def test_every_promise_has_its_test() -> None:
    named = re.findall(r"`([\w/]+\.py)::(\w+)`", (TESTS / "web" / "walked.md").read_text(encoding="utf-8"))
    assert len(named) > 40
    missing = [f"{file}::{test}" for file, test in named if f"def {test}(" not in (TESTS / file).read_text()]
    assert missing == []
