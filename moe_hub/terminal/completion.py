"""`moe-hub completion bash|zsh|fish`, and what the shell is told at each Tab. Made by argcomplete.

At a Tab the shell starts this program with `_ARGCOMPLETE` in its environment. It then builds the parser of the one
command that stands on the line, so each command is completed by the parser that also reads it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from moe_hub.terminal.command import guarded

SHELLS = ("bash", "zsh", "fish")
PROGRAM = "moe-hub"
MISSING = "argcomplete is not installed; install it with: pip install 'moe-hub[terminal]'"
HOW = {
    "bash": 'eval "$(moe-hub completion bash)"   in ~/.bashrc',
    "zsh": 'eval "$(moe-hub completion zsh)"   in ~/.zshrc',
    "fish": "moe-hub completion fish | source   in ~/.config/fish/config.fish",
}


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="moe-hub completion",
        description="Prints the lines that teach a shell to complete moe-hub: commands, flags, runs, presets, keys.",
        epilog="To have it in every shell, put\n" + "\n".join(f"  {HOW[shell]}" for shell in SHELLS),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=SHELLS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    options = build_parser().parse_args(arguments)
    try:
        from argcomplete.shell_integration import shellcode
    except ImportError:
        print(f"error: {MISSING}", file=sys.stderr)
        return 2

    def work() -> int:
        print(shellcode([PROGRAM], shell=options.shell))
        return 0

    return guarded(work)


def answer(commands: Mapping[str, tuple[str, str]], parser_of: Callable[[str], argparse.ArgumentParser]) -> None:
    """Tells the shell that asks what may stand at the cursor, and ends the program.

    `commands` are the names with their module and meaning; `parser_of` builds the parser of one.
    """
    import argcomplete

    words = _words_before_cursor()
    start = int(os.environ["_ARGCOMPLETE"])
    name = words[start] if len(words) > start + 1 else ""
    if name in commands:
        os.environ["_ARGCOMPLETE"] = str(start + 1)  # the parser's own words begin after the name
        parser = parser_of(name)
        _add_completers(parser)
    else:
        parser = argparse.ArgumentParser(PROGRAM)
        names = parser.add_subparsers()
        for each, (_, meaning) in commands.items():
            names.add_parser(each, help=meaning)
    argcomplete.autocomplete(parser, always_complete_options=False)


def complete_runs(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Run ids under --runs-dir (or a part of one that fits what was typed), and `latest`."""
    from moe_hub.runs.store import RunStore

    ids = RunStore(Path(getattr(parsed_args, "runs_dir", None) or "runs")).ids()
    return [*(run_id for run_id in ids if run_id.startswith(prefix)), *(["latest"] if ids else [])]


def complete_presets(prefix: str, **_: Any) -> list[str]:
    """Names of the shipped presets."""
    from moe_hub.config import preset_names

    return preset_names()


def complete_override(prefix: str, **_: Any) -> list[str]:
    """Config keys; after `key=` what the field may hold, where that is a short list."""
    from moe_hub.workbench.fields import form_fields

    key, equals, _value = prefix.partition("=")
    fields = form_fields()
    if not equals:
        return [f"{path}=" for path in fields]
    if key not in fields:
        return []
    field = fields[key]
    choices = ["true", "false"] if field.kind == "switch" else [name for name, _ in field.choices]
    return [f"{key}={choice}" for choice in [*choices, *(["null"] if field.optional else [])]]


def complete_checkpoints(prefix: str, **_: Any) -> list[str]:
    """Checkpoint folders of the runs under `runs`, else folders as the shell completes them."""
    from argcomplete.completers import DirectoriesCompleter

    from moe_hub.runs.store import RunDirectory, RunStore

    store = RunStore(Path("runs"))
    found = [str(folder) for run_id in store.ids() for folder in RunDirectory(store.runs_dir / run_id).checkpoints()]
    fitting = [path for path in found if path.startswith(prefix)]
    return fitting or list(DirectoriesCompleter()(prefix))


# Name of an argument in the parsers of the commands -> what completes it.
COMPLETERS: dict[str, Callable[..., list[str]]] = {
    "run": complete_runs,
    "other": complete_runs,
    "resume": complete_runs,
    "fork": complete_runs,
    "preset": complete_presets,
    "overrides": complete_override,
    "checkpoint": complete_checkpoints,
}


def _add_completers(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _add_completers(inner)
        elif action.dest in COMPLETERS:
            action.completer = COMPLETERS[action.dest]  # type: ignore[attr-defined]


def _words_before_cursor() -> list[str]:
    """The words of the line up to the cursor; the one at the cursor is the last, empty after a space."""
    line = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
    try:
        words = shlex.split(line)
    except ValueError:  # a quote that is still open
        words = line.split()
    return [*words, ""] if not line or line[-1].isspace() else words
