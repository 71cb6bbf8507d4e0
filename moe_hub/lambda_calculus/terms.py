"""Terms of the untyped lambda calculus with De Bruijn indices.

A term is a plain immutable value: an `int` n is the variable bound by the n-th enclosing binder (0 = nearest), a tuple
of one term is an abstraction, a tuple of two terms is an application. Plain tuples are the fastest immutable tree in
CPython (a generator makes tens of thousands a second), and equality of terms is equality up to alpha. An index that
reaches past all binders is free: at depth d, index d + j is the j-th name of the term's context.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

Term: TypeAlias = "int | tuple[Term] | tuple[Term, Term]"

APPLICATION = "@"
ABSTRACTION = "lam"


def size(term: Term) -> int:
    """Nodes of the term; variable, abstraction and application count 1 each."""
    if isinstance(term, int):
        return 1
    if len(term) == 1:
        return 1 + size(term[0])
    return 1 + size(term[0]) + size(term[1])


def binder_depth(term: Term) -> int:
    """Largest number of binders around any node."""
    if isinstance(term, int):
        return 0
    if len(term) == 1:
        return 1 + binder_depth(term[0])
    return max(binder_depth(term[0]), binder_depth(term[1]))


def free_width(term: Term, depth: int = 0) -> int:
    """How many free names the context of the term must have; 0 for a closed term."""
    if isinstance(term, int):
        return max(0, term - depth + 1)
    if len(term) == 1:
        return free_width(term[0], depth + 1)
    return max(free_width(term[0], depth), free_width(term[1], depth))


def is_closed(term: Term) -> bool:
    """Whether every variable is bound."""
    return free_width(term) == 0


def occurrences(term: Term, index: int = 0) -> int:
    """How often the variable `index` (counted from outside the term) occurs."""
    if isinstance(term, int):
        return int(term == index)
    if len(term) == 1:
        return occurrences(term[0], index + 1)
    return occurrences(term[0], index) + occurrences(term[1], index)


def shift(term: Term, by: int, cutoff: int = 0) -> Term:
    """The term with `by` added to every index that is at least `cutoff` (Pierce, TAPL, definition 6.2.1)."""
    if isinstance(term, int):
        return term + by if term >= cutoff else term
    if len(term) == 1:
        return (shift(term[0], by, cutoff + 1),)
    return (shift(term[0], by, cutoff), shift(term[1], by, cutoff))


def substitute(body: Term, argument: Term, depth: int = 0) -> Term:
    """The contractum of `(lam body) argument`: beta reduction at the root (TAPL 6.2.4 with both shifts in one pass)."""
    if isinstance(body, int):
        if body < depth:
            return body
        if body > depth:
            return body - 1
        return shift(argument, depth) if depth else argument
    if len(body) == 1:
        return (substitute(body[0], argument, depth + 1),)
    return (substitute(body[0], argument, depth), substitute(body[1], argument, depth))


@lru_cache(maxsize=1024)  # a sample writes each of its terms several times: for the split, the steps, the meaning
def prefix(term: Term) -> str:
    """The prefix De Bruijn string: for closed terms the alpha-canonical form, equal exactly for alpha-equal terms."""
    return _prefix(term)


def _prefix(term: Term) -> str:
    if isinstance(term, int):
        return str(term)
    if len(term) == 1:
        return f"{ABSTRACTION} {_prefix(term[0])}"
    return f"{APPLICATION} {_prefix(term[0])} {_prefix(term[1])}"
