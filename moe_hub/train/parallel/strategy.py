"""How a model is spread over the processes: replicated (DDP) or in shards (FSDP2).

Both average the gradients of the processes. Each process's gradient is its share of that of the whole batch (see
`models/shared_tokens.py`), so the loss is scaled by their number and the average is the sum.

FSDP2 (`fully_shard`; Zhao et al. 2023, arXiv 2304.11277) keeps gradients and moments in shards; the parameters of a
layer are gathered for its forward pass and kept until its backward pass is over, for terms of the loss read them in
between.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard
from torch.nn.parallel import DistributedDataParallel

from moe_hub.config import Config
from moe_hub.models.language_model import LanguageModel
from moe_hub.ranks import Ranks


@dataclass(frozen=True)
class Spread:
    """A model in the hands of its processes: what to call, and what its gradients have to be multiplied by."""

    forward: Callable[..., Any]
    scale: float = 1.0

    def synchronized(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Around forward and backward pass: gradients are exchanged after the last batch of a step only."""
        return contextlib.nullcontext()

    def rest(self) -> None:
        """After a forward pass without a backward pass."""


class Replicated(Spread):
    """DDP."""

    def synchronized(self, last: bool) -> contextlib.AbstractContextManager[None]:
        assert isinstance(self.forward, DistributedDataParallel)
        return contextlib.nullcontext() if last else self.forward.no_sync()


class Sharded(Spread):
    """FSDP2."""

    @property
    def model(self) -> FSDPModule:
        return cast(FSDPModule, self.forward)

    @contextlib.contextmanager
    def synchronized(self, last: bool) -> Iterator[None]:
        self.model.set_requires_gradient_sync(last)
        self.model.set_reshard_after_backward(last)  # the next batch of the step uses the same parameters
        yield

    def rest(self) -> None:
        for module in cast(nn.Module, self.model).modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def spread(model: LanguageModel, config: Config, ranks: Ranks) -> Spread:
    """Spreads the model over the processes, in place; before the optimizer is made, for shards are other parameters."""
    if not ranks.several:
        return Spread(torch.compile(model) if config.train.compile else model)
    if config.train.parallel.strategy == "fsdp":
        mesh = init_device_mesh(model.device.type, (ranks.world,))
        # No one writes into what a layer or the model returns, and the numbers say that the hooks are there.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
        split = _split(ranks.world, by_expert=config.train.optimizer == "muon")
        for module in (*map(_module, model.stack), _module(model)):
            fully_shard(module, mesh=mesh, reshard_after_forward=False, shard_placement_fn=split)
        return Sharded(model, float(ranks.world))
    asleep = any(layer.ghosts is not None for layer in model.stack)  # dormant ghosts have no gradient
    replicated = DistributedDataParallel(
        model, forward_sync_buffers=False, find_unused_parameters=asleep, gradient_as_bucket_view=True
    )
    return Replicated(replicated, float(ranks.world))


def _split(world: int, *, by_expert: bool) -> Callable[[nn.Parameter], Shard]:
    """The axis along which each parameter is split: the first that divides evenly, so that nothing is padded.

    Few experts on many processes would leave most of these without any. `by_expert` keeps the matrices of the experts
    whole, which Muon needs; then processes beyond the number of experts hold none of them.
    """

    def axis(parameter: nn.Parameter) -> Shard:
        if by_expert and parameter.ndim == 3:
            return Shard(0)
        even = [number for number, size in enumerate(parameter.shape) if size % world == 0]
        return Shard(even[0] if even else 0)

    return axis


def _module(module: Any) -> nn.Module:
    return cast(nn.Module, module)


def whole(value: Tensor) -> Tensor:
    """A tensor that stands in shards as one; any other as it is."""
    return value.full_tensor() if isinstance(value, DTensor) else value
