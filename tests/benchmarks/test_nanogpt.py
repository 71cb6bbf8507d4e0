"""The nanoGPT equivalent has the published size and start, and the data of all arms is the same."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks.characters import Characters, find_text
from benchmarks.nanogpt import Recipe, ReferenceGPT, reference_optimizer

RECIPE = Recipe()
VOCAB = 65  # characters of tiny-shakespeare


@pytest.fixture
def model() -> ReferenceGPT:
    torch.manual_seed(0)
    return ReferenceGPT(RECIPE, VOCAB)


def test_has_the_published_number_of_parameters(model: ReferenceGPT) -> None:
    assert f"{model.published_count() / 1e6:.2f}" == "0.80"
    # 4 layers of 12 d^2 and two norms, one norm at the end, embedding; positions are not counted
    assert model.published_count() == 4 * (12 * 128**2 + 2 * 128) + 128 + VOCAB * 128


def test_starts_at_the_entropy_of_a_guess(model: ReferenceGPT) -> None:
    ids_BT = torch.randint(VOCAB, (8, 65), generator=torch.Generator().manual_seed(0))
    loss = F.cross_entropy(model(ids_BT[:, :-1]).flatten(0, 1), ids_BT[:, 1:].flatten())
    assert abs(loss.item() - math.log(VOCAB)) < 0.1


def test_is_causal(model: ReferenceGPT) -> None:
    ids_BT = torch.randint(VOCAB, (2, 64), generator=torch.Generator().manual_seed(0))
    changed_BT = ids_BT.clone()
    changed_BT[:, 40] = (changed_BT[:, 40] + 1) % VOCAB
    before, after = model(ids_BT), model(changed_BT)
    torch.testing.assert_close(before[:, :40], after[:, :40], rtol=0, atol=1e-6)
    assert (before[:, 40] - after[:, 40]).abs().max() > 1e-3


def test_schedule_and_decay_are_the_published_ones(model: ReferenceGPT) -> None:
    assert RECIPE.rate(100) == pytest.approx(1e-3)
    assert RECIPE.rate(1050) == pytest.approx(5.5e-4)
    assert RECIPE.rate(2000) == pytest.approx(1e-4)
    decayed, free = reference_optimizer(model, RECIPE).param_groups
    assert {each.ndim for each in decayed["params"]} == {2}
    assert {each.ndim for each in free["params"]} == {1}
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)


@pytest.fixture
def characters(tmp_path: Path) -> Characters:
    path = tmp_path / "text.txt"
    path.write_text("abcdefghij" * 100, encoding="utf-8")
    return Characters.read(path)


def test_targets_are_the_next_characters(characters: Characters) -> None:
    ids_BT, targets_BT = characters.batch(torch.Generator().manual_seed(0), 5, 8)
    assert ids_BT.shape == targets_BT.shape == (5, 8)
    assert torch.equal(targets_BT, (ids_BT + 1) % 10)
    again, _ = characters.batch(torch.Generator().manual_seed(0), 5, 8)
    assert torch.equal(ids_BT, again)


def test_full_loss_is_the_mean_over_the_validation_set(characters: Characters) -> None:
    assert (len(characters.train), len(characters.val), characters.vocab) == (900, 100, 10)
    table = torch.randn(10, 10, generator=torch.Generator().manual_seed(0))
    expected = -sum(
        float(table[characters.val[i]].log_softmax(-1)[characters.val[i + 1]]) for i in range(12 * 8)
    ) / (12 * 8)  # fmt: skip
    assert characters.full_loss(lambda ids: table[ids], length=8, batch=5) == pytest.approx(expected, abs=1e-6)


def test_a_missing_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="--text FILE"):
        find_text(tmp_path / "none.txt")
