"""`python -m moe_hub` (installed: `moe-hub`): every command of the hub by its name.

A command's module is imported when it is called, so that this help appears at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

# Name of the command -> module with its `main(arguments)`, and what it does.
COMMANDS = {
    "train": ("moe_hub.train.__main__", "train a model from a preset or a config file"),
    "web": ("moe_hub.web.__main__", "serve the dashboard"),
    "data": ("moe_hub.data.__main__", "generate, inspect and cache data"),
    "evaluate": ("moe_hub.evaluate.__main__", "measure a checkpoint on data"),
    "generate": ("moe_hub.generate", "write text with a checkpoint"),
    "experiments": ("moe_hub.experiments.__main__", "compare arms over seeds"),
    "sweeps": ("moe_hub.sweeps.__main__", "search config keys with Optuna"),
    "export": ("moe_hub.export.__main__", "write a run for TensorBoard"),
    "menu": ("moe_hub.terminal.full_screen", "the full-screen menu; also without a command"),
    "runs": ("moe_hub.terminal.listing", "list the runs"),
    "watch": ("moe_hub.terminal.watch", "follow a run until it ends"),
    "pause": ("moe_hub.terminal.controls", "hold a run after its step"),
    "resume": ("moe_hub.terminal.controls", "go on with a paused or ended run"),
    "stop": ("moe_hub.terminal.controls", "save and end a run, or take it out of the queue"),
    "save": ("moe_hub.terminal.controls", "write a checkpoint of a run now"),
    "tag": ("moe_hub.terminal.listing", "give a run its tags"),
    "diff": ("moe_hub.terminal.difference", "compare config and metrics of two runs"),
    "presets": ("moe_hub.terminal.presets", "list the shipped presets"),
    "completion": ("moe_hub.terminal.completion", "teach bash, zsh or fish to complete all this"),
}
# Commands that share a module, which is told by which name it was called.
_NAMED = frozenset({"runs", "tag", "pause", "resume", "stop", "save"})


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code; 2 for bad usage. No command is the menu, where there is a terminal."""
    if "_ARGCOMPLETE" in os.environ:  # a shell asks what may stand at its cursor
        from moe_hub.terminal.completion import answer

        answer(COMMANDS, parser_of)
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words and not (sys.stdin.isatty() and sys.stdout.isatty()):
        print(usage(), file=sys.stderr)
        return 2
    words = words or ["menu"]
    name, *rest = words
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name == "--version":
        from moe_hub import __version__

        print(f"moe-hub {__version__}")
        return 0
    if name not in COMMANDS:
        print(f"error: unknown command {name!r}{_nearest(name)}\n\n{usage()}", file=sys.stderr)
        return 2
    module = importlib.import_module(COMMANDS[name][0])
    code: int = module.main([name, *rest] if name in _NAMED else rest)
    return code


def parser_of(name: str) -> argparse.ArgumentParser:
    """The parser of a command, which its module also reads its arguments with."""
    build = importlib.import_module(COMMANDS[name][0]).build_parser
    parser: argparse.ArgumentParser = build(name) if name in _NAMED else build()
    return parser


def usage() -> str:
    """The help text."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {meaning}" for name, (_, meaning) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: moe-hub COMMAND ...",
            "",
            "A workbench for research on mixtures of experts that talk to each other.",
            "",
            *lines,
            "",
            "moe-hub COMMAND --help tells more. A RUN is a run id, a part of one, or latest.",
            "Exit code: 0 done, 1 failed, 2 bad usage, config or data.",
        ]
    )


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    return f"; did you mean {near[0]}?" if near else ""


if __name__ == "__main__":
    sys.exit(main())
