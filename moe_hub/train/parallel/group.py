"""Joins the processes that torchrun started, and says what each has of a batch."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from moe_hub.data.batch import Batch, Part
from moe_hub.models.attention import SAMPLE, one_of_each_part
from moe_hub.models.shared_tokens import Sharing
from moe_hub.ranks import ALONE, Ranks
from moe_hub.train.parallel.launching import under_torchrun


@contextlib.contextmanager
def joined() -> Iterator[Ranks]:
    """Joins the other processes, where there are any; leaves them in order at a normal end.

    After an error nothing is said to them: the others may be gone, and torchrun ends those that wait.
    """
    if not under_torchrun():
        yield ALONE
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    yield Ranks(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))
    dist.destroy_process_group()


def part_of(ranks: Ranks) -> Part | None:
    """The part of every batch that is this process's; None for one that has them alone."""
    return Part(ranks.rank, ranks.world) if ranks.several else None


def sharing_of(batch: Batch) -> Sharing | None:
    """How means over the tokens of a part of a batch are taken; None for a whole batch."""
    if batch.whole is None:
        return None
    group = dist.group.WORLD
    assert group is not None
    return Sharing(group, stand_in=not batch.whole.rows)


def own_sample(batch: Batch) -> Tensor | None:
    """Which of this process's tokens are in the sample of the whole batch that terms and metrics are taken from.

    Padding stands at the end of a row, so the places of the sample follow from how full the rows are.
    """
    if batch.whole is None:
        return None
    fill_B = torch.tensor(batch.whole.fills)
    end_B, device = fill_B.cumsum(0), batch.input_ids_BT.device
    total = int(end_B[-1])
    place_N = torch.arange(total) if total <= SAMPLE else one_of_each_part(total, torch.device("cpu"))
    row_N = torch.searchsorted(end_B, place_N, right=True)
    column_N = place_N - (end_B - fill_B)[row_N]
    first, beyond = batch.whole.rows.start, batch.whole.rows.stop
    own_N = (row_N >= first) & (row_N < beyond)
    index_N = (row_N - first) * batch.input_ids_BT.shape[1] + column_N
    return index_N[own_N].to(device)
