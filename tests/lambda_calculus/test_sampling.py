"""The sampler is exact: counts against enumeration, a bijection of ranks, and uniform draws."""

from __future__ import annotations

import hashlib
from collections import Counter
from random import Random

import pytest

from moe_hub.lambda_calculus import sampling
from moe_hub.lambda_calculus.sampling import (
    ENOUGH_TERMS,
    below,
    count,
    random_size,
    random_term,
    unrank,
    unrank_prefix,
)
from moe_hub.lambda_calculus.terms import binder_depth, is_closed, prefix, size


def enumerate_terms(nodes, binders=0):
    """All terms of a size under binders, by the grammar alone."""
    if nodes == 1:
        yield from range(binders)
        return
    if nodes > 1:
        for body in enumerate_terms(nodes - 1, binders + 1):
            yield (body,)
    for left in range(1, nodes - 1):
        for function in enumerate_terms(left, binders):
            for argument in enumerate_terms(nodes - 1 - left, binders):
                yield (function, argument)


def test_published_counts():
    assert [count(nodes) for nodes in (3, 5, 7, 9, 11, 13)] == [2, 13, 139, 1915, 31092, 580466]
    assert count(20) == pytest.approx(3.7e10, rel=0.02)
    assert count(30) == pytest.approx(1.35e18, rel=0.01)


@pytest.mark.parametrize("nodes", range(1, 9))
def test_unranking_is_a_bijection(nodes):
    expected = set(enumerate_terms(nodes))
    found = [unrank(nodes, rank) for rank in range(count(nodes))]
    assert [prefix(term) for term in found] == [unrank_prefix(nodes, rank) for rank in range(count(nodes))]
    assert len(found) == len(set(found)) == len(expected)
    assert set(found) == expected


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_bounded_depth(depth):
    expected = {term for term in enumerate_terms(8) if binder_depth(term) <= depth}
    found = {unrank(8, rank, 0, depth) for rank in range(count(8, 0, depth))}
    assert found == expected
    assert count(8, 0, depth) == len(expected)


@pytest.mark.parametrize(("nodes", "max_depth"), [(7, 64), (8, 64), (8, 2)])
def test_draws_are_uniform(nodes, max_depth):
    """Chi-square over all terms of the size: within 4 standard deviations of its mean."""
    cells = count(nodes, 0, max_depth)
    rng, draws = Random(11), 40 * cells
    seen = Counter(random_term(rng, nodes, max_depth) for _ in range(draws))
    assert len(seen) == cells
    chi_square = sum((number - 40) ** 2 / 40 for number in seen.values())
    freedom = cells - 1
    assert abs(chi_square - freedom) < 4 * (2 * freedom) ** 0.5


def test_draws_of_large_terms():
    rng = Random(1)
    for _ in range(200):
        term = random_term(rng, 30)
        assert size(term) == 30
        assert is_closed(term)
    assert len({prefix(random_term(rng, 20)) for _ in range(200)}) == 200


def test_sizes_are_drawn_evenly_but_for_those_with_few_terms():
    rng, draws = Random(4), 30000
    seen = Counter(random_size(rng, 5, 13) for _ in range(draws))
    weights = {nodes: min(count(nodes), ENOUGH_TERMS) for nodes in range(5, 14)}
    expected = {nodes: draws * weight / sum(weights.values()) for nodes, weight in weights.items()}
    chi_square = sum((seen[nodes] - number) ** 2 / number for nodes, number in expected.items())
    assert chi_square < 26, "99.9 % quantile for 8 degrees of freedom"
    assert weights[5] == 13
    assert weights[10] == weights[13] == ENOUGH_TERMS
    with pytest.raises(ValueError, match="no closed term"):
        random_size(rng, 1, 1)


def test_no_term_of_that_size():
    with pytest.raises(ValueError, match="no closed term of 1 nodes"):
        random_term(Random(0), 1)


@pytest.mark.parametrize("listed", [0, 5000])
def test_kept_lists_change_no_rank(listed, monkeypatch):
    monkeypatch.setattr(sampling, "LISTED_TERMS", listed)
    for function in (sampling._split, sampling._listed_prefixes):
        function.cache_clear()
    ranks = [Random(nodes).randrange(count(nodes)) for nodes in range(8, 24)]
    found = [(unrank(nodes, rank), unrank_prefix(nodes, rank)) for nodes, rank in enumerate(ranks, 8)]
    sampling._split.cache_clear()  # what was kept under the other limit
    assert all(prefix(term) == text for term, text in found)
    digest = hashlib.sha256("".join(text for _, text in found).encode()).hexdigest()
    assert digest[:16] == "fdb08f467c3e80ea"


def test_below_is_randrange():
    one, other = Random(9), Random(9)
    for bound in (1, 2, 3, 2**31, 10**19):
        assert [below(one, bound) for _ in range(50)] == [other.randrange(bound) for _ in range(50)]
