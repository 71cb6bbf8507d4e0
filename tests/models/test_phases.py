"""Rotation of the data by reasoning phase."""

from __future__ import annotations

import torch
from variants import MARKERS, logits_of, make_model, stir

from moe_hub.models.phases import PHASES, RIGHT_ANGLES, phase_of_token, turn_by_phase


def phases(tokens: list[int], before: int | None = None) -> list[int]:
    start = None if before is None else torch.tensor([before])
    return phase_of_token(torch.tensor([tokens]), MARKERS, 1, start)[0].tolist()


def test_a_token_is_in_the_phase_of_the_last_marker() -> None:
    assert phases([2, 5, 3, 6, 3, 8, 2, 7]) == [0, 0, 0, 1, 1, 3, 3, 2]
    assert phases([6, 3, 1, 3, 7, 3]) == [1, 1, 0, 0, 2, 2]  # 1 opens a document
    assert phases([3, 3, 6], before=2) == [2, 2, 1]
    assert phases([1, 3], before=2) == [0, 0]
    assert phases([7, 3], before=3) == [2, 2]


def turned(x: torch.Tensor, angle: float) -> torch.Tensor:
    value = torch.full((1, x.shape[1], 1), angle, dtype=x.dtype)
    return turn_by_phase(x, value.cos(), value.sin())


def test_a_right_angle_four_times_is_the_identity() -> None:
    x = torch.randn(1, 3, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    once = turned(x, RIGHT_ANGLES[1])
    assert torch.equal(once[..., :12], x[..., :12])
    assert not torch.allclose(once[..., 12:], x[..., 12:])
    torch.testing.assert_close(turned(once, RIGHT_ANGLES[1])[..., 12:], -x[..., 12:])
    four = x
    for _ in PHASES:
        four = turned(four, RIGHT_ANGLES[1])
    torch.testing.assert_close(four, x, rtol=0, atol=1e-15)
    torch.testing.assert_close(once.norm(dim=-1), x.norm(dim=-1))


def test_phases_at_weight_zero_are_no_phases_bit_for_bit() -> None:
    with_phases, without = stir(make_model("geometric", cognitive=True)), stir(make_model("geometric"))
    ids = torch.tensor([[1, 5, 3, 6, 4, 7, 2, 8]])
    assert not torch.equal(logits_of(with_phases, ids), logits_of(without, ids))
    with_phases.set_phase_weights([1.0, 0.0, 0.0, 0.0])
    assert torch.equal(logits_of(with_phases, ids), logits_of(without, ids))


def test_a_later_marker_changes_no_earlier_token() -> None:
    model = stir(make_model("geometric", cognitive=True)).eval()
    ids = torch.tensor([[1, 5, 3, 6, 4, 7, 2, 8]])
    changed = ids.clone()
    changed[0, 5] = 8
    assert torch.equal(logits_of(model, ids)[0, :5], logits_of(model, changed)[0, :5])


def test_the_angles_are_saved() -> None:
    model = make_model("geometric", cognitive=True)
    model.set_phase_weights([1.0, 0.5, 0.25, 0.0])
    expected = torch.tensor([0.0, 0.5, 0.25, 0.0]) * torch.tensor(RIGHT_ANGLES)
    torch.testing.assert_close(model.state_dict()["phase_angle_S"], expected)
