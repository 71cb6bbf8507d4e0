"""Puts the newest results into docs/performance.md, so that its tables are those that the commands printed.

`python -m benchmarks --document` does it after its parts, `python -m benchmarks.document [FOLDER]` alone.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import Goal, Table

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"


def newest(folder: Path) -> dict[str, dict[str, Any]]:
    """For each part the newest record with a result of it: {"run": ..., "part": ...}."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):  # names begin with the time
        run = json.loads(path.read_text(encoding="utf-8"))
        for name, part in run["parts"].items():
            if "error" not in part:
                found[name] = {"run": run, "part": part}
    return found


def section(record: dict[str, Any]) -> str:
    """The tables, goals and notes of a part in markdown, with date, commit, machine and load."""
    run, part = record["run"], record["part"]
    machine = run["machine"]
    load = machine["load_1_5_15_min"][0]
    command = " ".join(Path(word).name if "/" in word else word for word in run["command"])
    head = (
        f"Measured {run['started'][:10]}, commit {machine['commit']}, {machine['cpu']}, {machine['cores']} cores, "
        f"torch {machine['torch']}, transformers {machine['transformers']}; load at the start {load}; "
        f"`{command}`."
    )
    tables = [Table(**{**table, "rows": [tuple(row) for row in table["rows"]]}).markdown() for table in part["tables"]]
    goals = [Goal(**{key: value for key, value in goal.items() if key != "met"}).line() for goal in part["goals"]]
    lines = [head, *tables, "\n".join(f"- {goal}" for goal in goals), *(f"Note: {note}." for note in part["notes"])]
    return "\n\n".join(line for line in lines if line)


def update(document: str, records: dict[str, dict[str, Any]]) -> str:
    """The document with the block of each measured part replaced; blocks of other parts stay."""

    def block(match: re.Match[str]) -> str:
        name = match["name"]
        if name not in records:
            return match[0]
        return f"<!-- bench {name} -->\n\n{section(records[name])}\n\n<!-- end {name} -->"

    return re.sub(r"<!-- bench (?P<name>\w+) -->.*?<!-- end (?P=name) -->", block, document, flags=re.DOTALL)


def write(results: Path) -> None:
    """Updates docs/performance.md from the records in a folder."""
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(update(text, newest(results)), encoding="utf-8")


if __name__ == "__main__":
    write(Path(*sys.argv[1:2] or ["bench-results"]))
