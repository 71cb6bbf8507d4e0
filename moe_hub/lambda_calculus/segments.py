"""The four segments of a sample, one per reasoning phase.

`<syn> named term = prefix De Bruijn <red> step ; step <sem> normal form is numeral 2 <ped> at body left put lam 0
for x 2 times ; normal after 3 steps`. The steps are the terms after each normal-order step; the explanation says where
the first redex is (the way from the root), which argument (prefix, indices as at that place) is put for which name
and how often, and how many steps lead to the normal form.
"""

from __future__ import annotations

from moe_hub.lambda_calculus.church import decoded
from moe_hub.lambda_calculus.named import Abs, App, NamedTerm, named_tokens
from moe_hub.lambda_calculus.reduction import Path, Trace, first_redex, redex
from moe_hub.lambda_calculus.terms import occurrences, prefix
from moe_hub.lambda_calculus.vocabulary import (
    ANSWER,
    BOS,
    EOS,
    PAD,
    PEDAGOGICAL,
    PHASE_MARKERS,
    PHASES,
    REDUCTION,
    SEMANTIC,
    SEPARATOR,
    SYNTAX,
)

_PHASE_OF_MARKER = dict(zip(PHASE_MARKERS, PHASES, strict=True))


def segments(named: NamedTerm, trace: Trace) -> tuple[str, str]:
    """Prompt and answer of a term whose reduction ended in a normal form; `named` is the first term of the trace."""
    answer = [
        prefix(trace.terms[0]),
        REDUCTION,
        f" {SEPARATOR} ".join(map(prefix, trace.terms[1:])),
        SEMANTIC,
        meaning(trace),
        PEDAGOGICAL,
        explanation(named, trace),
    ]
    return f"{SYNTAX} {named_tokens(named)} {ANSWER}", " ".join(part for part in answer if part)


def split_segments(text: str) -> dict[str, str]:
    """Text of each phase of a sample, by phase name, up to <eos>; a marker that comes again stays in the text."""
    parts: dict[str, list[str]] = {}
    current: list[str] = []
    for word in text.split():
        if word == EOS:
            break
        if word in _PHASE_OF_MARKER and _PHASE_OF_MARKER[word] not in parts:
            current = parts[_PHASE_OF_MARKER[word]] = []
        elif word not in (PAD, BOS):
            current.append(word)
    return {phase: " ".join(words) for phase, words in parts.items()}


def meaning(trace: Trace) -> str:
    """The normal form and what it encodes, if anything."""
    assert trace.normal_form is not None, "the semantic segment needs a normal form"
    words = decoded(trace.normal_form)
    return prefix(trace.normal_form) + (f" is {words}" if words else "")


def explanation(named: NamedTerm, trace: Trace) -> str:
    """Which redex is contracted first, what is substituted for what, and how far the normal form is."""
    ending = f"normal after {trace.steps} steps"
    path, parts = first_redex(trace.terms[0]), redex(trace.terms[0])
    if path is None or parts is None:
        return ending
    body, argument = parts
    place = " ".join(path) or "root"
    name, times = _bound_name(named, path), occurrences(body)
    return f"at {place} put {prefix(argument)} for {name} {times} times {SEPARATOR} {ending}"


def _bound_name(named: NamedTerm, path: Path) -> str:
    for direction in path:
        if isinstance(named, Abs):
            named = named.body
        else:
            assert isinstance(named, App)
            named = named.argument if direction == "right" else named.function
    assert isinstance(named, App), "a redex is an application"
    assert isinstance(named.function, Abs), "a redex applies an abstraction"
    return named.function.name
