"""When the experts of a layer are saturated: all in use, and the task still not learned.

Legend: E experts.

    O = (erank(K) - 1) / (E - 1)     K = mean over tokens of the cosine Gram (E, E) of the experts' deltas; erank is
                                     exp of the entropy of its normalised eigenvalues (Roy and Vetterli 2007)
    U = mean task loss / H           H = unigram entropy of the targets; 1 - U is McFadden's R^2
    S = O U

K and the task loss are running means over `saturation_window` steps. A layer is ripe when S has been above the
threshold at `patience` window ends in a row, and the mean loss of each of those windows was better than that of the
one before by less than the share `plateau`. Both factors are near 1 at first, so the plateau and `min_step` decide.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from moe_hub.config.model import GhostConfig
from moe_hub.models.measures import effective_rank


class Saturation(nn.Module):
    """Running statistics of a layer in buffers; training alone feeds them."""

    gram_EE: Tensor
    loss_mean: Tensor
    window_sum: Tensor
    previous_window: Tensor
    improvement: Tensor
    ripe_windows: Tensor
    unexplained: Tensor

    def __init__(self, settings: GhostConfig, num_experts: int) -> None:
        super().__init__()
        self.window = settings.saturation_window
        self.plateau = settings.plateau
        self.patience = settings.patience
        self.min_step = settings.min_step
        self.register_buffer("gram_EE", torch.eye(num_experts))
        known = {"loss_mean": 0.0, "window_sum": 0.0, "unexplained": 1.0, "improvement": 1.0}
        for name, value in {**known, "previous_window": math.inf}.items():
            self.register_buffer(name, torch.tensor(value))
        self.register_buffer("ripe_windows", torch.zeros((), dtype=torch.int64))

    def diversity(self) -> Tensor:
        """O, in [0, 1]: 1 orthogonal, 0 collapsed."""
        experts = len(self.gram_EE)
        return (effective_rank(self.gram_EE) - 1) / (experts - 1)

    def value(self) -> Tensor:
        """S."""
        return self.diversity() * self.unexplained

    @torch.no_grad()
    def update(self, gram_EE: Tensor | None, step: int, task_loss: float, unigram_entropy: float) -> None:
        """Takes in one training step, the `step`-th; `gram_EE` is None where the layer saw no token."""
        rate = 1 / min(step, self.window)  # a plain mean at first, then a running one
        if gram_EE is not None:
            self.gram_EE.lerp_(gram_EE.to(self.gram_EE), rate)
        self.loss_mean.lerp_(torch.full_like(self.loss_mean, task_loss), rate)
        self.unexplained.copy_(self.loss_mean / unigram_entropy)
        self.window_sum.add_(task_loss)

    @torch.no_grad()
    def judge(self, step: int, threshold: Tensor) -> bool:
        """Judges the window that ends with `step`; True where the layer is ripe. False within a window."""
        if step % self.window:
            return False
        mean = self.window_sum / self.window
        self.improvement.copy_(1 - mean / self.previous_window)  # 1 for the first window: nothing to compare with
        self.previous_window.copy_(mean)
        self.window_sum.zero_()
        saturated = bool(self.value() > threshold) and bool(self.improvement < self.plateau)
        self.ripe_windows.copy_(self.ripe_windows + 1 if saturated else torch.zeros_like(self.ripe_windows))
        return int(self.ripe_windows) >= self.patience and step >= self.min_step
