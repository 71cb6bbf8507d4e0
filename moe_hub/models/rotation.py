"""Learned rotations of the data shown to each expert, folded into the expert's input weights.

Legend: E experts, D d_model, O rows of a weight, P angles, K layers or pairs, C blocks, W width of a block.

Every R_e is orthogonal with determinant +1 for all values of theta, and theta = 0 is the identity. An expert reads
W_e (R_e x); W_e R_e is formed once a step, in fp32, so the cost does not grow with the number of tokens.

    givens       plane (2j, 2j + 1) turns by theta[j mod P], as rotary positions do (RoPE, Su et al. 2021, eq. 34)
    butterfly    such layers over pairs at distance 1, 2, 4, ... (GOFT, arXiv 2404.04316; BOFT, arXiv 2311.06243)
    householder  pairs of reflections (I - 2 u u^T)(I - 2 v v^T), v = normalize(u + theta), u fixed
    cayley       (I - A/2)^-1 (I + A/2) with A skew, in blocks (OFT, arXiv 2306.07280); no eigenvalue is -1
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moe_hub.architectures import butterfly_layers
from moe_hub.config.model import ModelConfig
from moe_hub.models.phases import phase_of_token

__all__ = ["ROTATIONS", "Rotation", "build_rotation", "phase_of_token"]


class Rotation(nn.Module, ABC):
    """Rotations of E experts. `base_E` are fixed angles by which all planes turn first (0: none)."""

    base_E: Tensor | None

    def __init__(self, d_model: int, theta: Tensor, base_E: Tensor | None) -> None:
        super().__init__()
        self.d_model = d_model
        self.theta = nn.Parameter(theta)
        self.register_buffer("base_E", base_E)

    def reset_parameters(self) -> None:
        """The identity."""
        nn.init.zeros_(self.theta)

    def fold(self, *weights_EOD: Tensor) -> tuple[Tensor, ...]:
        """W_e R_e for each weight (E or 1, O, D), computed in at least fp32, in the dtype of the weight."""
        with torch.autocast(self.theta.device.type, enabled=False):
            folded = self._fold_base(self._fold(tuple(_at_least_fp32(weight) for weight in weights_EOD)))
        return tuple(weight.to(given.dtype) for weight, given in zip(folded, weights_EOD, strict=True))

    def matrix(self) -> Tensor:
        """R (E, D, D), base angles included."""
        return self.fold(self._identity().expand(self.theta.shape[0], -1, -1))[0]

    def cost(self) -> Tensor:
        """(D - tr R_e) / (2 D) of the learned part, per expert (E,), in [0, 1]; 0 is no rotation.

        It equals ||R_e - I||_F^2 / (4 D), so it does not depend on the parametrisation.
        """
        with torch.autocast(self.theta.device.type, enabled=False):
            trace_E = self._trace()
        return (self.d_model - trace_E) / (2 * self.d_model)

    @abstractmethod
    def angles(self) -> Tensor:
        """Angles (E, P) in rad, for inspection; givens: base angle included."""

    @torch.no_grad()
    def measure(self) -> dict[str, Tensor]:
        """Metrics by name: angles, size and rounding error of the rotations, and where a probe is turned to."""
        turn_EDD = self.matrix()
        probe_D = turn_EDD.new_zeros(self.d_model)
        probe_D[[0, 2]] = 0.5**0.5
        error_EDD = turn_EDD.transpose(1, 2) @ turn_EDD - self._identity()
        return {
            "rotation/theta_rad": self.angles().clone(),
            "rotation/efficiency": self.cost(),
            "rotation/orthogonality_error": error_EDD.abs().amax(),
            "probe/rotated": (turn_EDD @ probe_D)[:, :3],
        }

    def _fold(self, weights_EOD: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        learned_EDD = self._learned()
        return tuple(weight.expand(learned_EDD.shape[0], -1, -1) @ learned_EDD for weight in weights_EOD)

    def _fold_base(self, weights_EOD: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self.base_E is None:
            return weights_EOD
        angle_EP = self.base_E.unsqueeze(1).expand(-1, self.d_model // 2)
        return tuple(fold_planes(weight, angle_EP) for weight in weights_EOD)

    def _learned(self) -> Tensor:
        """The learned part as matrices (E, D, D)."""
        (learned_EDD,) = self._fold((self._identity().expand(self.theta.shape[0], -1, -1),))
        return learned_EDD

    def _identity(self) -> Tensor:
        return torch.eye(self.d_model, dtype=_at_least_fp32(self.theta).dtype, device=self.theta.device)

    def _trace(self) -> Tensor:
        return self._learned().diagonal(dim1=1, dim2=2).sum(-1)


class Givens(Rotation):
    """theta (E, P): one angle for every P-th plane."""

    def __init__(self, settings: ModelConfig, num_experts: int, base_E: Tensor | None) -> None:
        super().__init__(settings.d_model, torch.zeros(num_experts, settings.geometric.rotation_dims), base_E)

    def angles(self) -> Tensor:
        return self.theta if self.base_E is None else self.theta + self.base_E.unsqueeze(1)

    def _fold(self, weights_EOD: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        angle_EP = tile(_at_least_fp32(self.theta), self.d_model // 2)
        return tuple(fold_planes(weight, angle_EP) for weight in weights_EOD)

    def _trace(self) -> Tensor:
        return 2 * tile(_at_least_fp32(self.theta), self.d_model // 2).cos().sum(-1)


class Butterfly(Rotation):
    """theta (E, K, P): K Givens layers, layer k over pairs at distance 2^k."""

    def __init__(self, settings: ModelConfig, num_experts: int, base_E: Tensor | None) -> None:
        layers = butterfly_layers(settings.d_model)
        theta_EKP = torch.zeros(num_experts, layers, settings.geometric.rotation_dims)
        super().__init__(settings.d_model, theta_EKP, base_E)

    def angles(self) -> Tensor:
        return self.theta.flatten(1)

    def _learned(self) -> Tensor:
        theta_EKP = _at_least_fp32(self.theta)
        rotation_EDD = self._identity().expand(theta_EKP.shape[0], -1, -1)
        for layer in range(theta_EKP.shape[1]):
            angle_EP = tile(theta_EKP[:, layer], self.d_model // 2)
            rotation_EDD = fold_planes(rotation_EDD, angle_EP, stride=2**layer)
        return rotation_EDD


class Householder(Rotation):
    """theta (E, K, D): K pairs of reflections; each pair turns the plane of u and v by twice their angle."""

    u_EKD: Tensor

    def __init__(self, settings: ModelConfig, num_experts: int, base_E: Tensor | None) -> None:
        shape = (num_experts, settings.geometric.reflection_pairs, settings.d_model)
        super().__init__(settings.d_model, torch.zeros(shape), base_E)
        draws = torch.randn(shape, generator=torch.Generator().manual_seed(0), device="cpu")
        self.register_buffer("u_EKD", F.normalize(draws, dim=-1).to(self.theta.device))

    def angles(self) -> Tensor:
        u_EKD, v_EKD = self._directions()
        cosine = (u_EKD * v_EKD).sum(-1, keepdim=True)
        return 2 * torch.atan2((v_EKD - cosine * u_EKD).norm(dim=-1), cosine.squeeze(-1))

    def _directions(self) -> tuple[Tensor, Tensor]:
        theta_EKD = _at_least_fp32(self.theta)
        u_EKD = F.normalize(self.u_EKD.to(theta_EKD), dim=-1)
        return u_EKD, F.normalize(u_EKD + theta_EKD, dim=-1)

    def _learned(self) -> Tensor:
        u_EKD, v_EKD = self._directions()
        rotation_EDD = self._identity().expand(u_EKD.shape[0], -1, -1)
        for pair in range(u_EKD.shape[1]):
            for direction_ED in (u_EKD[:, pair], v_EKD[:, pair]):
                along_ED1 = rotation_EDD @ direction_ED.unsqueeze(-1)
                rotation_EDD = torch.baddbmm(rotation_EDD, along_ED1, direction_ED.unsqueeze(1), alpha=-2)
        return rotation_EDD


class Cayley(Rotation):
    """theta (E, C, W (W - 1) / 2): the upper triangles of the skew blocks A."""

    def __init__(self, settings: ModelConfig, num_experts: int, base_E: Tensor | None) -> None:
        width = settings.geometric.block_size or settings.d_model
        self.width = width
        self.num_angles = settings.geometric.rotation_dims
        blocks = settings.d_model // width
        super().__init__(settings.d_model, torch.zeros(num_experts, blocks, width * (width - 1) // 2), base_E)

    def angles(self) -> Tensor:
        """The largest principal angles: 2 atan(s / 2) for each pair of singular values s of A."""
        singular_ECW = torch.linalg.svdvals(self._skew())
        angle_EP = 2 * torch.atan(singular_ECW[..., ::2].flatten(1) / 2)
        return angle_EP.sort(dim=1, descending=True).values[:, : self.num_angles]

    def _skew(self) -> Tensor:
        theta = _at_least_fp32(self.theta)
        row, column = torch.triu_indices(self.width, self.width, 1, device=theta.device)
        flat = theta.new_zeros(*theta.shape[:2], self.width**2).index_copy(-1, row * self.width + column, theta)
        upper_ECWW = flat.view(*theta.shape[:2], self.width, self.width)
        return upper_ECWW - upper_ECWW.transpose(-1, -2)

    def _blocks(self) -> Tensor:
        half_ECWW = self._skew() / 2
        identity_WW = torch.eye(self.width, dtype=half_ECWW.dtype, device=half_ECWW.device)
        solved: Tensor = torch.linalg.solve(identity_WW - half_ECWW, identity_WW + half_ECWW)
        return solved

    def _fold(self, weights_EOD: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        blocks_ECWW = self._blocks()
        experts, count = blocks_ECWW.shape[:2]
        folded = []
        for weight in weights_EOD:
            split_ECOW = weight.view(weight.shape[0], -1, count, self.width).transpose(1, 2)
            turned_ECOW = split_ECOW.expand(experts, -1, -1, -1) @ blocks_ECWW
            folded.append(turned_ECOW.transpose(1, 2).reshape(experts, -1, self.d_model))
        return tuple(folded)

    def _trace(self) -> Tensor:
        return self._blocks().diagonal(dim1=2, dim2=3).sum((1, 2))


ROTATIONS: dict[str, type[Givens | Butterfly | Householder | Cayley]] = {
    "givens": Givens,
    "butterfly": Butterfly,
    "householder": Householder,
    "cayley": Cayley,
}


def build_rotation(settings: ModelConfig, num_experts: int, base_E: Tensor | None = None) -> Rotation:
    """The rotation that `geometric.rotation_type` names; frozen where the settings say so."""
    rotation = ROTATIONS[settings.geometric.rotation_type](settings, num_experts, base_E)
    return rotation.requires_grad_(not settings.geometric.freeze_rotations)


def tile(theta_EP: Tensor, planes: int) -> Tensor:
    """Angle of every plane (E, planes): theta[j mod P]."""
    return theta_EP[:, torch.arange(planes, device=theta_EP.device) % theta_EP.shape[1]]


def fold_planes(weight_EOD: Tensor, angle_EP: Tensor, stride: int = 1) -> Tensor:
    """W_e G_e where G turns pairs of coordinates at distance `stride` by the angles of the planes (E, D/2).

    In plane (a, b): G = [[cos, -sin], [sin, cos]], so column a of W G is W_a cos + W_b sin and column b is
    W_b cos - W_a sin. For neighbours this is one complex product, (a + ib) exp(-i angle).
    """
    factor = torch.complex(angle_EP.cos(), -angle_EP.sin()).unsqueeze(1)
    if stride == 1:
        pairs = torch.view_as_complex(weight_EOD.reshape(*weight_EOD.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * factor).flatten(-2)
    a, b = weight_EOD.reshape(*weight_EOD.shape[:-1], -1, 2, stride).unbind(-2)
    turned = torch.complex(a, b).flatten(-2) * factor
    real, imaginary = (part.view(*turned.shape[:-1], -1, stride) for part in (turned.real, turned.imag))
    return torch.stack((real, imaginary), dim=-2).flatten(-3)


def _at_least_fp32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
