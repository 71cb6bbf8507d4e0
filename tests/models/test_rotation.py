"""Invariants of the learned rotations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from variants import logits_of, make_batch, make_config, make_model, stir

from moe_hub.models.rotation import ROTATIONS, Rotation, build_rotation

KINDS = {
    "givens": (), "butterfly": (), "householder": (), "cayley": (), "cayley-full": ("model.geometric.block_size=0",),
}  # fmt: skip
every_kind = pytest.mark.parametrize("kind", KINDS)


def make_rotation(kind: str, size: float = 0.7, dtype: torch.dtype = torch.float64, base: bool = False) -> Rotation:
    config = make_config("geometric", f"model.geometric.rotation_type={kind.split('-')[0]}", *KINDS[kind])
    base_E = torch.tensor([0.0, 0.5, 1.0]) if base else None
    rotation = build_rotation(config.model, 3, base_E).to(dtype)
    with torch.no_grad():
        rotation.theta += size * torch.randn(rotation.theta.shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    return rotation


def test_the_table_of_types_is_what_the_config_offers() -> None:
    assert {kind.split("-")[0] for kind in KINDS} == set(ROTATIONS)


@every_kind
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 5e-6)])
def test_matrices_are_rotations(kind: str, dtype: torch.dtype, bound: float) -> None:
    turn = make_rotation(kind, dtype=dtype, base=True).matrix()
    assert (turn.transpose(1, 2) @ turn - torch.eye(16, dtype=dtype)).abs().max() < bound
    assert (torch.linalg.det(turn.double()) - 1).abs().max() < 100 * bound
    x = torch.randn(3, 16, 5, dtype=dtype, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close((turn @ x).norm(dim=1), x.norm(dim=1), rtol=10 * bound, atol=0)


@every_kind
def test_theta_zero_is_the_identity(kind: str) -> None:
    rotation = make_rotation(kind, size=0.0)
    bound = 1e-15 if kind == "householder" else 0.0
    assert (rotation.matrix() - torch.eye(16, dtype=torch.float64)).abs().max() <= bound
    assert rotation.cost().abs().max() <= 1e-15
    assert rotation.angles().abs().max() <= 1e-7


@every_kind
def test_folding_is_rotating_the_data(kind: str) -> None:
    rotation = make_rotation(kind, base=True)
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(3, 7, 16, dtype=torch.float64, generator=generator)
    x = torch.randn(16, 5, dtype=torch.float64, generator=generator)
    shared = torch.randn(1, 4, 16, dtype=torch.float64, generator=generator)
    folded, folded_shared = rotation.fold(weight, shared)
    turned = rotation.matrix() @ x
    torch.testing.assert_close(folded @ x, weight @ turned, rtol=0, atol=1e-13)
    torch.testing.assert_close(folded_shared @ x, shared @ turned, rtol=0, atol=1e-13)


@every_kind
def test_the_cost_is_the_distance_from_the_identity(kind: str) -> None:
    rotation = make_rotation(kind)
    distance = (rotation.matrix() - torch.eye(16, dtype=torch.float64)).square().sum((1, 2)) / (4 * 16)
    torch.testing.assert_close(rotation.cost(), distance, rtol=1e-12, atol=1e-14)


@every_kind
def test_logged_angles_are_those_of_the_matrix(kind: str) -> None:
    """Phases of the eigenvalues; a butterfly and several reflections have more planes than angles of their own."""
    rotation = make_rotation(kind, size=0.3)
    phases = torch.linalg.eigvals(rotation.matrix()).angle().abs().sort(dim=1, descending=True).values
    angles = rotation.angles()
    if kind == "givens":
        torch.testing.assert_close(phases[:, ::4], angles.abs().sort(dim=1, descending=True).values, atol=1e-7, rtol=0)
    elif kind.startswith("cayley"):
        torch.testing.assert_close(phases[:, : 2 * angles.shape[1] : 2], angles, atol=1e-7, rtol=0)
    elif kind == "householder":
        one = make_config(
            "geometric", "model.geometric.rotation_type=householder", "model.geometric.reflection_pairs=1"
        )
        single = build_rotation(one.model, 3).double()
        with torch.no_grad():
            single.theta += 0.3
        phases = torch.linalg.eigvals(single.matrix()).angle().abs().amax(1)
        torch.testing.assert_close(phases, single.angles()[:, 0], atol=1e-7, rtol=0)
    else:
        assert angles.shape == (3, 4 * 4)


def test_givens_is_the_exponential_of_its_generator() -> None:
    rotation = make_rotation("givens")
    generator = torch.zeros(3, 16, 16, dtype=torch.float64)
    for plane in range(8):
        a, b = 2 * plane, 2 * plane + 1
        generator[:, b, a] = rotation.theta[:, plane % 4].detach()
        generator[:, a, b] = -generator[:, b, a]
    torch.testing.assert_close(rotation.matrix(), torch.linalg.matrix_exp(generator), rtol=0, atol=1e-14)


def test_cayley_is_the_map_of_torch() -> None:
    rotation = make_rotation("cayley-full")
    theirs = nn.utils.parametrizations.orthogonal(
        nn.Linear(16, 16, bias=False).double(), orthogonal_map="cayley", use_trivialization=False
    )
    row, column = torch.triu_indices(16, 16, 1)
    for e in range(3):
        with torch.no_grad():
            # torch reads the strictly lower triangle X and takes A = X - X^T; ours is the upper one.
            theirs.parametrizations.weight.original.zero_()
            theirs.parametrizations.weight.original[column, row] = -rotation.theta[e, 0]
        torch.testing.assert_close(rotation.matrix()[e], theirs.weight, rtol=0, atol=1e-12)


def test_householder_is_a_product_of_reflections() -> None:
    rotation = make_rotation("householder")
    expected = torch.eye(16, dtype=torch.float64).expand(3, -1, -1).clone()
    for e in range(3):
        for pair in range(4):
            u = rotation.u_EKD[e, pair] / rotation.u_EKD[e, pair].norm()
            v = u + rotation.theta[e, pair]
            v = v / v.norm()
            for w in (u, v):
                expected[e] = expected[e] @ (torch.eye(16, dtype=torch.float64) - 2 * torch.outer(w, w))
    torch.testing.assert_close(rotation.matrix(), expected, rtol=0, atol=1e-13)


def test_theta_zero_is_the_model_without_rotations_bit_for_bit() -> None:
    """Same seed, same weights where the experts begin normal; forward, gradients of everything else."""
    plain = make_model("hgnn")
    for kind in ("givens", "butterfly", "cayley"):
        turned = make_model("geometric", "model.geometric.expert_init=normal", f"model.geometric.rotation_type={kind}")
        batch = make_batch()
        results = []
        for model in (plain, turned):
            model.zero_grad()
            output = model(input_ids=batch.input_ids_BT, labels=batch.labels_BT)
            output.loss.backward()
            gradients = {n: p.grad for n, p in model.named_parameters() if "rotation" not in n}
            results.append((output.logits.detach(), gradients))
        assert torch.equal(results[0][0], results[1][0]), kind
        same = (torch.equal(results[0][1][n], results[1][1][n]) for n in results[0][1])
        assert all(same) or kind != "givens"


@every_kind
def test_the_task_loss_alone_moves_theta(kind: str) -> None:
    """From the start, where theta is 0."""
    model = make_model(kind if kind != "givens" else "geometric").double()
    batch = make_batch(4, 16)
    model(input_ids=batch.input_ids_BT, labels=batch.labels_BT).loss.backward()
    for layer in model.stack:
        assert layer.rotation.theta.grad.abs().max() > 1e-9


def test_frozen_experts_leave_theta_to_learn_and_frozen_theta_the_experts() -> None:
    frozen = make_model("geometric-frozen")
    names = {name for name, parameter in frozen.named_parameters() if not parameter.requires_grad}
    assert names == {n for n, _ in frozen.named_parameters() if ".attention." in n or ".feed_forward." in n}
    still = make_model("geometric-still")
    assert all(("rotation" in name) != p.requires_grad for name, p in still.named_parameters())


def test_shared_experts_begin_at_different_angles() -> None:
    model = make_model("geometric-shared")
    layer = model.stack[0]
    assert layer.feed_forward.w1_EFD.shape[0] == 1
    expected = torch.arange(4).unsqueeze(1).expand(-1, 4) * (2 * math.pi / 4)
    torch.testing.assert_close(layer.rotation.angles().detach(), expected)
    w1_EFD = layer.weights().w1_EFD
    assert (w1_EFD[0] - w1_EFD[1]).abs().max() > 0.01
    torch.testing.assert_close(w1_EFD[2], -w1_EFD[0], atol=1e-6, rtol=0)  # half a turn in every plane


def test_orthonormal_experts_keep_the_size_of_their_entries() -> None:
    weight_OD = make_model("geometric").stack[0].feed_forward.w1_EFD[1].detach().double()
    gram = weight_OD.T @ weight_OD
    torch.testing.assert_close(gram, gram[0, 0] * torch.eye(16, dtype=torch.float64), atol=1e-6, rtol=0)
    assert weight_OD.std().item() == pytest.approx(0.02, rel=0.05)


def test_the_probe_follows_the_real_rotation() -> None:
    model = stir(make_model("geometric"), 0.5).double()
    found = model(input_ids=make_batch().input_ids_BT, measure=True).measures["probe/rotated"]
    theta = model.stack[0].rotation.theta.detach()
    expected = torch.stack((theta[:, 0].cos(), theta[:, 0].sin(), theta[:, 1].cos()), -1) / math.sqrt(2)
    torch.testing.assert_close(found, expected)


@every_kind
def test_bf16_weights_are_folded_in_fp32(kind: str) -> None:
    rotation = make_rotation(kind, dtype=torch.float32)
    weight = torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(2))
    with torch.autocast("cpu", torch.bfloat16):
        (folded,) = rotation.fold(weight)
    assert folded.dtype == torch.float32
    assert torch.equal(folded, rotation.fold(weight)[0])


def test_half_precision_models_run() -> None:
    model = stir(make_model("butterfly")).eval()
    ids = make_batch().input_ids_BT
    full = logits_of(model, ids)
    half = logits_of(model.to(torch.bfloat16), ids)
    assert (half - full).abs().max() < 0.3
