"""When the experts of a layer are saturated: all in use, and the task still not learned.

Legend: E experts, B batch, T time, N sampled tokens, D d_model.

    O = (erank(K) - 1) / (E - 1)     K = mean over tokens of the cosine Gram (E, E) of the experts' deltas; erank is
                                     exp of the entropy of its normalised eigenvalues (Roy and Vetterli 2007)
    S = O U

U, what is not explained yet, is one of three (`saturation_measure`):

    explained   mean task loss / H                      H = unigram entropy of the targets; 1 - U is McFadden's R^2
    fvu_grad    sum ||r - P r||^2 / sum ||r||^2         r = -dL/dy at the layer's output, the way down of the loss;
                                                        P projects on the span of the token's deltas
    legacy      variance of x - mean_e (x + D_e)        and O = 1 - ||G - I||^2 / E^2, G = cosines of the token means of
                                                        x + D_e: both factors of the first implementation

fvu_grad asks what a new expert could add that no mixture of those there gives, as GradMax (arXiv 2201.05125) and
Firefly (arXiv 2102.08574) choose new neurons by the gradient; independent directions give 1 - E/D. Tokens and
accumulated batches count by their ||r||^2, so one without a gradient does not count. The variance of `legacy` has the
scale of the activations, so its threshold holds for one model only; it is there for replication.

K (or G) and U are running means over `saturation_window` steps. A layer is ripe when S has been above the threshold at
`patience` window ends in a row, and the mean loss of each of those windows was better than that of the one before by
less than the share `plateau`. O and U are near 1 at first (not with `legacy`), so the plateau and `min_step` decide.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from moe_hub.config.model import GhostConfig
from moe_hub.models import measures


class Saturation(nn.Module):
    """Running statistics of a layer in buffers; training alone feeds them.

    `parts` collects numerator and denominator of U, (2,), of the passes since the last optimizer step, where U is the
    layer's own.
    """

    gram_EE: Tensor
    loss_mean: Tensor
    window_sum: Tensor
    previous_window: Tensor
    improvement: Tensor
    ripe_windows: Tensor
    unexplained: Tensor
    own_unexplained: Tensor

    def __init__(self, settings: GhostConfig, num_experts: int) -> None:
        super().__init__()
        self.measure = settings.saturation_measure
        self.parts: list[Tensor] = []
        self.window = settings.saturation_window
        self.plateau = settings.plateau
        self.patience = settings.patience
        self.min_step = settings.min_step
        self.register_buffer("gram_EE", torch.eye(num_experts))
        known = {"loss_mean": 0.0, "window_sum": 0.0, "unexplained": 1.0, "improvement": 1.0}
        for name, value in {**known, "previous_window": math.inf}.items():
            self.register_buffer(name, torch.tensor(value))
        self.register_buffer("ripe_windows", torch.zeros((), dtype=torch.int64))
        if self.measure != "explained":
            self.register_buffer("own_unexplained", torch.tensor(1.0))

    def diversity(self) -> Tensor:
        """O, in [0, 1]: 1 orthogonal, 0 collapsed; `legacy`: 1/E collapsed."""
        experts = len(self.gram_EE)
        if self.measure == "legacy":
            identity_EE = torch.eye(experts).to(self.gram_EE)
            return 1 - (self.gram_EE - identity_EE).square().mean()
        return (measures.effective_rank(self.gram_EE) - 1) / (experts - 1)

    def value(self) -> Tensor:
        """S."""
        return self.diversity() * (self.unexplained if self.measure == "explained" else self.own_unexplained)

    def gram(self, delta_END: Tensor, stream_ND: Tensor | None) -> Tensor:
        """K, or G, of one forward pass, from some tokens' deltas; `legacy`: and from what they are added to."""
        if stream_ND is None:
            return measures.similarity(delta_END)
        gram_EE, variance = measures.first_implementation(stream_ND, delta_END)
        self.parts.append(torch.stack((variance, torch.ones_like(variance))))
        return gram_EE

    def follow_gradient(self, delta_END: Tensor, y_BTD: Tensor, index_N: Tensor) -> None:
        """Has the backward pass leave the parts of fvu_grad, from some tokens' gradient at the layer's output."""
        if not y_BTD.requires_grad:
            return

        @torch.no_grad()
        def collect(grad_BTD: Tensor) -> None:
            self.parts.append(measures.outside_span(delta_END, -grad_BTD.flatten(0, 1)[index_N]))

        y_BTD.register_hook(collect)  # type: ignore[no-untyped-call]

    def take_parts(self) -> Tensor:
        """Sum of the parts since the last call, (2,); of zeros where nothing was collected."""
        found = torch.stack(self.parts).sum(0) if self.parts else torch.zeros(2, device=self.gram_EE.device)
        self.parts.clear()
        return found.float() if found.device.type == "mps" else found.double()

    @torch.no_grad()
    def update(
        self,
        gram_EE: Tensor | None,
        step: int,
        task_loss: float,
        unigram_entropy: float,
        parts_2: Tensor | None = None,
    ) -> None:
        """Takes in one training step, the `step`-th; `gram_EE` is None where the layer saw no token.

        `parts_2` are numerator and denominator of U where that is the layer's own; a denominator of 0 tells nothing.
        """
        rate = 1 / min(step, self.window)  # a plain mean at first, then a running one
        if gram_EE is not None:
            self.gram_EE.lerp_(gram_EE.to(self.gram_EE), rate)
        self.loss_mean.lerp_(torch.full_like(self.loss_mean, task_loss), rate)
        self.unexplained.copy_(self.loss_mean / unigram_entropy)
        self.window_sum.add_(task_loss)
        if parts_2 is not None:
            share = (parts_2[0] / parts_2[1]).to(self.own_unexplained)
            self.own_unexplained.lerp_(torch.where(parts_2[1] > 0, share, self.own_unexplained), rate)

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
