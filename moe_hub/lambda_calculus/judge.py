"""The judge: an answer to a lambda term, compared with what the evaluator finds.

It takes generated samples of either layout, and plain terms as people write them. What is asked follows from the
prompt: `<syn>` asks for the prefix De Bruijn form (or, where the answer has segments, for all four), `<red> term =`
for one step, `<red> term ;` for the trace, `<sem>` or a bare term for the normal form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from moe_hub.errors import DataError
from moe_hub.lambda_calculus.levels import Question
from moe_hub.lambda_calculus.named import from_named, named_tokens, to_named
from moe_hub.lambda_calculus.parser import is_prefix, parse, parse_named, parse_prefix
from moe_hub.lambda_calculus.reduction import Trace, reduce, step
from moe_hub.lambda_calculus.segments import explanation, meaning, split_segments
from moe_hub.lambda_calculus.terms import ABSTRACTION, APPLICATION, Term
from moe_hub.lambda_calculus.vocabulary import (
    ANSWER,
    EOS,
    PHASE_MARKERS,
    PHASES,
    REDUCTION,
    SEMANTIC,
    SEPARATOR,
    SPECIAL,
    SYNTAX,
)

Kind: TypeAlias = Literal["right", "beta-equal", "wrong", "divergent", "not a term"]
KINDS: tuple[Kind, ...] = ("right", "beta-equal", "wrong", "divergent", "not a term")
Asked: TypeAlias = Question | Literal["segments"]


@dataclass(frozen=True)
class Verdict:
    """What an answer is worth.

    `kind`: right (equal up to names), beta-equal (the right value, but not the term asked for: for a normal form, not
    normal yet), wrong, divergent (the term has no normal form within the caps, so there is nothing to answer), not a
    term. `expected` is in the rendering of the prompt, None where divergent; `trace` is the true reduction;
    `steps_valid` says for each step of an answered trace whether it follows from the one before; `phases` says for
    each answered segment whether it is right; `problem` is why the answer is not a term.
    """

    kind: Kind
    asked: Asked
    expected: str | None
    normal_form: str | None
    trace: Trace
    steps_valid: tuple[bool, ...] = ()
    phases: Mapping[str, bool] = field(default_factory=dict)
    problem: str = ""

    @property
    def right(self) -> bool:
        """Exact match up to names; of a segmented answer, in all four segments."""
        return self.kind == "right" and all(self.phases.values())

    @property
    def beta_right(self) -> bool:
        """The answer has the right value."""
        return self.kind in ("right", "beta-equal")


def judge(prompt: str, answer: str) -> Verdict:
    """The verdict on an answer. Raises `DataError` where the prompt itself is not a term."""
    asked, source_text = read_prompt(prompt, answer)
    context: list[str] = []
    source = parse(source_text, context)
    case = _Case(source, context, reduce(source), named=not is_prefix(source_text))
    if asked == "segments":
        return _judge_segments(case, source_text, answer)
    text = _without_specials(answer)
    if asked == "trace":
        return _judge_trace(case, text)
    return _judge_term(case, asked, _wanted(case, asked), text)


def read_prompt(prompt: str, answer: str = "") -> tuple[Asked, str]:
    """What a prompt asks, and its term."""
    words = prompt.split()
    marker = next((word for word in words if word in PHASE_MARKERS), SEMANTIC)
    term = [word for word in words if word not in SPECIAL]
    sign = term.pop() if term and term[-1] in (ANSWER, SEPARATOR) else ANSWER
    text = " ".join(term)
    if marker == SYNTAX:
        return ("segments" if REDUCTION in answer.split() else "parse"), text
    if marker == REDUCTION:
        if sign == SEPARATOR:
            return "trace", text
        return ("step" if is_prefix(text) else "named step"), text
    return "normal form", text


def _wanted(case: _Case, asked: Asked) -> Term | None:
    """The term asked for; a normal form asked for one step stays as it is."""
    if asked == "normal form":
        return case.trace.normal_form
    if asked == "parse" or case.trace.steps == 0:
        return case.source
    return case.trace.terms[1]


@dataclass(frozen=True)
class _Case:
    """The term in question, the names of its free variables, its reduction, and whether it was written with names."""

    source: Term
    context: list[str]
    trace: Trace
    named: bool

    def shown(self, term: Term | None, named: bool | None = None) -> str | None:
        """A term in the rendering of the prompt."""
        if term is None:
            return None
        if self.named if named is None else named:
            return named_tokens(to_named(term, self.context))
        return prefix_in_context(term, self.context)


def prefix_in_context(term: Term, context: list[str], depth: int = 0) -> str:
    """The prefix string with free variables by name: alpha-canonical for open terms too."""
    if isinstance(term, int):
        return str(term) if term < depth else context[term - depth]
    if len(term) == 1:
        return f"{ABSTRACTION} {prefix_in_context(term[0], context, depth + 1)}"
    left, right = (prefix_in_context(part, context, depth) for part in term)
    return f"{APPLICATION} {left} {right}"


def _judge_term(case: _Case, asked: Asked, wanted: Term | None, answer: str) -> Verdict:
    expected = case.shown(wanted, named=False if asked == "parse" else None)
    normal_form = case.shown(case.trace.normal_form)

    def verdict(kind: Kind, problem: str = "") -> Verdict:
        return Verdict(kind, asked, expected, normal_form, case.trace, problem=problem)

    try:
        given = _read(answer, asked, case.context)
    except DataError as error:
        return verdict("not a term", str(error))
    if wanted is None:
        return verdict("divergent" if case.trace.normal_form is None else "wrong")
    if given == wanted:
        return verdict("right")
    return verdict("beta-equal" if beta_equal(case.trace, given) else "wrong")


def _read(answer: str, asked: Asked, context: list[str]) -> Term:
    """The answered term; where a rendering is the point of the question, only that one counts."""
    if asked == "parse":
        return parse_prefix(answer, context)
    if asked == "named step":
        return from_named(parse_named(answer), context)
    return parse(answer, context)


def beta_equal(trace: Trace, term: Term) -> bool:
    """Whether a term has the normal form of a reduction, or, where that has none, lies on it."""
    if trace.normal_form is None:
        return term in trace.terms
    return term in trace.terms or reduce(term).normal_form == trace.normal_form


def _judge_trace(case: _Case, answer: str) -> Verdict:
    expected_terms = case.trace.terms[1:]
    expected = f" {SEPARATOR} ".join(case.shown(term) or "" for term in expected_terms)
    normal_form = case.shown(case.trace.normal_form)
    given, valid, problem = read_steps(case.source, answer, case.context)
    if problem:
        kind: Kind = "not a term"
    elif case.trace.normal_form is None:
        kind = "divergent"
    elif tuple(given) == expected_terms:
        kind = "right"
    else:
        kind = "beta-equal" if given and beta_equal(case.trace, given[-1]) else "wrong"
    return Verdict(kind, "trace", expected, normal_form, case.trace, valid, problem=problem)


def read_steps(source: Term, answer: str, context: list[str]) -> tuple[list[Term], tuple[bool, ...], str]:
    """The terms of a trace `step ; step`; whether each is the normal-order step of the one before; the problem, if any.

    After a term that cannot be read, the reading ends: what follows has nothing to follow from.
    """
    given: list[Term] = []
    valid: list[bool] = []
    before = source
    for text in answer.split(SEPARATOR) if answer.strip() else []:
        try:
            term = parse(text, context)
        except DataError as error:
            return given, (*valid, False), str(error)
        given.append(term)
        valid.append(step(before) == term)
        before = term
    return given, tuple(valid), ""


def _judge_segments(case: _Case, source_text: str, answer: str) -> Verdict:
    parts = split_segments(f"{SYNTAX} {answer}")
    normal_form = case.shown(case.trace.normal_form, named=False)
    given, valid, problem = read_steps(case.source, parts.get("reduction", ""), case.context)
    if case.trace.normal_form is None:
        return Verdict("divergent", "segments", None, None, case.trace, valid, dict.fromkeys(PHASES, False), problem)
    named = parse_named(source_text) if case.named else to_named(case.source, case.context)
    phases = {
        "syntax": parts.get("syntax") == prefix_in_context(case.source, case.context),
        "reduction": not problem and tuple(given) == case.trace.terms[1:],
        "semantic": parts.get("semantic") == meaning(case.trace),
        "pedagogical": parts.get("pedagogical") == explanation(named, case.trace),
    }
    value = parts.get("semantic", "").split(" is ")[0]
    verdict = _judge_term(case, "segments", case.trace.normal_form, value)
    return Verdict(
        verdict.kind, "segments", normal_form, normal_form, case.trace, valid, phases, problem or verdict.problem
    )


def _without_specials(text: str) -> str:
    return " ".join(word for word in text.partition(EOS)[0].split() if word not in SPECIAL)
