"""Evaluation: loss and perplexity on held-out tokens, exact match of whole answers, both by reasoning phase.

Exact match is read from the arg max at every position given the true text before it. If all of an answer's tokens are
right there, greedy decoding writes exactly that answer, and if one is wrong it does not: the two are the same number,
and this one needs one forward pass.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from moe_hub.data.batch import Batch
from moe_hub.data.prepare import TaskBatch
from moe_hub.models.language_model import PHASES, LanguageModel
from moe_hub.models.rotation import phase_of_token
from moe_hub.ranks import ALONE, Ranks

Number = TypeVar("Number", int, float)


def wilson_interval(hits: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's 95 % score interval of a proportion (Wilson 1927)."""
    if trials == 0:
        return 0.0, 1.0
    share, zz = hits / trials, z * z / trials
    centre = (share + zz / 2) / (1 + zz)
    half = z / (1 + zz) * math.sqrt(share * (1 - share) / trials + zz / (4 * trials))
    return max(0.0, centre - half), min(1.0, centre + half)


@torch.no_grad()
def evaluate_loss(
    model: LanguageModel, batches: Sequence[Batch], ranks: Ranks = ALONE, turn: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """`val/loss` (nat per target token), `val/perplexity`, `val/token_accuracy`, and `lambda/loss/<phase>`.

    Several processes take the batches in turn; all get the result. `turn` is called before each batch.
    """
    nll: dict[str, float] = defaultdict(float)
    count: dict[str, int] = defaultdict(int)
    for each_batch, counts in ranks.turns(batches):
        turn()
        batch = each_batch.to(model.device)
        logits = model(input_ids=batch.input_ids_BT, documents=batch.documents_BT).logits[:, :-1]
        if not counts:
            continue
        target = batch.labels_BT[:, 1:]
        each = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), target.flatten(), ignore_index=-100, reduction="none"
        ).view_as(target)
        kept = target != -100
        count["right"] += int(((logits.argmax(-1) == target) & kept).sum())
        for name, mask in {"all": kept, **_by_phase(model, batch, kept)}.items():
            nll[name] += float(each[mask].sum())
            count[name] += int(mask.sum())
    nll, count = _added(ranks, nll), _added(ranks, count)
    result = {f"lambda/loss/{phase}": nll[phase] / count[phase] for phase in PHASES if count[phase]}
    if count["all"]:
        loss = nll["all"] / count["all"]
        result |= {
            "val/loss": loss,
            "val/perplexity": math.exp(min(loss, 700.0)),
            "val/token_accuracy": count["right"] / count["all"],
        }
    return result


@torch.no_grad()
def evaluate_exact_match(
    model: LanguageModel, batches: Sequence[TaskBatch], ranks: Ranks = ALONE, turn: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """`val/exact_match` with its interval, by number of reduction steps, and `lambda/exact_match/<phase>`.

    For samples in segments the answer is all that is to be written up to the end of the semantic segment: the text
    that explains it afterwards counts in its own phase only. A phase counts as right when all its tokens are, given
    the true text before. `ranks` and `turn` as in `evaluate_loss`.
    """
    hits: dict[str, int] = defaultdict(int)
    trials: dict[str, int] = defaultdict(int)
    for task, counts in ranks.turns(batches):
        turn()
        batch, steps = task.batch.to(model.device), task.steps
        logits = model(input_ids=batch.input_ids_BT, documents=batch.documents_BT).logits[:, :-1]
        if not counts:
            continue
        target = batch.labels_BT[:, 1:]
        kept = target != -100
        wrong = (logits.argmax(-1) != target) & kept
        phases = _by_phase(model, batch, kept)
        answer = kept & ~phases["pedagogical"] if phases else kept
        exact = ~(wrong & answer).any(1)
        for row, k in enumerate(steps.tolist()):
            for name in ("all", f"k{k}") if k >= 0 else ("all",):
                trials[name] += 1
                hits[name] += int(exact[row])
        for phase, mask in phases.items():
            present = mask.any(1)
            trials[phase] += int(present.sum())
            hits[phase] += int((present & ~(wrong & mask).any(1)).sum())
    return _match_metrics(_added(ranks, hits), _added(ranks, trials))


def _added(ranks: Ranks, own: dict[str, Number]) -> dict[str, Number]:
    """Sums over the processes by name; a name that none has counts 0."""
    total: dict[str, Any] = defaultdict(int)
    for each in ranks.gather(dict(own)):
        for name, value in each.items():
            total[name] += value
    return total


def _match_metrics(hits: dict[str, int], trials: dict[str, int]) -> dict[str, float]:
    if not trials["all"]:
        return {}
    low, high = wilson_interval(hits["all"], trials["all"])
    result = {
        "val/exact_match": hits["all"] / trials["all"],
        "val/exact_match_ci_low": low,
        "val/exact_match_ci_high": high,
    }
    for name in sorted(name for name, count in trials.items() if count):  # a phase that no sample has is no number
        share = hits[name] / trials[name]
        if name in PHASES:
            result[f"lambda/exact_match/{name}"] = share
        elif name != "all":
            result[f"val/exact_match/{name[1:]}"] = share
    return result


def _by_phase(model: LanguageModel, batch: Batch, kept: Tensor) -> dict[str, Tensor]:
    """Mask (B, T - 1) of the target tokens of each phase; empty where the data has no segments.

    A marker is written by the phase before it (the model must decide to go on), so targets carry the phase of the
    token that predicts them.
    """
    markers = tuple(model.config.phase_marker_ids)
    if not markers:
        return {}
    phase = phase_of_token(batch.input_ids_BT, markers, model.config.bos_token_id)[:, :-1]
    return {name: kept & (phase == index) for index, name in enumerate(PHASES)}
