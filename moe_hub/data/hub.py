"""Rows of a Hugging Face Hub dataset through `datasets`: no remote code, and from the local cache without a network."""

from __future__ import annotations

import contextlib
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from moe_hub.config import DataConfig
from moe_hub.data.file_kind import Reading
from moe_hub.data.row_source import RowSource
from moe_hub.data.rows import BadRow, Row, as_row, shortened
from moe_hub.errors import DataError

READ_AT_ONCE = 500  # rows
CONNECT_S = 4.0


def hub_rows(data: DataConfig) -> RowSource:
    """The rows of `data.name`; the Hub is asked when they are first needed."""
    dataset = HubDataset(data)
    source = RowSource(dataset.label, data, dataset.rows, None, dataset.identity)
    dataset.source = source
    return source


class HubDataset:
    """One split of a dataset, loaded once. Reads HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE and the local cache as
    `datasets` does."""

    def __init__(self, data: DataConfig) -> None:
        self.data = data
        self.label = f"hub:{data.name}"
        self.source: RowSource | None = None

    def identity(self, root: Path) -> dict[str, str]:
        """Name, config, split, and what `datasets` calls the content: a hash that the Hub's commit is part of."""
        parts = {"source": self.label, "config_name": str(self.data.config_name), "split": self.data.split}
        return parts | {"content": str(self.builder.hash), "fingerprint": str(self.dataset._fingerprint)}

    def rows(self, reading: Reading) -> Iterator[Row | BadRow]:
        """All rows, numbered from 1, without columns of images or sound."""
        dataset = self.dataset
        for first in range(0, len(dataset), READ_AT_ONCE):
            columns = dataset[first : first + READ_AT_ONCE]
            for number, values in enumerate(zip(*columns.values(), strict=True), first + 1):
                reading.bytes_read = number
                yield as_row(number, dict(zip(columns, values, strict=True)))

    @cached_property
    def builder(self) -> Any:
        """What `datasets` found under the name; raises `DataError`."""
        from datasets import disable_progress_bars, load_dataset_builder
        from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

        name = self.data.name or ""
        if name in _PACKAGED_DATASETS_MODULES or os.path.exists(name):
            raise DataError(
                f"{self.label}: this names a file or a loader here, not a Hub dataset; use data.path for files"
            )
        disable_progress_bars()
        with _explained(self.label), self._reachable():
            return load_dataset_builder(name, self.data.config_name, revision=self.data.revision)

    @cached_property
    def dataset(self) -> Any:
        """The split as a table on disk; raises `DataError`."""
        from datasets import load_dataset

        _ = self.builder  # checks the name
        with _explained(self.label), self._reachable():
            dataset = load_dataset(
                self.data.name, self.data.config_name, split=self.data.split, revision=self.data.revision
            )
        columns = [name for name, feature in dataset.features.items() if not hasattr(feature, "decode_example")]
        if not columns or not len(dataset):
            raise DataError(f"{self.label}: split {self.data.split!r} has no rows with text; choose another split")
        if self.source is not None:
            self.source.size = len(dataset)
        return dataset.select_columns(columns)

    def _reachable(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext() if _hub_answers() else _from_local_cache()


@cache
def _hub_answers() -> bool:
    """Whether something listens where the Hub should be; `datasets` itself would retry for half a minute."""
    if urllib.request.getproxies():
        return True  # only the proxy knows
    address = urllib.parse.urlsplit(os.environ.get("HF_ENDPOINT") or "https://huggingface.co")
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=CONNECT_S).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def _from_local_cache() -> Iterator[None]:
    """Lets `datasets` look at its cache only, as HF_HUB_OFFLINE=1 would."""
    import datasets
    from huggingface_hub import constants

    before = datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE, constants.HF_HUB_OFFLINE = before


class _explained:
    """Turns the errors of `datasets` and `huggingface_hub` into a `DataError` that says what to do."""

    def __init__(self, label: str) -> None:
        self.label = label

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, DataError):
            raise DataError(f"{self.label}: {_explanation(error)}") from None


def _explanation(error: Exception) -> str:
    names = {kind.__name__ for kind in type(error).__mro__}
    reasons = [" ".join(str(reason).split()) for reason in (error, error.__cause__) if reason]
    text = shortened(": ".join(reasons), 300)
    if "DatasetNotFoundError" in names and "offline" not in text.lower() and "Couldn't reach" not in text:
        return f"{text}; check data.name, or set HF_TOKEN where the dataset is private or gated"
    if names & {"ConnectionError", "OfflineModeIsEnabled", "ConnectError", "TimeoutException"} or "reach" in text:
        return (
            f"the Hub ({os.environ.get('HF_ENDPOINT', 'https://huggingface.co')}) cannot be reached and the dataset is "
            "not in the local cache; check the network or HF_ENDPOINT, or download the files and use data.path "
            f"({type(error).__name__})"
        )
    if "scripts are no longer supported" in text:
        return "it needs code from the Hub, which is never run; use a dataset that consists of data files"
    return f"{text} ({type(error).__name__}); check data.config_name, data.split and data.revision"
