"""Rotations of the data shown to each expert, folded into the expert's input weights.

Legend of shape suffixes: E experts, P rotation dims, D d_model, O rows of a weight, B batch, T time, S phases.

Givens, one layer: plane j is (2j, 2j + 1) and turns by theta[j mod P], as the planes of rotary positions do
(RoPE, Su et al. 2021, eq. 34). R_e is orthogonal with determinant +1 for every theta, and theta = 0 gives the
identity exactly. An expert reads W_e (R_e x); W_e R_e is formed once a step, so the cost does not grow with the
number of tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor


def plane_angles(theta_EP: Tensor, d_model: int) -> Tensor:
    """Angle of every plane, (E, D/2), radians: theta tiled over the planes."""
    planes = torch.arange(d_model // 2, device=theta_EP.device)
    return theta_EP[:, planes % theta_EP.shape[1]]


def givens_matrix(theta_EP: Tensor, d_model: int) -> Tensor:
    """R (E, D, D) as dense matrices, float as theta; for tests, probes and inspection."""
    identity_DD = torch.eye(d_model, dtype=theta_EP.dtype, device=theta_EP.device)
    return fold_givens(identity_DD.expand(theta_EP.shape[0], d_model, d_model), theta_EP)


def fold_givens(weight_EOD: Tensor, theta_EP: Tensor) -> Tensor:
    """W_e R_e (E, O, D), computed in the precision of theta (fp32) and cast later.

    In plane (a, b): R = [[cos, -sin], [sin, cos]], so column a of W R is W_a cos + W_b sin and column b is
    W_b cos - W_a sin.
    """
    angle_EP = plane_angles(theta_EP, weight_EOD.shape[-1]).unsqueeze(1)
    cos, sin = angle_EP.cos(), angle_EP.sin()
    pairs = weight_EOD.reshape(*weight_EOD.shape[:-1], -1, 2)
    a, b = pairs[..., 0], pairs[..., 1]
    return torch.stack((a * cos + b * sin, b * cos - a * sin), dim=-1).flatten(-2)


def rotation_cost(theta_EP: Tensor, d_model: int) -> Tensor:
    """(D - tr R_e) / (2D) = mean over planes of (1 - cos) / 2, per expert (E,), in [0, 1]; 0 is no rotation.

    It equals ||R_e - I||_F^2 / (4D), so it does not depend on the parametrisation.
    """
    return (1 - plane_angles(theta_EP, d_model).cos()).mean(-1) / 2


def phase_of_token(input_ids_BT: Tensor, marker_ids: tuple[int, ...], bos_id: int | None) -> Tensor:
    """Phase (0 .. S-1) of each token (B, T): that of the last segment marker at or before it; 0 before any.

    A `bos` opens a document and resets the phase to 0, so nothing passes from one packed document to the next.
    """
    phase_BT = torch.zeros_like(input_ids_BT)
    opens_BT = torch.zeros_like(input_ids_BT, dtype=torch.bool)
    for phase, marker in enumerate(marker_ids):
        hit_BT = input_ids_BT == marker
        opens_BT |= hit_BT
        phase_BT = torch.where(hit_BT, phase, phase_BT)
    if bos_id is not None:
        opens_BT |= input_ids_BT == bos_id
    position_T = torch.arange(input_ids_BT.shape[1], device=input_ids_BT.device)
    last_BT = torch.where(opens_BT, position_T, 0).cummax(dim=1).values
    return phase_BT.gather(1, last_BT)


def rotate_by_phase(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the last quarter of the planes of x (..., B, T, D) by the angle whose cos and sin (B, T, 1) are given.

    At 90 degrees this is a complex structure J on those planes: applied four times it is the identity (the C4
    action). The other planes stay as they are, so the content of a token remains readable in every phase.
    """
    size = x.shape[-1] // 8 * 2
    if size == 0:
        return x
    still, moved = x[..., :-size], x[..., -size:].reshape(*x.shape[:-1], -1, 2)
    a, b = moved[..., 0], moved[..., 1]
    turned = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
    return torch.cat((still, turned.to(x.dtype)), dim=-1)
