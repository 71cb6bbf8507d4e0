"""Beta reduction: normal order (leftmost-outermost, finds the normal form where there is one) and applicative order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

from moe_hub.lambda_calculus.terms import Term, size, substitute

MAX_STEPS = 64
MAX_NODES = 128

Direction: TypeAlias = Literal["body", "left", "right"]
Path: TypeAlias = tuple[Direction, ...]
Outcome: TypeAlias = Literal["normal", "step cap", "size cap"]


@dataclass(frozen=True)
class Trace:
    """Every term of a reduction, first to last, and why it ended."""

    terms: tuple[Term, ...]
    outcome: Outcome

    @property
    def steps(self) -> int:
        """Beta steps made."""
        return len(self.terms) - 1

    @property
    def normal_form(self) -> Term | None:
        """The last term if it is normal, None where a cap ended the reduction."""
        return self.terms[-1] if self.outcome == "normal" else None


def step(term: Term) -> Term | None:
    """One normal-order beta step; None for a normal form."""
    if isinstance(term, int):
        return None
    if len(term) == 1:
        body = step(term[0])
        return None if body is None else (body,)
    function, argument = term
    if isinstance(function, tuple):
        if len(function) == 1:
            return substitute(function[0], argument)
        reduced = step(function)
        if reduced is not None:
            return (reduced, argument)
    reduced = step(argument)
    return None if reduced is None else (function, reduced)


def applicative_step(term: Term) -> Term | None:
    """One applicative-order step: leftmost-innermost, arguments before the redex that consumes them."""
    if isinstance(term, int):
        return None
    if len(term) == 1:
        body = applicative_step(term[0])
        return None if body is None else (body,)
    function, argument = term
    reduced = applicative_step(function)
    if reduced is not None:
        return (reduced, argument)
    reduced = applicative_step(argument)
    if reduced is not None:
        return (function, reduced)
    if isinstance(function, tuple) and len(function) == 1:
        return substitute(function[0], argument)
    return None


def is_normal(term: Term) -> bool:
    """Whether no beta redex is left."""
    if isinstance(term, int):
        return True
    if len(term) == 1:
        return is_normal(term[0])
    function = term[0]
    if isinstance(function, tuple) and len(function) == 1:
        return False
    return is_normal(function) and is_normal(term[1])


def reduce(
    term: Term, *, order: Literal["normal", "applicative"] = "normal", max_steps: int = MAX_STEPS,
    max_nodes: int = MAX_NODES,
) -> Trace:  # fmt: skip
    """Reduces until a normal form, `max_steps` steps, or a term of more than `max_nodes` nodes (which is kept).

    A term that is too large from the start is not reduced at all: one step could square its size. A step on n nodes
    leaves at most n + n^2 / 8 of them: a body of b nodes has at most (b + 1) / 2 variables to put a nodes for, and
    a + b is at most n - 2.
    """
    take = step if order == "normal" else applicative_step
    terms, nodes = [term], size(term)
    if nodes > max_nodes and not is_normal(term):
        return Trace((term,), "size cap")
    for _ in range(max_steps):
        following = take(terms[-1])
        if following is None:
            return Trace(tuple(terms), "normal")
        terms.append(following)
        nodes = nodes + nodes * nodes // 8  # a bound; the nodes are counted only where it does not settle the matter
        if nodes > max_nodes and (nodes := size(following)) > max_nodes:
            return Trace(tuple(terms), "size cap")
    return Trace(tuple(terms), "normal" if is_normal(terms[-1]) else "step cap")


def redexes(term: Term, path: Path = ()) -> Iterator[Path]:
    """Positions of all redexes, in normal order: the first is the one that `step` contracts."""
    if isinstance(term, int):
        return
    if len(term) == 1:
        yield from redexes(term[0], (*path, "body"))
        return
    if isinstance(term[0], tuple) and len(term[0]) == 1:
        yield path
    yield from redexes(term[0], (*path, "left"))
    yield from redexes(term[1], (*path, "right"))


def first_redex(term: Term) -> Path | None:
    """The position of the redex that `step` contracts; None for a normal form."""
    if isinstance(term, int):
        return None
    if len(term) == 1:
        path = first_redex(term[0])
        return None if path is None else ("body", *path)
    function = term[0]
    if isinstance(function, tuple) and len(function) == 1:
        return ()
    path = first_redex(function)
    if path is not None:
        return ("left", *path)
    path = first_redex(term[1])
    return None if path is None else ("right", *path)


def redex(term: Term) -> tuple[Term, Term] | None:
    """Body of the abstraction and argument of the redex that `step` contracts; None for a normal form."""
    if isinstance(term, int):
        return None
    if len(term) == 1:
        return redex(term[0])
    function, argument = term
    if isinstance(function, tuple):
        if len(function) == 1:
            return function[0], argument
        return redex(function) or redex(argument)
    return redex(argument)


def subterm(term: Term, path: Path) -> Term:
    """The part of a term at a position."""
    for direction in path:
        assert isinstance(term, tuple), "the path leads below a variable"
        term = term[-1] if direction == "right" else term[0]
    return term


def redex_parts(redex: Term) -> tuple[Term, Term]:
    """Body of the abstraction and argument of a redex. Raises `ValueError` for other terms."""
    if isinstance(redex, tuple) and len(redex) == 2:
        function, argument = redex
        if isinstance(function, tuple) and len(function) == 1:
            return function[0], argument
    raise ValueError("not a redex: an abstraction applied to an argument is expected")


def contract(term: Term, path: Path) -> Term:
    """The term after the redex at `path` is contracted."""
    if not path:
        body, argument = redex_parts(term)
        return substitute(body, argument)
    assert isinstance(term, tuple)
    if path[0] == "body":
        return (contract(term[0], path[1:]),)
    function, argument = term[0], term[-1]
    if path[0] == "left":
        return (contract(function, path[1:]), argument)
    return (function, contract(argument, path[1:]))
