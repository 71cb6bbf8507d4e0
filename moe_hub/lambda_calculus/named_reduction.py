"""Reduction of named terms with capture-avoiding substitution, and names chosen so that it has something to avoid.

Definition: Barendregt (1984), The Lambda Calculus, C.1, with renaming as Curry has it: a binder keeps its name unless
it would capture; then it takes the first usual name that occurs free neither in its body nor in the argument.
"""

from __future__ import annotations

from random import Random

from moe_hub.lambda_calculus.named import USUAL_NAMES, Abs, App, NamedTerm, free_names, outer_indices, usual_names
from moe_hub.lambda_calculus.terms import Term

PRESSURE_LETTERS = 3


def substitute_named(body: NamedTerm, name: str, argument: NamedTerm) -> NamedTerm:
    """`body` with `argument` for the free occurrences of `name`, binders renamed only where they would capture."""
    return _substitute(body, name, argument, free_names(argument))


def step_named(term: NamedTerm) -> NamedTerm | None:
    """One normal-order beta step; None for a normal form."""
    if isinstance(term, str):
        return None
    if isinstance(term, Abs):
        body = step_named(term.body)
        return None if body is None else Abs(term.name, body)
    if isinstance(term.function, Abs):
        return substitute_named(term.function.body, term.function.name, term.argument)
    function = step_named(term.function)
    if function is not None:
        return App(function, term.argument)
    argument = step_named(term.argument)
    return None if argument is None else App(term.function, argument)


def step_captures(term: NamedTerm) -> bool:
    """Whether the first normal-order step must rename a binder, so that substitution by text would be wrong."""
    if isinstance(term, str):
        return False
    if isinstance(term, Abs):
        return step_captures(term.body)
    if isinstance(term.function, Abs):
        return _captures(term.function.body, term.function.name, free_names(term.argument))
    if step_named(term.function) is not None:
        return step_captures(term.function)
    return step_captures(term.argument)


def with_few_names(term: Term, rng: Random, scope: tuple[str, ...] = ()) -> NamedTerm:
    """Names for a closed term out of as few letters as possible: binders shadow one another and threaten to capture."""
    if isinstance(term, int):
        return scope[-1 - term]
    if len(term) == 2:
        return App(with_few_names(term[0], rng, scope), with_few_names(term[1], rng, scope))
    needed = {scope[-index] for index in outer_indices(term[0], 1)}
    allowed = [letter for letter in USUAL_NAMES[:PRESSURE_LETTERS] if letter not in needed]
    name = rng.choice(allowed) if allowed else next(name for name in usual_names() if name not in needed)
    return Abs(name, with_few_names(term[0], rng, (*scope, name)))


def _substitute(body: NamedTerm, name: str, argument: NamedTerm, free: frozenset[str]) -> NamedTerm:
    if isinstance(body, str):
        return argument if body == name else body
    if isinstance(body, App):
        return App(_substitute(body.function, name, argument, free), _substitute(body.argument, name, argument, free))
    inner = free_names(body.body)
    if body.name == name or name not in inner:
        return body
    if body.name not in free:
        return Abs(body.name, _substitute(body.body, name, argument, free))
    fresh = next(candidate for candidate in usual_names() if candidate not in inner and candidate not in free)
    renamed = _substitute(body.body, body.name, fresh, frozenset((fresh,)))
    return Abs(fresh, _substitute(renamed, name, argument, free))


def _captures(body: NamedTerm, name: str, free: frozenset[str]) -> bool:
    if isinstance(body, str):
        return False
    if isinstance(body, App):
        return _captures(body.function, name, free) or _captures(body.argument, name, free)
    if body.name == name or name not in free_names(body.body):
        return False
    return body.name in free or _captures(body.body, name, free)
