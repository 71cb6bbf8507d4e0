"""Parsers of both renderings. Free names get the indices after all binders, in the order of a shared context."""

from __future__ import annotations

import re

from moe_hub.errors import DataError
from moe_hub.lambda_calculus.named import Abs, App, NamedTerm, from_named
from moe_hub.lambda_calculus.terms import ABSTRACTION, APPLICATION, Term

MAX_TOKENS = 4096
MAX_NESTING = 150

_TOKEN = re.compile(r"\s*(?:(λ|\\|\.|\(|\))|([A-Za-z_][A-Za-z0-9_']*)|(\S))")
_INDEX = re.compile(r"\d{1,4}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_']*")


def parse(text: str, context: list[str] | None = None) -> Term:
    """A term in either rendering: prefix De Bruijn if it has `@`, `lam` or an index, else named.

    `context` holds the names of free variables; new ones are appended. Raises `DataError`.
    """
    if is_prefix(text):
        return parse_prefix(text, context)
    return from_named(parse_named(text), [] if context is None else context)


def is_prefix(text: str) -> bool:
    """Whether a text is meant as prefix De Bruijn: it has `@`, `lam` or an index among its words."""
    return any(word in (APPLICATION, ABSTRACTION) or word.isdigit() for word in text.split())


def parse_prefix(text: str, context: list[str] | None = None) -> Term:
    """A term from prefix tokens such as `@ lam 0 lam lam 1`; a name stands for a free variable. Raises `DataError`."""
    reader = _PrefixReader(text.split(), [] if context is None else context)
    term = reader.term(0)
    reader.end()
    return term


def parse_named(text: str) -> NamedTerm:
    r"""A named term, `λx.x y` or `\x. x y`, application to the left, `λx y.t` for `λx.λy.t`. Raises `DataError`."""
    reader = _NamedReader(_lex(text))
    term = reader.term(0)
    reader.end()
    return term


def _lex(text: str) -> list[str]:
    tokens = []
    for match in _TOKEN.finditer(text):
        if match[3] is not None:
            raise DataError(
                f"term {_shown(text)}: unexpected {match[3]!r}; allowed are λ or \\, names, dots, parentheses"
            )
        tokens.append("λ" if match[1] == "\\" else match[1] or match[2])
    return tokens


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


class _Reader:
    """Tokens with a position, and errors that name it."""

    def __init__(self, tokens: list[str]) -> None:
        if len(tokens) > MAX_TOKENS:
            raise DataError(f"term has {len(tokens)} tokens; allowed are {MAX_TOKENS}")
        self.tokens = tokens
        self.position = 0

    def peek(self) -> str | None:
        return self.tokens[self.position] if self.position < len(self.tokens) else None

    def take(self, expected: str) -> str:
        token = self.peek()
        if token is None:
            raise DataError(f"term {_shown(' '.join(self.tokens))} ends early: expected {expected}")
        self.position += 1
        return token

    def fail(self, token: str, expected: str) -> DataError:
        return DataError(
            f"term {_shown(' '.join(self.tokens))}: expected {expected}, found {token!r} at token {self.position}"
        )

    def end(self) -> None:
        token = self.peek()
        if token is not None:
            self.position += 1
            raise self.fail(token, "the end of the term")

    def check_nesting(self, nesting: int) -> None:
        if nesting > MAX_NESTING:
            raise DataError(f"term {_shown(' '.join(self.tokens))} is nested deeper than {MAX_NESTING} levels")


class _PrefixReader(_Reader):
    def __init__(self, tokens: list[str], context: list[str]) -> None:
        super().__init__(tokens)
        self.context = context

    def term(self, depth: int, nesting: int = 0) -> Term:
        self.check_nesting(nesting)
        token = self.take("a term")
        if token == ABSTRACTION:
            return (self.term(depth + 1, nesting + 1),)
        if token == APPLICATION:
            function = self.term(depth, nesting + 1)
            return (function, self.term(depth, nesting + 1))
        return self.variable(token, depth)

    def variable(self, token: str, depth: int) -> Term:
        if _INDEX.fullmatch(token):
            if int(token) >= depth:
                raise self.fail(token, f"an index below {depth}, the number of binders around it,")
            return int(token)
        if _NAME.fullmatch(token):
            if token not in self.context:
                self.context.append(token)
            return depth + self.context.index(token)
        raise self.fail(token, f"{APPLICATION}, {ABSTRACTION}, an index or a name")


class _NamedReader(_Reader):
    def term(self, nesting: int) -> NamedTerm:
        """A sequence of atoms, applied to the left; an abstraction without parentheses takes all that follows."""
        self.check_nesting(nesting)
        term = self.atom(nesting)
        while self.peek() not in (None, ")"):
            term = App(term, self.atom(nesting))
        return term

    def atom(self, nesting: int) -> NamedTerm:
        token = self.take("a term")
        if token == "λ":
            return self.abstraction(nesting)
        if token == "(":
            term = self.term(nesting + 1)
            if self.take("a closing parenthesis") != ")":
                raise self.fail(self.tokens[self.position - 1], "a closing parenthesis")
            return term
        if not _NAME.fullmatch(token):
            raise self.fail(token, "a name, λ or a parenthesis")
        return token

    def name(self, expected: str) -> str:
        token = self.take(expected)
        if not _NAME.fullmatch(token):
            raise self.fail(token, expected)
        return token

    def abstraction(self, nesting: int) -> NamedTerm:
        names = [self.name("a name")]
        while self.peek() != ".":
            names.append(self.name("a dot"))
        self.take("a dot")
        body = self.term(nesting + len(names))
        for name in reversed(names):
            body = Abs(name, body)
        return body
