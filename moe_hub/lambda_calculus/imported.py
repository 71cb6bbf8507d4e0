"""Rows of question / reasoning / answer, as in public lambda-calculus sets: read, judged, and counted.

`question` is a named term, `answer` what somebody holds for its normal form, `reasoning` its steps, separated by
`####` lines, each of which ends in ` - ` and the term after the step. Rows are grouped by their question up to alpha
(bound names do not matter, free names do): a split of such a set must be by group.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moe_hub.errors import DataError
from moe_hub.lambda_calculus.judge import KINDS, Kind, beta_equal, judge, prefix_in_context
from moe_hub.lambda_calculus.parser import parse
from moe_hub.lambda_calculus.reduction import reduce
from moe_hub.lambda_calculus.terms import Term

STEP_SEPARATOR = "####"
RESULT_SEPARATOR = " - "


@dataclass(frozen=True)
class JudgedRow:
    """A row with its verdict; `number` counts from 1. `kind` is "not a term" too where the question is none.

    `group`: the question's alpha-canonical form, free variables by name, "" where it cannot be read. `steps`: true
    steps to the normal form, None where there is none. `reasoning_valid`: for each step of the reasoning whether its
    term has the question's value, None for a step whose term cannot be read.
    """

    number: int
    kind: Kind
    group: str
    answer_group: str
    expected: str | None
    steps: int | None
    reasoning_valid: tuple[bool | None, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Audit:
    """What a set is worth. `kinds`: rows by verdict; `steps`: rows by true number of steps, None for divergent ones.

    `questions` differ as text, `groups` up to alpha; `pairs` are distinct (question, answer) texts; `repeated_rows`
    are those whose question up to alpha stood in an earlier row: a random split would leak them.
    """

    rows: int
    questions: int
    pairs: int
    groups: int
    divergent_questions: int
    repeated_rows: int
    kinds: Mapping[Kind, int]
    steps: Mapping[int | None, int]
    reasoning_steps: int
    reasoning_valid: int


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON array, or of JSON lines. Raises `DataError` with the place of the first problem."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"data file {path}: {error.strerror}; check the path") from None
    except UnicodeDecodeError as error:
        raise DataError(f"data file {path} is not UTF-8 (byte {error.start}); convert it") from None
    try:
        array = text.lstrip().startswith("[")
        rows = json.loads(text) if array else [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise DataError(f"data file {path} is not JSON: {error}") from None
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"data file {path}, row {number}: expected an object, found a {type(row).__name__}")
    return list(rows)


def judge_row(row: Mapping[str, Any], number: int = 1) -> JudgedRow:
    """The verdict on a row. Raises `DataError` where question or answer is missing or no text."""
    for key in ("question", "answer"):
        if not isinstance(row.get(key), str):
            raise DataError(f"row {number}: field {key!r} must be text, found {row.get(key)!r}")
    question, answer = row["question"], row["answer"]
    context: list[str] = []
    try:
        source = parse(question, context)
    except DataError as error:
        return JudgedRow(number, "not a term", "", answer, None, None, problem=f"question: {error}")
    verdict = judge(question, answer)
    steps = verdict.trace.steps if verdict.trace.normal_form is not None else None
    reasoning = row.get("reasoning")
    valid = _reasoning_valid(source, context, reasoning) if isinstance(reasoning, str) else ()
    return JudgedRow(
        number, verdict.kind, prefix_in_context(source, context), _group(answer), verdict.expected, steps, valid,
        verdict.problem,
    )  # fmt: skip


def judge_rows(rows: Iterable[Mapping[str, Any]]) -> list[JudgedRow]:
    """Verdicts on all rows, in order; each distinct row is judged once."""
    known: dict[tuple[Any, ...], JudgedRow] = {}
    judged = []
    for number, row in enumerate(rows, 1):
        key = tuple(map(repr, (row.get("question"), row.get("answer"), row.get("reasoning"))))
        if key not in known:
            known[key] = judge_row(row, number)
        judged.append(known[key] if known[key].number == number else replace(known[key], number=number))
    return judged


def audit(rows: Iterable[Mapping[str, Any]]) -> Audit:
    """Counts over a set."""
    rows = list(rows)
    judged = judge_rows(rows)
    steps = Counter(row.steps for row in judged if row.group)
    valid = [step for row in judged for step in row.reasoning_valid]
    groups = Counter(row.group for row in judged if row.group)
    return Audit(
        rows=len(rows),
        questions=len({row["question"] for row in rows}),
        pairs=len({(row["question"], row["answer"]) for row in rows}),
        groups=len(groups),
        divergent_questions=len({row.group for row in judged if row.group and row.steps is None}),
        repeated_rows=sum(groups.values()) - len(groups),
        kinds={kind: sum(row.kind == kind for row in judged) for kind in KINDS},
        steps=dict(sorted(steps.items(), key=lambda item: (item[0] is None, item[0] or 0))),
        reasoning_steps=len(valid),
        reasoning_valid=sum(step is True for step in valid),
    )


def _reasoning_valid(source: Term, context: list[str], reasoning: str) -> tuple[bool | None, ...]:
    trace = reduce(source)
    valid: list[bool | None] = []
    for text in reasoning.split(STEP_SEPARATOR):
        if not text.strip():
            continue
        try:
            term = parse(text.rpartition(RESULT_SEPARATOR)[2], context)
        except DataError:
            valid.append(None)
        else:
            valid.append(beta_equal(trace, term))
    return tuple(valid)


def _group(text: str) -> str:
    context: list[str] = []
    try:
        return prefix_in_context(parse(text, context), context)
    except DataError:
        return text
