"""Several checkpoints on the same held-out data: one set, the same documents for all, each in its own tokens.

Checkpoints whose vocabularies are equal read the very same token ids, so that loss and perplexity compare. Where they
differ, the same documents are tokenised for each; then bits per byte and exact match compare, and the loss does not.
Results lie in `evaluations/` of each run, by checkpoint and data; torch is only imported where one is missing.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_hub.config import Config
from moe_hub.data.corpus import Corpus, open_corpus
from moe_hub.data.row_stream import longer_samples
from moe_hub.data.tokenizer import Tokenizer, load_tokenizer
from moe_hub.errors import ConfigError, DataError, RunError
from moe_hub.runs.files import replace_file

CACHE_FOLDER = "evaluations"
VERSION = 1  # of the numbers; another one makes them anew
MOST_DOCUMENTS = 4096
BATCH_SIZE = 32
WEIGHTS = "model.safetensors"

Progress = Callable[[str], None]
Mask = npt.NDArray[np.bool_]
Interval = tuple[float, float | None, float | None]


@dataclass(frozen=True)
class Entrant:
    """A checkpoint with the data as it reads it. `mask`: the documents that all entrants can read whole."""

    folder: Path
    config: Config
    corpus: Corpus
    same_tokens: bool
    mask: Mask


def compare_on(
    folders: Sequence[Path], reference: Config, *, progress: Progress = lambda _text: None
) -> Iterator[dict[str, Any]]:
    """The scores of each checkpoint on the held-out data of `reference`, one after another; raises a `MoeHubError`."""
    for entrant in _entrants(folders, reference, progress):
        place, key = _place(entrant)
        scores = _kept(place, key)
        cached = scores is not None
        if scores is None:
            from moe_hub.evaluate.scores import score

            progress(f"evaluating {entrant.folder.parent.parent.name} {entrant.folder.name}")
            scores = score(entrant.folder, entrant.config, entrant.corpus, entrant.mask)
            _keep(place, key, scores)
        yield {"checkpoint": str(entrant.folder), "same_tokens": entrant.same_tokens, "cached": cached, **scores}


def summary(results: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per checkpoint: loss, perplexity, bits per byte, each with a 95 % interval over rows, and how far from the first.

    `loss` and `perplexity` are None where the checkpoints read different tokens: they would not compare.
    """
    comparable = all(each["same_tokens"] for each in results)
    first = results[0]["rows"]
    lines = []
    for each in results:
        rows = each["rows"]
        tokens, nll = np.array(rows["tokens"], float), np.array(rows["nll"], float)
        loss = _ratio(nll, tokens) if comparable else None
        bits = _ratio(nll / math.log(2), np.array(rows["bytes"], float))
        difference = (
            _ratio(nll - np.array(first["nll"], float), tokens) if comparable and each is not results[0] else None
        )
        lines.append(
            {
                "checkpoint": each["checkpoint"],
                "loss": loss,
                "perplexity": [None if each is None else math.exp(min(each, 700.0)) for each in loss] if loss else None,
                "bits_per_byte": bits,
                "loss_minus_first": difference,
                "token_accuracy": sum(rows["right"]) / max(1.0, tokens.sum()) if comparable else None,
                "exact_match": each["exact_match"],
                "tokens": int(tokens.sum()),
                "bytes": int(sum(rows["bytes"])),
                "rows": len(tokens),
                "samples": each["samples"],
                "cached": each["cached"],
            }
        )
    return lines


def _ratio(top: npt.NDArray[Any], bottom: npt.NDArray[Any]) -> Interval:
    """(value, low, high) of sum(top) / sum(bottom), with the 95 % interval of a ratio over rows, None for one row.

    Cochran, Sampling Techniques (1977), 6.3, without the correction for a finite population.
    """
    total = max(1.0, float(bottom.sum()))
    value, count = float(top.sum()) / total, len(top)
    if count < 2:
        return value, None, None
    spread = 1.96 * math.sqrt(float(np.square(top - value * bottom).sum()) * count / (count - 1)) / total
    return value, value - spread, value + spread


def _entrants(folders: Sequence[Path], reference: Config, progress: Progress) -> list[Entrant]:
    tokenizers = [load_tokenizer(_checked(folder)) for folder in folders]
    config = _narrowed(reference, min(_longest(folder) for folder in folders))
    progress("reading the data")
    own = open_corpus(config)
    found = []
    for folder, tokenizer in zip(folders, tokenizers, strict=True):
        if _vocabulary(tokenizer) == _vocabulary(own.tokenizer):
            found.append((folder, config, own, True))
            continue
        progress(f"reading the data in the tokens of {folder.parent.parent.name}")
        other = _in_tokens_of(config, folder)
        corpus = open_corpus(other)
        _refuse_unknown(corpus, tokenizer, folder)
        found.append((folder, other, corpus, False))
    mask = _common_mask([corpus for _, _, corpus, _ in found], config.model.max_seq_len)
    equal = len({json.dumps(sorted(_vocabulary(each).items())) for each in tokenizers}) == 1
    return [Entrant(folder, each, corpus, equal, mask) for folder, each, corpus, _ in found]


def _checked(folder: Path) -> Path:
    missing = [name for name in ("config.json", WEIGHTS, "tokenizer.json") if not (folder / name).is_file()]
    if missing:
        raise RunError(
            f"checkpoint {folder} has no {missing[0]}; take a folder like runs/RUN_ID/checkpoints/step_00000600"
        )
    return folder


def _longest(folder: Path) -> int:
    return int(json.loads((folder / "config.json").read_text())["max_position_embeddings"])


def _vocabulary(tokenizer: Tokenizer) -> dict[str, int]:
    found: dict[str, int] = tokenizer.backend.get_vocab(with_added_tokens=True)
    return found


def _narrowed(reference: Config, longest: int) -> Config:
    """The config whose rows every checkpoint can read; what does not fit is left out for all of them."""
    width = min(reference.model.max_seq_len, longest)
    return reference.model_copy(
        update={
            "model": reference.model.model_copy(update={"max_seq_len": width}),
            "train": reference.train.model_copy(update={"batch_size": BATCH_SIZE}),
            "data": reference.data.model_copy(update={"too_long": "drop"}),
        }
    )


def _in_tokens_of(config: Config, folder: Path) -> Config:
    own = {"tokenizer": "pretrained", "tokenizer_path": str(folder.resolve())}
    return config.model_copy(update={"data": config.data.model_copy(update=own)})


def _refuse_unknown(corpus: Corpus, tokenizer: Tokenizer, folder: Path) -> None:
    """A word that a tokenizer does not know has no probability, so there is nothing to compare."""
    unknown = _vocabulary(tokenizer).get("<unk>")
    if unknown is None:
        return
    store = corpus.store
    held_out = np.flatnonzero(store.held_out == 1)[:MOST_DOCUMENTS]
    ids = np.concatenate([store.ids[store.begins[d] : store.ends[d]] for d in held_out] or [np.empty(0, np.uint8)])
    count = int((ids == unknown).sum())
    if count:
        raise ConfigError(
            f"checkpoint {folder.parent.parent.name}/{folder.name} cannot read this data: its tokenizer does not know "
            f"{count:,} of {len(ids):,} held-out tokens; choose data that all of them can read"
        )


def _common_mask(corpora: Sequence[Corpus], width: int) -> Mask:
    stores = [corpus.store for corpus in corpora]
    if len({len(store.ends) for store in stores}) != 1:
        raise DataError("the data splits into different documents for these tokenizers; choose other evaluation data")
    mask: Mask = stores[0].held_out == 1
    for store in stores:
        mask &= ~longer_samples(store, width)
    chosen = np.flatnonzero(mask)
    if not len(chosen):
        raise DataError(f"no held-out document is short enough ({width} tokens) for all of these checkpoints")
    mask[chosen[MOST_DOCUMENTS:]] = False
    return mask


def _place(entrant: Entrant) -> tuple[Path | None, str]:
    """Where the scores are kept, None outside a run; and a key of all that decides them."""
    weights = (entrant.folder / WEIGHTS).stat()
    parts = [VERSION, weights.st_size, weights.st_mtime_ns, entrant.corpus.facts["cache_key"], MOST_DOCUMENTS]
    parts += [entrant.config.model.max_seq_len, hashlib.sha256(entrant.mask.tobytes()).hexdigest()]
    key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
    if entrant.folder.parent.name != "checkpoints":
        return None, key
    return entrant.folder.parent.parent / CACHE_FOLDER / f"{entrant.folder.name}-{key}.json", key


def _kept(place: Path | None, key: str) -> dict[str, Any] | None:
    try:
        kept = json.loads(place.read_text()) if place else None
    except (OSError, ValueError):
        return None
    return kept["scores"] if isinstance(kept, dict) and kept.get("key") == key else None


def _keep(place: Path | None, key: str, scores: dict[str, Any]) -> None:
    """Keeps the scores; a folder that cannot be written only means that they are made again."""
    if place is None:
        return
    try:
        place.parent.mkdir(exist_ok=True)
        replace_file(place, json.dumps({"key": key, "scores": scores}).encode(), sync=False)
    except OSError:
        return
