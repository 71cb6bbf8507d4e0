"""The section of the config that describes where the tokens come from."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import field_validator, model_validator

from moe_hub.config.schema import Section, option


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
    split: str = option(
        "train",
        "Hub split",
        "Split of the Hub dataset.",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        allowed="1 to 64 letters, digits, '-', '_' and '.'",
    )
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
        (1, 2, 3), "Lambda levels", "Levels of the generated tasks, 0 to 8.", min_length=1, advanced=True
    )
    layout: Literal["segments", "direct"] = option(
        "segments",
        "Lambda layout",
        "segments: syntax, reduction, meaning and explanation after each other; direct: the answer at once.",
        advanced=True,
    )
    min_term_size: int = option(5, "Smallest term", "Nodes of a generated term.", unit="nodes", ge=3, le=30)
    max_term_size: int = option(11, "Largest term", "Nodes of a generated term.", unit="nodes", ge=3, le=30)
    max_binder_depth: int = option(
        30, "Deepest binders", "Nested binders of a generated term, at most.", ge=1, le=30, advanced=True
    )
    lambda_held_out: Literal["test", "size", "steps", "binder_depth", "compositions"] = option(
        "test",
        "Held-out lambda tasks",
        "test: terms as in training, none of them seen; the others lie outside: larger terms, more steps, deeper "
        "binders, operators composed.",
        advanced=True,
    )
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
        if any(level not in range(9) for level in levels):
            raise ValueError("allowed are levels 0 to 8")
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
        return self

    @model_validator(mode="after")
    def _terms_fit_the_levels(self) -> Self:
        if self.min_term_size > self.max_term_size:
            raise ValueError(f"min_term_size = {self.min_term_size} is above max_term_size = {self.max_term_size}")
        if self.source != "lambda" and all(part.source != "lambda" for part in mixture_parts(self)):
            return self
        small = [level for level in self.levels if self.max_term_size < LEAST_MAX_TERM_SIZE[level]]
        if small:
            least = max(LEAST_MAX_TERM_SIZE[level] for level in small)
            raise ValueError(
                f"max_term_size = {self.max_term_size} is too small for levels {small}, whose reductions need larger "
                f"terms: raise it to {least} or more, or leave those levels out"
            )
        return self


# Of each level: terms must be allowed to grow to this size, or a split has none that belong to it.
LEAST_MAX_TERM_SIZE = {0: 7, 1: 7, 2: 7, 3: 9, 4: 12, 5: 16, 6: 2, 7: 12, 8: 9}
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


def mixture_parts(data: DataConfig) -> tuple[MixturePart, ...]:
    """The parts of a section whose source is a mixture; none for another source."""
    return parse_mixture(data.mixture or "") if data.source == "mixture" else ()
