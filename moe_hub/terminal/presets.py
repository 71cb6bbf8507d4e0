"""`moe-hub presets`: the shipped presets and what each is for."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from moe_hub.terminal.command import guarded
from moe_hub.terminal.table import lay_out


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="moe-hub presets", description="Lists the shipped presets.")
    parser.add_argument("--json", action="store_true", help="one JSON array, for other programs")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    options = build_parser().parse_args(arguments)

    def work() -> int:
        from moe_hub.config import preset_names

        found = [describe(name) for name in preset_names()]
        if options.json:
            import orjson

            print(orjson.dumps(found, option=orjson.OPT_INDENT_2).decode())
        else:
            rows = [tuple(str(each[key]) for key in ("name", "architecture", "mode", "about")) for each in found]
            print("\n".join(lay_out([("PRESET", "ARCHITECTURE", "MODE", "WHAT FOR"), *rows])))
        return 0

    return guarded(work)


def describe(name: str) -> dict[str, Any]:
    """Name, architecture, training mode, and the comment that the file begins with."""
    from moe_hub.config import load_config, preset_folder

    config = load_config(name)
    about = []
    for line in (preset_folder() / f"{name}.yaml").read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        about.append(line.lstrip("# "))
    return {
        "name": name,
        "architecture": config.model.architecture,
        "mode": config.train.mode,
        "about": " ".join(about),
    }
