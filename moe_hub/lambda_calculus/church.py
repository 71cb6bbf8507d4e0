"""Church encodings: numerals, booleans, pairs, and the combinators of arithmetic and logic, closed De Bruijn terms."""

from __future__ import annotations

from moe_hub.lambda_calculus.named import from_named
from moe_hub.lambda_calculus.parser import parse_named
from moe_hub.lambda_calculus.terms import Term, shift


def _closed(text: str) -> Term:
    context: list[str] = []
    term = from_named(parse_named(text), context)
    assert not context, f"{text} has free names {context}"
    return term


TRUE = _closed("λx y.x")
FALSE = _closed("λx y.y")
NOT = _closed("λp a b.p b a")
AND = _closed("λp q.p q p")
OR = _closed("λp q.p p q")
SUCC = _closed("λn s z.s (n s z)")
ADD = _closed("λm n s z.m s (n s z)")
MUL = _closed("λm n s.m (n s)")
POW = _closed("λm n.n m")
IS_ZERO = _closed("λn.n (λx a b.b) (λa b.a)")
PAIR = _closed("λa b f.f a b")
FIRST = _closed("λp.p (λx y.x)")
SECOND = _closed("λp.p (λx y.y)")
S = _closed("λx y z.x z (y z)")
K = _closed("λx y.x")
I = _closed("λx.x")  # noqa: E741 - the combinator's name
B = _closed("λx y z.x (y z)")
C = _closed("λx y z.x z y")
W = _closed("λx y.x y y")
OMEGA = _closed("(λx.x x) (λx.x x)")


def apply(function: Term, *arguments: Term) -> Term:
    """The function applied to arguments, to the left."""
    for argument in arguments:
        function = (function, argument)
    return function


def numeral(value: int) -> Term:
    """The Church numeral: s applied `value` times to z. Raises `ValueError` below 0."""
    if value < 0:
        raise ValueError(f"a Church numeral is at least 0, got {value}")
    body: Term = 0
    for _ in range(value):
        body = (1, body)
    return ((body,),)


def decode_numeral(term: Term) -> int | None:
    """The value of a Church numeral in normal form; None for other terms. `λs.s`, the eta-short 1, counts as other."""
    if not (isinstance(term, tuple) and len(term) == 1):
        return None
    inner = term[0]
    if not (isinstance(inner, tuple) and len(inner) == 1):
        return None
    body, value = inner[0], 0
    while isinstance(body, tuple) and len(body) == 2 and body[0] == 1:
        body, value = body[1], value + 1
    return value if body == 0 else None


def boolean(value: bool) -> Term:
    """The Church boolean."""
    return TRUE if value else FALSE


def decode_boolean(term: Term) -> bool | None:
    """The value of a Church boolean in normal form; None for other terms. False is the same term as numeral 0."""
    return True if term == TRUE else False if term == FALSE else None


def pair(first: Term, second: Term) -> Term:
    """The Church pair in normal form (of normal parts): `λf.f first second`."""
    return (((0, shift(first, 1)), shift(second, 1)),)


def decode_pair(term: Term) -> tuple[Term, Term] | None:
    """The parts of a Church pair in normal form; None for other terms or where a part uses the pair's own binder."""
    if not (isinstance(term, tuple) and len(term) == 1):
        return None
    body = term[0]
    if not (isinstance(body, tuple) and len(body) == 2):
        return None
    function, second = body
    if not (isinstance(function, tuple) and len(function) == 2):
        return None
    selector, first = function
    if selector != 0 or _uses(first, 0) or _uses(second, 0):
        return None
    return shift(first, -1), shift(second, -1)


def decoded(term: Term) -> str:
    """What a normal form encodes, as words: `true`, `false numeral 0`, `numeral 3`, or nothing."""
    words = []
    truth = decode_boolean(term)
    if truth is not None:
        words.append("true" if truth else "false")
    value = decode_numeral(term)
    if value is not None:
        words.append(f"numeral {value}")
    return " ".join(words)


def _uses(term: Term, index: int) -> bool:
    if isinstance(term, int):
        return term == index
    if len(term) == 1:
        return _uses(term[0], index + 1)
    return _uses(term[0], index) or _uses(term[1], index)
