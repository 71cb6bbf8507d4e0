"""The checkpoints of all runs as the page lists and compares them; read without torch."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from moe_hub.config import flatten
from moe_hub.errors import RunError
from moe_hub.runs.files import read_regular
from moe_hub.runs.status import LIVE_STATES
from moe_hub.runs.store import BRIEFLY_S, CONFIG_FILE, RunDirectory, RunStore

STATE = "trainer_state.json"
WEIGHTS = "model.safetensors"
# What a program needs to load the model; the rest is the trainer's own state.
OF_THE_TRAINER = frozenset({STATE, "optimizer.safetensors"})
MOST_COMPARED = 6
_NAME = re.compile(r"step_(\d{8})")
_LAYER = re.compile(r"^(.*?\blayers\.\d+|[^.]+(?:\.[^.]+)?)")


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint folder of a run."""

    run: RunDirectory
    folder: Path

    @property
    def step(self) -> int:
        return int(self.folder.name.removeprefix("step_"))

    @property
    def key(self) -> str:
        """RUN_ID@STEP, as the command line takes it."""
        return f"{self.run.run_id}@{self.step}"


def find_checkpoint(store: RunStore, key: str) -> Checkpoint:
    """The checkpoint RUN_ID@STEP; raises `RunError`."""
    run_id, at, step = key.partition("@")
    run = store.open(run_id)
    for folder in run.checkpoints():
        if at and step.isdigit() and folder.name == f"step_{int(step):08d}" and not folder.is_symlink():
            return Checkpoint(run, folder)
    raise RunError(f"checkpoint {key!r} is not there; it may have been removed by the run's keep_checkpoints")


def list_checkpoints(store: RunStore) -> list[dict[str, Any]]:
    """A row for each checkpoint of each run, the newest run and step first."""
    runs = [RunDirectory(store.runs_dir / run_id) for run_id in store.ids()]
    found = [Checkpoint(run, folder) for run in runs for folder in reversed(run.checkpoints())]
    return [_row(each) for each in found if _NAME.fullmatch(each.folder.name) and not each.folder.is_symlink()]


def compare(checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """Config keys that differ, metrics of each, and how far each layer's weights lie from the first checkpoint's."""
    if not 2 <= len(checkpoints) <= MOST_COMPARED:
        raise RunError(f"choose 2 to {MOST_COMPARED} checkpoints to compare")
    configs = [flatten(_settings(each.run)) for each in checkpoints]
    keys = [key for key in configs[0] if any(config.get(key) != configs[0][key] for config in configs[1:])]
    metrics = [trainer_state(each.folder).get("metrics", {}) for each in checkpoints]
    shown = sorted({name for each in metrics for name in each if name.startswith(("val/", "train/loss", "loss/"))})
    return {
        "checkpoints": [each.key for each in checkpoints],
        "config": [{"key": key, "values": [config.get(key) for config in configs]} for key in keys],
        "metrics": [{"name": name, "values": [each.get(name) for each in metrics]} for name in shown],
        "weights": [weight_distances(checkpoints[0].folder, each.folder) for each in checkpoints[1:]],
        "rotations": [rotation_angles(each.folder) for each in checkpoints],
    }


def weight_distances(one: Path, other: Path) -> dict[str, Any]:
    """For each layer, |b - a| / |a| over the tensors that both have in the same shape; `missing` counts the others."""
    first, second = _weights(one), _weights(other)
    distances: dict[str, list[float]] = {}
    missing = 0
    for name in first.keys() | second.keys():
        if name not in first or name not in second or first[name].shape != second[name].shape:
            missing += 1
            continue
        group = _LAYER.match(name)
        sums = distances.setdefault(group.group(1) if group else name, [0.0, 0.0])
        before, after = first[name].astype(np.float64), second[name].astype(np.float64)
        sums[0] += float(np.square(after - before).sum())
        sums[1] += float(np.square(before).sum())
    layers = {name: (sums[0] / sums[1]) ** 0.5 if sums[1] else None for name, sums in sorted(distances.items())}
    return {"layers": layers, "missing": missing}


def rotation_angles(folder: Path) -> dict[str, list[list[float]]]:
    """Rotation angles in rad of each layer, (experts, angles); empty for a model without rotations."""
    return {
        name: tensor.astype(np.float64).tolist()
        for name, tensor in _weights(folder).items()
        if name.rpartition(".")[2] == "theta" and tensor.ndim == 2
    }


def files_to_download(folder: Path, *, whole: bool) -> list[Path]:
    """The files that transformers loads, and with `whole` the trainer's state too; raises `RunError`."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.is_symlink())
    kept = [path for path in files if whole or path.name not in OF_THE_TRAINER]
    if not any(path.name == WEIGHTS for path in kept):
        raise RunError(f"checkpoint {folder.name} has no {WEIGHTS}")
    return kept


def delete_checkpoint(checkpoint: Checkpoint) -> None:
    """Removes a checkpoint; raises `RunError` while the run's trainer lives."""
    state = checkpoint.run.state()
    if state in LIVE_STATES:
        raise RunError(f"run {checkpoint.run.run_id} is {state}; stop it before a checkpoint of it is deleted")
    with checkpoint.run.lock(BRIEFLY_S):
        hidden = checkpoint.folder.with_name(f".{checkpoint.folder.name}.deleted.tmp")
        try:
            checkpoint.folder.rename(hidden)
        except OSError as error:
            raise RunError(f"checkpoint {checkpoint.key} cannot be removed: {error.strerror}") from None
        shutil.rmtree(hidden, ignore_errors=True)


def read_in_pieces(path: Path, size: int = 1 << 20) -> Iterator[bytes]:
    """The content of a file, piece by piece."""
    with path.open("rb") as file:
        while piece := file.read(size):
            yield piece


def _settings(run: RunDirectory) -> dict[str, Any]:
    """The config as it was written, also by an older version of the program."""
    return {key: value for key, value in run.config_values().items() if key not in ("schema_version", "version")}


def _row(checkpoint: Checkpoint) -> dict[str, Any]:
    state = trainer_state(checkpoint.folder)
    metrics = state.get("metrics", {})
    config = _about(checkpoint.run)
    notes = checkpoint.run.notes()
    size, modified = _size(checkpoint.folder, checkpoint.folder.stat().st_mtime_ns)
    return {
        "key": checkpoint.key,
        "run": checkpoint.run.run_id,
        "title": str(notes.get("label") or config["name"] or checkpoint.run.run_id),
        "architecture": config["architecture"],
        "source": config["source"],
        "step": checkpoint.step,
        "max_steps": config["max_steps"],
        "loss": _finite(metrics.get("val/loss", metrics.get("train/loss"))),
        "exact_match": _finite(metrics.get("val/exact_match")),
        "best": _best_step(checkpoint.run) == checkpoint.step,
        "bytes": size,
        "time": modified,
    }


def _about(run: RunDirectory) -> dict[str, Any]:
    """What the table says of a run's config; of one that cannot be read only that the run is there."""
    try:
        return _read_about(run, (run.path / CONFIG_FILE).stat().st_mtime_ns)
    except (OSError, RunError):
        return {"name": "", "architecture": "", "source": "", "max_steps": None}


@lru_cache(maxsize=4096)
def _read_about(run: RunDirectory, modified_ns: int) -> dict[str, Any]:
    config = run.config_values()
    model, data, train = (config.get(section) or {} for section in ("model", "data", "train"))
    return {
        "name": str(config.get("name") or ""),
        "architecture": str(model.get("architecture", "")),
        "source": str(data.get("source", "")),
        "max_steps": train.get("max_steps"),
    }


def _best_step(run: RunDirectory) -> int | None:
    """The step with the lowest held-out loss, as the newest checkpoint knows it."""
    checkpoints = run.checkpoints()
    best = trainer_state(checkpoints[-1]).get("best_step") if checkpoints else None
    return best if isinstance(best, int) else None


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and np.isfinite(value) else None


@lru_cache(maxsize=2048)
def _size(folder: Path, modified_ns: int) -> tuple[int, float]:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file()), modified_ns / 1e9


def trainer_state(folder: Path) -> dict[str, Any]:
    """What the trainer wrote beside the weights; empty where it cannot be read."""
    try:
        return _read_state(folder / STATE, (folder / STATE).stat().st_mtime_ns)
    except (OSError, ValueError):
        return {}


@lru_cache(maxsize=2048)
def _read_state(path: Path, modified_ns: int) -> dict[str, Any]:
    content = read_regular(path)
    try:
        values = orjson.loads(content)
    except ValueError:
        values = json.loads(content)
    return values if isinstance(values, dict) else {}


def _weights(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if (folder / WEIGHTS).is_symlink():
        raise RunError(f"checkpoint {folder.name}: {WEIGHTS} is a link, which may lead out of the run")
    try:
        return dict(load_file(folder / WEIGHTS))
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(f"checkpoint {folder.name} cannot be read: {error}") from None
