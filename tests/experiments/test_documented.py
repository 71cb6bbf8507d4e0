"""Every experiment of configs/experiments is a valid plan, and docs/experiments.md names only what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from moe_hub.evaluate.__main__ import build_parser as evaluate_parser
from moe_hub.experiments.__main__ import build_parser
from moe_hub.experiments.plan import read_plan

ROOT = Path(__file__).parents[2]
PLANS = sorted((ROOT / "configs" / "experiments").glob("*.yaml"))
TEXT = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("file", PLANS, ids=lambda file: file.stem)
def test_each_plan_is_valid_and_documented(file: Path) -> None:
    plan = read_plan(file)
    assert plan.question.endswith("?")
    assert plan.name == file.stem.replace("_", "-")
    assert f"<!-- experiment {plan.name} -->" in TEXT
    assert f"<!-- end {plan.name} -->" in TEXT
    assert f"python -m moe_hub.experiments run configs/experiments/{file.name}" in TEXT


def test_the_document_names_files_that_exist() -> None:
    named = set(re.findall(r"(?:configs|docs|moe_hub|tests|benchmarks)/[\w./-]+\.(?:yaml|md|py)", TEXT))
    assert named
    assert [path for path in sorted(named) if not (ROOT / path).is_file()] == []


def test_the_document_gives_commands_that_parse() -> None:
    parsers = {"experiments": build_parser(), "evaluate": evaluate_parser()}
    commands = re.findall(r"python -m moe_hub\.(experiments|evaluate) ([^`\n]+)", TEXT)
    assert commands
    for module, arguments in commands:
        parsers[module].parse_args(arguments.split())


def test_the_document_names_no_machine() -> None:
    assert not re.search(r"(?<![\w.])/(?:tmp|home|work|root)/", TEXT)
