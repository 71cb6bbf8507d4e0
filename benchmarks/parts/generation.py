"""Generation by `generate()` with and without the key-value cache, greedy, one sequence, one thread."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from benchmarks.options import Options
from benchmarks.report import Goal, PartResult, Table, milliseconds, times
from benchmarks.timing import Built, Contender, Ratio, Timings, measure
from benchmarks.training_step import Shape
from moe_hub.models import build_model
from moe_hub.models.language_model import LanguageModel

ARCHITECTURES = ("dense", "topk", "gnn", "hgnn", "orthogonal", "ghost", "geometric")
PROMPT = 16
LENGTHS = (64, 128)
SHAPE = Shape(experts=4, length=PROMPT + max(LENGTHS))


def build() -> Built:
    """Generation by a model of every architecture, with and without cache, of each length."""
    variants: dict[str, Callable[[], object]] = {}
    for architecture in ARCHITECTURES:
        model = build_model(SHAPE.config(architecture), vocab_size=SHAPE.vocab, pad_token_id=0).eval()
        for length in LENGTHS:
            for cached in (True, False):
                variants[_name(architecture, length, cached)] = partial(generate, model, length, cached)
    return Built(variants=variants)


def generate(model: LanguageModel, new_tokens: int, use_cache: bool) -> None:
    """One call of `generate()` that always makes `new_tokens` tokens."""
    prompt = next(replace(SHAPE, batch=1, length=PROMPT).batches()).input_ids_BT
    found = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=new_tokens,
        do_sample=False,
        use_cache=use_cache,
    )
    assert isinstance(found, torch.Tensor)
    assert found.shape[1] == PROMPT + new_tokens


def run(options: Options) -> PartResult:
    """Milliseconds per token and how much the cache gains, for every architecture."""
    result = PartResult()
    rows: list[tuple[str, ...]] = []
    contender = Contender("generation", "benchmarks.parts.generation:build")
    timings = measure([contender], rounds=options.rounds(4), steps=1, warm_up=1, budget_s=options.budget_s(60))
    result.data = timings.as_json()
    for architecture in ARCHITECTURES:
        for length in LENGTHS:
            cached, uncached = _name(architecture, length, True), _name(architecture, length, False)
            ratio = timings.ratio(uncached, cached)
            cells = [milliseconds([value / length for value in timings.cpu_s[name]]) for name in (cached, uncached)]
            rows.append((architecture, str(length), *cells, times(ratio)))
    least = min(ARCHITECTURES, key=lambda name: _gain(timings, name).median)
    gain = _gain(timings, least)
    text = f"uncached over cached at {LENGTHS[0]} tokens, least of all architectures ({least})"
    result.goals.append(Goal(text, gain.median, 1.0, "at least", gain.low, gain.high))
    columns = ("architecture", "new tokens", "cached, ms a token min / median", "uncached", "uncached / cached")
    result.tables.append(Table("generate(), fp32, E 4, d 128, 2 layers, prompt 16, one thread", columns, rows))
    return result


def _gain(timings: Timings, architecture: str) -> Ratio:
    return timings.ratio(_name(architecture, LENGTHS[0], False), _name(architecture, LENGTHS[0], True))


def _name(architecture: str, length: int, cached: bool) -> str:
    return f"{architecture}, {length} tokens, {'cached' if cached else 'uncached'}"
