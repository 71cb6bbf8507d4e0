"""Rotation of the data by reasoning phase.

Legend: B batch, T time, D d_model, S phases. Phase s turns a fixed quarter of the planes by up to s x 90 degrees:
R(0) = I, R(90) = J with J J = -I, R(180) = -I, R(270) = -J on those planes, the C4 action.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PHASES = ("syntax", "reduction", "semantic", "pedagogical")
RIGHT_ANGLES = tuple(phase * math.pi / 2 for phase in range(len(PHASES)))


def phase_of_token(
    input_ids_BT: Tensor, marker_ids: tuple[int, ...], bos_id: int | None, before_B: Tensor | None = None
) -> Tensor:
    """Phase (0 .. S-1) of each token (B, T): that of the last segment marker at or before it.

    Before any marker it is `before_B`, the phase that the tokens before these ended in, or 0. A `bos` opens a document
    and resets the phase to 0, so nothing passes from one packed document to the next.
    """
    phase_BT = torch.zeros_like(input_ids_BT)
    opens_BT = torch.zeros_like(input_ids_BT, dtype=torch.bool)
    for phase, marker in enumerate(marker_ids):
        hit_BT = input_ids_BT == marker
        opens_BT |= hit_BT
        phase_BT = torch.where(hit_BT, phase, phase_BT)
    if bos_id is not None:
        opens_BT |= input_ids_BT == bos_id
    if before_B is not None:
        phase_BT[:, 0] = torch.where(opens_BT[:, 0], phase_BT[:, 0], before_B)
    position_T = torch.arange(input_ids_BT.shape[1], device=input_ids_BT.device)
    last_BT = torch.where(opens_BT, position_T, 0).cummax(dim=1).values
    return phase_BT.gather(1, last_BT)


def turn_by_phase(x: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
    """Turns the last quarter of the planes of x (..., B, T, D) by the angle whose cos and sin (B, T, 1) are given.

    The other planes stay as they are, so the content of a token remains readable in every phase. Without an angle, or
    where a quarter of the planes is less than one, x itself is returned.
    """
    size = x.shape[-1] // 8 * 2
    if cos is None or sin is None or size == 0:
        return x
    still, moved = x[..., :-size], x[..., -size:].reshape(*x.shape[:-1], -1, 2)
    a, b = moved[..., 0], moved[..., 1]
    turned = torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2)
    return torch.cat((still, turned.to(x.dtype)), dim=-1)
