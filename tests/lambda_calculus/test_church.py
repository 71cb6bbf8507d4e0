"""Church encodings compute what they encode."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_hub.lambda_calculus import church
from moe_hub.lambda_calculus.church import apply, boolean, decode_boolean, decode_numeral, decode_pair, numeral, pair
from moe_hub.lambda_calculus.expressions import arithmetic, logic, random_expression
from moe_hub.lambda_calculus.parser import parse
from moe_hub.lambda_calculus.reduction import reduce
from moe_hub.lambda_calculus.terms import is_closed

CHECKED = settings(deadline=None, derandomize=True, max_examples=150)
SMALL = st.integers(0, 6)


def value(term):
    return decode_numeral(reduce(term, max_steps=400, max_nodes=2000).terms[-1])


@CHECKED
@given(SMALL, SMALL)
def test_arithmetic(m, n):
    assert value(apply(church.ADD, numeral(m), numeral(n))) == m + n
    assert value(apply(church.MUL, numeral(m), numeral(n))) == m * n
    assert value(apply(church.SUCC, numeral(m))) == m + 1
    assert decode_boolean(reduce(apply(church.IS_ZERO, numeral(m))).terms[-1]) == (m == 0)


def test_powers():
    assert value(apply(church.POW, numeral(2), numeral(3))) == 8
    assert value(apply(church.POW, numeral(3), numeral(2))) == 9
    assert value(apply(church.POW, numeral(5), numeral(1))) == 5
    assert reduce(apply(church.POW, numeral(5), numeral(0))).terms[-1] == church.I, "eta apart from numeral 1"


@pytest.mark.parametrize("p", [True, False])
@pytest.mark.parametrize("q", [True, False])
def test_logic(p, q):
    def truth(*parts):
        return decode_boolean(reduce(apply(*parts)).terms[-1])

    assert truth(church.AND, boolean(p), boolean(q)) == (p and q)
    assert truth(church.OR, boolean(p), boolean(q)) == (p or q)
    assert truth(church.NOT, boolean(p)) == (not p)


@CHECKED
@given(SMALL, SMALL)
def test_pairs(m, n):
    made = reduce(apply(church.PAIR, numeral(m), numeral(n))).terms[-1]
    assert made == pair(numeral(m), numeral(n))
    assert decode_pair(made) == (numeral(m), numeral(n))
    assert value(apply(church.FIRST, made)) == m
    assert value(apply(church.SECOND, made)) == n


def test_decoding_refuses_other_terms():
    for text in ("λs.s", "λs z.z s", "λs z.s", "λs z.s (z s)", "λx y z.x", "λx.x x"):
        assert decode_numeral(parse(text)) is None, text
        assert decode_pair(parse(text)) is None, text
    assert decode_boolean(numeral(2)) is None
    assert decode_pair(parse("λf.f f (λx.x)")) is None, "a part uses the pair's own binder"
    with pytest.raises(ValueError, match="at least 0"):
        numeral(-1)


@CHECKED
@given(st.integers(0, 40))
def test_numeral_round_trip(number):
    assert decode_numeral(numeral(number)) == number


def test_words():
    assert church.decoded(numeral(3)) == "numeral 3"
    assert church.decoded(church.TRUE) == "true"
    assert church.decoded(church.FALSE) == "false numeral 0"
    assert church.decoded(church.S) == ""


@pytest.mark.parametrize(
    "names", ["S I I a = a a", "B f g a = f (g a)", "C f a b = f b a", "W f a = f a a", "K a b = a"]
)
def test_combinators(names):
    left, right = names.split(" = ")
    context: list[str] = []
    for letter in ("f", "g", "a", "b"):
        parse(letter, context)
    head, *rest = left.split()
    parts = [getattr(church, word) if word.isupper() else parse(word, context) for word in (head, *rest)]
    assert reduce(apply(*parts)).terms[-1] == parse(right, context)


def test_random_expressions_compute_values():
    rng = Random(3)
    for _ in range(60):
        assert is_closed(random_expression(rng))
        assert is_closed(random_expression(rng, mixed=True))
        assert decode_boolean(reduce(logic(rng)).terms[-1]) is not None
        trace = reduce(arithmetic(rng))
        assert trace.outcome != "normal" or decode_numeral(trace.terms[-1]) is not None
