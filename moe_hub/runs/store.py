"""The folder of runs: makes, finds, lists, labels and removes run directories."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import filelock
import orjson
import yaml

from moe_hub.config import Config, to_yaml, validate
from moe_hub.errors import RunError
from moe_hub.runs.control import CONTROL_FOLDER
from moe_hub.runs.files import replace_file
from moe_hub.runs.status import LIVE_STATES, Status, current_state, read_status, state_of, write_status

CONFIG_FILE = "config.yaml"
LOG_FILE = "log.txt"
NOTES_FILE = "notes.json"
LOCK_FILE = ".lock"
CHECKPOINT_FOLDER = "checkpoints"
TRASH_FOLDER = ".trash"

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CHECKPOINT = re.compile(r"step_\d{8}")
_LONGEST_LABEL = 200
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster; 200 runs are listed at once


@dataclass(frozen=True)
class RunSummary:
    """One line of the table of runs; `created` is unix seconds."""

    run_id: str
    name: str
    label: str
    tags: tuple[str, ...]
    state: str
    step: int
    max_steps: int
    created: float
    architecture: str
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RunDirectory:
    """One run on disk."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    def config(self) -> Config:
        """The config of the run; raises `RunError` or `ConfigError`."""
        return validate(self.config_values())

    def config_values(self) -> dict[str, Any]:
        """config.yaml as nested values, with its schema version; raises `RunError`."""
        file = self.path / CONFIG_FILE
        try:
            info = file.stat()
            return copy.deepcopy(_load_yaml(file, info.st_mtime_ns, info.st_size))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise RunError(f"run {self.run_id}: {CONFIG_FILE} cannot be read: {error}") from None

    def status(self) -> Status | None:
        return read_status(self.path)

    def state(self) -> str:
        """The state, `interrupted` where the process of a live state is gone."""
        return current_state(self.path)

    def log_tail(self, n_bytes: int = 4096) -> str:
        """The last bytes of log.txt as text; empty where there is none."""
        try:
            with (self.path / LOG_FILE).open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - n_bytes))
                return file.read(n_bytes).decode("utf-8", errors="replace")
        except OSError:
            return ""

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest step first; those being written have another name."""
        try:
            folders = list((self.path / CHECKPOINT_FOLDER).iterdir())
        except OSError:
            return []
        return sorted(folder for folder in folders if _CHECKPOINT.fullmatch(folder.name) and folder.is_dir())

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run for one writer; raises `RunError` at once where another process holds it."""
        lock = filelock.FileLock(self.path / LOCK_FILE, timeout=0, preserve_lock_file=True, fallback_to_soft=False)
        try:
            lock.acquire()
        except (filelock.Timeout, OSError) as error:
            why = "another process holds it" if isinstance(error, filelock.Timeout) else str(error)
            raise RunError(f"run {self.run_id} cannot be locked: {why}; stop that process first") from None
        try:
            yield
        finally:
            lock.release()

    def notes(self) -> dict[str, Any]:
        """Label and tags that a person gave the run."""
        try:
            values = orjson.loads((self.path / NOTES_FILE).read_bytes())
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}


class RunStore:
    """The runs under one folder; the folder is made with the first run."""

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = Path(runs_dir)

    def create(self, config: Config, state: str = "starting") -> RunDirectory:
        """Makes the directory of a new run; raises `RunError`."""
        try:
            run = RunDirectory(self._make_folder(config.name))
            (run.path / CONTROL_FOLDER).mkdir()
            (run.path / CHECKPOINT_FOLDER).mkdir()
            (run.path / LOG_FILE).touch()
            write_status(run.path, Status(state=state, max_steps=config.train.max_steps, heartbeat=time.time()))
            replace_file(run.path / CONFIG_FILE, to_yaml(config).encode())  # last: a folder is a run once it has one
        except OSError as error:
            raise RunError(f"runs folder {self.runs_dir}: a run cannot be made there: {error.strerror}") from None
        return run

    def open(self, run_id: str) -> RunDirectory:
        """The run with exactly this id, directly under the runs folder; raises `RunError`."""
        if not _RUN_ID.fullmatch(run_id) or ".." in run_id:
            raise RunError(f"run id {run_id!r} is not one; ids look like 20261124-155512-geometric-lambda-3f9a")
        root = self.runs_dir.resolve()
        if (root / run_id).resolve() != root / run_id or not (root / run_id / CONFIG_FILE).is_file():
            raise RunError(f"run {run_id!r} is not in {self.runs_dir}; list the runs to see their ids")
        return RunDirectory(self.runs_dir / run_id)

    def find(self, text: str) -> RunDirectory:
        """The run by id, by the beginning of one id only, or `latest`; raises `RunError`."""
        ids = self.ids()
        if text == "latest":
            if not ids:
                raise RunError(f"there is no run in {self.runs_dir}")
            return self.open(ids[0])
        near = [run_id for run_id in ids if text and run_id.startswith(text)]
        if text not in near and len(near) > 1:
            raise RunError(f"run {text!r} fits {len(near)} runs: {', '.join(near[:3])}; give more of the id")
        return self.open(near[0] if len(near) == 1 else text)

    def list(self) -> list[RunSummary]:
        """All runs, newest first; folders that are no readable run are left out."""
        summaries = []
        for run_id in self.ids():
            with contextlib.suppress(RunError, OSError):
                summaries.append(summarize(self.open(run_id)))
        return summaries

    def rename(self, run_id: str, label: str) -> None:
        """Gives the run a label for people; its id and folder stay."""
        self._note(run_id, label=" ".join(label.split())[:_LONGEST_LABEL])

    def tag(self, run_id: str, tags: Sequence[str]) -> None:
        """Replaces the tags of the run."""
        self._note(run_id, tags=sorted({tag.strip()[:_LONGEST_LABEL] for tag in tags if tag.strip()}))

    def delete(self, run_id: str) -> None:
        """Moves the run to the trash folder; raises `RunError` while its process lives."""
        run = self.open(run_id)
        trash = self.runs_dir / TRASH_FOLDER
        _refuse_alive(run)
        with run.lock():
            _refuse_alive(run)
            self._move(run.path, trash / run_id)

    def undelete(self, run_id: str) -> RunDirectory:
        """Takes the run out of the trash; raises `RunError`."""
        trash = RunStore(self.runs_dir / TRASH_FOLDER)
        self._move(trash.open(run_id).path, self.runs_dir / run_id)
        return self.open(run_id)

    def _move(self, source: Path, target: Path) -> None:
        if target.exists():
            raise RunError(f"run {source.name} cannot be moved: {target} exists")
        try:
            target.parent.mkdir(exist_ok=True)
            source.rename(target)
        except OSError as error:
            raise RunError(f"run {source.name} cannot be moved: {error.strerror}") from None

    def _make_folder(self, name: str) -> Path:
        self.runs_dir.mkdir(parents=True, exist_ok=True)
        for _ in range(100):
            folder = self.runs_dir / new_run_id(name)
            if (self.runs_dir / TRASH_FOLDER / folder.name).exists():
                continue
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
        raise RunError(f"runs folder {self.runs_dir}: no free run id found")

    def ids(self) -> list[str]:
        """Names of the folders that may be runs, newest first."""
        try:
            names = [entry.name for entry in os.scandir(self.runs_dir) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return []
        return sorted((name for name in names if _RUN_ID.fullmatch(name) and ".." not in name), reverse=True)

    def _note(self, run_id: str, **values: Any) -> None:
        run = self.open(run_id)
        try:
            replace_file(run.path / NOTES_FILE, orjson.dumps({**run.notes(), **values}))
        except OSError as error:
            raise RunError(f"run {run_id}: {NOTES_FILE} cannot be written: {error.strerror}") from None


def new_run_id(name: str) -> str:
    """UTC time, short name and a random suffix: 20261124-155512-geometric-lambda-3f9a."""
    short = re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-") or "run"
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{short}-{secrets.token_hex(2)}"


def _refuse_alive(run: RunDirectory) -> None:
    state = run.state()
    if state in LIVE_STATES:
        raise RunError(f"run {run.run_id} is {state}; stop it before it is deleted")


def summarize(run: RunDirectory) -> RunSummary:
    """The line of one run in the table of runs; raises `RunError` where its config cannot be read."""
    values, notes, status = run.config_values(), run.notes(), run.status()
    model = values.get("model")
    label, tags = notes.get("label"), notes.get("tags")
    return RunSummary(
        run_id=run.run_id,
        name=str(values.get("name", "")),
        label=label if isinstance(label, str) else "",
        tags=tuple(str(tag) for tag in tags) if isinstance(tags, list) else (),
        state=state_of(status),
        step=status.step if status else 0,
        max_steps=status.max_steps if status else 0,
        created=_created(run),
        architecture=str(model.get("architecture", "")) if isinstance(model, dict) else "",
        metrics=status.metrics if status else {},
    )


def _created(run: RunDirectory) -> float:
    try:
        return datetime.strptime(run.run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return (run.path / CONFIG_FILE).stat().st_mtime


@lru_cache(maxsize=1024)
def _load_yaml(file: Path, mtime_ns: int, size: int) -> dict[str, Any]:
    values = yaml.load(file.read_text(encoding="utf-8"), Loader=_Loader)
    if not isinstance(values, dict):
        raise ValueError("it holds no mapping")
    return values
