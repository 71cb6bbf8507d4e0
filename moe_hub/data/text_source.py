"""A file of plain text as one stream, the last part of which is held out (as nanoGPT does, there 10 %)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from moe_hub.config import DataConfig
from moe_hub.data.cache import sha256_of_file
from moe_hub.data.file_kind import Reading, decoded_chunks
from moe_hub.data.source import Progress
from moe_hub.data.token_store import STREAM, TokenWriter
from moe_hub.data.tokenizer import TEXT_ALONE, Tokenizer
from moe_hub.errors import DataError

PIECE = 1 << 16
LINE_BEGIN = re.compile(r"(?<=\S\n)(?=\S)")


class TextSource:
    """Plain text; the split is by characters, so it does not depend on the tokenizer."""

    plain_text = True
    generation_template = TEXT_ALONE

    def __init__(self, path: Path, data: DataConfig) -> None:
        self.label = str(path)
        self.path = path
        self.eval_fraction = data.eval_fraction
        self._characters: set[str] = set()
        self.text_length = 0

    def key_parts(self, root: Path) -> dict[str, str]:
        """Path, content, held-out share."""
        sha256 = sha256_of_file(self.path, root)
        return {"source": f"file {self.path.resolve()}", "sha256": sha256, "eval_fraction": str(self.eval_fraction)}

    def survey(self, progress: Progress) -> dict[str, Any]:
        """Counts the characters."""
        reading, size = Reading(), self.path.stat().st_size
        for chunk in decoded_chunks(self.path, reading):
            self.text_length += len(chunk)
            self._characters.update(chunk)
            progress(reading.described(self.path.name, size), reading.bytes_read / max(size, 1))
        if self._train_length < 1 or self._train_length >= self.text_length:
            raise DataError(f"{self.path}: {self.text_length} character(s) of text are too few to train on; add text")
        return {"format": "plain text", "characters": self.text_length, "different_characters": len(self._characters)}

    def characters(self) -> set[str]:
        """Those of the whole text: an id for a character that only the held-out part has costs nothing."""
        return self._characters

    def training_texts(self) -> Iterator[str]:
        """The part that is trained on, in chunks that end with a line where they can."""
        return (chunk for chunk, held_out in self._parts() if not held_out)

    def write(self, writer: TokenWriter, tokenizer: Tokenizer, number: int, progress: Progress) -> dict[str, Any]:
        """Appends two streams: the part to train on and the held-out part."""
        written, last = 0, None
        for chunk, held_out in self._parts():
            if held_out is not last:
                writer.begin(STREAM, held_out=held_out, source=number)
                last = held_out
            for ids in tokenizer.encode_many(split_at_lines(chunk)):
                writer.append(ids, learned=True)
            written += len(chunk)
            done = f"Tokenising {self.path.name}, {written:,} of {self.text_length:,} characters"
            progress(done, written / self.text_length)
        return {}

    @property
    def _train_length(self) -> int:
        return int(self.text_length * (1 - self.eval_fraction))

    def _parts(self) -> Iterator[tuple[str, bool]]:
        """(text, held out): chunks cut at line ends where there are any, and exactly where the held-out part begins."""
        left, rest = self._train_length, ""
        for chunk in decoded_chunks(self.path, Reading()):
            rest += chunk
            if 0 < left <= len(rest):
                yield rest[:left], False
                rest, left = rest[left:], 0
            cut = last_line_begin(rest) or len(rest)
            if rest[:cut]:
                yield rest[:cut], left == 0
            left, rest = max(0, left - cut), rest[cut:]
        if rest:
            yield rest, left == 0


def split_at_lines(text: str) -> list[str]:
    """Pieces of about `PIECE` characters, for all cores at once.

    They are cut at line ends that have no other blank beside them: there every tokenizer that splits at words begins
    anew, so the tokens are those of the whole text.
    """
    pieces, begin = [], 0
    while len(text) - begin > PIECE:
        match = LINE_BEGIN.search(text, begin + PIECE)
        if match is None:
            break
        pieces.append(text[begin : match.start()])
        begin = match.start()
    return [*pieces, text[begin:]]


def last_line_begin(text: str) -> int:
    """The last place where `split_at_lines` may cut a text; 0 where there is none."""
    at = text.rfind("\n", 0, -1) + 1
    while at and not LINE_BEGIN.match(text, at):
        at = text.rfind("\n", 0, at - 1) + 1
    return at
