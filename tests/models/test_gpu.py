"""On a GPU: the same logits and gradients as on the CPU, bf16 near fp32, a training step, generation."""

from __future__ import annotations

import copy

import pytest
import torch

from moe_hub.architectures import ARCHITECTURES
from moe_hub.config import load_config
from moe_hub.data.batch import Batch
from moe_hub.models import build_model
from moe_hub.models.language_model import LanguageModel
from moe_hub.train.objective import autocast, loss_terms
from moe_hub.train.optimization import build_optimizer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine"),
]
VOCAB = 64


def small(architecture: str) -> LanguageModel:
    overrides = [f"model.architecture={architecture}", "model.d_model=64", "model.num_layers=2", "model.num_experts=4"]
    torch.manual_seed(0)
    return build_model(
        load_config(overrides=overrides), vocab_size=VOCAB, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )


def batch() -> Batch:
    ids = torch.randint(3, VOCAB, (4, 48), generator=torch.Generator().manual_seed(0))
    return Batch(ids, ids, torch.ones_like(ids))


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_logits_and_gradients_are_those_of_the_cpu(architecture: str) -> None:
    train = load_config(overrides=[f"model.architecture={architecture}"]).train
    on_cpu = small(architecture)
    on_gpu = copy.deepcopy(on_cpu).cuda()
    losses = []
    for model, device in ((on_cpu, "cpu"), (on_gpu, "cuda")):
        total, _, _ = loss_terms(model, batch().to(torch.device(device)), train, measure=False)
        torch.autograd.backward([total])
        losses.append(total.detach().item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    for (name, one), (_, other) in zip(on_cpu.named_parameters(), on_gpu.named_parameters(), strict=True):
        if one.grad is not None:
            torch.testing.assert_close(other.grad.cpu(), one.grad, rtol=5e-3, atol=1e-5, msg=name)


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_steps_in_bf16_lower_the_loss(architecture: str) -> None:
    config = load_config(overrides=[f"model.architecture={architecture}"])
    model, device = small(architecture).cuda().train(), torch.device("cuda")
    optimizer, losses = build_optimizer(model, config.train), []
    for _ in range(30):
        with autocast(device, "bf16"):
            total, terms, _ = loss_terms(model, batch().to(device), config.train, measure=False)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward([total])
        optimizer.step()
        losses.append(terms["task"].detach().item())
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_cached_generation_is_that_of_the_cpu(architecture: str) -> None:
    model = small(architecture).eval()
    prompt = torch.tensor([[1, 5, 9, 7]])
    expected = model.generate(input_ids=prompt, max_new_tokens=12, do_sample=False)
    written = model.cuda().generate(input_ids=prompt.cuda(), max_new_tokens=12, do_sample=False)
    assert written.cpu().tolist() == expected.tolist()
