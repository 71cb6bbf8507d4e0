"""What the form says at this moment: problems by field, the config if it is valid, counts, and the shell command."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from moe_hub.architectures import ARCHITECTURES, ParameterCount, count_parameters
from moe_hub.config import Config, flatten, load_config, nest, preset_names, problems
from moe_hub.data import facts
from moe_hub.errors import DataError, MoeHubError
from moe_hub.workbench.fields import form_fields, to_values

DEFAULT_RUNS_DIR = "runs"
Refused = Callable[[Config], Mapping[str, str]]
# Weights and gradient in float32 and the two moments of Adam: what a parameter costs while it trains, and on disk.
BYTES_PER_TRAINED_PARAMETER = 16
BYTES_PER_SAVED_PARAMETER = 12
# Fields and sections that only some choices use, with the choice. What is not named here is always shown.
_ROWS = frozenset({"file", "hub", "mixture"})
_GEOMETRIC = ("train.mode", frozenset({"geometric"}))
SHOWN_WHEN: dict[str, tuple[str, frozenset[str]]] = {
    "train.loss_weights": _GEOMETRIC,
    "train.geometric_learning_rate": _GEOMETRIC,
    "train.expert_learning_rate": _GEOMETRIC,
    "train.lambda_cognitive": ("data.source", frozenset({"lambda"})),
    "data.path": ("data.source", frozenset({"file"})),
    **{f"data.{name}": ("data.source", frozenset({"hub"})) for name in ("name", "config_name", "split", "revision")},
    "data.mixture": ("data.source", frozenset({"mixture"})),
    **{
        f"data.{name}": ("data.source", _ROWS)
        for name in ("text_format", "text_column", "prompt_column", "input_column", "answer_column", "messages_column",
                     "prompt_template", "answer_template", "message_template", "bad_rows", "eval_fraction")
    },
    **{
        f"data.{name}": ("data.source", frozenset({"lambda", "mixture"}))
        for name in ("levels", "layout", "min_term_size", "max_term_size", "lambda_seed")
    },
    "data.tokenizer_path": ("data.tokenizer", frozenset({"pretrained"})),
    "data.bpe_vocab_size": ("data.tokenizer", frozenset({"bpe"})),
}  # fmt: skip


@dataclass(frozen=True)
class Assessment:
    """`errors` maps a field path, or "" for what concerns no one field, to a message; `hidden` as `hidden_parts`."""

    errors: Mapping[str, str]
    hidden: frozenset[str]
    config: Config | None = None
    count: ParameterCount | None = None
    vocab_size: int | None = None
    tokens_per_epoch: int | None = None
    batches_per_epoch: int | None = None
    exact_tokens: bool = False
    data_note: str = ""
    changed: Mapping[str, Any] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        return self.config is not None and not self.errors


def assess(raw: Mapping[str, Any], base: Mapping[str, Any], refused: Refused = lambda config: {}) -> Assessment:
    """Checks what the inputs hold; `base` are the flat values of the preset that the form began with.

    `refused` gives messages by field for what is not allowed here; no file is looked at before.
    """
    values = to_values(raw)
    hidden = hidden_parts(values)
    # What is not shown cannot be corrected, and a preset's value may not fit the architecture: the default does.
    for path in [path for path in values if is_hidden(path, hidden)]:
        values[path] = form_fields()[path].default
    changed = {path: value for path, value in values.items() if value != base.get(path, form_fields()[path].default)}
    try:
        config = Config.model_validate(nest(values))
    except ValidationError as error:
        return Assessment(_by_field(error), hidden, changed=changed)
    changed = {path: value for path, value in flatten(config.model_dump(mode="json")).items() if path in changed}
    errors = refused(config)
    return Assessment(errors, hidden, config, changed=changed) if errors else _with_facts(config, hidden, changed)


def hidden_parts(values: Mapping[str, Any]) -> frozenset[str]:
    """Paths of fields and sections that the chosen architecture, training mode and data source do not read."""
    row = ARCHITECTURES.get(str(values.get("model.architecture")))
    used = set(row.sections) if row else set()
    # Every section inside `model` belongs to some architectures.
    hidden = {each.section for each in form_fields().values() if each.section.startswith("model.")} - used
    hidden |= {part for part, (path, shown) in SHOWN_WHEN.items() if str(values.get(path)) not in shown}
    if row is not None:
        hidden |= {f"model.{name}" for name in row.ignores}
        if "rotation" not in row.features:
            hidden.add("train.lambda_cognitive")
        if "ghosts" not in row.features | row.optional_features:
            hidden |= {"train.ghost_learning_rate"}
    return frozenset(hidden)


def is_hidden(path: str, hidden: frozenset[str]) -> bool:
    """Whether a field, or a section that it stands in, is not shown."""
    parts = path.split(".")
    return any(".".join(parts[:end]) in hidden for end in range(1, len(parts) + 1))


def command(changed: Mapping[str, Any], preset: str | None, preset_file: Path | None, runs_dir: Path) -> str:
    """The shell command that trains this config: a preset or a file, and one --set for each value that differs.

    For several processes it is torchrun's.
    """
    asked = changed.get("train.parallel.processes", 1)
    processes = asked if isinstance(asked, int) else 1  # what a person is still typing may be no number
    words = ["python", "-m", "moe_hub.train"]
    if processes > 1:
        words = ["torchrun", "--standalone", "--nproc-per-node", str(processes), "-m", "moe_hub.train"]
    if preset in preset_names():
        words += ["--preset", str(preset)]
    elif preset_file is not None:
        words += ["--config", str(preset_file)]
    for path, value in changed.items():
        words += ["--set", f"{path}={_yaml_value(value)}"]
    if str(runs_dir) != DEFAULT_RUNS_DIR:
        words += ["--runs-dir", str(runs_dir)]
    return shlex.join(words)


def shipped_values(preset: str) -> dict[str, Any]:
    """Flat values of a shipped preset."""
    return flatten(load_config(preset=preset).model_dump(mode="json"))


def _yaml_value(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


def _by_field(error: ValidationError) -> dict[str, str]:
    """Each problem beside the field it is about; one of a whole section goes to the first field that it names."""
    fields = form_fields()
    found: dict[str, str] = {}
    for where, message in problems(error):
        # An entry of a list has its number as the last part.
        path = where if where in fields else where.rpartition(".")[0]
        if path in fields:
            text = message.removeprefix(f"{where} = ").removeprefix(f"{where}: ")
            text = text.replace("'': ", "A value is missing: ", 1) if text.startswith("'': ") else text
        else:
            path, text = _named_field(where, message), message.removeprefix(f"{where}: ")
        found.setdefault(path, text)
    return found


def _named_field(section: str, message: str) -> str:
    """The first field of the section (or below it) whose name the message holds; "" where it names none."""
    candidates = [path for path in form_fields() if not section or path.startswith(f"{section}.")]
    hits = [
        (match.start(), path)
        for path in candidates
        for name in (path, path.removeprefix(f"{section}."), path.rpartition(".")[2])
        if (match := re.search(rf"(?<![\w.]){re.escape(name)}(?![\w])", message))
    ]
    return min(hits)[1] if hits else ""


def _with_facts(config: Config, hidden: frozenset[str], changed: Mapping[str, Any]) -> Assessment:
    try:
        estimate = facts.estimate(config)
    except MoeHubError as error:
        data_file = "data.path" if config.data.source == "file" else ""
        place = data_file if isinstance(error, DataError) else _named_field("", str(error))
        return Assessment({place: str(error)}, hidden, config, changed=changed)
    return Assessment(
        errors={},
        hidden=hidden,
        config=config,
        count=count_parameters(config.model, estimate.vocab_size),
        vocab_size=estimate.vocab_size,
        tokens_per_epoch=estimate.tokens_per_epoch,
        batches_per_epoch=estimate.batches_per_epoch,
        exact_tokens=estimate.exact,
        data_note=estimate.note,
        changed=changed,
    )
