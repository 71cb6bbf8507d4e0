"""Muon for the matrices of the experts, AdamW for everything else, as one optimizer.

torch.optim.Muon takes 2-D parameters only, and orthogonalises each as a whole; the experts' weights are 3-D stacks, and
q, k and v share one. So Muon is given views: one for each expert's matrix, q, k and v apart (Jordan et al. 2024). They
share memory with the stacks, and their momentum is a view of one tensor per stack, which stands in `state` under the
stack's own parameter, as every optimizer keeps it. Updates are scaled to the size of AdamW's (Liu et al. 2025, arXiv
2502.16982), so that one learning rate serves both.

Under FSDP a stack stands in shards of whole experts (its first axis is theirs), so each process orthogonalises the
matrices of its own experts, and none has to be gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

Group = dict[str, Any]


class MuonAndAdamW(torch.optim.Optimizer):
    """Steps `muon_groups` (stacks of matrices) with torch's Muon and `adamw_groups` with torch's AdamW.

    A Muon group may hold `parts`: into how many matrices the rows of each expert's weight are split.
    """

    def __init__(self, adamw_groups: list[Group], muon_groups: list[Group], betas: tuple[float, float]) -> None:
        super().__init__([*adamw_groups, *muon_groups], {"lr": 0.0, "weight_decay": 0.0})
        self.adamw = torch.optim.AdamW(adamw_groups, betas=betas, fused=True)
        self.muon_groups = self.param_groups[len(adamw_groups) :]
        self.param_groups = [*self.adamw.param_groups, *self.muon_groups]
        self.state = self.adamw.state
        self.views: dict[Tensor, list[nn.Parameter]] = {
            stack: list(_matrices(stack, group["parts"])) for group in self.muon_groups for stack in group["params"]
        }
        self.muon = torch.optim.Muon(
            [{"params": [v for p in group["params"] for v in self.views[p]]} for group in self.muon_groups],
            adjust_lr_fn="match_rms_adamw",
        )

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        self.adamw.step()
        for group, inner in zip(self.muon_groups, self.muon.param_groups, strict=True):
            inner["lr"], inner["weight_decay"] = group["lr"], group["weight_decay"]
            for stack in group["params"]:
                self._bind(stack, group["parts"])
        self.muon.step()  # type: ignore[no-untyped-call]
        for views in self.views.values():
            for view in views:
                view.grad = None
        return loss

    def _bind(self, stack: Tensor, parts: int) -> None:
        """Points the views of a stack at its present weight, gradient and momentum."""
        if stack.grad is None:
            return
        state = self.state[stack]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(stack)
        weights, gradients = _matrices(stack, parts), _matrices(stack.grad, parts)
        momenta = _matrices(state["momentum_buffer"], parts)
        for view, weight, gradient, momentum in zip(self.views[stack], weights, gradients, momenta, strict=True):
            view.data, view.grad = weight.data, gradient.data
            self.muon.state[view]["momentum_buffer"] = momentum.data


def _matrices(stack: Tensor, parts: int) -> Iterator[nn.Parameter]:
    """The matrices of a stack (E, O, I), each of its O rows split into parts; they share memory with it.

    Of a stack in shards, those that this process holds.
    """
    own = stack.to_local() if isinstance(stack, DTensor) else stack
    for matrix in own.detach().view(own.shape[0] * parts, own.shape[1] // parts, own.shape[2]):
        yield nn.Parameter(matrix, requires_grad=False)
