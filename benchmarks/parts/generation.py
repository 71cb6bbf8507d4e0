"""Generation by `generate()` with and without the key-value cache, greedy, one sequence, one thread."""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks.options import Options
from benchmarks.report import Goal, PartResult, Table, milliseconds, times
from benchmarks.timing import Built, Contender, measure
from benchmarks.training_step import Shape
from moe_hub.models import build_model

ARCHITECTURES = ("dense", "topk", "gnn", "hgnn", "orthogonal", "ghost", "geometric")
PROMPT = 16
LENGTHS = (64, 240)
SHAPE = Shape(experts=4, length=256)


def build(architecture: str, use_cache: bool, new_tokens: int) -> Built:
    """One call of `generate()` that always makes `new_tokens` tokens."""
    config = SHAPE.config(architecture)
    model = build_model(config, vocab_size=SHAPE.vocab, pad_token_id=0).eval()
    prompt = next(replace(SHAPE, batch=1, length=PROMPT).batches()).input_ids_BT

    def step() -> torch.Tensor:
        found = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=new_tokens,
            do_sample=False,
            use_cache=use_cache,
        )
        assert isinstance(found, torch.Tensor)
        assert found.shape[1] == PROMPT + new_tokens
        return found

    return Built(step, {"new_tokens": new_tokens})


def run(options: Options) -> PartResult:
    """Milliseconds per token and how much the cache gains, for every architecture."""
    result = PartResult()
    rows: list[tuple[str, ...]] = []
    for architecture in ARCHITECTURES:
        contenders = [
            Contender(_name(length, cached), "benchmarks.parts.generation:build",
                      {"architecture": architecture, "use_cache": cached, "new_tokens": length})
            for length in LENGTHS
            for cached in (True, False)
        ]  # fmt: skip
        timings = measure(contenders, rounds=options.rounds(4), steps=1, warm_up=1, budget_s=options.budget_s(8))
        result.data[architecture] = timings.as_json()
        for length in LENGTHS:
            ratio = timings.ratio(_name(length, False), _name(length, True))
            cells = [
                milliseconds([value / length for value in timings.cpu_s[_name(length, cached)]])
                for cached in (True, False)
            ]
            rows.append((architecture, str(length), *cells, times(ratio)))
            text = f"{architecture}, {length} tokens, uncached over cached"
            result.goals.append(Goal(text, ratio.median, 1.0, "at least", ratio.low, ratio.high))
    columns = ("architecture", "new tokens", "cached, ms a token min / median", "uncached", "uncached / cached")
    result.tables.append(Table("generate(), fp32, E 4, d 128, 2 layers, prompt 16, one thread", columns, rows))
    return result


def _name(length: int, cached: bool) -> str:
    return f"{length} tokens, {'cached' if cached else 'uncached'}"
