"""Terms with a meaning: Church arithmetic, booleans, pairs, and combinators (level 6).

An ordinary expression stays in one family. A mixed one applies an operator of one family to the result of another,
such as `is_zero (add 1 2)` or `first (pair (mul 2 2) true)`: the out-of-distribution set `compositions`.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from moe_hub.lambda_calculus import church
from moe_hub.lambda_calculus.church import apply, boolean, numeral
from moe_hub.lambda_calculus.terms import Term

LARGEST_NUMERAL = 9
COMBINATORS = (church.S, church.K, church.I, church.B, church.C, church.W)


def random_expression(rng: Random, *, mixed: bool = False) -> Term:
    """A closed term that reduces to a value in most draws (combinators may diverge)."""
    return rng.choice(_MIXED if mixed else _PURE)(rng)


def arithmetic(rng: Random, operators: int | None = None) -> Term:
    """Numerals under 1 or 2 of succ, add, mul, pow; exponents are at least 1, because n^0 is `λx.x`, not a numeral."""
    operators = rng.randint(1, 2) if operators is None else operators
    if operators == 0:
        return numeral(rng.randint(0, LARGEST_NUMERAL))
    operator = rng.choice((church.SUCC, church.ADD, church.MUL, church.POW))
    inner = arithmetic(rng, operators - 1)
    if operator is church.SUCC:
        return apply(operator, inner)
    if operator is church.POW:
        return apply(operator, numeral(rng.randint(0, 3)), numeral(rng.randint(1, 3)))
    other = numeral(rng.randint(0, LARGEST_NUMERAL))
    return apply(operator, inner, other) if rng.random() < 0.5 else apply(operator, other, inner)


def logic(rng: Random, operators: int | None = None) -> Term:
    """Booleans under 1 to 4 of not, and, or."""
    operators = rng.randint(1, 4) if operators is None else operators
    if operators == 0:
        return boolean(rng.random() < 0.5)
    operator = rng.choice((church.NOT, church.AND, church.OR))
    if operator is church.NOT:
        return apply(operator, logic(rng, operators - 1))
    left = rng.randint(0, operators - 1)
    return apply(operator, logic(rng, left), logic(rng, operators - 1 - left))


def projection(rng: Random) -> Term:
    """First or second of a pair of values, or of a pair in a pair."""
    made = apply(church.PAIR, _value(rng), _value(rng))
    if rng.random() < 0.5:
        return apply(rng.choice((church.FIRST, church.SECOND)), made)
    outer, nested = _value(rng), made
    side = rng.random() < 0.5
    whole = apply(church.PAIR, nested, outer) if side else apply(church.PAIR, outer, nested)
    return apply(rng.choice((church.FIRST, church.SECOND)), apply(church.FIRST if side else church.SECOND, whole))


def combination(rng: Random) -> Term:
    """A random application tree of 3 to 5 of the combinators S, K, I, B, C, W."""
    return _tree(rng, rng.randint(3, 5))


def _value(rng: Random) -> Term:
    return boolean(rng.random() < 0.5) if rng.random() < 0.3 else numeral(rng.randint(0, LARGEST_NUMERAL))


def _tree(rng: Random, leaves: int) -> Term:
    if leaves == 1:
        return rng.choice(COMBINATORS)
    left = rng.randint(1, leaves - 1)
    return (_tree(rng, left), _tree(rng, leaves - left))


def _zero_test(rng: Random) -> Term:
    test = apply(church.IS_ZERO, arithmetic(rng, rng.randint(1, 2)))
    return apply(church.NOT, test) if rng.random() < 0.5 else test


def _choice_by_logic(rng: Random) -> Term:
    """A boolean picks one of two numerals: `b m n`."""
    return apply(logic(rng, rng.randint(1, 2)), arithmetic(rng, rng.randint(0, 1)), arithmetic(rng, 1))


def _projected_result(rng: Random) -> Term:
    parts = [arithmetic(rng, 1), logic(rng, 1)]
    rng.shuffle(parts)
    return apply(rng.choice((church.FIRST, church.SECOND)), apply(church.PAIR, *parts))


def _arithmetic_of_projection(rng: Random) -> Term:
    made = apply(church.PAIR, numeral(rng.randint(0, LARGEST_NUMERAL)), numeral(rng.randint(0, LARGEST_NUMERAL)))
    return apply(church.SUCC, apply(rng.choice((church.FIRST, church.SECOND)), made))


_PURE: tuple[Callable[[Random], Term], ...] = (arithmetic, logic, projection, combination)
_MIXED: tuple[Callable[[Random], Term], ...] = (
    _zero_test,
    _choice_by_logic,
    _projected_result,
    _arithmetic_of_projection,
)
