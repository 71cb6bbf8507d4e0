"""What the documents name exists: files, links, pictures, make targets, flags, config keys, presets; references are the
code's. tests/test_documented_commands.py runs the commands."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from moe_hub.architectures import ARCHITECTURES
from moe_hub.config import field_paths, load_config, preset_names
from moe_hub.figures.registry import FIGURES
from moe_hub.runs.metrics import METRICS
from moe_hub.train.__main__ import build_parser as train_parser

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
MAKE = re.compile(r"(?:^|`)make ([a-z]+)", re.MULTILINE)


def found(pattern: re.Pattern[str]) -> Iterator[tuple[Path, re.Match[str]]]:
    for document in DOCUMENTS:
        for match in pattern.finditer(document.read_text(encoding="utf-8")):
            yield document, match


def test_there_are_documents() -> None:
    assert {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", "architecture.md"} <= {path.name for path in DOCUMENTS}


@pytest.fixture(scope="module")
def links() -> ModuleType:
    return _script("links")


@pytest.fixture(scope="module")
def references() -> ModuleType:
    return _script("references")


def test_every_path_link_anchor_and_picture_is_there(links: ModuleType) -> None:
    assert links.documents() == DOCUMENTS
    assert not list(links.problems(DOCUMENTS))
    assert not list(links.foreign_pictures(ROOT / "docs"))


def test_what_is_broken_is_found(links: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A heading\n")
    document = tmp_path / "a.md"
    document.write_text(
        "[x](missing.md) [y](other.md#no-heading) [z](other.md#a-heading) ![p](missing.png) "
        "![q](https://elsewhere.org/q.png) `moe_hub/nothing.py` [w](https://elsewhere.org)\n"
    )
    found = [problem.partition(": ")[2] for problem in links.problems([document])]
    assert found == [
        "link missing.md: not there",
        "link other.md#no-heading: no heading #no-heading",
        "picture missing.png: not there",
        "picture https://elsewhere.org/q.png: a picture must lie in the repository",
        "path moe_hub/nothing.py: not there",
    ]
    (tmp_path / "p.svg").write_text('<svg><style>@font-face { src: url("https://elsewhere.org/f.woff") }</style></svg>')
    assert list(links.foreign_pictures(tmp_path)) == ["p.svg: asks another machine for something"]


def test_make_check_looks_at_links_and_references() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    assert "docs/links.py" in recipe
    assert "docs/references.py --check" in recipe


@pytest.mark.parametrize("preset", preset_names())
def test_the_guide_has_a_chapter_for_each_preset(preset: str) -> None:
    text = (ROOT / "docs" / "guide" / f"preset-{preset.replace('_', '-')}.md").read_text(encoding="utf-8")
    assert f"make train PRESET={preset}" in text
    assert "null value" in text
    assert re.search(r"`\d{8}-\d{6}-[\w-]+`", text), "measured figures name their run"


def test_every_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = [(document.name, match[1]) for document, match in found(MAKE)]
    assert len(named) > 3
    assert not [pair for pair in named if pair[1] not in targets]


def test_the_references_are_what_the_code_says(references: ModuleType) -> None:
    for name, text in references.pages().items():
        assert (ROOT / "docs" / name).read_text(encoding="utf-8") == text, f"docs/{name}: run make fix"


def test_every_config_key_is_in_its_reference_and_no_other() -> None:
    assert _first_column("config.md") == list(field_paths())


def test_every_metric_is_in_its_reference_and_no_other() -> None:
    assert sorted(_first_column("metrics.md")) == sorted(METRICS)
    assert not [metric.name for metric in METRICS.values() if not metric.meaning]


def test_every_figure_is_in_its_reference_and_no_other() -> None:
    text = (ROOT / "docs" / "figures.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^Key: `([\w-]+)`", text, re.MULTILINE)) == sorted(FIGURES)
    assert sorted(re.findall(r"^### (.+)$", text, re.MULTILINE)) == sorted(spec.title for spec in FIGURES.values())
    assert set(_first_column("figures.md")) <= set(METRICS)
    for part in text.split("\n### ")[1:]:
        assert "ull value" in part, f"{part.splitlines()[0]}: its docstring names no null value"


def test_every_command_is_in_its_reference_and_no_other(references: ModuleType) -> None:
    from moe_hub.__main__ import COMMANDS

    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert headings == [f"moe-hub {name}" for name in COMMANDS] + [f"python -m {name}" for name in references.PROGRAMS]
    named = {module.removesuffix(".__main__") for module, _ in COMMANDS.values()}
    assert _programs() <= named | set(references.PROGRAMS) | references.INTERNAL | {"moe_hub"}
    assert _programs() >= references.INTERNAL


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


def _script(name: str) -> ModuleType:
    """A program of docs/, as a module."""
    spec = importlib.util.spec_from_file_location(f"docs_{name}", ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _first_column(name: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / name).read_text(encoding="utf-8"), re.MULTILINE)


def _programs() -> set[str]:
    """Modules of the package that can be started with python -m."""
    found = set()
    for path in (ROOT / "moe_hub").rglob("*.py"):
        if path.name == "__main__.py" or 'if __name__ == "__main__"' in path.read_text(encoding="utf-8"):
            found.add(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__"))
    return found
