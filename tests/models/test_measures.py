"""Metrics of the experts: hand-computed cases, bounds and null values."""

from __future__ import annotations

import math

import pytest
import torch
from variants import make_batch, make_model, stir, wake_ghosts

from moe_hub.models import measures
from moe_hub.models.attention import SAMPLE, Context
from moe_hub.models.record import GhostRecord, LayerRecord


def test_effective_rank() -> None:
    assert measures.effective_rank(torch.eye(5)).item() == pytest.approx(5.0)
    assert measures.effective_rank(torch.ones(5, 5)).item() == pytest.approx(1.0, abs=1e-3)
    two = torch.block_diag(torch.ones(2, 2), torch.ones(2, 2))
    assert measures.effective_rank(two).item() == pytest.approx(2.0, rel=1e-3)


def test_similarity_is_the_mean_cosine() -> None:
    delta = torch.tensor([[[1.0, 0], [2, 0]], [[0, 3], [1, 0]], [[-1, 0], [-4, 0]]])
    expected = torch.tensor([[1, 0.5, -1], [0.5, 1, -0.5], [-1, -0.5, 1]])
    torch.testing.assert_close(measures.similarity(delta), expected)


def test_specialization() -> None:
    even = torch.full((8, 4), 0.25)
    own = torch.eye(4).repeat(2, 1)
    one = torch.eye(4)[torch.zeros(8, dtype=torch.long)]
    assert [measures.specialization(gate).item() for gate in (even, own, one)] == pytest.approx([0, 1, 0])
    assert [measures.gate_entropy(gate).item() for gate in (even, own, one)] == pytest.approx([1, 0, 0])
    halves = torch.tensor([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    assert measures.specialization(halves).item() == pytest.approx(math.log(2) / math.log(4))


def test_load_and_utilization() -> None:
    length = torch.tensor([[3.0, 3, 3], [1, 1, 1], [0, 4, 0.1]])
    load = measures.load_share(length)
    torch.testing.assert_close(load, torch.tensor([9, 3, 4.1]) / 16.1)
    # Half of an even share is 1/6: the second expert reaches it in two of three tokens, the last in one.
    torch.testing.assert_close(measures.utilization(length, 3), torch.tensor([1.0, 2 / 3, 1 / 3]))


def test_an_untrained_model_stands_at_the_null_values() -> None:
    batch = make_batch(8, 16)
    found = make_model("hgnn", "model.d_model=64")(input_ids=batch.input_ids_BT, measure=True).measures
    assert found["expert/load"].sub(0.25).abs().max() < 0.05
    assert found["router/entropy"].min() > 0.9999
    assert found["expert/specialization"].abs().max() < 1e-4
    assert found["expert/weight_overlap"].abs().max() < 0.05
    assert found["expert/effective_rank"].min() > 3.5
    torch.testing.assert_close(found["coupling/hyperedge_weight"], torch.ones(2, 6))
    torch.testing.assert_close(found["expert/utilization"], torch.ones(2, 4))


def test_measures_of_a_trained_looking_model_differ_from_them() -> None:
    batch = make_batch(8, 16)
    found = stir(make_model("gnn"), 0.5)(input_ids=batch.input_ids_BT, measure=True).measures
    assert found["expert/load"].sub(0.25).abs().max() > 0.05
    assert found["router/entropy"].max() < 0.99
    assert found["expert/specialization"].min() > 0.01


def test_contributions_add_up_to_what_the_layer_adds() -> None:
    for variant in ("hgnn", "hgnn-mean", "gnn", "ghost", "ghost-ffn-mean", "topk", "geometric-ghosts"):
        model = wake_ghosts(stir(make_model(variant), 0.2)).double().eval()
        layer, x = model.stack[1], torch.randn(2, 5, 16, dtype=torch.float64)
        added = {}

        def keep(_module: object, args: object, output: object, added: dict[str, object] = added) -> None:
            added["record"] = output[1]  # type: ignore[index]

        layer.register_forward_hook(keep)
        y, record = layer(x, Context(0, 5, 10))
        total = record.contribution_END.sum(0).view_as(x)
        rest = y - x - total
        if variant in ("ghost-ffn-mean", "topk"):  # the shared attention is the rest: it does not depend on experts
            with torch.no_grad():
                for weight in layer.feed_forward.parameters():
                    weight.zero_()
                for ghost in layer.ghosts.experts if layer.ghosts is not None else ():
                    ghost.silence()
                for coupling in getattr(layer, "coupling", ()):
                    coupling.u_RD.zero_()
            rest = rest - (layer(x, Context(0, 5, 10))[0] - x)
        assert rest.abs().max() < 1e-12, variant


def test_dormant_ghosts_contribute_nothing_and_keep_their_place() -> None:
    delta = torch.ones(2, 3, 4)
    ghosts = GhostRecord(2 * torch.ones(1, 3, 4), torch.full((3, 1), 0.25), (1,))
    record = LayerRecord(delta, delta, torch.full((1, 2), 0.5), None, num_ghosts=2, ghosts=ghosts)
    contribution = record.contribution_END
    assert contribution[:, 0, 0].tolist() == [0.5, 0.5, 0.0, 0.5]
    picked = record.sampled(torch.tensor([2, 0]))
    assert picked.contribution_END.shape == (4, 2, 4)


def test_the_sample_leaves_padding_out_and_is_spread() -> None:
    device = torch.device("cpu")
    assert Context(0, 5, 10).sample(device).tolist() == list(range(10))
    documents = torch.tensor([[1, 1, 0], [2, 0, 0]])
    assert Context(0, 3, 6, documents).sample(device).tolist() == [0, 1, 3]
    large = Context(0, 1000, 4000).sample(device)
    assert len(large) == SAMPLE
    assert large[1] == 4000 // SAMPLE
