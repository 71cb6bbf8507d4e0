"""The named rendering: terms as people write them, names kept, and the parser and printer for it.

A named term is a `str` (variable), a `Abs` or an `App`. Conversion from De Bruijn picks names that capture nothing;
conversion to De Bruijn gives free names the indices after all binders, in the order of a context.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeAlias

from moe_hub.lambda_calculus.terms import Term

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
USUAL_NAMES = "xyzwvutsrqponmlkjihgfedcba"


class Abs(NamedTuple):
    """An abstraction."""

    name: str
    body: NamedTerm


class App(NamedTuple):
    """An application."""

    function: NamedTerm
    argument: NamedTerm


NamedTerm: TypeAlias = "str | Abs | App"


def usual_names() -> Iterator[str]:
    """x, y, z, w, ... a, then x1, y1, ..."""
    yield from USUAL_NAMES
    number = 1
    while True:
        yield from (f"{letter}{number}" for letter in USUAL_NAMES)
        number += 1


def free_names(term: NamedTerm) -> frozenset[str]:
    """Names that occur free."""
    if isinstance(term, str):
        return frozenset((term,))
    if isinstance(term, Abs):
        return free_names(term.body) - {term.name}
    return free_names(term.function) | free_names(term.argument)


def to_named(term: Term, context: Sequence[str] = (), scope: tuple[str, ...] = ()) -> NamedTerm:
    """Names for a De Bruijn term: each binder takes the first usual name that its body does not need from outside.

    `context` names the free variables. Raises `IndexError` where a free index has no name.
    """
    if isinstance(term, int):
        return scope[-1 - term] if term < len(scope) else context[term - len(scope)]
    if len(term) == 2:
        return App(to_named(term[0], context, scope), to_named(term[1], context, scope))
    needed = {
        scope[-index] if index <= len(scope) else context[index - len(scope) - 1] for index in outer_indices(term[0], 1)
    }
    name = next(name for name in usual_names() if name not in needed)
    return Abs(name, to_named(term[0], context, (*scope, name)))


def with_names(term: Term, names: Iterator[str], scope: tuple[str, ...] = ()) -> NamedTerm:
    """Names for a closed term: each binder, in reading order, takes the next of `names`, which must be distinct."""
    if isinstance(term, int):
        return scope[-1 - term]
    if len(term) == 1:
        name = next(names)
        return Abs(name, with_names(term[0], names, (*scope, name)))
    return App(with_names(term[0], names, scope), with_names(term[1], names, scope))


def from_named(term: NamedTerm, context: list[str], scope: tuple[str, ...] = ()) -> Term:
    """The De Bruijn term; free names not yet in `context` are appended to it, so terms that share it compare."""
    if isinstance(term, Abs):
        return (from_named(term.body, context, (*scope, term.name)),)
    if isinstance(term, App):
        return (from_named(term.function, context, scope), from_named(term.argument, context, scope))
    for distance, name in enumerate(reversed(scope)):
        if name == term:
            return distance
    if term not in context:
        context.append(term)
    return len(scope) + context.index(term)


def named_tokens(term: NamedTerm, *, full: bool = False) -> str:
    """Tokens joined by spaces: `λ x . x y` with as few parentheses as reading needs, or `full` around every part."""
    tokens: list[str] = []
    if full:
        _full(term, tokens)
    else:
        _minimal(term, tokens)
    return " ".join(tokens)


def compact(tokens: str) -> str:
    """Named tokens as people write them: `λx.x y`."""
    return tokens.replace("λ ", "λ").replace(" . ", ".").replace("( ", "(").replace(" )", ")")


def outer_indices(term: Term, depth: int) -> set[int]:
    """Indices, as seen at `depth` binders further out (1 = next one out), of variables bound outside."""
    if isinstance(term, int):
        return {term - depth + 1} if term >= depth else set()
    if len(term) == 1:
        return outer_indices(term[0], depth + 1)
    return outer_indices(term[0], depth) | outer_indices(term[1], depth)


def _full(term: NamedTerm, tokens: list[str]) -> None:
    if isinstance(term, str):
        tokens.append(term)
        return
    tokens.append("(")
    if isinstance(term, Abs):
        tokens += ("λ", term.name, ".")
        _full(term.body, tokens)
    else:
        _full(term.function, tokens)
        _full(term.argument, tokens)
    tokens.append(")")


def _minimal(term: NamedTerm, tokens: list[str], last: bool = True) -> None:
    """`last`: nothing follows in the same group, so an abstraction, which reaches as far as it can, needs no braces."""
    if isinstance(term, str):
        tokens.append(term)
    elif isinstance(term, Abs):
        tokens += ("λ", term[0], ".") if last else ("(", "λ", term[0], ".")
        _minimal(term[1], tokens)
        if not last:
            tokens.append(")")
    else:
        function, argument = term
        _minimal(function, tokens, last=False)
        if isinstance(argument, App):
            tokens.append("(")
            _minimal(argument, tokens)
            tokens.append(")")
        else:
            _minimal(argument, tokens, last)
