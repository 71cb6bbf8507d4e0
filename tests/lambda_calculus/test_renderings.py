"""parse(print(t)) = t in every rendering, and errors that name the place."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_hub.errors import DataError
from moe_hub.lambda_calculus.judge import prefix_in_context
from moe_hub.lambda_calculus.named import Abs, App, compact, from_named, named_tokens, to_named, with_names
from moe_hub.lambda_calculus.named_reduction import with_few_names
from moe_hub.lambda_calculus.parser import MAX_NESTING, MAX_TOKENS, parse, parse_named, parse_prefix
from moe_hub.lambda_calculus.sampling import random_term
from moe_hub.lambda_calculus.terms import free_width, prefix, size

CHECKED = settings(deadline=None, derandomize=True, max_examples=150)
RNG = st.integers(0, 2**32).map(Random)
CLOSED = st.builds(random_term, RNG, st.integers(2, 24))
OPEN = st.recursive(
    st.integers(0, 6), lambda inner: st.one_of(st.tuples(inner), st.tuples(inner, inner)), max_leaves=12
)
NAMES = ("a", "b", "x", "y", "q1", "z'", "f")


@CHECKED
@given(CLOSED)
def test_prefix_round_trip(term):
    assert parse_prefix(prefix(term)) == term
    assert parse(prefix(term)) == term
    assert len(prefix(term).split()) == size(term)


@CHECKED
@given(OPEN, st.booleans(), st.booleans())
def test_named_round_trip_of_open_terms(term, full, tight):
    names = list(NAMES[: max(free_width(term), 1)])
    text = named_tokens(to_named(term, names), full=full)
    assert parse(compact(text) if tight else text, names) == term
    assert len(names) == max(free_width(term), 1), "no name appeared that the context did not have"


@CHECKED
@given(OPEN)
def test_prefix_round_trip_of_open_terms(term):
    names = list(NAMES[: free_width(term)])
    assert parse_prefix(prefix_in_context(term, names), list(names)) == term


@CHECKED
@given(CLOSED, RNG, st.booleans())
def test_any_choice_of_names_parses_back(term, rng, full):
    few = with_few_names(term, rng)
    distinct = with_names(term, iter(f"v{number}" for number in range(100)))
    for named in (few, distinct):
        assert parse_named(named_tokens(named, full=full)) == named, "names are kept"
        assert from_named(named, []) == term


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        (r"\x y. x y z", "@ @ 1 0 z"),
        ("λx.λy.x", "1"),
        ("(λx.x x) (λy.y)", None),
        ("λx.(λy.y) x", "@ lam 0 0"),
        ("a b c", "@ @ a b c"),
        ("a (b c)", "@ a @ b c"),
        ("f λx.x", "@ f lam 0"),
        ("λ x . x λ y . y x", None),
    ],
)
def test_grammar(text, tokens):
    expected = {
        r"\x y. x y z": "lam lam @ @ 1 0 z",
        "λx.λy.x": "lam lam 1",
        "(λx.x x) (λy.y)": "@ lam @ 0 0 lam 0",
        "λx.(λy.y) x": "lam @ lam 0 0",
        "λ x . x λ y . y x": "lam @ 0 lam @ 0 1",
    }.get(text, tokens)
    names: list[str] = []
    term = parse(text, names)
    assert prefix_in_context(term, names) == expected


def test_minimal_and_full_parentheses():
    named = Abs("x", App(App("x", Abs("y", "y")), App("x", "x")))
    assert named_tokens(named) == "λ x . x ( λ y . y ) ( x x )"
    assert named_tokens(named, full=True) == "( λ x . ( ( x ( λ y . y ) ) ( x x ) ) )"
    assert compact(named_tokens(named)) == "λx.x (λy.y) (x x)"


def test_binder_names_avoid_what_they_would_capture():
    assert named_tokens(to_named(((1, 0),), ["x"])) == "λ y . x y"
    assert named_tokens(to_named((((1, 2),),), ["x"])) == "λ y . λ z . y x"
    assert named_tokens(to_named((((0,),),))) == "λ x . λ x . λ x . x", "names that nothing needs are used again"


def test_free_names_are_shared_between_terms():
    names: list[str] = []
    assert parse("λx.x b", names) == ((0, 1),)
    assert parse("@ b a", names) == (0, 1)
    assert names == ["b", "a"]


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "ends early"),
        ("   ", "ends early"),
        ("(λx.x", "ends early"),
        ("λx", "ends early"),
        ("λx.x)", "expected the end of the term"),
        ("λ.x", "expected a name"),
        ("λx..x", "expected a name, λ or a parenthesis"),
        ("x # y", "unexpected '#'"),
        ("@ 0", "below 0"),
        ("lam 1", "below 1"),
        ("lam 0 0", "expected the end of the term"),
        ("@ lam 0", "ends early"),
        ("lam @ 0 +", "expected @, lam, an index or a name"),
        ("(" * 2000 + "x" + ")" * 2000, f"deeper than {MAX_NESTING}"),
        ("lam " * 2000 + "0", f"deeper than {MAX_NESTING}"),
        ("\\x." * 2000 + "x", "allowed are"),
        ("x " * (MAX_TOKENS + 1), "allowed are"),
    ],
)
def test_bad_terms(text, part):
    with pytest.raises(DataError, match="term") as caught:
        parse(text)
    assert part in str(caught.value)
    assert len(str(caught.value)) < 300
