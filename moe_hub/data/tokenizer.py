"""Tokenizers: words of the lambda calculus, bytes, characters, byte-level BPE, and any Hugging Face tokenizer.

Each is a `tokenizers.Tokenizer` underneath, and is saved as `tokenizer.json` with `tokenizer_config.json`, so that
`transformers.AutoTokenizer.from_pretrained(folder)` gives the same ids and the same text. Text is never read as a
special token (a row that says `<eos>` is five characters), except where a pretrained tokenizer says so itself.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend

from moe_hub.errors import DataError
from moe_hub.lambda_calculus.vocabulary import SPECIAL, TOKENS

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<unk>")
PHASE_MARKERS = ("<syn>", "<red>", "<sem>", "<ped>")
PRETRAINED_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.jinja",
)

PROMPT_FILE = "prompt_template.json"  # beside the tokenizer's files: how the data wrote its prompts
TEXT_ALONE = "{prompt}"

Ids = npt.NDArray[np.uint32]


class Tokenizer:
    """Text to ids and back. `pad_id`, `bos_id`, `eos_id` always exist; `phase_marker_ids` only for lambda tasks."""

    def __init__(self, kind: str, backend: Backend, config: dict[str, Any]) -> None:
        self.kind = kind
        self.generation_template = TEXT_ALONE  # what stood around prompts in the data that it is saved with
        self.backend = backend
        self.config = config
        backend.encode_special_tokens = bool(config.get("split_special_tokens", False))
        vocabulary = backend.get_vocab(with_added_tokens=True)
        self.vocab_size: int = max(vocabulary.values()) + 1
        self.eos_id = _special_id(vocabulary, config, "eos_token", "sep_token")
        self.bos_id = _special_id(vocabulary, config, "bos_token", "cls_token", "eos_token", "sep_token")
        self.pad_id = _special_id(vocabulary, config, "pad_token", "eos_token", "sep_token")
        markers = [vocabulary[token] for token in PHASE_MARKERS if token in vocabulary] if kind == "lambda" else []
        self.phase_marker_ids: tuple[int, ...] = tuple(markers)
        self._words = vocabulary if kind == "lambda" else {}
        self._of_code_point = _code_point_table(vocabulary) if kind == "characters" else None

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without <bos> and <eos>."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids, special tokens included."""
        text: str = self.backend.decode([int(i) for i in ids], skip_special_tokens=False)
        return text

    def encode_many(self, texts: Sequence[str]) -> list[Ids]:
        """As `encode` for each text, as arrays; bytes and characters by table, the others on all cores."""
        if self.kind == "bytes":
            return [np.frombuffer(t.encode(), np.uint8).astype(np.uint32) + len(SPECIAL_TOKENS) for t in texts]
        if self._of_code_point is not None:
            return [_look_up(self._of_code_point, text) for text in texts]
        if self._words:
            unknown = self._words["<unk>"]
            return [np.array([self._words.get(w, unknown) for w in t.split()], np.uint32) for t in texts]
        return [np.array(e.ids, np.uint32) for e in self.backend.encode_batch_fast(texts, add_special_tokens=False)]

    def begin_with_bos(self) -> None:
        """From now on what is saved puts <bos> before a text, as training did before every sample.

        So a prompt that another program tokenizes looks as it did in training. `encode` stays as it is.
        """
        template = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", self.bos_id)])
        self.backend.post_processor = template

    def save(self, folder: Path | str) -> None:
        """Writes Hugging Face tokenizer files into a folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.backend.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps(self.config, indent=2, ensure_ascii=False) + "\n")
        self._save_template(folder)

    def _save_template(self, folder: Path) -> None:
        text = json.dumps({"prompt_template": self.generation_template}, ensure_ascii=False)
        (folder / PROMPT_FILE).write_text(text + "\n", encoding="utf-8")


class PretrainedTokenizer(Tokenizer):
    """A Hugging Face tokenizer from a folder; saving copies its files as they are."""

    def __init__(self, folder: Path) -> None:
        super().__init__("pretrained", _read_backend(folder), _read_config(folder))
        self.folder = folder

    def begin_with_bos(self) -> None:
        """Nothing: its files say themselves what comes before a text."""

    def save(self, folder: Path | str) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name in PRETRAINED_FILES:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, Path(folder) / name)
        self._save_template(Path(folder))


def lambda_tokenizer() -> Tokenizer:
    """The tokenizer that ships with the hub: one id for each word of the generated tasks."""
    backend = Backend(models.WordLevel({token: i for i, token in enumerate(TOKENS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _finish("lambda", backend, SPECIAL)


def byte_tokenizer() -> Tokenizer:
    """UTF-8 bytes: id 4 + byte."""
    names = _byte_names()
    vocabulary = {token: i for i, token in enumerate((*SPECIAL_TOKENS, *names))}
    backend = Backend(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    return _finish("bytes", backend, SPECIAL_TOKENS)


def character_tokenizer(characters: Iterable[str]) -> Tokenizer:
    """One id for each Unicode character that occurs, in code point order after the special tokens."""
    tokens = (*SPECIAL_TOKENS, *sorted(set(characters)))
    backend = Backend(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return _finish("characters", backend, SPECIAL_TOKENS)


def train_bpe(texts: Iterator[str], vocab_size: int) -> Tokenizer:
    """Byte-level BPE (Sennrich et al. 2016; GPT-2's splitting into words) with at most `vocab_size` tokens."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return _finish("bpe", backend, SPECIAL_TOKENS)


def load_tokenizer(folder: Path | str, kind: str = "pretrained") -> Tokenizer:
    """The tokenizer whose files lie in a folder; raises `DataError`. `kind` brings back the fast way to encode."""
    folder = Path(folder)
    if kind == "pretrained":
        return PretrainedTokenizer(folder)
    return Tokenizer(kind, _read_backend(folder), _read_config(folder))


def generation_template_of(folder: Path) -> str:
    """What stood around prompts in the data of a checkpoint (`{prompt}` is the person's text); `{prompt}` alone where
    nothing did or nothing was kept."""
    try:
        template = json.loads((folder / PROMPT_FILE).read_text(encoding="utf-8"))["prompt_template"]
    except (OSError, ValueError, KeyError, TypeError):
        return TEXT_ALONE
    return template if isinstance(template, str) else TEXT_ALONE


def _finish(kind: str, backend: Backend, special: Sequence[str]) -> Tokenizer:
    backend.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **{f"{token[1:-1]}_token": token for token in SPECIAL_TOKENS},
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
        "model_max_length": 10**9,
    }
    return Tokenizer(kind, backend, config)


def _read_backend(folder: Path) -> Backend:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise DataError(
            f"tokenizer {folder}: no tokenizer.json in this folder; give the folder of a fast Hugging Face tokenizer "
            "(save one with tokenizer.save_pretrained(folder))"
        )
    try:
        return Backend.from_file(str(path))
    except Exception as error:  # the Rust side raises bare Exception
        raise DataError(f"tokenizer {path}: not a tokenizer file ({error}); save the tokenizer again") from None


def _read_config(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / name
        if not path.is_file():
            continue
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, OSError) as error:
            raise DataError(f"tokenizer {path}: not JSON ({error}); save the tokenizer again") from None
        config.update(found if isinstance(found, dict) else {})
    return config


def _special_id(vocabulary: dict[str, int], config: dict[str, Any], *names: str) -> int:
    for name in names:
        token = config.get(name)
        text = token.get("content") if isinstance(token, dict) else token
        if isinstance(text, str) and text in vocabulary:
            return vocabulary[text]
    raise DataError(f"tokenizer: no {' or '.join(names)} in tokenizer_config.json; add one to the tokenizer")


def _byte_names() -> list[str]:
    """The visible character that stands for each byte in byte-level BPE (Radford et al. 2019, GPT-2): itself where it
    is visible in Latin-1, else the next one from U+0100 on."""
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in visible]
    return [chr(byte) if byte in visible else chr(0x100 + hidden.index(byte)) for byte in range(256)]


def _code_point_table(vocabulary: dict[str, int]) -> Ids:
    characters = {ord(token): i for token, i in vocabulary.items() if len(token) == 1}
    table = np.full(max(characters, default=0) + 2, vocabulary["<unk>"], np.uint32)
    for point, i in characters.items():
        table[point] = i
    return table


def _look_up(table: Ids, text: str) -> Ids:
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return table[np.minimum(points, len(table) - 1)]
