"""The embedded source: lambda-calculus tasks that the hub generates itself."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from moe_hub import lambda_calculus
from moe_hub.config import DataConfig
from moe_hub.data.formats import Document
from moe_hub.data.generation import tasks
from moe_hub.data.quality import Survey
from moe_hub.data.source import Progress, write_documents
from moe_hub.data.token_store import TokenWriter
from moe_hub.data.tokenizer import Tokenizer
from moe_hub.errors import ConfigError, DataError
from moe_hub.lambda_calculus.ood import ood_settings
from moe_hub.lambda_calculus.splits import Split
from moe_hub.lambda_calculus.tasks import Sample, TaskSettings, make_sample
from moe_hub.lambda_calculus.vocabulary import TOKENS

DEFAULT_TRAIN_SAMPLES = 20_000
HELD_OUT_SPLIT: Split = "test"
TOKENIZER_SAMPLES = 5_000  # tasks that a BPE is trained on: its words repeat


class LambdaSource:
    """Training tasks from the split `train`, held-out ones from `test`; no term of one is in the other."""

    plain_text = False
    generation_template = "{prompt} "  # the answer's first word stands after a blank, which only some tokenizers see
    text_length = 0  # a tokenizer needs no more than `training_texts` gives

    def __init__(self, data: DataConfig, max_seq_len: int) -> None:
        self.label = "lambda"
        self.seed = data.lambda_seed
        self.num_train = data.num_train_samples or DEFAULT_TRAIN_SAMPLES
        self.num_eval = data.num_eval_samples
        try:
            self.settings = task_settings(data, max_seq_len)
            self.held_out = held_out_settings(data, max_seq_len)
        except ConfigError as error:
            raise _as_data_error(error) from None

    def key_parts(self, root: Path) -> dict[str, str]:
        """Settings, seed, counts, and a hash of the generator's code."""
        counts = {"num_train_samples": str(self.num_train), "num_eval_samples": str(self.num_eval)}
        settings = {name: str(value) for name, value in vars(self.settings).items()}
        held_out = {"held_out": str(self.held_out)}
        return {
            "source": "lambda", "lambda_seed": str(self.seed), **counts, **settings, **held_out,
            "generator": generator_hash(),
        }  # fmt: skip

    def survey(self, progress: Progress) -> dict[str, Any]:
        """Nothing needs to be read: the generator knows which split a term belongs to."""
        return {"format": f"generated tasks, layout {self.settings.layout}"}

    def characters(self) -> set[str]:
        """Those of the words."""
        return set(" ".join(TOKENS))

    def training_texts(self) -> Iterator[str]:
        """The first training tasks."""
        return (document.text for document in islice(self.training_documents(), TOKENIZER_SAMPLES))

    def training_documents(self) -> Iterator[Document]:
        """The training tasks, made one after another."""
        made = ((make_sample(self.settings, "train", self.seed, index), False) for index in range(self.num_train))
        return (self._document(sample, held_out=held_out) for sample, held_out in _explained(made))

    def write(self, writer: TokenWriter, tokenizer: Tokenizer, number: int, progress: Progress) -> dict[str, Any]:
        """Generates and appends all tasks."""
        seen = {False: Survey(), True: Survey()}
        write_documents(self._documents(seen, progress), writer, tokenizer, number)
        leaking = np.isin(seen[True].groups, seen[False].groups)
        train = seen[False].duplicates()
        return {
            "rows": sum(len(survey.groups) for survey in seen.values()),
            "bad_rows": 0,
            "exact_duplicates": train["exact_duplicates"],
            "normalised_duplicates": train["normalised_duplicates"],
            "distinct_questions": train["distinct_questions"],
            "distinct_questions_normalised": train["distinct_questions_normalised"],
            "eval_distinct_questions": seen[True].duplicates()["distinct_questions_normalised"],
            "leaking_rows": int(leaking.sum()),
        }

    def _documents(self, seen: dict[bool, Survey], progress: Progress) -> Iterator[tuple[Document, bool]]:
        total = self.num_train + self.num_eval
        settings, split = self.held_out
        made = chain(
            ((sample, False) for sample in tasks(self.settings, "train", self.seed, self.num_train)),
            ((sample, True) for sample in distinct(tasks(settings, split, self.seed, self.num_eval))),
        )
        for done, (sample, held_out) in enumerate(_explained(made)):
            document = self._document(sample, held_out=held_out)
            seen[held_out].add(document)
            if done % 200 == 0:
                progress("Generating lambda tasks", done / total)
            yield document, held_out

    @staticmethod
    def _document(sample: Sample, *, held_out: bool) -> Document:
        parts = ((f"{sample.prompt} ", False), (sample.answer, True))
        return Document(parts, sample.term, sample.steps, sample.level, held_out)


def task_settings(data: DataConfig, max_seq_len: int) -> TaskSettings:
    """What the training tasks are drawn from; raises `ConfigError` in the words of the generator."""
    return TaskSettings(
        levels=data.levels,
        min_size=data.min_term_size,
        max_size=data.max_term_size,
        layout=data.layout,
        max_tokens=max_seq_len - 2,  # <bos> and <eos>
        max_binder_depth=data.max_binder_depth,
    )


def held_out_settings(data: DataConfig, max_seq_len: int) -> tuple[TaskSettings, Split | None]:
    """What the held-out tasks are drawn from, and their split: None outside the training range, where all are new.

    Raises `ConfigError` in the words of the generator.
    """
    training = task_settings(data, max_seq_len)
    if data.lambda_held_out == "test":
        return training, HELD_OUT_SPLIT
    return ood_settings(data.lambda_held_out, training), None


def distinct(samples: Iterable[Sample]) -> Iterator[Sample]:
    """The samples without those whose term came before in the same level.

    Small terms are few: drawn again and again, they would count as often in a share, and its interval be too narrow.
    """
    seen: set[tuple[int, str]] = set()
    for sample in samples:
        if (sample.level, sample.term) not in seen:
            seen.add((sample.level, sample.term))
            yield sample


def _explained(made: Iterator[tuple[Sample, bool]]) -> Iterator[tuple[Sample, bool]]:
    try:
        yield from made
    except ConfigError as error:
        raise _as_data_error(error) from None


def _as_data_error(error: ConfigError) -> DataError:
    """The generator's message in the words of the config."""
    text = re.sub(r"^set (\w+)", r"data.lambda_held_out = \1", str(error))
    for word, key in (
        ("min_size", "data.min_term_size"),
        ("max_size", "data.max_term_size"),
        ("max_tokens", "model.max_seq_len - 2"),
        ("max_binder_depth", "data.max_binder_depth"),
        ("levels =", "data.levels ="),
        ("layout =", "data.layout ="),
    ):
        text = text.replace(word, key)
    return DataError(f"lambda tasks: {text}")


def generator_hash() -> str:
    """Hash of the files of the generator: another version of it makes other tasks."""
    folder = Path(lambda_calculus.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
