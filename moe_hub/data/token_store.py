"""Tokens of all documents on disk, written once in order and read through memory maps.

`ids.bin`: the ids of all documents, one after another. `documents.npy`: for each its end in `ids.bin`, kind, side of
the split, source, steps, level. `spans.npy`: the stretches [begin, end) of `ids.bin` that are learned, in order.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Kinds of documents. A sample (prompt and answer) is kept whole; a text may be cut into rows, none of it is lost; a
# stream is one long text without a beginning or an end, such as a book.
SAMPLE, TEXT, STREAM = range(3)
COLUMNS = {
    "ends": np.int64,
    "kind": np.uint8,
    "held_out": np.uint8,
    "source": np.uint8,
    "steps": np.int32,
    "level": np.int16,
}
BUFFER = 1 << 22
COUNTED = 1 << 19  # ids counted at once

Ints = npt.NDArray[np.int64]


class TokenWriter:
    """Appends documents to a folder: `begin`, `append` as often as needed, `end`; `finish` makes them readable."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        self.folder = folder
        self.dtype = np.dtype(np.uint8 if vocab_size <= 256 else np.uint16 if vocab_size <= 65536 else np.uint32)
        self.position = 0  # tokens written so far
        self.learned_counts = np.zeros(vocab_size, np.int64)  # of each id, where it is a target of training
        self._file = (folder / "ids.bin").open("wb")
        self._columns: dict[str, array[int]] = {name: array("q") for name in COLUMNS}
        self._spans = array("q")
        self._buffer: list[npt.NDArray[Any]] = []
        self._learned: list[npt.NDArray[Any]] = []
        self._held = 0
        self._held_out = False

    def begin(self, kind: int, *, held_out: bool, source: int = 0, steps: int = -1, level: int = 0) -> None:
        """Begins a document."""
        self._held_out = held_out
        for name, value in zip(COLUMNS, (0, kind, int(held_out), source, steps, level), strict=True):
            self._columns[name].append(value)

    def append(self, ids: npt.NDArray[Any], *, learned: bool) -> None:
        """Adds ids to the document."""
        if not len(ids):
            return
        if learned:
            self._spans.extend((self.position, self.position + len(ids)))
            if not self._held_out:
                self._learned.append(ids)
        self._buffer.append(ids)
        self._held += len(ids)
        self.position += len(ids)
        self._columns["ends"][-1] = self.position
        if self._held > BUFFER:
            self._flush()

    def finish(self) -> None:
        """Writes all that is held."""
        self._flush()
        self._file.close()
        documents = np.empty(len(self._columns["ends"]), list(COLUMNS.items()))
        for name, column in self._columns.items():
            documents[name] = np.array(column, np.int64)
        np.save(self.folder / "documents.npy", documents)
        np.save(self.folder / "spans.npy", np.array(self._spans, np.int64).reshape(-1, 2))
        layout = {"dtype": self.dtype.name, "tokens": self.position}
        (self.folder / "layout.json").write_text(json.dumps(layout))

    def close(self) -> None:
        """Lets go of the file, finished or not."""
        self._file.close()

    def unigram_entropy(self) -> float:
        """Entropy in nat of the tokens that are learned in training: what guessing by frequency scores."""
        share = self.learned_counts[self.learned_counts > 0] / max(1, self.learned_counts.sum())
        return float(-(share * np.log(share)).sum())

    def _flush(self) -> None:
        if self._buffer:
            np.concatenate(self._buffer).astype(self.dtype).tofile(self._file)
        if self._learned:
            learned = np.concatenate(self._learned)
            for first in range(0, len(learned), COUNTED):  # bincount copies its input to 8 bytes an id
                found = np.bincount(learned[first : first + COUNTED], minlength=len(self.learned_counts))
                self.learned_counts += found
        self._buffer, self._learned, self._held = [], [], 0


@dataclass(frozen=True)
class TokenStore:
    """The documents of a folder. All arrays but `ids` have one entry for each document; `ids` is mapped, not read."""

    ids: npt.NDArray[Any]
    spans: Ints
    begins: Ints
    ends: Ints
    kind: npt.NDArray[np.uint8]
    held_out: npt.NDArray[np.uint8]
    source: npt.NDArray[np.uint8]
    steps: npt.NDArray[np.int32]
    level: npt.NDArray[np.int16]

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """Maps the files of a folder that a `TokenWriter` has finished."""
        layout = json.loads((folder / "layout.json").read_text())
        dtype = np.dtype(layout["dtype"])
        ids = (
            np.memmap(folder / "ids.bin", dtype, "r", shape=(layout["tokens"],))
            if layout["tokens"]
            else np.empty(0, dtype)
        )
        documents = np.load(folder / "documents.npy", mmap_mode="r")
        columns = {name: documents[name] for name in COLUMNS}
        ends = columns.pop("ends")
        begins = np.concatenate((np.zeros(1, np.int64), ends[:-1]))
        return cls(ids, np.load(folder / "spans.npy", mmap_mode="r"), begins, ends, **columns)

    @property
    def lengths(self) -> Ints:
        """Tokens of each document."""
        return self.ends - self.begins

    def learned_tokens(self, begin: int, end: int) -> Sequence[tuple[int, int]]:
        """The learned stretches within [begin, end) of `ids`."""
        first = int(np.searchsorted(self.spans[:, 1], begin, "right"))
        last = int(np.searchsorted(self.spans[:, 0], end, "left"))
        return [(max(int(b), begin), min(int(e), end)) for b, e in self.spans[first:last]]
