"""What the form says in words: count, problems, facts, the difference from the preset, the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from moe_hub.config import preset_names
from moe_hub.terminal.menu.bench import Bench
from moe_hub.workbench.assessment import Assessment, command
from moe_hub.workbench.fields import form_fields
from moe_hub.workbench.readout import facts_of


def shortly(result: Assessment) -> str:
    """The count, or the first problem, on one line."""
    if result.errors:
        path, message = next(iter(result.errors.items()))
        label = form_fields()[path].label if path in form_fields() else "Config"
        return f"{len(result.errors)} to correct. {label}: {message}"
    if result.count is None:
        return ""
    count = result.count
    active = f", {count.active:,} active per token" if count.active != count.total else ""
    return f"{count.total:,} parameters{active}. {len(result.changed)} changed from the preset. Ready to start."


def command_of(bench: Bench, preset: str, result: Assessment) -> str:
    """The shell command that trains what the form holds."""
    file = None if preset in preset_names() else bench.presets.file(preset)
    return command(result.changed, preset, file, bench.runs_dir)


def details(bench: Bench, preset: str, base: Mapping[str, Any], result: Assessment) -> str:
    """All of it, as lines."""
    lines: list[str] = []
    if result.errors:
        lines += ["To correct", *(f"  {path or 'config'}: {message}" for path, message in result.errors.items()), ""]
    if result.count is not None:
        count = result.count
        lines += ["Parameters", f"  {count.total:>15,}  in all", f"  {count.active:>15,}  active per token"]
        lines += [f"  {size:>15,}  {part}" for part, size in count.parts.items() if size]
        lines += ["", *(f"{name}: {value}" for name, value in facts_of(result)), ""]
        lines += [result.data_note, ""] if result.data_note else []
    lines.append(f"Changed from the preset {preset}: {len(result.changed) or 'nothing'}")
    lines += [f"  {path}: {base.get(path)} -> {value}" for path, value in result.changed.items()]
    return "\n".join([*lines, "", "Command", f"  {command_of(bench, preset, result)}"])
