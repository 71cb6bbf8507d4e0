"""The evaluation of one checkpoint, as JSON-able values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from moe_hub.config import Config
from moe_hub.data import cache
from moe_hub.data.corpus import key_parts, open_sources, tokenizer_kind
from moe_hub.data.lambda_source import distinct, held_out_settings
from moe_hub.data.prepare import TrainingData, open_data
from moe_hub.errors import ConfigError
from moe_hub.evaluate.data_of import config_of_data, described
from moe_hub.evaluate.tasks import answer_tasks
from moe_hub.inference import Loaded, load_checkpoint
from moe_hub.lambda_calculus.tasks import Sample, draw_sample
from moe_hub.train.evaluation import evaluate_exact_match, evaluate_loss


def evaluate_checkpoint(
    folder: Path,
    data: str | None = None,
    overrides: Sequence[str] = (),
    *,
    num_tasks: int = 2000,
    ood: Sequence[str] = (),
    batch_size: int = 128,
    progress: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Loss, perplexity, exact match and, for lambda tasks, the judged answers; raises a `MoeHubError`.

    `data` is `lambda`, a file, or None for what the checkpoint was trained on; `overrides` change `data.` keys. Each
    set of `ood` is answered too.
    """
    loaded = load_checkpoint(folder)
    config = config_of_data(folder, data, overrides)
    progress("reading the data")
    opened = open_data(without_training_tasks(config))
    _require_same_tokens(loaded, opened, folder)
    progress("loss")
    with torch.no_grad():
        found = evaluate_loss(loaded.model, opened.eval_batches(None))
        found |= evaluate_exact_match(loaded.model, opened.task_batches(None))
    result: dict[str, Any] = {"checkpoint": str(folder), "data": described(config)}
    result |= {name.removeprefix("val/"): value for name, value in found.items()}
    if config.data.source == "lambda":
        for name in (None, *ood):
            label = f"out of distribution: {name}" if name else "tasks"
            progress(f"{label}: drawing")
            samples = held_out_tasks(config, num_tasks, name)
            report = partial(_report, progress, label, len(samples))
            result[label] = answer_tasks(loaded, samples, batch_size=batch_size, progress=report).report()
    elif ood:
        raise ConfigError(f"--ood {' '.join(ood)}: these sets belong to generated tasks, not to {described(config)}")
    return result


def without_training_tasks(config: Config) -> Config:
    """The config with a single training task, where its data would have to be generated: held-out ones are the same.

    A tokenizer that is trained on the tasks needs them all.
    """
    if config.data.source != "lambda" or config.data.tokenizer not in ("auto", "lambda"):
        return config
    sources, root = open_sources(config), cache.default_cache_dir()
    if cache.find(root, key_parts(config.data, sources, tokenizer_kind(config.data, sources), root)) is not None:
        return config
    return config.model_copy(update={"data": config.data.model_copy(update={"num_train_samples": 1})})


def _report(progress: Callable[[str], None], label: str, total: int, done: int) -> None:
    progress(f"{label}: {done} of {total} answered")


def held_out_tasks(config: Config, count: int, ood: str | None = None) -> list[Sample]:
    """Different tasks that no training sample is: `count` of them, or what `4 count` draws find.

    `ood` is one of the out-of-distribution sets; None is what `data.lambda_held_out` says. Raises `ConfigError`.
    """
    data = config.data
    if ood is not None:
        data = data.model_copy(update={"lambda_held_out": ood})
    settings, split = held_out_settings(data, config.model.max_seq_len)
    drawn = (draw_sample(settings, split, data.lambda_seed, index) for index in range(4 * count))
    return list(islice(distinct(drawn), count))


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
