"""Exact uniform sampling of closed terms by size, by counting and unranking.

T(n, m), the terms of n nodes under m binders: T(n, m) = [n = 1] m + T(n - 1, m + 1) + sum_i T(i, m) T(n - 1 - i, m)
(Grygiel and Lescanne 2013, Counting and generating lambda terms, with |variable| = 1). A closed term has m = 0 at its
root, so m is the binder depth and a bound on it is a bound on m.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import cache
from itertools import accumulate
from random import Random

from moe_hub.lambda_calculus.terms import ABSTRACTION, APPLICATION, Term, prefix

MAX_SIZE = 64
ENOUGH_TERMS = 2000
LISTED_TERMS = 5000  # under so many binders, terms of a size that are so few are kept in a list, which is faster


@cache
def count(nodes: int, binders: int = 0, max_depth: int = MAX_SIZE) -> int:
    """Number of terms of `nodes` nodes under `binders` binders with at most `max_depth` nested binders in all."""
    if nodes < 1:
        return 0
    if nodes == 1:
        return binders
    return _abstractions(nodes, binders, max_depth) + sum(_applications(nodes, binders, max_depth))


def random_term(rng: Random, nodes: int, max_depth: int = MAX_SIZE) -> Term:
    """A closed term, uniform among all of that size and depth. Raises `ValueError` where there is none."""
    total = count(nodes, 0, max_depth)
    if not total:
        raise ValueError(f"there is no closed term of {nodes} nodes with at most {max_depth} nested binders")
    return unrank(nodes, below(rng, total), 0, max_depth)


def below(rng: Random, bound: int) -> int:
    """A uniform integer from 0 to `bound` - 1, in half the time of `randrange` (and the same one)."""
    bits = bound.bit_length()
    drawn = rng.getrandbits(bits)
    while drawn >= bound:
        drawn = rng.getrandbits(bits)
    return drawn


def random_size(rng: Random, smallest: int, largest: int, max_depth: int = MAX_SIZE) -> int:
    """A size with at least one closed term. All sizes are equally likely, except those with few terms.

    A size weighs as many terms as it has, up to `ENOUGH_TERMS`: drawn evenly, the 13 terms of 5 nodes would come as
    often as the 31,092 of 11 nodes, and a held-out set would be a handful of terms over and over.
    """
    bounds = _size_bounds(smallest, largest, max_depth)
    if not bounds[-1]:
        raise ValueError(f"there is no closed term of {smallest} to {largest} nodes with {max_depth} nested binders")
    return smallest + bisect_right(bounds, below(rng, bounds[-1]))


def unrank(nodes: int, rank: int, binders: int = 0, max_depth: int = MAX_SIZE) -> Term:
    """The term number `rank` (0 to `count` - 1): a bijection between numbers and terms."""
    if nodes == 1:
        return rank
    listed, abstractions, bounds, right_counts = _split(nodes, binders, max_depth)
    if listed is not None:
        return listed[rank]
    if rank < abstractions:
        return (unrank(nodes - 1, rank, binders + 1, max_depth),)
    rank -= abstractions
    left = bisect_right(bounds, rank)
    left_rank, right_rank = divmod(rank - bounds[left - 1], right_counts[left - 1])
    return (unrank(left, left_rank, binders, max_depth), unrank(nodes - 1 - left, right_rank, binders, max_depth))


def unrank_prefix(nodes: int, rank: int, binders: int = 0, max_depth: int = MAX_SIZE) -> str:
    """`prefix` of the same term, without making the term."""
    if nodes == 1:
        return str(rank)
    listed, abstractions, bounds, right_counts = _split(nodes, binders, max_depth)
    if listed is not None:
        return _listed_prefixes(nodes, binders, max_depth)[rank]
    if rank < abstractions:
        return f"{ABSTRACTION} {unrank_prefix(nodes - 1, rank, binders + 1, max_depth)}"
    rank -= abstractions
    left = bisect_right(bounds, rank)
    left_rank, right_rank = divmod(rank - bounds[left - 1], right_counts[left - 1])
    function = unrank_prefix(left, left_rank, binders, max_depth)
    return f"{APPLICATION} {function} {unrank_prefix(nodes - 1 - left, right_rank, binders, max_depth)}"


@cache
def _size_bounds(smallest: int, largest: int, max_depth: int) -> list[int]:
    sizes = range(smallest, largest + 1)
    return list(accumulate(min(count(nodes, 0, max_depth), ENOUGH_TERMS) for nodes in sizes))


def _abstractions(nodes: int, binders: int, max_depth: int) -> int:
    return count(nodes - 1, binders + 1, max_depth) if binders < max_depth else 0


def _applications(nodes: int, binders: int, max_depth: int) -> list[int]:
    """Applications by the size of their function, 1 to nodes - 2."""
    return [count(i, binders, max_depth) * count(nodes - 1 - i, binders, max_depth) for i in range(1, nodes - 1)]


@cache
def _split(nodes: int, binders: int, max_depth: int) -> tuple[list[Term] | None, int, list[int], list[int]]:
    """All terms, where they are few; else abstractions, ranks at which the function's size changes (first 0), and
    arguments by the function's size."""
    abstractions = _abstractions(nodes, binders, max_depth)
    if count(nodes, binders, max_depth) <= LISTED_TERMS:
        return _all_terms(nodes, binders, max_depth), abstractions, [], []
    bounds = [0, *accumulate(_applications(nodes, binders, max_depth))]
    arguments = [count(nodes - 1 - i, binders, max_depth) for i in range(1, nodes - 1)]
    return None, abstractions, bounds, arguments


def _all_terms(nodes: int, binders: int, max_depth: int) -> list[Term]:
    """In the order of their ranks."""
    if nodes == 1:
        return list(range(binders))
    terms: list[Term] = []
    if binders < max_depth:
        terms += [(body,) for body in _all_terms(nodes - 1, binders + 1, max_depth)]
    for left in range(1, nodes - 1):
        arguments = _all_terms(nodes - 1 - left, binders, max_depth)
        terms += [(function, argument) for function in _all_terms(left, binders, max_depth) for argument in arguments]
    return terms


@cache
def _listed_prefixes(nodes: int, binders: int, max_depth: int) -> list[str]:
    return [prefix(term) for term in _all_terms(nodes, binders, max_depth)]
