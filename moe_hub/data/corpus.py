"""From a config to tokens on disk: opens the sources, makes the tokenizer, fills the cache. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from moe_hub.config import Config, DataConfig
from moe_hub.config.data import mixture_parts
from moe_hub.data import cache
from moe_hub.data.cache import Found, default_cache_dir, open_or_build
from moe_hub.data.file_kind import kind_of
from moe_hub.data.lambda_source import LambdaSource
from moe_hub.data.pretrained import pretrained_folder, pretrained_key
from moe_hub.data.row_source import RowSource, file_rows, hold_out_everywhere
from moe_hub.data.source import Progress, Source
from moe_hub.data.text_source import TextSource
from moe_hub.data.token_store import TokenStore, TokenWriter
from moe_hub.data.tokenizer import (
    TEXT_ALONE,
    PretrainedTokenizer,
    Tokenizer,
    byte_tokenizer,
    character_tokenizer,
    lambda_tokenizer,
    load_tokenizer,
    train_bpe,
)

TOKENIZER_TEXT = 30_000_000  # characters that a BPE is trained on; more hardly changes it


@dataclass(frozen=True)
class Corpus:
    """Tokenised documents and their tokenizer. `weights`: share of the rows of each source. `facts` are JSON-able."""

    store: TokenStore
    tokenizer: Tokenizer
    weights: tuple[float, ...]
    facts: dict[str, Any]


def open_corpus(config: Config, *, cache_dir: Path | None = None, progress: Progress | None = None) -> Corpus:
    """The tokens for a config, from the cache or prepared now.

    `progress(what, share)` is called while preparing; an exception from it cancels and leaves nothing behind.
    Raises `DataError` for data that cannot be used.
    """
    root = cache_dir or default_cache_dir()
    tell = progress or (lambda what, share: None)
    sources = open_sources(config)
    kind = tokenizer_kind(config.data, sources)
    found = open_or_build(
        root,
        key_parts(config.data, sources, kind, root),
        lambda folder: _build(folder, config.data, sources, kind, tell),
    )
    return replace(corpus_of_entry(config, found.entry.folder), facts=_with_cache(found))


def corpus_of_entry(config: Config, folder: Path) -> Corpus:
    """The corpus whose tokens lie in an entry of the cache."""
    data = config.data
    parts = mixture_parts(data)
    facts = cache.facts_of(folder)
    return Corpus(
        TokenStore.open(folder),
        load_tokenizer(folder / "tokenizer", facts["tokenizer"]),
        tuple(part.weight for part in parts) or (1.0,),
        facts,
    )


def open_sources(config: Config) -> list[Source]:
    """The sources of a config, in order; looks at the kind of each file, reads no rows."""
    data = config.data
    if data.source != "mixture":
        return [_open_source(data, config.model.max_seq_len)]
    parts = mixture_parts(data)
    place = {"file": "path", "hub": "name"}
    return [
        _open_source(
            data.model_copy(update={"source": part.source, **({place[part.source]: part.place} if part.place else {})}),
            config.model.max_seq_len,
        )
        for part in parts
    ]


def _open_source(data: DataConfig, max_seq_len: int) -> Source:
    if data.source == "lambda":
        return LambdaSource(data, max_seq_len)
    if data.source == "hub":
        from moe_hub.data.hub import hub_rows

        return hub_rows(data)
    path = Path(data.path or "").expanduser()
    kind = kind_of(path)
    return TextSource(path, data) if kind == "text" else file_rows(path, kind, data)


def tokenizer_kind(data: DataConfig, sources: list[Source]) -> str:
    """The tokenizer that `auto` stands for."""
    if data.tokenizer != "auto":
        return data.tokenizer
    if data.source == "lambda":
        return "lambda"
    return "characters" if all(source.plain_text for source in sources) else "bytes"


def key_parts(data: DataConfig, sources: list[Source], kind: str, root: Path) -> dict[str, str]:
    """What the key of the cache is made of."""
    parts = {"tokenizer": kind}
    if kind == "bpe":
        parts["bpe_vocab_size"] = str(data.bpe_vocab_size)
    elif kind == "pretrained":
        parts |= pretrained_key(data.tokenizer_path or "")
    if len(sources) == 1:
        return parts | sources[0].key_parts(root)
    for number, source in enumerate(sources):
        parts |= {f"{number}.{name}": value for name, value in source.key_parts(root).items()}
    return {"source": "mixture", **parts}


def _build(folder: Path, data: DataConfig, sources: list[Source], kind: str, progress: Progress) -> dict[str, Any]:
    facts = [{"source": source.label, **source.survey(progress)} for source in sources]
    hold_out_everywhere([source for source in sources if isinstance(source, RowSource)])
    tokenizer = _make_tokenizer(data, sources, kind, progress)
    writer = TokenWriter(folder, tokenizer.vocab_size)
    try:
        for number, source in enumerate(sources):
            facts[number] |= source.write(writer, tokenizer, number, progress)
        writer.finish()
    finally:
        writer.close()
    tokenizer.save(folder / "tokenizer")
    merged = facts[0] if len(facts) == 1 else {"source": "mixture", "sources": facts}
    return merged | {
        "tokenizer": kind,
        "vocab_size": tokenizer.vocab_size,
        "stored_tokens": writer.position,
        "unigram_entropy": writer.unigram_entropy(),
        "generation_template": generation_template(sources),
    }


def generation_template(sources: list[Source]) -> str:
    """What stands around a person's text (`{prompt}`) so that it looks as the data's prompts did in training.

    Of a mixture it is that of the one source with answers; where there are several, none is right: `{prompt}` alone.
    """
    found = {source.generation_template for source in sources} - {TEXT_ALONE}
    return found.pop() if len(found) == 1 else TEXT_ALONE


def _make_tokenizer(data: DataConfig, sources: list[Source], kind: str, progress: Progress) -> Tokenizer:
    if kind == "lambda":
        return lambda_tokenizer()
    if kind == "bytes":
        return byte_tokenizer()
    if kind == "characters":
        return character_tokenizer(set().union(*(source.characters() for source in sources)))
    if kind == "pretrained":
        return PretrainedTokenizer(pretrained_folder(data.tokenizer_path or ""))
    progress("Training the BPE", 0.0)
    return train_bpe(_texts_for_training(sources), data.bpe_vocab_size)


def _texts_for_training(sources: list[Source]) -> Iterator[str]:
    """Texts from all over the sources, about `TOKENIZER_TEXT` characters of them."""
    step = max(1, sum(source.text_length for source in sources) // TOKENIZER_TEXT)
    for source in sources:
        yield from islice(source.training_texts(), 0, None, step)


def _with_cache(found: Found) -> dict[str, Any]:
    return found.entry.facts | {
        "cache_hit": found.hit,
        "cache_reason": found.reason,
        "cache_key": found.entry.key,
        "cache_bytes": found.entry.size,
        "cache_seconds": round(found.seconds, 3),
    }
