"""The schema as text: the list of keys in a command's help, and the reference page docs/config.md."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from moe_hub.config import field_paths
from moe_hub.config.messages import allowed


def help_lines() -> str:
    """Every key with its default and help, one line each, for `--help`."""
    return "\n".join(f"  {key} = {_shown(field.default)}: {field.description}" for key, field in field_paths().items())


def markdown() -> str:
    """The reference page: one table for each section, in the order of the schema."""
    parts = [
        "# Config reference",
        "",
        "Every key of the config, from the schema in `moe_hub/config/` and its sections. A key is set with",
        "`--set key=value`, in a YAML file by its nesting, or in the page's form. Written by `make fix`; a test holds",
        "it to the schema.",
        "",
    ]
    for section, rows in groupby(field_paths().items(), key=lambda item: item[0].rpartition(".")[0]):
        parts += [f"## {section or 'run'}", "", "| key | default | allowed | meaning |", "|---|---|---|---|"]
        parts += _rows(rows)
        parts.append("")
    return "\n".join(parts)


def _rows(rows: Any) -> Iterator[str]:
    for key, field in rows:
        meaning = f"{field.title}. {field.description}"
        yield f"| `{key}` | `{_shown(field.default)}` | {_cell(allowed(field)) or 'any'} | {_cell(meaning)} |"


def _shown(default: Any) -> str:
    if default is None:
        return "null"
    if isinstance(default, bool):
        return str(default).lower()
    return str(list(default)) if isinstance(default, tuple) else str(default)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


if __name__ == "__main__":
    print(markdown(), end="")
