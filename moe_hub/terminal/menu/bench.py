"""What the screens of one menu work on: its folders, stores and jobs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moe_hub.runs.queue import RunQueue
from moe_hub.runs.store import RunStore
from moe_hub.workbench.jobs import Jobs
from moe_hub.workbench.presets import PresetStore
from moe_hub.workbench.stops import Stops

YEAR_S = 365 * 86400.0


@dataclass(frozen=True)
class Bench:
    """`jobs` are short (text, inspections); `servers` hold the dashboard, which runs as long as the menu."""

    runs_dir: Path
    data_dir: Path
    store: RunStore
    queue: RunQueue
    stops: Stops
    presets: PresetStore
    jobs: Jobs
    servers: Jobs


def open_bench(runs_dir: Path, data_dir: Path, jobs: Path) -> Bench:
    """The bench of two folders, which need not exist yet, and a private one for jobs, which must."""
    store = RunStore(runs_dir)
    return Bench(
        runs_dir=runs_dir,
        data_dir=data_dir,
        store=store,
        queue=RunQueue(runs_dir),
        stops=Stops(store),
        presets=PresetStore(data_dir / "presets"),
        jobs=Jobs(jobs / "jobs"),
        servers=Jobs(jobs / "servers", most=1, longest_s=YEAR_S),
    )
