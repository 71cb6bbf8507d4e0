"""The processes of a training: who this one is, and what they tell each other besides gradients.

Small talk (requests, counts) goes where the tensors do: over NCCL with GPUs, else over gloo, and objects over gloo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Ranks:
    """This process among those of the training; alone by default."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0

    @property
    def main(self) -> bool:
        """Whether this process writes the run directory."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        return self.world > 1

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums over the processes, the same on each."""
        if not self.several:
            return list(values)
        device = "cuda" if torch.cuda.is_initialized() else "cpu"  # type: ignore[no-untyped-call]
        total = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return total.tolist()

    def gather(self, value: Item) -> list[Item]:
        """The value of each process, by rank."""
        if not self.several:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values

    def on_main(self, work: Callable[[], Answer]) -> Answer:
        """What rank 0 finds, told to all; where it raises, all raise the same."""
        if not self.several:
            return work()
        told: list[Any] = [None, None]
        if self.main:
            try:
                told[0] = work()
            except Exception as error:
                told[1] = error
        dist.broadcast_object_list(told)
        if told[1] is not None:
            raise told[1]
        return told[0]  # type: ignore[no-any-return]

    def turns(self, items: Sequence[Item]) -> Iterator[tuple[Item, bool]]:
        """This process's items of a list, and whether each counts.

        All processes get the same number, as each forward pass may be a collective: one that has run out gets an item
        of another, which does not count.
        """
        for first in range(0, len(items), self.world):
            number = first + self.rank
            yield (items[number], True) if number < len(items) else (items[first], False)


ALONE = Ranks()
