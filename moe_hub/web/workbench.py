"""What one mounted dashboard works on: its folders, its prefix and the caches that all its pages share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moe_hub.errors import RunError
from moe_hub.runs.store import RunStore
from moe_hub.web.drawings import Drawings
from moe_hub.web.histories import Histories
from moe_hub.web.readable import ReadableFolders
from moe_hub.web.run_index import RunIndex
from moe_hub.web.uploads import Uploads
from moe_hub.workbench.jobs import Jobs
from moe_hub.workbench.presets import PresetStore
from moe_hub.workbench.stops import Stops

UPLOADS = "uploads"
JOB_FOLDER = ".background/jobs"


@dataclass(frozen=True)
class Workbench:
    """Folders and shared caches. `prefix` begins and ends with a slash."""

    runs_dir: Path
    data_dir: Path
    prefix: str
    store: RunStore
    index: RunIndex
    histories: Histories
    drawings: Drawings
    stops: Stops
    presets: PresetStore
    jobs: Jobs
    uploads: Uploads
    readable: ReadableFolders

    def data_source(self, text: str) -> str:
        """`lambda`, or the path of an uploaded file by its name; raises `RunError` for anything outside the folder."""
        if text == "lambda":
            return text
        path = (self.data_dir / UPLOADS / text).resolve()
        if path.parent != (self.data_dir / UPLOADS).resolve() or not path.is_file():
            raise RunError(f"data {text!r} is not among the uploaded files")
        return str(path)


def open_workbench(runs_dir: Path, data_dir: Path, prefix: str, read_dirs: Sequence[Path] = ()) -> Workbench:
    """The workbench of two folders; neither needs to exist yet. `read_dirs` may hold data files besides."""
    store = RunStore(runs_dir)
    histories = Histories(store)
    return Workbench(
        runs_dir=runs_dir,
        data_dir=data_dir,
        prefix=prefix,
        store=store,
        index=RunIndex(store),
        histories=histories,
        drawings=Drawings(histories),
        stops=Stops(store),
        presets=PresetStore(data_dir / "presets"),
        jobs=Jobs(data_dir / JOB_FOLDER),
        uploads=Uploads(data_dir / UPLOADS),
        readable=ReadableFolders([data_dir, *read_dirs]),
    )
