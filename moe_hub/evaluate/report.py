"""The evaluation of one checkpoint, as JSON-able values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from moe_hub.config import Config
from moe_hub.data.prepare import TrainingData, open_data
from moe_hub.errors import ConfigError
from moe_hub.evaluate.data_of import SPLIT, config_of_data, described
from moe_hub.evaluate.tasks import answer_tasks
from moe_hub.inference import Loaded, load_checkpoint
from moe_hub.lambda_calculus.tasks import Sample, TaskSettings, make_sample
from moe_hub.train.evaluation import evaluate_exact_match, evaluate_loss


def evaluate_checkpoint(
    folder: Path,
    data: str | None = None,
    overrides: Sequence[str] = (),
    *,
    num_tasks: int = 2000,
    batch_size: int = 128,
    progress: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Loss, perplexity, exact match and, for lambda tasks, the judged answers; raises a `MoeHubError`.

    `data` is `lambda`, a file, or None for what the checkpoint was trained on; `overrides` change `data.` keys.
    """
    loaded = load_checkpoint(folder)
    config = config_of_data(folder, data, overrides)
    progress("reading the data")
    opened = open_data(config)
    _require_same_tokens(loaded, opened, folder)
    progress("loss")
    with torch.no_grad():
        found = evaluate_loss(loaded.model, opened.eval_batches(None))
        found |= evaluate_exact_match(loaded.model, opened.task_batches(None))
    result: dict[str, Any] = {"checkpoint": str(folder), "data": described(config)}
    result |= {name.removeprefix("val/"): value for name, value in found.items()}
    if config.data.source == "lambda":
        samples = held_out_tasks(config, num_tasks)
        tally = answer_tasks(
            loaded, samples, batch_size=batch_size, progress=lambda n: progress(f"answers: {n} of {len(samples)}")
        )
        result["tasks"] = tally.report()
    return result


def held_out_tasks(config: Config, count: int) -> list[Sample]:
    """Tasks of the test split with different terms: `count` of them, or what `4 count` draws find.

    Small terms are few, and one that is drawn twice must not count twice in an interval.
    """
    data = config.data
    settings = TaskSettings(
        levels=data.levels,
        min_size=data.min_term_size,
        max_size=data.max_term_size,
        layout=data.layout,
        max_tokens=config.model.max_seq_len - 2,  # <bos> and <eos>
    )
    found: dict[tuple[int, str], Sample] = {}
    for index in range(4 * count):
        sample = make_sample(settings, SPLIT, data.lambda_seed, index)
        found.setdefault((sample.level, sample.term), sample)
        if len(found) == count:
            break
    return list(found.values())


def _require_same_tokens(loaded: Loaded, opened: TrainingData, folder: Path) -> None:
    """Another file can have other characters: their ids would mean other things to the model."""
    known = loaded.tokenizer.get_vocab()
    given = opened.tokenizer.backend.get_vocab(with_added_tokens=True)
    if known != given:
        extra = sorted(set(given) - set(known))[:3]
        raise ConfigError(
            f"the data's tokenizer is not that of {folder}: {len(given)} tokens against {len(known)}"
            + (f", new are {extra}" if extra else "")
            + "; evaluate on data with the same tokenizer (data.tokenizer=bytes always fits itself)"
        )
