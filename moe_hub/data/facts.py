"""What a form shows about the data while a config is edited: vocabulary, tokens, batches. Quick, and without torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from moe_hub.config import Config, DataConfig, ModelConfig, parse_mixture
from moe_hub.data import cache
from moe_hub.data.corpus import corpus_of_entry, key_parts, open_sources, tokenizer_kind
from moe_hub.data.file_kind import CHUNK, Reading, decoded_chunks
from moe_hub.data.formats import Document
from moe_hub.data.lambda_source import LambdaSource
from moe_hub.data.packing import Packing
from moe_hub.data.pretrained import pretrained_folder
from moe_hub.data.row_source import RowSource
from moe_hub.data.row_stream import cut
from moe_hub.data.shape import shape_of
from moe_hub.data.source import Source
from moe_hub.data.text_source import TextSource
from moe_hub.data.tokenizer import SPECIAL_TOKENS, PretrainedTokenizer
from moe_hub.errors import DataError
from moe_hub.lambda_calculus.tasks import make_sample
from moe_hub.lambda_calculus.vocabulary import TOKENS

SAMPLE_ROWS = 200
SAMPLE_TASKS = 60
SAMPLE_BYTES = 4 << 20  # of a file of rows that are read for an estimate
QUICK_BYTES = 32 << 20  # a file up to this size is hashed and searched for characters while a form waits
CHARACTERS_PER_BPE_TOKEN = 3.5
BYTE_VOCABULARY = len(SPECIAL_TOKENS) + 256

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """`exact` where the tokens are in the cache already; else from a sample of the data, as `note` says."""

    vocab_size: int
    tokens_per_epoch: int
    batches_per_epoch: int
    exact: bool
    note: str


def vocab_size(data: DataConfig) -> int:
    """Tokens of the vocabulary that a data section leads to; raises `DataError`.

    For a BPE it is what was asked for: small data may yield fewer.
    """
    sources = open_sources(Config(data=data, model=ModelConfig(max_seq_len=128)))
    return _vocab_size(data, tokenizer_kind(data, sources), sources)


def estimate(config: Config, *, cache_dir: Path | None = None) -> Estimate:
    """Vocabulary, tokens and batches of an epoch; raises `DataError` for data that cannot be used."""
    root = cache_dir or cache.default_cache_dir()
    sources = open_sources(config)
    kind = tokenizer_kind(config.data, sources)
    known = _exact(config, sources, kind, root)
    if known:
        return known
    vocabulary = _vocab_size(config.data, kind, sources)
    if any(isinstance(source, RowSource) and source.path is None for source in sources):
        return Estimate(vocabulary, 0, 0, False, "known once the Hub dataset has been read")
    each = [_tokens_and_fill(config, source, kind) for source in sources]
    width, rows = config.model.max_seq_len, sum(tokens / fill for tokens, fill in each) / config.model.max_seq_len
    shares = [part.weight for part in parse_mixture(config.data.mixture or "")] if len(sources) > 1 else [1.0]
    tokens = rows * width * sum(share * fill for share, (_, fill) in zip(shares, each, strict=True))
    batches = max(1, math.ceil(rows / config.train.batch_size))
    return Estimate(vocabulary, round(tokens), batches, False, "estimated from a sample; exact once prepared")


def cache_outlook(config: Config, *, cache_dir: Path | None = None) -> str:
    """One line: whether the tokens of a config are in the cache, and why not; raises `DataError`.

    Empty for the Hub, whose revision would have to be asked for.
    """
    root = cache_dir or cache.default_cache_dir()
    sources = open_sources(config)
    if any(isinstance(source, RowSource) and source.path is None for source in sources):
        return ""
    if _is_slow_to_hash(sources, root):
        return "Hit or miss is known once the file has been hashed: Prepare tokens does that."
    hit, reason = cache.outlook(root, key_parts(config.data, sources, tokenizer_kind(config.data, sources), root))
    return f"Training on this would be a {'hit' if hit else 'miss'}: {reason}."


def _is_slow_to_hash(sources: list[Source], root: Path) -> bool:
    files = [source.path for source in sources if isinstance(source, TextSource)]
    files += [source.path for source in sources if isinstance(source, RowSource) and source.path]
    return any(path.stat().st_size > QUICK_BYTES and not cache.is_remembered(path, root) for path in files)


def _exact(config: Config, sources: list[Source], kind: str, root: Path) -> Estimate | None:
    """What the cache knows; None where that would take long to find out, or is not there."""
    if _is_slow_to_hash(sources, root):
        return None
    if any(isinstance(source, RowSource) and source.path is None for source in sources):
        return None  # a Hub dataset: its revision is asked of the Hub
    entry = cache.find(root, key_parts(config.data, sources, kind, root))
    if entry is None:
        return None
    of_shape = (config.data.model_dump_json(), config.model.max_seq_len, config.train.batch_size, config.seed)
    return _shape_estimate(entry.folder, of_shape, _Unhashed(config))


@dataclass(frozen=True)
class _Unhashed:
    """A value that is no part of the key of a memory: what matters of it stands beside it in the key."""

    value: Any

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unhashed)


@lru_cache(64)
def _shape_estimate(folder: Path, of_shape: tuple[Any, ...], unhashed: _Unhashed) -> Estimate:
    corpus = corpus_of_entry(unhashed.value, folder)
    batches = shape_of(unhashed.value, corpus).batches
    return Estimate(corpus.tokenizer.vocab_size, batches.epochs.num_tokens, batches.per_epoch, True, "from the cache")


def _vocab_size(data: DataConfig, kind: str, sources: list[Source]) -> int:
    if kind == "lambda":
        return len(TOKENS)
    if kind == "bytes":
        return BYTE_VOCABULARY
    if kind == "bpe":
        return data.bpe_vocab_size
    if kind == "pretrained":
        return _pretrained_size(str(pretrained_folder(data.tokenizer_path or "", offline=True)))
    found: set[str] = set()
    for source in sources:
        found |= _characters(source)
    return len(SPECIAL_TOKENS) + len(found)


@lru_cache(16)
def _pretrained_size(folder: str) -> int:
    return PretrainedTokenizer(Path(folder)).vocab_size


def _characters(source: Source) -> frozenset[str]:
    if isinstance(source, LambdaSource):
        return frozenset(source.characters())
    if isinstance(source, TextSource):
        stat = source.path.stat()
        return _characters_of_file(source.path, stat.st_size, stat.st_mtime_ns)
    assert isinstance(source, RowSource), "there are three kinds of sources"
    return frozenset().union(*(document.text for document in _first_rows(source)))


@lru_cache(16)
def _characters_of_file(path: Path, size: int, changed: int) -> frozenset[str]:
    found: set[str] = set()
    for chunk in islice(decoded_chunks(path, Reading()), QUICK_BYTES // CHUNK):
        found.update(chunk)
    return frozenset(found)


def _first_rows(source: RowSource) -> list[Document]:
    return [item for item in islice(source.documents(Reading()), SAMPLE_ROWS) if isinstance(item, Document)]


def _tokens_and_fill(config: Config, source: Source, kind: str) -> tuple[float, float]:
    """Training tokens of an epoch, and the share of a row that is filled."""
    width = config.model.max_seq_len
    if isinstance(source, TextSource):
        size = source.path.stat().st_size * (1 - source.eval_fraction)
        return size / (CHARACTERS_PER_BPE_TOKEN if kind in ("bpe", "pretrained") else 1), 1.0
    if isinstance(source, LambdaSource):
        lengths = np.array(list(_task_lengths(source, kind)), np.int64)
        count = float(source.num_train)
    else:
        assert isinstance(source, RowSource), "there are three kinds of sources"
        lengths, count = _row_lengths(source, kind)
    begins = np.cumsum(lengths) - lengths
    first, last = cut(begins, begins + lengths, width)
    # Many copies of the sample: in a small one the last rows would be emptier than in the whole data.
    packing = Packing(np.repeat(last - first, 50), width)
    return float(lengths.mean() * count), float((last - first).sum() * 50 / (packing.num_rows * width))


def _task_lengths(source: LambdaSource, kind: str) -> Iterator[int]:
    for index in range(min(SAMPLE_TASKS, source.num_train)):
        sample = make_sample(source.settings, "train", source.seed, index)
        text = f"{sample.prompt} {sample.answer}"
        yield len(text.split()) + 2 if kind == "lambda" else _tokens_of(text, kind)


def _row_lengths(source: RowSource, kind: str) -> tuple[Ints, float]:
    """Tokens of the first rows, and how many rows are trained on."""
    assert source.path is not None, "a Hub dataset is not estimated"
    stat = source.path.stat()
    lengths, rows = _first_lengths(
        _Unhashed(source), source.label, stat.st_mtime_ns, source.data.model_dump_json(), kind
    )
    return lengths, min(rows * (1 - source.data.eval_fraction), source.data.num_train_samples or math.inf)


@lru_cache(16)
def _first_lengths(unhashed: _Unhashed, label: str, changed: int, options: str, kind: str) -> tuple[Ints, float]:
    source, reading = unhashed.value, Reading()
    lengths: list[int] = []
    for item in source.documents(reading):
        if isinstance(item, Document):
            lengths.append(_tokens_of(item.text, kind))
        if reading.bytes_read > SAMPLE_BYTES:
            break
    else:
        reading.bytes_read = source.size
    if not lengths:
        raise DataError(f"{label}: no row in its first {SAMPLE_BYTES >> 20} MiB can be used; look at it with inspect")
    return np.array(lengths, np.int64), len(lengths) * source.size / reading.bytes_read


def _tokens_of(text: str, kind: str) -> int:
    size = len(text) if kind == "characters" else len(text.encode())
    return 2 + round(size / (CHARACTERS_PER_BPE_TOKEN if kind in ("bpe", "pretrained") else 1))
