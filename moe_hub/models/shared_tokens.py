"""Means over the tokens of a batch, also where several processes have its rows between them.

A loss or a metric takes means over tokens and then often bends them: entropy of a mean gate, a product of two means,
what is above a target. The mean of what each process would find for itself is another number. So sums and counts are
added over the processes first, and each bends the mean over the whole batch, the same number everywhere.

The gradient stays apart: each process has that of its own tokens, for d f(sum_r m_r) = sum_r f'(m) dm_r. Summed over
the processes, the gradients of the parameters are those of one process with the whole batch; the backward pass needs no
collective of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Sharing:
    """The processes that share a batch. `stand_in`: this one has no row of it, and counts for nothing."""

    group: dist.ProcessGroup
    stand_in: bool = False


_sharing: Sharing | None = None  # no context variable: autograd calls hooks in threads of its own


def sharing() -> Sharing | None:
    """The sharing at present; None where this process has the batch alone."""
    return _sharing


@contextlib.contextmanager
def shared(new: Sharing | None) -> Iterator[None]:
    """Within it, means are over the tokens of all processes; with None over those of this one."""
    global _sharing
    before, _sharing = _sharing, new
    try:
        yield
    finally:
        _sharing = before


def per_token(total: Tensor, count: int | Tensor) -> Tensor:
    """A sum over tokens divided by their number, both over all processes; 0 where there is no token."""
    if _sharing is None:
        return total / (count.clamp(min=1) if isinstance(count, Tensor) else max(1, count))
    count_1 = torch.as_tensor(count, dtype=total.dtype, device=total.device).reshape(1)
    mine = torch.cat((total.flatten(), count_1))
    if _sharing.stand_in:
        mine = mine * 0
    every: Tensor = _Sum.apply(mine, _sharing.group)  # type: ignore[no-untyped-call]
    return (every[:-1] / every[-1].clamp(min=1)).view_as(total)


def every_token(mine_END: Tensor) -> Tensor:
    """The tokens of all processes, in the order of ranks, (E, N of all, D); not differentiable."""
    if _sharing is None:
        return mine_END.detach()
    group, experts, width = _sharing.group, mine_END.shape[0], mine_END.shape[2]
    mine_END = mine_END.detach()[:, : 0 if _sharing.stand_in else None]
    counts = torch.zeros(dist.get_world_size(group), dtype=torch.int64, device=mine_END.device)
    counts[dist.get_rank(group)] = mine_END.shape[1]
    dist.all_reduce(counts, group=group)
    before = int(counts[: dist.get_rank(group)].sum())
    every_END = mine_END.new_zeros(experts, int(counts.sum()), width)
    every_END[:, before : before + mine_END.shape[1]] = mine_END
    dist.all_reduce(every_END, group=group)
    return every_END


def same_everywhere(value: Tensor) -> Tensor:
    """A term that every process computes from parameters alone: its gradient is split evenly between them."""
    if _sharing is None:
        return value
    split: Tensor = _Split.apply(value, dist.get_world_size(_sharing.group))  # type: ignore[no-untyped-call]
    return split


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, mine: Tensor, group: dist.ProcessGroup) -> Tensor:
        every = mine.clone()
        dist.all_reduce(every, group=group)
        return every

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, parts: int) -> Tensor:
        ctx.parts = parts
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad / ctx.parts, None
