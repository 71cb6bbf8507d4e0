"""The evaluator against independent ones: substitution by names, and evaluation by Python closures."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from moe_hub.lambda_calculus import church
from moe_hub.lambda_calculus.judge import prefix_in_context
from moe_hub.lambda_calculus.named import Abs, App, free_names, from_named, named_tokens, to_named
from moe_hub.lambda_calculus.named_reduction import step_captures, step_named, substitute_named, with_few_names
from moe_hub.lambda_calculus.parser import parse, parse_named
from moe_hub.lambda_calculus.reduction import (
    MAX_NODES,
    MAX_STEPS,
    contract,
    first_redex,
    is_normal,
    redex,
    redex_parts,
    redexes,
    reduce,
    step,
    subterm,
)
from moe_hub.lambda_calculus.sampling import random_term
from moe_hub.lambda_calculus.terms import free_width, prefix, size, substitute

CHECKED = settings(deadline=None, derandomize=True, max_examples=150)
RNG = st.integers(0, 2**32).map(Random)
CLOSED = st.builds(random_term, RNG, st.integers(2, 24))
OPEN = st.recursive(
    st.integers(0, 5), lambda inner: st.one_of(st.tuples(inner), st.tuples(inner, inner)), max_leaves=10
)
NAMES = [f"v{number}" for number in range(6)]


@CHECKED
@given(CLOSED)
def test_confluence(term):
    """Church-Rosser: applicative order, where it ends, finds the same normal form."""
    normal, applicative = reduce(term), reduce(term, order="applicative")
    assume(normal.normal_form is not None and applicative.normal_form is not None)
    assert normal.normal_form == applicative.normal_form


@CHECKED
@given(CLOSED, RNG)
def test_any_redex_leads_to_the_same_normal_form(term, rng):
    trace = reduce(term)
    assume(trace.steps > 0 and trace.normal_form is not None)
    after = reduce(contract(term, rng.choice(list(redexes(term)))))
    assume(after.normal_form is not None)
    assert after.normal_form == trace.normal_form


@CHECKED
@given(CLOSED)
def test_normal_form_equals_evaluation_by_closures(term):
    trace = reduce(term)
    assume(trace.normal_form is not None)
    assert by_closures(term) == trace.normal_form


@CHECKED
@given(st.one_of(CLOSED, OPEN), RNG)
def test_capture_avoidance(term, rng):
    """A step on names, with binders that shadow and threaten to capture, is the step on De Bruijn indices."""
    term = close(term)
    named = with_few_names(term, rng)
    following, expected = step_named(named), step(term)
    assert (following is None) == (expected is None)
    if following is not None:
        assert from_named(following, []) == expected


def test_capture_pressure_is_real():
    """Where `step_captures` says so, substitution by text is wrong, and elsewhere it is right."""
    rng, seen = Random(5), {True: 0, False: 0}
    while min(seen.values()) < 60:
        term = random_term(rng, rng.randint(7, 14))
        if is_normal(term):
            continue
        named = with_few_names(term, rng)
        captures = step_captures(named)
        assert (from_named(by_text(named), []) != step(term)) == captures, named_tokens(named)
        seen[captures] += 1


@CHECKED
@given(OPEN, OPEN)
def test_substitution_equals_named_substitution(body, argument):
    names = list(NAMES)
    whole = (((body,), argument), 0)  # the shared context has room for every free index
    named_body = to_named(body, ["hole", *names])
    expected = substitute_named(named_body, "hole", to_named(argument, names))
    assert free_width(whole) <= len(names)
    assert from_named(expected, names) == substitute(body, argument)


def test_renaming_keeps_names_where_it_can():
    body = parse_named("λy.x (λz.y x)")
    assert named_tokens(substitute_named(body, "x", "a")) == "λ y . a λ z . y a"
    assert named_tokens(substitute_named(body, "x", "y")) == "λ z . y λ w . z y"
    assert named_tokens(substitute_named(body, "q", "y")) == "λ y . x λ z . y x"
    assert free_names(substitute_named(body, "x", "z")) == {"z"}


@CHECKED
@given(CLOSED)
def test_trace_and_redex_positions(term):
    trace = reduce(term)
    for before, after in zip(trace.terms, trace.terms[1:], strict=False):
        first = next(redexes(before))
        assert contract(before, first) == after == step(before)
        body, argument = redex_parts(subterm(before, first))
        assert substitute(body, argument) == subterm(after, first)
        assert free_width(after) == 0
    if trace.outcome == "normal":
        assert is_normal(trace.terms[-1])
        assert step(trace.terms[-1]) is None
        assert not list(redexes(trace.terms[-1]))


@CHECKED
@given(st.one_of(CLOSED, OPEN))
def test_the_first_redex_is_found_alone(term):
    path = first_redex(term)
    assert path == next(redexes(term), None)
    assert redex(term) == (None if path is None else redex_parts(subterm(term, path)))


@CHECKED
@given(CLOSED, st.integers(8, 40))
def test_the_size_cap_is_exact(term, cap):
    """Nodes are counted only where a bound does not settle it; here they are counted after every step."""
    terms = [term]
    while size(terms[-1]) <= cap and (following := step(terms[-1])) is not None and len(terms) <= 12:
        terms.append(following)
    trace = reduce(term, max_steps=12, max_nodes=cap)
    assert trace.terms == tuple(terms)
    assert (trace.outcome == "size cap") == (size(terms[-1]) > cap and not (len(terms) == 1 and is_normal(term)))


def test_leftmost_outermost_comes_first():
    term = parse("λw.(λx.λy.y) ((λz.z z) (λz.z z)) ((λv.v) w)")
    positions = list(redexes(term))
    assert positions[0] == ("body", "left")
    assert reduce(term).normal_form == (0,), "normal order throws the divergent argument away"
    assert reduce(term, order="applicative").outcome == "step cap"


def test_omega_meets_the_step_cap():
    trace = reduce(church.OMEGA)
    assert (trace.outcome, trace.steps, trace.normal_form) == ("step cap", MAX_STEPS, None)
    assert set(trace.terms) == {church.OMEGA}


def test_growing_term_meets_the_size_cap():
    trace = reduce(parse("(λx.x x x) (λx.x x x)"))
    assert trace.outcome == "size cap"
    assert size(trace.terms[-1]) > MAX_NODES >= size(trace.terms[-2])
    assert trace.normal_form is None


def test_a_term_too_large_from_the_start():
    large = church.numeral(200)
    assert reduce(large).normal_form == large, "a normal form is one at any size"
    trace = reduce((church.I, large))
    assert (trace.outcome, trace.steps) == ("size cap", 0)


def test_a_normal_form_on_the_last_allowed_step_counts():
    term = parse("(λx.x) (λx.x)")
    assert reduce(term, max_steps=1).outcome == "normal"
    assert reduce(term, max_steps=0).outcome == "step cap"


def test_redex_parts_refuses_other_terms():
    with pytest.raises(ValueError, match="not a redex"):
        redex_parts((0, 1))


def test_skk_is_the_identity():
    names: list[str] = []
    term = parse("(λx y z.x z (y z)) (λx y.x) (λx y.x) a", names)
    assert prefix_in_context(reduce(term).terms[-1], names) == "a"


def close(term):
    """The term under as many binders as it has free indices."""
    for _ in range(free_width(term)):
        term = (term,)
    return term


def by_text(term):
    """One normal-order step with substitution that does not look out for capture."""

    def put(body, name, argument):
        if isinstance(body, str):
            return argument if body == name else body
        if isinstance(body, Abs):
            return body if body.name == name else Abs(body.name, put(body.body, name, argument))
        return App(put(body.function, name, argument), put(body.argument, name, argument))

    if isinstance(term, Abs):
        return Abs(term.name, by_text(term.body))
    if isinstance(term.function, Abs):
        return put(term.function.body, term.function.name, term.argument)
    if step_named(term.function) is not None:
        return App(by_text(term.function), term.argument)
    return App(term.function, by_text(term.argument))


def by_closures(term):
    """Normalisation by evaluation (Berger and Schwichtenberg 1991), call by name: no substitution, no shifting.

    Values are Python functions, or neutral terms as functions from the depth at which they are read back.
    """

    def evaluate(term, scope):
        if isinstance(term, int):
            return scope[term]()
        if len(term) == 1:
            return lambda thunk: evaluate(term[0], (thunk, *scope))
        function = evaluate(term[0], scope)
        argument = lambda: evaluate(term[1], scope)  # noqa: E731
        return function(argument) if not isinstance(function, Neutral) else function.applied(argument)

    def read(value, depth):
        if isinstance(value, Neutral):
            return value.read(depth)
        variable = Neutral(lambda inner: inner - depth - 1)
        return (read(value(lambda: variable), depth + 1),)

    class Neutral:
        def __init__(self, read: Callable) -> None:
            self.read = read

        def applied(self, argument):
            return Neutral(lambda depth: (self.read(depth), read(argument(), depth)))

    return read(evaluate(term, ()), 0)


def test_evaluation_by_closures_is_itself_right():
    assert by_closures(parse("(λx.λy.x y) (λz.z)")) == (0,)
    assert prefix(by_closures(parse("λa.(λx.λy.x) a"))) == "lam lam 1"
