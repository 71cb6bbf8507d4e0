"""What is minimised: the task loss and weighted terms; the loss in pieces."""

from __future__ import annotations

import pytest
import torch

from moe_hub.config import Config, load_config
from moe_hub.data.batch import Batch
from moe_hub.models import build_model
from moe_hub.models.language_model import LanguageModel
from moe_hub.models.output import chunked_loss, next_token_loss
from moe_hub.train.objective import autocast, loss_terms

SMALL = ["model.d_model=16", "model.num_heads=2", "model.max_seq_len=16"]


def make(*overrides: str) -> tuple[Config, LanguageModel]:
    config = load_config(overrides=[*SMALL, *overrides])
    model = build_model(config, vocab_size=11)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    return config, model


def batch(masked: bool = False) -> Batch:
    ids = torch.randint(0, 11, (3, 12), generator=torch.Generator().manual_seed(0))
    labels = ids.clone()
    if masked:
        labels[:, :7] = -100
        labels[2] = -100
    return Batch(ids, labels, torch.ones_like(ids))


def test_the_loss_by_hand() -> None:
    logits = torch.tensor([[[1.0, 2, 0], [0, 0, 3], [1, 1, 1]]])
    labels = torch.tensor([[0, 1, -100]])
    expected = -torch.log_softmax(logits[0, 0], -1)[1]
    torch.testing.assert_close(next_token_loss(logits, labels), expected)
    assert next_token_loss(logits, torch.full((1, 3), -100)).item() == 0.0


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("chunk", [1, 5, 1000])
def test_the_loss_in_pieces_is_the_loss(masked: bool, chunk: int) -> None:
    """Value and every gradient."""
    config, model = make("model.architecture=hgnn")
    pieces = load_config(overrides=[*SMALL, f"train.loss_chunk_tokens={chunk}"])
    gradients = []
    for each in (config, pieces):
        model.zero_grad()
        total, _, _ = loss_terms(model, batch(masked), each.train)
        total.backward()
        gradients.append([total.detach(), *(p.grad.clone() for p in model.parameters())])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_the_loss_in_pieces_keeps_no_logits() -> None:
    """What autograd saves for the backward pass does not grow with the vocabulary."""
    hidden = torch.randn(2, 64, 8, requires_grad=True)
    head = torch.randn(5000, 8, requires_grad=True)
    labels = torch.randint(0, 5000, (2, 64))
    saved: list[int] = []

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        chunked_loss(hidden, head, labels, 16).backward()
    assert max(saved) <= head.numel()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        next_token_loss(hidden @ head.T, labels).backward()
    assert max(saved) >= 126 * 5000


def test_no_target_is_no_loss() -> None:
    _, model = make("model.architecture=dense")
    nothing = Batch(batch().input_ids_BT, torch.full((3, 12), -100), batch().documents_BT)
    for chunk in (0, 4):
        config = load_config(overrides=[*SMALL, f"train.loss_chunk_tokens={chunk}"])
        assert loss_terms(model, nothing, config.train)[0].item() == 0.0


def test_geometric_terms_are_added_with_their_weights() -> None:
    weights = ["train.loss_weights.orthogonality=0.7", "train.loss_weights.rotation_efficiency=0.11",
               "train.loss_weights.specialization=0.13"]  # fmt: skip
    config, model = make("train.mode=geometric", *weights)
    total, terms, measures = loss_terms(model, batch(), config.train)
    assert set(terms) == {"task", "orthogonality", "rotation_efficiency", "specialization"}
    assert measures == {}
    expected = (
        terms["task"] + 0.7 * terms["orthogonality"] + 0.11 * terms["rotation_efficiency"]
        + 0.13 * terms["specialization"]
    )  # fmt: skip
    torch.testing.assert_close(total, expected)
    assert all(0 <= term.item() <= 1 for name, term in terms.items() if name != "task")
    cost = torch.stack([layer.rotation.cost().mean() for layer in model.stack]).mean()
    torch.testing.assert_close(terms["rotation_efficiency"], cost)
    standard, _ = make()
    assert set(loss_terms(model, batch(), standard.train)[1]) == {"task"}


def test_each_geometric_term_has_a_gradient_of_its_own() -> None:
    config, model = make("train.mode=geometric")
    with torch.no_grad():  # experts that overlap more than independent ones do: below that the term is 0
        for layer in model.stack:
            for weight in (*layer.attention.parameters(), *layer.feed_forward.parameters()):
                weight.copy_(weight[:1] + 0.1 * weight)
    _, terms, _ = loss_terms(model, batch(), config.train)
    moved = {}
    for name in ("orthogonality", "rotation_efficiency", "specialization"):
        gradients = torch.autograd.grad(terms[name], list(model.parameters()), retain_graph=True, allow_unused=True)
        pairs = zip(model.named_parameters(), gradients, strict=True)
        moved[name] = {n for (n, _), g in pairs if g is not None and bool(g.any())}
    assert moved["rotation_efficiency"] == {"layers.0.rotation.theta", "layers.1.rotation.theta"}
    assert "layers.1.feed_forward.w2_EDF" in moved["orthogonality"]
    assert "layers.1.gate.weight_ED" in moved["specialization"]


def test_evaluation_adds_no_terms() -> None:
    _, model = make("model.architecture=orthogonal")
    ids = batch().input_ids_BT
    model.eval()
    output = model(input_ids=ids, labels=ids)
    assert output.terms is None
    assert output.auxiliary is None


def test_autocast_computes_in_bf16_and_keeps_weights_in_fp32() -> None:
    config, model = make("model.architecture=hgnn")
    with autocast(torch.device("cpu"), "bf16"):
        rounded = loss_terms(model, batch(), config.train)[0]
    exact = loss_terms(model, batch(), config.train)[0]
    assert rounded.item() != exact.item()
    assert rounded.item() == pytest.approx(exact.item(), abs=0.02)
    rounded.backward()
    assert {p.grad.dtype for p in model.parameters()} == {torch.float32}
