"""The folder of runs: makes, finds, lists, labels and removes run directories."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
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
from moe_hub.config.text import parse_yaml
from moe_hub.errors import RunError
from moe_hub.runs.control import CONTROL_FOLDER
from moe_hub.runs.files import open_regular, read_regular, replace_file
from moe_hub.runs.status import LIVE_STATES, Status, current_state, read_status, state_of, write_status

CONFIG_FILE = "config.yaml"
LOG_FILE = "log.txt"
NOTES_FILE = "notes.json"
LOCK_FILE = ".lock"
NOTES_LOCK_FILE = ".notes.lock"
CHECKPOINT_FOLDER = "checkpoints"
TRASH_FOLDER = ".trash"
BRIEFLY_S = 5.0  # whoever reconciles the runs, or reads who trains one, may hold it for a moment

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CHECKPOINT = re.compile(r"step_\d{8}")
_LONGEST_LABEL = 200
_MOST_TAGS = 32


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
    archived: bool = False
    problem: str = ""  # why it failed, was interrupted, or had to pause


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
        try:
            values = parse_yaml(read_regular(self.path / CONFIG_FILE).decode("utf-8"))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise RunError(f"run {self.run_id}: {CONFIG_FILE} cannot be read: {error}") from None
        if not isinstance(values, dict):
            raise RunError(f"run {self.run_id}: {CONFIG_FILE} holds no mapping of keys")
        return values

    def inside(self, *parts: str) -> Path:
        """A file or folder in the run by its path from the run directory; it need not exist.

        Raises `RunError` for a path that leads out of the run, links included.
        """
        path = self.path.joinpath(*parts)
        try:
            root = self.path.resolve()
            leads_out = path.resolve() != root.joinpath(*parts) or not path.resolve().is_relative_to(root)
        except (OSError, ValueError, RuntimeError):  # a name too long, a null byte, a loop of links
            leads_out = True
        if leads_out:
            raise RunError(f"run {self.run_id}: {'/'.join(parts)[:100]!r} is no path inside the run")
        return path

    def status(self) -> Status | None:
        return read_status(self.path)

    def state(self) -> str:
        """The state, `interrupted` where the process of a live state is gone."""
        return current_state(self.path)

    def log_tail(self, n_bytes: int = 4096) -> str:
        """The last bytes of log.txt as text; empty where there is none."""
        try:
            with open_regular(self.path / LOG_FILE) as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - n_bytes))
                return file.read(n_bytes).decode("utf-8", errors="replace")
        except OSError:
            return ""

    def checkpoints(self) -> list[Path]:
        """Complete checkpoints, oldest step first; those being written have another name. Links are left out."""
        folder = self.path / CHECKPOINT_FOLDER
        try:
            if folder.is_symlink():
                return []
            names = [entry.name for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return []
        return [folder / name for name in sorted(names) if _CHECKPOINT.fullmatch(name)]

    @contextlib.contextmanager
    def lock(self, patience_s: float = 0.0) -> Iterator[None]:
        """Holds the run for one writer; raises `RunError` where another process still does after `patience_s`."""
        lock = file_lock(self.path / LOCK_FILE, timeout_s=patience_s)
        if not self.path.is_dir():  # the lock would make the folder
            raise RunError(f"run {self.run_id} is not in {self.path.parent}; list the runs to see their ids")
        try:
            lock.acquire()
        except filelock.Timeout:
            raise RunError(f"run {self.run_id} is held by another process; stop that process first") from None
        except OSError as error:
            raise RunError(f"run {self.run_id} cannot be locked: {error.strerror or error}") from None
        try:
            yield
        finally:
            lock.release()

    def notes(self) -> dict[str, Any]:
        """Label and tags that a person gave the run."""
        try:
            values = orjson.loads(read_regular(self.path / NOTES_FILE))
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}


class RunStore:
    """The runs under one folder; the folder is made with the first run."""

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = Path(runs_dir)

    def create(self, config: Config, state: str = "starting") -> RunDirectory:
        """Makes the directory of a new run; raises `RunError`."""
        unfinished = None
        try:
            folder, unfinished = self._make_folder(config.name)
            _fill(unfinished, config, state)
            unfinished.rename(folder)  # at once: nobody meets a run without its config
        except OSError as error:
            if unfinished is not None:
                shutil.rmtree(unfinished, ignore_errors=True)  # made a moment ago, and no run yet
            raise RunError(
                f"runs folder {self.runs_dir}: a run cannot be made there: {error.strerror or error}; "
                "make room there, or choose another folder with --runs-dir"
            ) from None
        return RunDirectory(folder)

    def open(self, run_id: str) -> RunDirectory:
        """The run with exactly this id, directly under the runs folder; raises `RunError`."""
        if not _RUN_ID.fullmatch(run_id) or ".." in run_id:
            raise RunError(f"{run_id[:100]!r} is no run id; ids look like 20261124-155512-geometric-lambda-3f9a")
        folder = self.runs_dir / run_id
        try:
            found = stat.S_ISDIR(folder.lstat().st_mode) and stat.S_ISREG((folder / CONFIG_FILE).lstat().st_mode)
        except OSError:
            found = False
        if not found:
            raise RunError(f"run {run_id!r} is not in {self.runs_dir}; list the runs to see their ids")
        return RunDirectory(folder)

    def ids(self) -> tuple[str, ...]:
        """Names of the folders that may be runs, newest first; runs that are being made have a hidden name."""
        try:
            names = [entry.name for entry in os.scandir(self.runs_dir) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return ()
        return tuple(sorted((name for name in names if _RUN_ID.fullmatch(name) and ".." not in name), reverse=True))

    def find(self, text: str) -> RunDirectory:
        """The run by id, by a part that stands in one id only (its beginning first), or `latest`; raises `RunError`."""
        ids = self.ids()
        if text == "latest":
            for run_id in ids:
                with contextlib.suppress(RunError):
                    return self.open(run_id)
            raise RunError(f"there is no run in {self.runs_dir}; start one, or choose another folder with --runs-dir")
        if not text or text in ids:
            return self.open(text)
        near = [run_id for run_id in ids if run_id.startswith(text)] or [run_id for run_id in ids if text in run_id]
        if len(near) > 1:
            shown = ", ".join(near[:3]) + (" ..." if len(near) > 3 else "")
            raise RunError(f"run {text!r} fits {len(near)} runs: {shown}; give more of the id")
        return self.open(near[0] if near else text)

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
        self._note(run_id, tags=sorted({tag.strip()[:_LONGEST_LABEL] for tag in tags if tag.strip()})[:_MOST_TAGS])

    def archive(self, run_id: str, archived: bool) -> None:
        """Puts the run out of sight in lists, or back; its files stay where they are."""
        self._note(run_id, archived=archived)

    def trash(self) -> RunStore:
        """The deleted runs."""
        return RunStore(self.runs_dir / TRASH_FOLDER)

    def delete(self, run_id: str) -> None:
        """Moves the run to the trash folder; raises `RunError` while its process lives or it waits in the queue."""
        run = self.open(run_id)
        _refuse_alive(run)
        with run.lock(BRIEFLY_S):
            _refuse_alive(run)
            self._move(run.path, self.runs_dir / TRASH_FOLDER / run_id)

    def undelete(self, run_id: str) -> RunDirectory:
        """Takes the run out of the trash; raises `RunError`."""
        self._move(self.trash().open(run_id).path, self.runs_dir / run_id)
        return self.open(run_id)

    def _move(self, source: Path, target: Path) -> None:
        if target.exists():
            raise RunError(f"run {source.name} cannot be moved: {target} exists")
        try:
            target.parent.mkdir(exist_ok=True)
            source.rename(target)
        except OSError as error:
            raise RunError(f"run {source.name} cannot be moved: {error.strerror or error}") from None

    def _make_folder(self, name: str) -> tuple[Path, Path]:
        """A free place for a run, and the hidden folder beside it in which the run is made."""
        self.runs_dir.mkdir(parents=True, exist_ok=True)
        for _ in range(100):
            run_id = new_run_id(name)
            folder, unfinished = self.runs_dir / run_id, self.runs_dir / f".new-{run_id}"
            if folder.exists() or (self.runs_dir / TRASH_FOLDER / run_id).exists():
                continue
            with contextlib.suppress(FileExistsError):
                unfinished.mkdir()
                return folder, unfinished
        raise RunError(f"runs folder {self.runs_dir}: no free run id found")

    def _note(self, run_id: str, **values: Any) -> None:
        run = self.open(run_id)
        try:
            with file_lock(run.path / NOTES_LOCK_FILE, timeout_s=10):  # a label and tags set at once: both stay
                replace_file(run.path / NOTES_FILE, orjson.dumps({**run.notes(), **values}))
        except (OSError, filelock.Timeout) as error:
            why = getattr(error, "strerror", None) or error
            raise RunError(f"run {run_id}: {NOTES_FILE} cannot be written: {why}") from None


def new_run_id(name: str) -> str:
    """UTC time, short name and a random suffix: 20261124-155512-geometric-lambda-3f9a."""
    short = re.sub(r"[^a-z0-9]+", "-", name.lower())[:40].strip("-") or "run"
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{short}-{secrets.token_hex(2)}"


def _refuse_alive(run: RunDirectory) -> None:
    state = run.state()
    if state in LIVE_STATES or state == "queued":
        first = "take it out of the queue" if state == "queued" else "stop it"
        raise RunError(f"run {run.run_id} is {state}; {first} before it is deleted")


def summarize(run: RunDirectory) -> RunSummary:
    """The line of one run in the table of runs; raises `RunError` where its config cannot be read."""
    notes, status = run.notes(), run.status()
    info = (run.path / CONFIG_FILE).stat()
    name, architecture = _name_and_architecture(run, info.st_mtime_ns, info.st_size)
    label, tags = notes.get("label"), notes.get("tags")
    return RunSummary(
        run_id=run.run_id,
        name=name,
        label=label if isinstance(label, str) else "",
        tags=tuple(str(tag) for tag in tags) if isinstance(tags, list) else (),
        state=state_of(status),
        step=status.step if status else 0,
        max_steps=status.max_steps if status else 0,
        created=_created(run),
        architecture=architecture,
        metrics=status.metrics if status else {},
        archived=notes.get("archived") is True,
        problem=status.failure.get("cause", "") if status else "",
    )


def _created(run: RunDirectory) -> float:
    try:
        return datetime.strptime(run.run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return (run.path / CONFIG_FILE).stat().st_mtime


@lru_cache(maxsize=16384)  # YAML takes most of the time of a list, and the config of a run does not change
def _name_and_architecture(run: RunDirectory, mtime_ns: int, size: int) -> tuple[str, str]:
    values = run.config_values()
    model = values.get("model")
    return str(values.get("name", "")), str(model.get("architecture", "")) if isinstance(model, dict) else ""


def file_lock(path: Path, *, timeout_s: float) -> filelock.BaseFileLock:
    """A lock between processes that ends with its holder, however that ends; raises `filelock.Timeout`."""
    return filelock.FileLock(path, timeout=timeout_s, preserve_lock_file=True, fallback_to_soft=False)


def _fill(folder: Path, config: Config, state: str) -> None:
    (folder / CONTROL_FOLDER).mkdir()
    (folder / CHECKPOINT_FOLDER).mkdir()
    (folder / LOG_FILE).touch()
    write_status(folder, Status(state=state, max_steps=config.train.max_steps, heartbeat=time.time()))
    replace_file(folder / CONFIG_FILE, to_yaml(config).encode())
