"""A runs folder whose trainers and workers end with the test."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from moe_hub.config import Config
from moe_hub.runs.status import local_process, read_status
from moe_hub.runs.store import RunDirectory, RunStore

sys.path.insert(0, str(Path(__file__).parent))  # fake_programs


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    store = RunStore(tmp_path / "runs")
    yield store
    for folder in (store.runs_dir / ".queue", *store.runs_dir.glob("*")):
        status = read_status(folder)
        process = local_process(status) if status is not None else None
        if process is not None and process.pid != os.getpid():
            with contextlib.suppress(psutil.Error):
                process.kill()


@pytest.fixture
def run(store: RunStore) -> RunDirectory:
    return store.create(Config(name="fake"))
