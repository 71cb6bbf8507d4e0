"""What the documents name exists: files, links, make targets, commands with their flags, config keys, presets."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from moe_hub.architectures import ARCHITECTURES
from moe_hub.config import field_paths, load_config, preset_names
from moe_hub.config.reference import markdown
from moe_hub.train.__main__ import build_parser as train_parser

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PATH = re.compile(r"`((?:moe_hub|assets|configs|tests|docs|benchmarks|examples)/[\w./-]*)`")
LINK = re.compile(r"\]\((?!https?://|#)([^)#\s]+)")
MAKE = re.compile(r"(?:^|`)make ([a-z]+)", re.MULTILINE)
COMMAND = re.compile(r"python -m (moe_hub(?:\.\w+)?)([^\n`|]*)")


def found(pattern: re.Pattern[str]) -> Iterator[tuple[Path, re.Match[str]]]:
    for document in DOCUMENTS:
        for match in pattern.finditer(document.read_text(encoding="utf-8")):
            yield document, match


def test_there_are_documents() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "architecture.md"} <= {path.name for path in DOCUMENTS}


def test_every_path_exists() -> None:
    missing = [(d.name, m[1]) for d, m in found(PATH) if not (ROOT / m[1]).exists()]
    assert not missing


def test_every_link_leads_somewhere() -> None:
    missing = [(d.name, m[1]) for d, m in found(LINK) if not (d.parent / m[1]).exists()]
    assert not missing


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [(document.name, match[1]) for document, match in found(MAKE)]
    assert len(named) > 3
    assert not [pair for pair in named if pair[1] not in targets]


def test_every_command_exists_with_its_flags_and_keys() -> None:
    seen = 0
    for document, match in found(COMMAND):
        module = importlib.import_module(f"{match[1]}.__main__" if _is_package(match[1]) else match[1])
        words = shlex.split(match[2].split("#")[0].rstrip(" .,:;)"))
        text = _help_of(module, words)
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0] in text, (document.name, match[0])
        for number, word in enumerate(words):
            if word == "--set":
                key = words[number + 1].partition("=")[0]
                assert key in field_paths(), (document.name, key)
            if word == "--preset":
                assert words[number + 1] in preset_names(), (document.name, words[number + 1])
        seen += 1
    assert seen > 5


def test_the_config_reference_is_the_schema() -> None:
    text = (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    assert text == markdown(), "run make fix"
    assert all(f"| `{key}` |" in text for key in field_paths())


def test_help_lists_every_key() -> None:
    text = train_parser().format_help()
    assert all(f"  {key} = " in text for key in field_paths())


def test_the_readme_names_every_architecture_and_only_those() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("| architecture |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)) == set(ARCHITECTURES)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_valid_and_says_what_it_is_for(name: str) -> None:
    text = (ROOT / "configs" / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert yaml.safe_load(text)["name"] == name.replace("_", "-")
    assert load_config(name).train.max_steps > 0


def _is_package(name: str) -> bool:
    return (ROOT / name.replace(".", "/")).is_dir()


def _help_of(module: object, words: list[str]) -> str:
    """The help of a command, and of its subcommand where one is named."""
    import argparse

    parser = module.build_parser()  # type: ignore[attr-defined]
    assert isinstance(parser, argparse.ArgumentParser)
    text = parser.format_help()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            text += "".join(each.format_help() for name, each in action.choices.items() if name in words)
    return text
