"""Generation with a cache: the same text, sooner; prompts of different lengths in one batch."""

from __future__ import annotations

import time

import pytest
import torch
from transformers import DynamicCache
from variants import MARKERS, VARIANTS, logits_of, make_batch, make_model, stir, wake_ghosts

from moe_hub.architectures import ARCHITECTURES
from moe_hub.models.language_model import LanguageModel

every_variant = pytest.mark.parametrize("variant", VARIANTS)


def generate(model: LanguageModel, ids: torch.Tensor, new: int, *, cached: bool, **more: object) -> torch.Tensor:
    result: torch.Tensor = model.generate(
        input_ids=ids, max_new_tokens=new, min_new_tokens=new, do_sample=False, use_cache=cached, pad_token_id=0,
        **{"attention_mask": torch.ones_like(ids), **more},
    )  # fmt: skip
    return result


@every_variant
def test_a_cache_changes_no_logit(variant: str) -> None:
    """A prefix at once, then one token, then three: ghosts in the middle of their ramp."""
    model = wake_ghosts(stir(make_model(variant))).eval()
    ids = make_batch(2, 12).input_ids_BT
    whole, cache, parts, done = logits_of(model, ids), DynamicCache(config=model.config), [], 0
    with torch.no_grad():
        for count in (6, 1, 1, 3, 1):
            output = model(input_ids=ids[:, done : done + count], cache=cache, use_cache=True)
            cache, done = output.cache, done + count
            parts.append(output.logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", ["geometric", "geometric-ghosts"])
def test_phases_go_on_after_the_cache(variant: str) -> None:
    """The prompt ends inside a segment; a marker and a new document follow later."""
    model = wake_ghosts(stir(make_model(variant, cognitive=True))).eval()
    ids = make_batch(1, 12).input_ids_BT.clamp(max=4)
    ids[0, 2], ids[0, 8], ids[0, 10] = MARKERS[1], MARKERS[2], 1
    whole = logits_of(model, ids)
    changed = ids.clone()
    changed[0, 2] = MARKERS[3]
    assert not torch.equal(logits_of(model, changed)[0, 3], whole[0, 3])
    cache, parts = None, []
    with torch.no_grad():
        for done in range(12):
            output = model(input_ids=ids[:, done : done + 1], past_key_values=cache, use_cache=True)
            cache = output.cache
            parts.append(output.logits)
    torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=1e-5, atol=1e-5)
    texts = [generate(model, ids[:, :4], 8, cached=cached) for cached in (True, False)]
    assert torch.equal(*texts)


@pytest.mark.parametrize("variant", sorted(ARCHITECTURES))
def test_generated_text_is_the_same_with_a_cache(variant: str) -> None:
    model = wake_ghosts(stir(make_model(variant), 0.3)).eval()
    ids = make_batch(2, 4).input_ids_BT
    texts = [generate(model, ids, 6, cached=cached) for cached in (True, False)]
    assert texts[0].shape == (2, 10)
    assert torch.equal(*texts)


@pytest.mark.parametrize("variant", ["hgnn", "topk", "ghost", "geometric"])
@pytest.mark.parametrize("cached", [True, False])
def test_padding_on_the_left_changes_nothing(variant: str, cached: bool) -> None:
    model = wake_ghosts(stir(make_model(variant), 0.3)).eval()
    long, short = make_batch(1, 7).input_ids_BT, make_batch(1, 4, seed=1).input_ids_BT
    ids = torch.cat((long, torch.cat((torch.zeros(1, 3, dtype=torch.long), short), 1)))
    mask = (torch.arange(7) >= torch.tensor([[0], [3]])).long()
    both = generate(model, ids, 6, cached=cached, attention_mask=mask)
    alone = generate(model, short, 6, cached=cached)
    assert torch.equal(both[1, 3:], alone[0])
    assert torch.equal(both[0], generate(model, long, 6, cached=cached)[0])


@pytest.mark.parametrize("variant", ["hgnn", "ghost", "topk"])
def test_beams_keep_their_own_cache(variant: str) -> None:
    model = wake_ghosts(stir(make_model(variant), 0.3)).eval()
    ids = make_batch(2, 4).input_ids_BT
    texts = [generate(model, ids, 5, cached=cached, num_beams=3) for cached in (True, False)]
    assert torch.equal(*texts)


def test_only_the_last_logits_are_computed_on_request() -> None:
    model = stir(make_model("hgnn")).eval()
    ids = make_batch().input_ids_BT
    with torch.no_grad():
        last = model(input_ids=ids, logits_to_keep=1).logits
    assert last.shape == (2, 1, 11)
    torch.testing.assert_close(last[:, 0], logits_of(model, ids)[:, -1])


def test_a_cache_is_faster_from_64_tokens_on() -> None:
    model = make_model("hgnn", "model.d_model=64", "model.max_seq_len=256").eval()
    ids = make_batch(1, 64).input_ids_BT

    def seconds(cached: bool) -> float:
        best = float("inf")
        for _ in range(3):
            began = time.process_time()
            generate(model, ids, 24, cached=cached)
            best = min(best, time.process_time() - began)
        return best

    assert seconds(True) < seconds(False)
