"""The quality of rows before they are trained on: bad rows, duplicates, conflicting answers, leakage of a split."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from moe_hub.data.formats import Document, normalised
from moe_hub.data.rows import BadRow
from moe_hub.errors import DataError

SAMPLES_OF_BAD = 3
Hashes = npt.NDArray[np.uint64]


@dataclass
class Survey:
    """What one pass over the rows of a source found. A hash takes 8 bytes for each row, texts are not held."""

    good: int = 0
    bad: int = 0
    bad_by_kind: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_bad: list[BadRow] = field(default_factory=list)
    characters: set[str] = field(default_factory=set)
    text_length: int = 0
    _groups: array[int] = field(default_factory=lambda: array("Q"))
    _questions: array[int] = field(default_factory=lambda: array("Q"))
    _exact: array[int] = field(default_factory=lambda: array("Q"))
    _normal: array[int] = field(default_factory=lambda: array("Q"))
    _lengths: array[int] = field(default_factory=lambda: array("L"))

    def add(self, item: Document | BadRow) -> None:
        """Counts one row."""
        if isinstance(item, BadRow):
            self.bad += 1
            self.bad_by_kind[item.field, item.expected] += 1
            if len(self.first_bad) < SAMPLES_OF_BAD:
                self.first_bad.append(item)
            return
        text = item.text
        self.good += 1
        self.characters.update(text)
        self.text_length += len(text)
        self._lengths.append(len(text))
        self._groups.append(hash_of(item.group))
        self._questions.append(hash_of(item.question))
        self._exact.append(hash_of(text))
        self._normal.append(self._groups[-1] if item.is_text else hash_of(normalised(text)))

    @property
    def groups(self) -> Hashes:
        """Hash of what may not straddle a split (question, or text), for each good row in order."""
        return np.array(self._groups, np.uint64)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Characters of each good row."""
        return np.array(self._lengths, np.int64)

    def duplicates(self) -> dict[str, int]:
        """Rows equal to an earlier one, exactly and normalised; different questions; those with several answers."""
        groups, normal = self.groups, np.array(self._normal, np.uint64)
        distinct = np.unique(normal)
        pairs = np.unique(np.stack((groups, normal), 1), axis=0) if len(groups) else np.empty((0, 2), np.uint64)
        _, answers = np.unique(pairs[:, 0], return_counts=True)
        return {
            "rows": self.good,
            "exact_duplicates": self.good - len(np.unique(np.array(self._exact, np.uint64))),
            "normalised_duplicates": self.good - len(distinct),
            "distinct_questions": len(np.unique(np.array(self._questions, np.uint64))),
            "distinct_questions_normalised": len(answers),
            "questions_with_several_answers": int((answers > 1).sum()),
        }


def hash_of(text: str) -> int:
    """64 bits of a text."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def survey(items: Iterable[Document | BadRow]) -> Survey:
    """One pass over rows."""
    found = Survey()
    for item in items:
        found.add(item)
    return found


def random_split_leakage(groups: Hashes, share: float) -> float:
    """Expected share of held-out rows whose question is also trained on, if rows were held out at random.

    A row whose question stands in g rows leaks unless all the other g - 1 are held out too: 1 - share^(g - 1).
    """
    if not len(groups):
        return 0.0
    _, counts = np.unique(groups, return_counts=True)
    return float((counts * (1 - share ** (counts - 1.0))).sum() / counts.sum())


def held_out_rows(groups: Hashes, share: float, most: int, where: str) -> npt.NDArray[np.bool_]:
    """Which rows are held out: whole groups in the order of their hashes, at most `share` of the rows and `most`.

    The choice depends on the rows alone, so each seed is judged on the same rows. Raises `DataError` where there is
    only one group.
    """
    names, counts = np.unique(groups, return_counts=True)
    if len(names) < 2:
        raise DataError(
            f"{where}: {len(groups)} usable row(s) with {len(names)} different question or text; at least 2 are "
            "needed, one to train on and one to hold out"
        )
    target = max(1, min(most, int(share * len(groups))))
    chosen: list[np.uint64] = []
    rest = target
    for name, count in zip(names, counts, strict=True):
        if count <= rest and len(chosen) < len(names) - 1:
            chosen.append(name)
            rest -= int(count)
        if rest == 0:
            break
    if not chosen:  # every group is larger than the share: the smallest one
        chosen = [names[int(counts.argmin())]]
    return np.isin(groups, np.array(chosen, np.uint64))


def refuse_bad_rows(found: Survey, where: str, *, skip: bool) -> None:
    """Raises `DataError` with the first bad rows, unless they are to be skipped and good ones are left."""
    if not found.good and not found.bad:
        raise DataError(f"{where}: no rows; give a file with at least two")
    if not found.bad or (skip and found.good):
        return
    fix = "correct them, or set data.bad_rows=skip to train on the others" if found.good else "correct the file"
    raise DataError(
        f"{where}: {found.bad} of {found.bad + found.good} rows cannot be used; {fix}\n"
        + "\n".join(bad_row_lines(found.first_bad, where))
    )


def bad_row_lines(rows: Iterable[BadRow], where: str) -> Iterator[str]:
    """One line of text for each bad row."""
    for row in rows:
        column = f", column {row.field!r}" if row.field else ""
        yield f"  {where}, line {row.line}{column}: expected {row.expected}, found {row.found}; {row.fix}"
