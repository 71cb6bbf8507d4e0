"""Writes the reference pages of docs/ from the code: config, metrics, figures, commands.

python docs/references.py            writes them
python docs/references.py --check    writes nothing; exit code 1 where one is not what the code says
"""

from __future__ import annotations

import argparse
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from moe_hub.__main__ import COMMANDS, parser_of
from moe_hub.config import reference
from moe_hub.figures.registry import FIGURES
from moe_hub.figures.spec import GROUPS, FigureSpec
from moe_hub.runs.metrics import METRICS, Metric

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
# Programs of the package that are no command of moe-hub: module -> what it does, where its docstring does not say it.
PROGRAMS = ("moe_hub.web.worker", "moe_hub.checkpoint", "moe_hub.harness")
# Programs that other programs start: no person calls them.
INTERNAL = frozenset({"moe_hub.launch", "moe_hub.starter", "moe_hub.terminal.menu", "moe_hub.config.reference"})
WRITTEN = "Written from the code by `make fix`; `make check` fails where the two differ."


def pages() -> dict[str, str]:
    """File name under docs/ -> its text."""
    return {
        "config.md": reference.markdown(),
        "metrics.md": metrics_page(),
        "figures.md": figures_page(),
        "commands.md": commands_page(),
    }


def metrics_page() -> str:
    """Every metric: unit, shape, null value, meaning."""
    lines = [
        "# Metrics reference", "",
        "Every name that a run may log, from the table in `moe_hub/runs/metrics.py`. A name with `<...>` is a",
        "pattern: the part in brackets is one word, such as a parameter group or a phase. The null value is that of an",
        "untrained model or of independent experts; a value says something only beside it.",
        WRITTEN, "",
    ]  # fmt: skip
    group = ""
    for metric in METRICS.values():
        if metric.name.partition("/")[0] != group:
            group = metric.name.partition("/")[0]
            head = ["| metric | unit | shape | null value | meaning |", "|---|---|---|---|---|"]
            lines += ["", f"## {group}", "", *head] if lines[-1] else [f"## {group}", "", *head]
        lines.append(_row(f"`{metric.name}`", metric.unit, metric.shape, metric.null, metric.meaning))
    return "\n".join(lines) + "\n"


def figures_page() -> str:
    """Every figure by group: its question, how it is read, the metrics it draws with their units and null values."""
    lines = [
        "# Figures reference", "",
        "Every figure of the page, in its order, from the docstrings in `moe_hub/figures/`: the question that it",
        "answers, how to read it, its null value, and the metrics that it draws. The page offers a figure when the",
        "selected runs have logged at least one of them.",
        WRITTEN, "",
    ]  # fmt: skip
    for group in GROUPS:
        lines += [f"## {group}", ""]
        for spec in (each for each in FIGURES.values() if each.group == group):
            lines += [*_figure(spec), ""]
    return "\n".join(lines).rstrip() + "\n"


def _figure(spec: FigureSpec) -> Iterator[str]:
    yield f"### {spec.title}"
    yield ""
    runs = f" Needs {spec.several} runs." if spec.several > 1 else ""
    yield f"Key: `{spec.key}`.{runs}"
    yield ""
    yield spec.help
    drawn = _metrics_of(spec)
    if drawn:
        yield from ("", "| metric | unit | null value |", "|---|---|---|")
        yield from (_row(f"`{metric.name}`", metric.unit, metric.null) for metric in drawn)


def _metrics_of(spec: FigureSpec) -> list[Metric]:
    """The rows of the table that a figure asks for by name or by pattern; none for one that takes any."""
    wanted = [re.escape(need).replace(r"\*", ".*") for need in spec.needs if need != "*"]
    return [metric for name, metric in METRICS.items() if any(re.fullmatch(each, name) for each in wanted)]


def commands_page() -> str:
    """Every command with its flags, from the parser that reads them."""
    lines = [
        "# Command reference", "",
        "Every command, from the parsers that read its flags. `moe-hub COMMAND` and `python -m moe_hub COMMAND` are",
        "the same; `python -m moe_hub` without a command opens the menu. A RUN is a run id, a part of one that is not",
        "ambiguous, or `latest`. Exit code: 0 done, 1 failed, 2 bad usage, config or data.",
        WRITTEN, "",
        "| command | does |", "|---|---|",
        *(_row(f"[`moe-hub {name}`](#moe-hub-{name})", meaning) for name, (_, meaning) in COMMANDS.items()),
    ]  # fmt: skip
    lines += [_row(f"[`python -m {name}`](#{_slug(f'python -m {name}')})", _first(name)) for name in PROGRAMS]
    for name, (module, meaning) in COMMANDS.items():
        lines += ["", f"## moe-hub {name}", "", f"{meaning[0].upper()}{meaning[1:]}.{_same_as(module)}", ""]
        lines += _parser(parser_of(name), 3)
    for name in PROGRAMS:
        lines += ["", f"## python -m {name}", "", _first(name), ""]
        module = importlib.import_module(_module(name))
        lines += _parser(module.build_parser(), 3) if hasattr(module, "build_parser") else [_second(name), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def _same_as(module: str) -> str:
    name = module.removesuffix(".__main__")
    return f" The same as `python -m {name}`." if not name.startswith("moe_hub.terminal") else ""


def _parser(parser: argparse.ArgumentParser, level: int) -> list[str]:
    """Description and flags of a parser and of its subcommands."""
    lines = [" ".join((parser.description or "").split()), ""] if level == 3 and parser.description else []
    rows, nested = [], []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {each.dest: each.help or "" for each in action._choices_actions}
            nested += [(helps.get(name, ""), each) for name, each in action.choices.items()]
        elif action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
            rows.append(_row(_named(action), _default(action), _help(parser, action)))
    if rows:
        lines += ["| argument | default | meaning |", "|---|---|---|", *rows, ""]
    for meaning, each in nested:
        lines += [
            f"{'#' * level} {each.prog.removeprefix('python -m ')}",
            "",
            f"{meaning[:1].upper()}{meaning[1:]}.",
            "",
        ]
        lines += _parser(each, level + 1)
    return lines


def _named(action: argparse.Action) -> str:
    choices = f"{{{','.join(map(str, action.choices))}}}" if action.choices else ""
    metavar = action.metavar or choices or action.dest.upper()
    if not action.option_strings:
        return f"`{action.metavar or choices or action.dest}`{' ...' if action.nargs in ('+', '*') else ''}"
    value = "" if action.nargs == 0 else f" {metavar}"
    return f"`{', '.join(action.option_strings)}{value}`"


def _default(action: argparse.Action) -> str:
    value = action.default
    if action.required and action.option_strings:
        return "required"
    if value is None or value is False or value in ([], "", argparse.SUPPRESS) or _of_machine(value):
        return ""
    return f"`{value}`"


def _of_machine(value: object) -> bool:
    """Whether a default is a folder of the machine at hand."""
    return isinstance(value, Path) and value.is_absolute()


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    """The help text, without folders of the machine at hand."""
    text = " ".join((action.help or "").replace("%%", "%").split())
    return text.replace(str(Path.home()), "~")


def _first(name: str) -> str:
    """The sentence of a program's docstring after its command."""
    first = (importlib.import_module(_module(name)).__doc__ or "").partition("\n\n")[0]
    text = " ".join(first.rpartition("`: ")[2].split())
    return text if text.startswith("lm-") else text[0].upper() + text[1:]


def _second(name: str) -> str:
    """The first sentence of the second paragraph of a program's docstring: what its flags are."""
    text = (importlib.import_module(_module(name)).__doc__ or "").split("\n\n")[1]
    return f"{' '.join(text.split()).partition('. ')[0]}."


def _module(name: str) -> str:
    return f"{name}.__main__" if (ROOT / name.replace(".", "/")).is_dir() else name


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _row(*cells: str) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """A text that stays in its cell; outside of code a < would be HTML."""
    text = text.replace("|", "\\|")
    return text if "`" in text else text.replace("<", "&lt;")


def main() -> int:
    """Writes the pages, or compares them; the exit code says whether they were what the code says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    stale = []
    for name, text in pages().items():
        path = DOCS / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                path.write_text(text, encoding="utf-8")
    if check and stale:
        print(f"not what the code says: {', '.join(f'docs/{name}' for name in stale)}; run make fix", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
