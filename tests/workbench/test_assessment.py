"""What the form says: errors at their fields, hidden parts, exact counts, and a command that gives the same config."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from moe_hub.architectures import ARCHITECTURES, count_parameters
from moe_hub.config import load_config
from moe_hub.workbench.assessment import SHOWN_WHEN, assess, command, hidden_parts, is_hidden, shipped_values
from moe_hub.workbench.fields import form_fields, to_raw

BASE = shipped_values("geometric_lambda")


def form(**changes: Any) -> dict[str, Any]:
    return {**to_raw(BASE), **{name.replace("__", "."): value for name, value in changes.items()}}


def test_a_preset_is_valid_and_counted_exactly() -> None:
    result = assess(form(), BASE)
    assert result.valid
    assert result.config == load_config(preset="geometric_lambda")
    assert result.count is not None
    assert result.vocab_size is not None
    assert result.count == count_parameters(result.config.model, result.vocab_size)
    assert not result.changed


@pytest.mark.parametrize(
    ("changes", "path", "says"),
    [
        ({"model__num_experts": "99"}, "model.num_experts", "1 to 64"),
        ({"model__num_experts": ""}, "model.num_experts", "missing"),
        ({"model__num_experts": "lots"}, "model.num_experts", "'lots'"),
        ({"train__learning_rate": "-1"}, "train.learning_rate", "above 0"),
        ({"model__d_model": "100"}, "model.d_model", "multiple of"),
        ({"model__architecture": "dense"}, "train.mode", "rotations"),
        ({"data__source": "file"}, "data.path", "missing"),
        ({"data__levels": "1, 9"}, "data.levels", "levels 0 to"),
        ({"name": "a b"}, "name", "letters"),
    ],
)
def test_an_error_stands_at_its_field(changes: dict[str, Any], path: str, says: str) -> None:
    result = assess(form(**changes), BASE)
    assert not result.valid
    assert says in result.errors[path]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_only_what_an_architecture_reads_is_shown(name: str) -> None:
    hidden = hidden_parts({"model.architecture": name, "train.mode": "standard", "data.source": "lambda"})
    sections = {field.section for field in form_fields().values() if field.section.startswith("model.")}
    shown = {section for section in sections if not is_hidden(section, hidden)}
    assert shown == set(ARCHITECTURES[name].sections)
    assert is_hidden("train.loss_weights.orthogonality", hidden)
    assert not is_hidden("train.learning_rate", hidden)


def test_what_is_hidden_goes_back_to_its_default_and_cannot_be_wrong() -> None:
    result = assess(
        form(model__architecture="hgnn", train__mode="standard", model__geometric__max_angle_rad="99"), BASE
    )
    assert result.valid
    assert result.config is not None
    assert not result.config.train.lambda_cognitive.enabled


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model__num_experts": "8", "train__learning_rate": "2e-4", "data__levels": "1, 2"},
        {"model__architecture": "dense", "train__mode": "standard", "train__epochs": "3"},
        {
            "data__source": "file",
            "data__path": 'it\'s; $(rm -rf x) "q"/ü.jsonl',
            "train__lambda_cognitive__enabled": False,
        },
    ],
)
def test_the_command_pastes_into_a_shell_and_gives_the_same_config(
    changes: dict[str, Any],
) -> None:
    result = assess(form(**changes), BASE)
    words = shlex.split(command(result.changed, "geometric_lambda", None, Path("runs")))
    assert words[:5] == ["python", "-m", "moe_hub.train", "--preset", "geometric_lambda"]
    assert "--runs-dir" not in words
    overrides = [words[index + 1] for index, word in enumerate(words) if word == "--set"]
    assert load_config(preset="geometric_lambda", overrides=overrides) == result.config


def test_several_processes_are_started_by_torchrun() -> None:
    words = shlex.split(command({"train.parallel.processes": 2}, "basic_comparison", None, Path("runs")))
    assert words[:6] == ["torchrun", "--standalone", "--nproc-per-node", "2", "-m", "moe_hub.train"]
    assert words[6:] == ["--preset", "basic_comparison", "--set", "train.parallel.processes=2"]


def test_another_runs_folder_is_part_of_the_command() -> None:
    assert command({}, "geometric_lambda", None, Path("my runs")).endswith("--runs-dir 'my runs'")
    assert "--config presets/mine.yaml" in command({}, "mine", Path("presets/mine.yaml"), Path("runs"))


def test_what_is_shown_on_a_condition_exists_in_the_schema() -> None:
    sections = {field.section for field in form_fields().values()}
    for part, (path, choices) in SHOWN_WHEN.items():
        assert part in form_fields() or part in sections, part
        offered = {choice for choice, _ in form_fields()[path].choices}
        assert choices <= offered, part
