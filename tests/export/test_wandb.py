"""The offline run is read back from W&B's own file: a LevelDB log of its protocol's records."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from moe_hub.config import load_config
from moe_hub.export.__main__ import main
from moe_hub.runs.store import RunDirectory, RunStore
from moe_hub.runs.writer import MetricWriter

pytest.importorskip("wandb")
pytestmark = pytest.mark.slow  # W&B starts a process of its own

BLOCK, FILE_HEADER, CHUNK_HEADER = 32768, 7, 7
WHOLE, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def chunks(content: bytes) -> Iterator[tuple[int, bytes]]:
    place = FILE_HEADER
    while place + CHUNK_HEADER <= len(content):
        if BLOCK - place % BLOCK < CHUNK_HEADER:
            place += BLOCK - place % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + CHUNK_HEADER])
        yield kind, content[place + CHUNK_HEADER : place + CHUNK_HEADER + length]
        place += CHUNK_HEADER + length


def records(path: Path) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2 as protocol

    content, whole = path.read_bytes(), b""
    assert content[:4] == b":W&B"
    for kind, part in chunks(content):
        whole = part if kind in (WHOLE, FIRST) else whole + part
        if kind in (WHOLE, LAST):
            record = protocol.Record()  # type: ignore[attr-defined]
            record.ParseFromString(whole)
            yield record


def rows(path: Path) -> list[dict[str, float]]:
    histories = [record.history for record in records(path) if record.WhichOneof("record_type") == "history"]
    return [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in history.item}
        for history in histories
    ]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = RunStore(tmp_path / "runs").create(load_config("basic_comparison"))
    with MetricWriter(made.path) as writer:
        for step in range(0, 50, 10):
            values = {"train/loss": math.nan if step == 20 else 1 / (step + 1), "expert/load": [[0.25, 0.75]]}
            writer.write(step, values, time=1000.0 + step, tokens=step)
    return made


def test_every_value_and_the_config_come_back(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    assert main(["wandb", "latest", "--runs-dir", str(tmp_path / "runs")]) == 0
    out = capsys.readouterr().out
    assert "3 tags, 15 values" in out
    assert "wandb sync" in out
    (written,) = (tmp_path / "wandb" / run.run_id).glob("wandb/offline-run-*/run-*.wandb")
    found = rows(written)
    kinds = [record.WhichOneof("record_type") for record in records(written)]
    assert [row["_step"] for row in found] == [0, 10, 20, 30, 40], kinds
    assert [row["_timestamp"] for row in found] == [1000.0, 1010.0, 1020.0, 1030.0, 1040.0]
    assert [row["expert/load/layer 0/expert 1"] for row in found] == [0.75] * 5
    assert math.isnan(float(found[2]["train/loss"]))
    assert found[3]["train/loss"] == pytest.approx(1 / 31)
    (begun,) = (record.run for record in records(written) if record.WhichOneof("record_type") == "run")
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert (begun.run_id, begun.project) == (run.run_id, "moe-hub")
    assert config["model"]["architecture"] == run.config().model.architecture


def test_what_cannot_be_exported_says_so(run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(["wandb", run.run_id, "--runs-dir", str(tmp_path / "runs"), "--out", str(tmp_path / "full")]) == 2
    assert "is not empty" in capsys.readouterr().err
