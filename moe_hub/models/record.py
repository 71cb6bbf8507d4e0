"""What a layer leaves behind for measurement and for terms of the loss.

Legend: E experts, G ghosts, A ghosts that are awake, N tokens, D d_model.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class GhostRecord:
    """Outputs and shares of the ghosts that are awake; `index` are their numbers among all G."""

    coupled_AND: Tensor
    share_NA: Tensor
    index: tuple[int, ...]


@dataclass(frozen=True)
class LayerRecord:
    """Deltas of the experts before and after coupling, and the shares with which the readout sums them.

    `share_NE` is (1, E) where the readout is the mean; `gate_NE` is None there. `stream_ND` is what the deltas are
    added to, where a statistic of training needs it.
    """

    delta_END: Tensor
    coupled_END: Tensor
    share_NE: Tensor
    gate_NE: Tensor | None
    num_ghosts: int = 0
    ghosts: GhostRecord | None = None
    stream_ND: Tensor | None = None

    @property
    def contribution_END(self) -> Tensor:
        """What each expert, then each ghost, adds to the stream, (E + G, N, D); 0 for dormant ghosts."""
        weighed_END = weighed(self.coupled_END, self.share_NE)
        if not self.num_ghosts:
            return weighed_END
        ghost_GND = weighed_END.new_zeros(self.num_ghosts, *weighed_END.shape[1:])
        if self.ghosts is not None:
            ghost_GND[list(self.ghosts.index)] = weighed(self.ghosts.coupled_AND, self.ghosts.share_NA)
        return torch.cat((weighed_END, ghost_GND))

    def sampled(self, index_N: Tensor) -> LayerRecord:
        """The record on some tokens, in at least fp32."""
        ghosts = self.ghosts
        if ghosts is not None:
            picked = at_least_fp32(ghosts.coupled_AND[:, index_N])
            share_NA = ghosts.share_NA if self.gate_NE is None else ghosts.share_NA[index_N]
            ghosts = GhostRecord(picked, share_NA, ghosts.index)
        return replace(
            self,
            delta_END=at_least_fp32(self.delta_END[:, index_N]),
            coupled_END=at_least_fp32(self.coupled_END[:, index_N]),
            share_NE=self.share_NE if self.gate_NE is None else self.share_NE[index_N],
            gate_NE=None if self.gate_NE is None else self.gate_NE[index_N],
            ghosts=ghosts,
            stream_ND=None if self.stream_ND is None else at_least_fp32(self.stream_ND[index_N]),
        )

    def expert_share(self) -> Tensor:
        """The gate (N, E), or with a mean readout each expert's share of the energy of the deltas."""
        if self.gate_NE is not None:
            return self.gate_NE
        energy_NE = at_least_fp32(self.delta_END).square().sum(-1).T
        return energy_NE / energy_NE.sum(-1, keepdim=True).clamp(min=1e-12)


def weighed(coupled_END: Tensor, share_NE: Tensor) -> Tensor:
    """Outputs times their shares, (E, N, D)."""
    return coupled_END * share_NE.T.unsqueeze(-1).to(coupled_END.dtype)


def at_least_fp32(x: Tensor) -> Tensor:
    """The tensor in fp32, or as it is in float64."""
    return x if x.dtype == torch.float64 else x.float()
