"""`python -m benchmarks.kills [--kills 200] [--seed 0]`: kills the trainer, the server or both at random moments.

Real trainers on a small model, one architecture after the other; real server, real page to resume by. After each kill:
no committed row is lost, at most one row is unfinished, the state is `interrupted` within 10 s, the run resumes. At the
end of each run its checkpoints and rows are bit for bit those of a run that nobody touched. Exit code 1 where not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from datetime import datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.blows import Blow, blows
from benchmarks.findings import percentile
from benchmarks.killed_run import PATIENCE_S, Counts, KilledRun, Site
from benchmarks.report import Goal, PartResult, Table
from moe_hub import launch
from moe_hub.architectures import ARCHITECTURES
from moe_hub.config import load_config
from moe_hub.runs.store import RunDirectory, RunStore

INTERRUPTED_S = 10.0
# Everything that a checkpoint has to hold: dropout, two batches a step, ghosts that wake, a schedule that adapts.
SMALL = (
    "model.d_model=16", "model.num_heads=2", "model.num_layers=2", "model.num_experts=3", "model.max_seq_len=96",
    "model.dropout=0.1", "model.geometric.rotation_dims=4", "model.ghost.activation_threshold=0.0001",
    "model.ghost.saturation_window=8", "model.ghost.min_step=16", "model.ghost.plateau=1", "model.ghost.ramp_steps=50",
    "train.batch_size=2", "train.grad_accumulation=2", "train.warmup_steps=10", "train.eval_every=15",
    "train.eval_batches=1", "train.log_every=1", "train.checkpoint_every=5", "train.keep_checkpoints=2",
    "train.precision=fp32", "train.device=cpu", "train.threads=1", "data.num_train_samples=60",
    "data.num_eval_samples=12", "data.max_term_size=9",
)  # fmt: skip
COGNITIVE = ("train.lambda_cognitive.enabled=true", "train.lambda_cognitive.scheduling=adaptive")


def overrides(architecture: str, steps: int) -> list[str]:
    """The config of a small run."""
    geometric = architecture == "geometric"
    mode = "geometric" if geometric else "standard"
    own = [f"model.architecture={architecture}", f"train.mode={mode}", f"train.max_steps={steps}"]
    return [*SMALL, *own, *(COGNITIVE if geometric else ())]


def uninterrupted(runs_dir: Path, architecture: str, steps: int) -> RunDirectory:
    """The run to compare with, trained by the command in one go."""
    flags = [part for override in overrides(architecture, steps) for part in ("--set", override)]
    command = [sys.executable, "-m", "moe_hub.train", "--runs-dir", str(runs_dir), *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=PATIENCE_S)
    store = RunStore(runs_dir)
    return store.open(store.ids()[0])


def kill_runs(
    folder: Path, kills: int, seed: int, *, architectures: Sequence[str] = tuple(ARCHITECTURES), steps: int = 120
) -> Counts:
    """Trains runs in turn under blows until `kills` have fallen and the last run is done; raises `AssertionError`."""
    counts, falling = Counts(), blows(seed)
    folder.mkdir(parents=True, exist_ok=True)
    references: dict[str, RunDirectory] = {}
    with _site(folder) as site:
        while counts.all_kills < kills:
            architecture = architectures[counts.runs % len(architectures)]
            if architecture not in references:
                references[architecture] = uninterrupted(folder / "whole" / architecture, architecture, steps)
            config = load_config(overrides=[f"name={architecture}", *overrides(architecture, steps)])
            run_id = launch.launch_run(folder / "runs", config)
            killed = KilledRun(RunStore(folder / "runs").open(run_id), site, counts)
            _strike(killed, falling, kills)
            killed.finish(references[architecture])
            print(
                f"{time.strftime('%H:%M:%S')}  {architecture}: done, {counts.all_kills} kills so far, "
                f"{counts.unfinished} unfinished rows, {counts.lost} lost, {counts.unequal} runs unequal",
                flush=True,
            )
    return counts  # fmt: skip


def kill_in_turns(folder: Path, kills: int, seed: int, jobs: int, architectures: Sequence[str], steps: int) -> Counts:
    """As `kill_runs`, by `jobs` processes that share the kills, each with a server, runs and a seed of its own."""
    total = Counts()
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        work = []
        for job in range(jobs):
            share = kills // jobs + (job < kills % jobs)
            first = job * len(architectures) // jobs  # so that few kills, too, meet all architectures
            turn = [*architectures[first:], *architectures[:first]]
            work.append(pool.submit(kill_runs, folder / str(job), share, seed + job, architectures=turn, steps=steps))
        for each in work:
            _add(total, each.result())
    return total


def _add(total: Counts, more: Counts) -> None:
    for name, count in more.kills.items():
        total.kills[name] = total.kills.get(name, 0) + count
    for entry in fields(Counts):
        if entry.name != "kills":
            setattr(total, entry.name, getattr(total, entry.name) + getattr(more, entry.name))


def _strike(killed: KilledRun, falling: Iterator[Blow], kills: int) -> None:
    while killed.counts.all_kills < kills:
        blow = next(falling)
        if not killed.strike(blow):
            return
        print(f"    {killed.counts.all_kills}: {blow.victim}, {blow.moment}", flush=True)


@contextmanager
def _site(folder: Path) -> Iterator[Site]:
    """The server; at the end it and every trainer that is left are stopped."""
    before = os.environ.get("MOE_HUB_DATA")
    os.environ["MOE_HUB_DATA"] = str(folder / "data")  # one token cache for all
    site = Site(folder / "runs", folder / "data")
    try:
        yield site
    finally:
        site.close()
        for run_id in RunStore(folder / "runs").ids():
            launch.escalate_stop(folder / "runs" / run_id, patience_s=0.5)
        os.environ.pop("MOE_HUB_DATA")
        if before is not None:
            os.environ["MOE_HUB_DATA"] = before


def report(counts: Counts) -> PartResult:
    """Kills by victim and moment, and what had to hold."""
    rows = [(name, str(count)) for name, count in sorted(counts.kills.items())]
    result = PartResult([Table("Kills", ("victim, moment", "kills"), rows)])
    slowest, page = max(counts.interrupted_s, default=0.0), max(counts.page_s, default=0.0)
    result.goals = [
        Goal("committed rows lost", counts.lost, 0, "at most"),
        Goal("unfinished rows for each kill", counts.unfinished / max(1, counts.all_kills), 1, "at most"),
        Goal("from the kill to `interrupted` in the run's files, slowest, s", slowest, INTERRUPTED_S, "at most"),
        Goal(
            "from the kill, or the new server's first answer, to the page, slowest, s", page, INTERRUPTED_S, "at most"
        ),
        Goal("runs that did not end bit-equal to the uninterrupted run", counts.unequal, 0, "at most"),
    ]
    result.notes = [
        f"{counts.all_kills} kills, {counts.runs} runs finished, {counts.rows} rows compared, {counts.unfinished} rows "
        f"left unfinished, {counts.leftovers} times a half written checkpoint was left (and removed later); median to "
        f"`interrupted` {1e3 * percentile(counts.interrupted_s or [0.0], 0.5):.0f} ms"
    ]
    result.data = {"kills": counts.kills, "runs": counts.runs, "rows": counts.rows}
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.split("\n\n")[0])
    parser.add_argument("--kills", type=int, default=200, help="how many (default 200; about 15 s each)")
    parser.add_argument("--seed", type=int, default=0, help="of victims and moments (default 0)")
    parser.add_argument("--steps", type=int, default=120, help="length of a run (default 120)")
    parser.add_argument("--jobs", type=int, default=2, help="trainers at a time, seeds from --seed on (default 2)")
    parser.add_argument("--only", nargs="+", choices=list(ARCHITECTURES), default=list(ARCHITECTURES), metavar="NAME",
                        help="these architectures (default: all, in turn)")  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder of the JSON file")
    chosen = parser.parse_args(arguments)
    started, facts = datetime.now().astimezone(), machine.facts()
    with tempfile.TemporaryDirectory(prefix="moe-hub-kills-", ignore_cleanup_errors=True) as folder:
        counts = kill_in_turns(Path(folder), chosen.kills, chosen.seed, chosen.jobs, chosen.only, chosen.steps)
    result = report(counts)
    print(f"\n{result.text()}")
    write(
        chosen.out, started, facts, ["python", "-m", "benchmarks.kills", *(arguments or sys.argv[1:])], "kills", result
    )
    return int(not all(goal.met for goal in result.goals))


def write(
    folder: Path, started: datetime, facts: dict[str, Any], command: list[str], name: str, result: PartResult
) -> None:
    """Leaves the result where `python -m benchmarks --document` finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{started:%Y%m%d-%H%M%S}-{name}.json"
    seconds = (datetime.now().astimezone() - started).total_seconds()
    part = {"seconds": round(seconds, 1), **result.as_json()}
    record = {
        "started": started.isoformat(timespec="seconds"),
        "machine": facts,
        "command": command,
        "parts": {name: part},
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"written to {path}, {seconds:.0f} s")


if __name__ == "__main__":
    raise SystemExit(main())
