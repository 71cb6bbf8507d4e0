"""The config: one schema for shell, dashboard and Python, with bounds, help, units and defaults.

Precedence: defaults < preset < file < overrides. Nothing is repaired silently: an unknown key or a value
out of bounds is a `ConfigError` that names the field, the value, what is allowed and the nearest known key.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from moe_hub.architectures import ARCHITECTURES
from moe_hub.errors import ConfigError
from moe_hub.model_config import ModelConfig
from moe_hub.schema import Section, did_you_mean, option

SCHEMA_VERSION = 1


class LossWeightsConfig(Section):
    """Weights of the geometric loss terms; each term lies in [0, 1]."""

    orthogonality: float = option(0.5, "Orthogonality", "Weight of expert overlap.", ge=0.0, le=10.0)
    rotation_efficiency: float = option(
        0.2, "Rotation efficiency", "Weight of the size of the rotations.", ge=0.0, le=10.0
    )
    specialization: float = option(
        0.3, "Specialization", "Weight of 1 - normalised mutual information of token and expert.", ge=0.0, le=10.0
    )


class LambdaCognitiveConfig(Section):
    """Rotation of the data by reasoning phase (0, 90, 180, 270 degrees) in lambda-calculus samples."""

    enabled: bool = option(False, "Cognitive rotations", "Rotate by the phase that a token belongs to.")
    scheduling: Literal["curriculum", "adaptive", "fixed"] = option(
        "curriculum", "Schedule", "When the rotation of each phase is switched on."
    )


class TrainConfig(Section):
    """The training loop."""

    mode: Literal["standard", "geometric"] = option(
        "standard", "Training mode", "geometric: own learning rates and the geometric loss terms."
    )
    max_steps: int = option(600, "Steps", "Optimizer steps.", unit="steps", ge=1, le=100_000_000)
    epochs: int | None = option(
        None, "Epochs", "Stop after this many passes over the data, if that comes first.", ge=1, advanced=True
    )
    max_batches_per_epoch: int | None = option(
        None, "Batches per epoch", "An epoch ends after this many batches.", ge=1, advanced=True
    )
    batch_size: int = option(32, "Batch size", "Sequences per batch.", unit="sequences", ge=1, le=65536)
    grad_accumulation: int = option(
        1, "Gradient accumulation", "Batches per optimizer step.", unit="batches", ge=1, le=4096, advanced=True
    )
    optimizer: Literal["adamw", "muon"] = option(
        "adamw",
        "Optimizer",
        "torch.optim's own; muon: Muon for the experts' matrices, scaled to AdamW's rates, AdamW for the rest.",
        advanced=True,
    )
    schedule: Literal["cosine", "linear", "wsd", "constant"] = option(
        "cosine", "Schedule", "Shape of the learning rate after the warm-up."
    )
    learning_rate: float = option(1e-3, "Learning rate", "Embedding, head, norms, router, coupler.", gt=0.0, le=1.0)
    geometric_learning_rate: float = option(
        1e-3, "Rotation learning rate", "Rotation angles, in geometric mode.", gt=0.0, le=1.0
    )
    expert_learning_rate: float = option(
        1e-4, "Expert learning rate", "Expert weights, in geometric mode.", gt=0.0, le=1.0
    )
    ghost_learning_rate: float = option(
        1e-4, "Ghost learning rate", "Peak for ghost experts; see Learning rate coupling.", gt=0.0, le=1.0
    )
    weight_decay: float = option(
        0.1,
        "Weight decay",
        "On matrices only; never on gains, biases, angles or edge weights.",
        ge=0.0,
        le=1.0,
        advanced=True,
    )
    beta2: float = option(0.98, "Adam beta 2", "Decay of the second moment.", gt=0.0, lt=1.0, advanced=True)
    warmup_steps: int = option(50, "Warm-up", "Steps of linear warm-up.", unit="steps", ge=0, advanced=True)
    min_lr_ratio: float = option(0.1, "Final learning rate", "As a share of the peak.", ge=0.0, le=1.0, advanced=True)
    grad_clip: float = option(1.0, "Gradient clip", "Largest gradient norm; 0 turns it off.", ge=0.0, advanced=True)
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto", "Precision", "auto: bf16 where the device computes it natively.", advanced=True
    )
    device: str = option(
        "auto", "Device", "auto, cpu, cuda, cuda:N or mps.", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", advanced=True
    )
    threads: int = option(0, "CPU threads", "0: all cores.", ge=0, le=1024, advanced=True)
    eval_every: int = option(100, "Evaluate every", "Steps between evaluations.", unit="steps", ge=1)
    eval_batches: int = option(
        8, "Evaluation batches", "Batches per evaluation while training; the last uses all.", ge=1, advanced=True
    )
    log_every: int = option(5, "Log every", "Steps between metric rows.", unit="steps", ge=1)
    checkpoint_every: int = option(200, "Checkpoint every", "Steps between checkpoints.", unit="steps", ge=1)
    keep_checkpoints: int = option(3, "Keep checkpoints", "Newest checkpoints kept; the best is kept too.", ge=1)
    compile: bool = option(False, "torch.compile", "28 to 42 s to start, 4 to 10 % faster on a CPU.", advanced=True)
    loss_weights: LossWeightsConfig = LossWeightsConfig()
    lambda_cognitive: LambdaCognitiveConfig = LambdaCognitiveConfig()


class DataConfig(Section):
    """Where the tokens come from."""

    source: Literal["lambda", "file", "hub", "mixture"] = option(
        "lambda",
        "Source",
        "lambda: generated lambda-calculus tasks; file: JSON, JSONL, TXT, CSV or Parquet; hub: a Hugging Face dataset; "
        "mixture: several of these by weight.",
    )
    path: str | None = option(None, "File", "Path of the data file (source: file).")
    name: str | None = option(None, "Hub dataset", "Such as owner/name (source: hub).")
    config_name: str | None = option(None, "Hub config", "Config of the Hub dataset, where it has several.")
    split: str = option("train", "Hub split", "Split of the Hub dataset.", pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    revision: str | None = option(
        None, "Hub revision", "Branch, tag or commit; a commit makes a run repeatable.", advanced=True
    )
    mixture: str | None = option(
        None,
        "Mixture",
        "Weights and sources (source: mixture), such as: 0.7 lambda; 0.2 file:notes.jsonl; 0.1 hub:owner/name.",
    )
    text_format: Literal["auto", "text", "question_answer", "instruction", "messages", "prompt_completion"] = option(
        "auto", "Format", "What a row holds; auto detects it from the columns of the first rows."
    )
    text_column: str | None = option(None, "Text column", "Empty: detected.", advanced=True)
    prompt_column: str | None = option(
        None, "Prompt column", "Question, instruction or prompt; empty: detected.", advanced=True
    )
    input_column: str | None = option(
        None, "Input column", "What an instruction is applied to; empty: detected.", advanced=True
    )
    answer_column: str | None = option(
        None, "Answer column", "Answer, output or completion; empty: detected.", advanced=True
    )
    messages_column: str | None = option(
        None, "Messages column", "List of role and content; empty: detected.", advanced=True
    )
    prompt_template: str | None = option(
        None,
        "Prompt template",
        "Text with {column} in it, such as: Question: {question} Answer: ; empty: the one of the format.",
        advanced=True,
    )
    answer_template: str | None = option(
        None, "Answer template", "As the prompt template, for the text that is learned.", advanced=True
    )
    message_template: str | None = option(
        None, "Message template", "Text of one message with {role} and {content} in it.", advanced=True
    )
    bad_rows: Literal["refuse", "skip"] = option(
        "refuse", "Bad rows", "refuse: say which rows are unusable and stop; skip: train on the others.", advanced=True
    )
    too_long: Literal["drop", "refuse"] = option(
        "drop",
        "Too long samples",
        "Samples with an answer that are longer than the sequence length are never cut: dropped and counted, or "
        "refused.",
        advanced=True,
    )
    tokenizer: Literal["auto", "lambda", "bytes", "characters", "bpe", "pretrained"] = option(
        "auto", "Tokenizer", "auto: lambda for the generated tasks, characters for plain text, bytes for all else."
    )
    tokenizer_path: str | None = option(
        None, "Pretrained tokenizer", "Folder or Hub name of a Hugging Face tokenizer (tokenizer: pretrained)."
    )
    bpe_vocab_size: int = option(
        4096, "BPE vocabulary", "Tokens of the BPE that is trained on the data (tokenizer: bpe).", ge=260, le=1_000_000
    )
    num_train_samples: int | None = option(
        None,
        "Training samples",
        "The most that are used; empty: 20,000 generated tasks, or every row of a file.",
        ge=1,
        le=1_000_000_000,
    )
    num_eval_samples: int = option(1000, "Evaluation samples", "The most that are held out.", ge=1, le=10_000_000)
    eval_fraction: float = option(
        0.1,
        "Held-out share",
        "Share of a file that is held out, by groups of equal rows.",
        gt=0.0,
        lt=0.9,
        advanced=True,
    )
    levels: tuple[int, ...] = option(
        (1, 2, 3), "Lambda levels", "Levels of the generated tasks, 0 to 5.", min_length=1, advanced=True
    )
    layout: Literal["segments", "direct"] = option(
        "segments",
        "Lambda layout",
        "segments: syntax, reduction, meaning and explanation after each other; direct: the answer at once.",
        advanced=True,
    )
    min_term_size: int = option(5, "Smallest term", "Nodes of a generated term.", unit="nodes", ge=3, le=30)
    max_term_size: int = option(11, "Largest term", "Nodes of a generated term.", unit="nodes", ge=3, le=30)
    lambda_seed: int = option(
        0,
        "Lambda seed",
        "Seed of the generated tasks. The run's seed only orders them, so seeds share a test set.",
        ge=0,
        le=2**31 - 1,
        advanced=True,
    )

    @field_validator("levels")
    @classmethod
    def _known_levels(cls, levels: tuple[int, ...]) -> tuple[int, ...]:
        if any(level not in range(6) for level in levels):
            raise ValueError(f"{list(levels)}: allowed are levels 0 to 5")
        return tuple(sorted(set(levels)))

    @field_validator("name")
    @classmethod
    def _is_hub_id(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(HUB_ID, name):
            raise ValueError("a Hub dataset is named owner/name, of letters, digits, '-', '_' and '.'")
        return name

    @field_validator("revision", "config_name")
    @classmethod
    def _is_plain_name(cls, value: str | None) -> str | None:
        if value is not None and (not re.fullmatch(r"[\w./-]{1,128}", value, re.ASCII) or ".." in value):
            raise ValueError("allowed are letters, digits, '-', '_', '.' and '/'")
        return value

    @model_validator(mode="after")
    def _source_is_complete(self) -> Self:
        needed = {"file": "path", "hub": "name", "mixture": "mixture"}.get(self.source)
        if needed and not getattr(self, needed):
            raise ValueError(f"{needed} is missing: source is {self.source}, so give data.{needed}")
        if self.source == "mixture":
            parse_mixture(self.mixture or "")
        if self.tokenizer == "pretrained" and not self.tokenizer_path:
            raise ValueError("tokenizer_path is missing: tokenizer is pretrained, so give data.tokenizer_path")
        if self.tokenizer == "lambda" and self.source != "lambda":
            raise ValueError(
                f"tokenizer lambda only knows the words of the generated tasks, not source {self.source}; use auto"
            )
        if self.min_term_size > self.max_term_size:
            raise ValueError(f"min_term_size = {self.min_term_size} is above max_term_size = {self.max_term_size}")
        return self


HUB_ID = r"(?!.*(--|\.\.))[A-Za-z0-9_][\w.-]{0,95}(/[A-Za-z0-9_][\w.-]{0,95})?"


@dataclass(frozen=True)
class MixturePart:
    """One source of a mixture: lambda, file (`place` is its path) or hub (`place` is owner/name)."""

    weight: float
    source: Literal["lambda", "file", "hub"]
    place: str = ""


def parse_mixture(text: str) -> tuple[MixturePart, ...]:
    """`0.7 lambda; 0.3 file:notes.jsonl` as parts whose weights add to 1; raises `ValueError`."""
    parts: list[MixturePart] = []
    for item in filter(None, (item.strip() for item in text.split(";"))):
        match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s+(lambda|file:(.+)|hub:(.+))", item)
        if not match or float(match[1]) <= 0:
            raise ValueError(
                f"mixture part {item!r} must look like: 0.3 file:notes.jsonl (a weight above 0, then "
                "lambda, file:PATH or hub:owner/name)"
            )
        if match[4] and not re.fullmatch(HUB_ID, match[4]):
            raise ValueError(f"mixture part {item!r}: a Hub dataset is named owner/name")
        source: Literal["lambda", "file", "hub"] = "file" if match[3] else "hub" if match[4] else "lambda"
        parts.append(MixturePart(float(match[1]), source, match[3] or match[4] or ""))
    if len(parts) < 2:
        raise ValueError("a mixture needs at least two sources, separated by ';'")
    if len({(part.source, part.place) for part in parts}) < len(parts):
        raise ValueError("the same source stands twice in the mixture; give it once, with the sum of its weights")
    total = sum(part.weight for part in parts)
    return tuple(MixturePart(part.weight / total, part.source, part.place) for part in parts)


class Config(Section):
    """Everything that defines a run."""

    name: str = option("run", "Name", "Short name, part of the run id.", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")
    seed: int = option(0, "Seed", "Of weights, data order and dropout.", ge=0, le=2**31 - 1)
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    data: DataConfig = DataConfig()

    @model_validator(mode="after")
    def _mode_fits_architecture(self) -> Self:
        if self.train.mode == "geometric" and "rotation" not in ARCHITECTURES[self.model.architecture].features:
            raise ValueError(
                f"train.mode = geometric needs an architecture with rotations, not {self.model.architecture}; "
                "set model.architecture=geometric or train.mode=standard"
            )
        if self.train.lambda_cognitive.enabled and (
            "rotation" not in ARCHITECTURES[self.model.architecture].features or self.data.source != "lambda"
        ):
            raise ValueError(
                "train.lambda_cognitive.enabled needs model.architecture=geometric and data.source=lambda; "
                "turn it off or change them"
            )
        return self

    @model_validator(mode="after")
    def _ghosts_can_learn(self) -> Self:
        coupled = self.model.num_ghosts and self.model.ghost.lr_coupling != "none"
        if coupled and self.train.schedule == "constant":
            raise ValueError(
                f"model.ghost.lr_coupling = {self.model.ghost.lr_coupling} gives ghosts what the common learning rate "
                "falls by, and train.schedule = constant never falls; take another schedule or lr_coupling=none"
            )
        return self


@dataclass(frozen=True)
class Resolved:
    """A config and, for each dotted key, where its value came from."""

    config: Config
    sources: Mapping[str, str]


def preset_folder() -> Path:
    """The folder of the shipped presets: beside the package in a checkout, inside it in an installed wheel."""
    inside = Path(__file__).resolve().parent / "configs"
    return inside if inside.is_dir() else Path(__file__).resolve().parent.parent / "configs"


def preset_names() -> list[str]:
    """Names of the shipped presets, sorted."""
    return sorted(path.stem for path in preset_folder().glob("*.yaml"))


def load_config(
    preset: str | None = None, path: str | os.PathLike[str] | None = None, overrides: Sequence[str] = ()
) -> Config:
    """The config from a preset, then a YAML file, then `a.b=value` overrides. Raises `ConfigError`."""
    return resolve(preset, path, overrides).config


def resolve(
    preset: str | None = None, path: str | os.PathLike[str] | None = None, overrides: Sequence[str] = ()
) -> Resolved:
    """As `load_config`, with the source of each value."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    if preset is not None:
        if preset not in preset_names():
            raise ConfigError(
                f"preset {preset!r} does not exist; presets: {', '.join(preset_names())}"
                f"{did_you_mean(preset, preset_names())}"
            )
        _merge(values, sources, _read_yaml(preset_folder() / f"{preset}.yaml"), f"preset {preset}")
    if path is not None:
        _merge(values, sources, _read_yaml(Path(path)), f"file {path}")
    for override in overrides:
        _merge(values, sources, _parse_override(override), "--set")
    config = validate(values)
    return Resolved(config, {key: sources.get(key, "default") for key in flatten(config.model_dump(mode="json"))})


def validate(values: Mapping[str, Any]) -> Config:
    """A nested mapping as a `Config`; raises `ConfigError` with one line for each problem."""
    try:
        return Config.model_validate({k: v for k, v in values.items() if k not in ("schema_version", "version")})
    except ValidationError as error:
        raise ConfigError("\n".join(line for _, line in problems(error))) from None


def problems(error: ValidationError) -> list[tuple[str, str]]:
    """(dotted field, readable message) for each problem of a validation error."""
    found: list[tuple[str, str]] = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            found.append((where, f"{where}: unknown key{did_you_mean(where, field_paths())}"))
            continue
        message = item["msg"].removeprefix("Value error, ")
        # A whole section as the input would print every value in it; a single value helps.
        shown = f" = {item['input']!r}" if not isinstance(item["input"], Mapping) else ""
        found.append((where, f"{where}{shown}: {message}" if where else message))
    return found


def field_paths() -> dict[str, FieldInfo]:
    """Every settable key, dotted, with its field, in the order of the schema."""
    return dict(_walk_fields(Config, ""))


def to_yaml(config: Config, sources: Mapping[str, str] | None = None) -> str:
    """YAML text that `load_config(path=...)` reads back; with `sources`, each value is followed by its origin."""
    from moe_hub import __version__

    body = yaml.safe_dump(
        {"schema_version": SCHEMA_VERSION, "version": __version__, **config.model_dump(mode="json")},
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None if sources is None else False,
    )
    return body if sources is None else _annotate(body, sources)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mapping as {dotted key: value}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        target = nested
        for parent in parents:
            target = target.setdefault(parent, {})
        target[last] = value
    return nested


def _walk_fields(section: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _walk_fields(field.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"config file {path}: {error.strerror}; check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"config file {path} is not YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"config file {path} must hold a mapping of keys, found a {type(values).__name__}")
    version = values.get("schema_version", SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise ConfigError(f"config file {path} has schema_version {version!r}; this program reads {SCHEMA_VERSION}")
    return values


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """`a.b=value` texts as nested values, the last one winning; raises `ConfigError`."""
    flat: dict[str, Any] = {}
    for override in overrides:
        flat.update(flatten(_parse_override(override)))
    return nest(flat)


def _parse_override(override: str) -> dict[str, Any]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override!r} must look like train.max_steps=50")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override!r}: the value is not YAML; quote it") from None
    return nest({key: value})


def _merge(
    values: dict[str, Any], sources: dict[str, str], new: Mapping[str, Any], source: str, prefix: str = ""
) -> None:
    for key, value in new.items():
        if isinstance(value, Mapping) and isinstance(values.get(key, {}), dict):
            _merge(values.setdefault(key, {}), sources, value, source, f"{prefix}{key}.")
        else:
            values[key] = value
            sources[f"{prefix}{key}"] = source


def _annotate(body: str, sources: Mapping[str, str]) -> str:
    lines: list[str] = []
    stack: list[tuple[int, str]] = []
    for line in body.splitlines():
        text = line.strip()
        if text.startswith("- ") or ":" not in text:
            lines.append(line)
            continue
        indent = len(line) - len(line.lstrip())
        key = text.partition(":")[0]
        stack = [entry for entry in stack if entry[0] < indent] + [(indent, key)]
        source = sources.get(".".join(name for _, name in stack))
        lines.append(f"{line}  # {source}" if source else line)
    return "\n".join(lines) + "\n"
