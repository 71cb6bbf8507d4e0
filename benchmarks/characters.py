"""tiny-shakespeare by characters, training batches and the whole validation set, the same for every arm.

Legend: B batch, T time, W windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"  # of tinyshakespeare.txt, 1,115,394 bytes
PLACE = Path(__file__).resolve().parent.parent / "data" / "tinyshakespeare.txt"


@dataclass(frozen=True)
class Characters:
    """Ids of the first 90 % (training) and the last 10 % (validation) of a text; ids by sorted character."""

    train: Tensor
    val: Tensor
    vocab: int

    @classmethod
    def read(cls, path: Path) -> Characters:
        """Reads a text file."""
        text = path.read_text(encoding="utf-8")
        index = {character: number for number, character in enumerate(sorted(set(text)))}
        ids = torch.tensor([index[character] for character in text])
        cut = int(0.9 * len(ids))
        return cls(ids[:cut], ids[cut:], len(index))

    def batch(self, generator: torch.Generator, batch: int, length: int) -> tuple[Tensor, Tensor]:
        """Random windows (B, T) and their targets, each the next character."""
        start = torch.randint(len(self.train) - length, (batch,), generator=generator)
        window = self.train[start[:, None] + torch.arange(length + 1)]
        return window[:, :-1], window[:, 1:]

    @torch.no_grad()
    def full_loss(self, logits: Callable[[Tensor], Tensor], length: int, batch: int = 256) -> float:
        """Mean loss in nat over the validation set in windows of `length`, an incomplete last one left out."""
        count = (len(self.val) - 1) // length
        inputs = self.val[: count * length].view(count, length)
        targets = self.val[1 : count * length + 1].view(count, length)
        total = 0.0
        for each, target in zip(torch.split(inputs, batch), torch.split(targets, batch), strict=True):
            total += float(F.cross_entropy(logits(each).flatten(0, 1), target.flatten(), reduction="sum"))
        return total / (count * length)


def find_text(given: Path | None) -> Path:
    """The given text, else data/tinyshakespeare.txt. Raises FileNotFoundError."""
    path = PLACE if given is None else given
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there is no such file; give tinyshakespeare.txt (1,115,394 characters) with --text FILE"
        )
    return path


def is_tiny_shakespeare(path: Path) -> bool:
    """Whether the file is the published one, so that its numbers may be compared with published numbers."""
    return hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
