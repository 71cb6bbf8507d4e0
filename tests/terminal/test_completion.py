"""Completion as the shells themselves ask for it, and the help and errors of commands without a terminal."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from moe_hub import __main__ as hub
from moe_hub.config import load_config, preset_names
from moe_hub.runs.store import RunStore
from moe_hub.terminal import completion, full_screen
from moe_hub.workbench.fields import form_fields

pytestmark = pytest.mark.slow

# Calls the function that bash calls at a Tab, with the words that bash gives it.
ASK = """
eval "$(moe-hub completion bash)"
ask() {
  COMP_LINE="$1" COMP_POINT=${#1} COMP_TYPE=9
  read -ra COMP_WORDS <<<"$1"; [[ "$1" == *" " ]] && COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMPREPLY=()
  _python_argcomplete moe-hub "${COMP_WORDS[COMP_CWORD]}" ""
  printf '%s|' "${COMPREPLY[@]}"; echo
}
"""


@pytest.fixture
def shell_environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which `moe-hub` is this checkout's."""
    program = tmp_path / "bin" / "moe-hub"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m moe_hub "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"}


def test_bash_completes_commands_flags_runs_presets_and_config_keys(
    shell_environment: dict[str, str], tmp_path: Path
) -> None:
    store = RunStore(tmp_path / "runs")
    first = store.create(load_config("basic_comparison", overrides=["name=alpha"])).run_id
    second = RunStore(tmp_path / "other").create(load_config("basic_comparison")).run_id
    keys = {f"{path}=" for path in form_fields() if path.startswith("model.num_")}
    expected: dict[str, set[str]] = {
        "moe-hub ": set(hub.COMMANDS),
        "moe-hub tr": {"train "},
        "moe-hub train --pres": {"--preset "},
        "moe-hub train --preset ": set(preset_names()),
        "moe-hub train --set model.num_": keys,
        "moe-hub train --set train.mode=": {"standard", "geometric"},
        "moe-hub watch ": {first, "latest"},
        "moe-hub stop --runs-dir other ": {second, "latest"},
        "moe-hub diff latest ": {first, "latest"},
        "moe-hub data cache ": {"list", "purge"},
        "moe-hub runs --sort val": {"val-loss "},
        "moe-hub completion z": {"zsh "},
    }
    script = ASK + "\n".join(f"ask '{line}'" for line in expected)
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, env=shell_environment, cwd=tmp_path
    )
    found = [set(filter(None, line.split("|"))) for line in done.stdout.splitlines()]
    got = dict(zip(expected, found, strict=True))
    got["moe-hub train --set train.mode="] = {
        each.removeprefix("train.mode=").strip() for each in got["moe-hub train --set train.mode="]
    }
    assert got == expected


def test_fish_and_zsh_take_their_lines(shell_environment: dict[str, str]) -> None:
    tried = 0
    if shutil.which("fish"):
        script = "moe-hub completion fish | source; complete -C 'moe-hub train --preset g'"
        done = subprocess.run(["fish", "-c", script], capture_output=True, text=True, check=True, env=shell_environment)
        assert {line.split("\t")[0] for line in done.stdout.splitlines()} == {"geometric_lambda", "ghost_expert_test"}
        tried += 1
    if shutil.which("zsh"):
        script = 'autoload -U compinit; compinit -u; eval "$(moe-hub completion zsh)"; echo "${_comps[moe-hub]}"'
        done = subprocess.run(
            ["zsh", "-f", "-c", script], capture_output=True, text=True, check=True, env=shell_environment
        )
        assert done.stdout.strip() == "_python_argcomplete"
        tried += 1
    if not tried:
        pytest.skip("neither fish nor zsh is installed here")


def test_every_command_has_a_parser_that_completion_uses() -> None:
    for name in hub.COMMANDS:
        parser = hub.parser_of(name)
        completion._add_completers(parser)
        assert parser.format_help()


def test_without_argcomplete_it_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "argcomplete.shell_integration", None)
    assert completion.main(["bash"]) == 2
    assert "pip install 'moe-hub[terminal]'" in capsys.readouterr().err


def test_no_command_without_a_terminal_prints_the_help() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "moe_hub"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: moe-hub COMMAND ...")


def test_the_menu_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False)
    assert full_screen.main([]) == 2
    assert "needs a terminal" in capsys.readouterr().err
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    monkeypatch.setattr(full_screen.importlib.util, "find_spec", lambda name: None)
    assert full_screen.main([]) == 2
    assert "pip install 'moe-hub[terminal]'" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(hub.COMMANDS))
def test_help_of_each_command_imports_nothing_heavy(name: str) -> None:
    code = (
        f"import sys; from moe_hub.__main__ import parser_of; parser_of({name!r}).format_help();"
        "print({'torch', 'dash', 'plotly', 'transformers', 'datasets', 'textual'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
