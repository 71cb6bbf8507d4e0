"""Train, validation and test by content: sha1 of the alpha-canonical prefix string modulo 100, 96 / 2 / 2.

Two terms that differ only in names fall on the same side, on every machine and in every run.
"""

from __future__ import annotations

from hashlib import sha1
from typing import Literal, TypeAlias

from moe_hub.lambda_calculus.terms import Term, prefix

Split: TypeAlias = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


def split_of(canonical: str) -> Split:
    """The split of an alpha-canonical prefix string."""
    bucket = int(sha1(canonical.encode("ascii"), usedforsecurity=False).hexdigest(), 16) % 100
    return "train" if bucket < 96 else "val" if bucket < 98 else "test"


def split_of_term(term: Term) -> Split:
    """The split of a closed term."""
    return split_of(prefix(term))
