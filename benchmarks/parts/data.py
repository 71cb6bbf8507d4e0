"""The token cache: the second load of a large text against the first, and what a changed byte does."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.calibration import calibration_s, conditions, cpu_s
from benchmarks.options import Options
from benchmarks.report import Goal, PartResult, Table
from moe_hub.config import Config, load_config

TEXT_BYTES = 100_000_000
GOAL = 100.0
SETTLE_S = 2.2  # a file younger than cache.RACY_NS is hashed again each time: the clock of its folder may tick slowly
WORDS, WORDS_A_LINE = 20_000, 12


@dataclass(frozen=True)
class Load:
    """One load of the data: CPU and wall seconds, and what the cache said."""

    cpu_s: float
    wall_s: float
    hit: bool
    reason: str


def run(options: Options) -> PartResult:
    """Loads a text for the first time, again, and after one byte has changed."""
    unit_s = calibration_s()
    with tempfile.TemporaryDirectory(prefix="moe-hub-bench-") as folder:
        path = Path(folder) / "text.txt"
        write_text(path, TEXT_BYTES)
        measured = measure(path, Path(folder) / "cache", options.rounds(5))
    result = PartResult(data={"unit_s": unit_s} | {name: [vars(load) for load in loads] for name, loads in
                                                   measured.items()})  # fmt: skip
    rows = [_row(name, loads, unit_s) for name, loads in measured.items()]
    columns = ("load", "CPU ms, median", "units", "wall ms, median", "cache", "why")
    result.tables.append(Table(f"{TEXT_BYTES / 1e6:.0f} MB of text, tokenizer `characters`", columns, rows))
    for name in ("corpus", "batches"):
        first, again = (median(load.cpu_s for load in measured[f"{name}, {when}"]) for when in ("first", "again"))
        result.goals.append(Goal(f"first over second load, CPU time ({name})", first / again, GOAL, "at least"))
    changed = measured["batches, one byte changed"][0]
    said = float(not changed.hit and "content changed" in changed.reason)
    result.goals.append(Goal("a changed byte is a miss that says so (1: yes)", said, 1, "at least"))
    result.notes.append("corpus: tokens and tokenizer (open_corpus); batches: all that a trainer waits for (open_data)")
    result.notes.append(conditions(unit_s))
    return result


def measure(path: Path, cache: Path, rounds: int) -> dict[str, list[Load]]:
    """Each kind of load, those from the cache `rounds` times."""
    from moe_hub.data.corpus import open_corpus
    from moe_hub.data.prepare import open_data

    config = load_config(preset="geometric_lambda", overrides=[
        "train.lambda_cognitive.enabled=false", "data.source=file", f"data.path={path}",
    ])  # fmt: skip
    loads = {}
    openers: dict[str, Callable[..., Any]] = {"corpus": open_corpus, "batches": open_data}
    for name, opener in openers.items():
        loads[f"{name}, first"] = [load_once(opener, config, cache / name)]
        loads[f"{name}, again"] = [load_once(opener, config, cache / name) for _ in range(rounds)]
    change_byte(path)
    loads["batches, one byte changed"] = [load_once(open_data, config, cache / "batches")]
    return loads


def load_once(opener: Callable[..., Any], config: Config, cache: Path) -> Load:
    """One load, timed."""
    cpu, wall = cpu_s(), time.perf_counter()
    facts = opener(config, cache_dir=cache).facts
    return Load(cpu_s() - cpu, time.perf_counter() - wall, bool(facts["cache_hit"]), str(facts["cache_reason"]))


def write_text(path: Path, size: int) -> None:
    """Lines of made-up words, as often as in a language (Zipf); the same bytes each time."""
    with path.open("wb") as file:
        left = size
        for piece in _pieces():
            file.write(piece[:left])
            left -= len(piece[:left])
            if not left:
                break
    time.sleep(SETTLE_S)


def change_byte(path: Path) -> None:
    """Another letter in the middle of the file, with its length kept."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        old = file.read(1)
        file.seek(-1, 1)
        file.write(b"b" if old == b"a" else b"a")


def _pieces() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, size)) for size in rng.integers(2, 11, WORDS)]
    while True:
        chosen = (rng.zipf(1.2, 100 * WORDS_A_LINE * 100) - 1) % WORDS
        lines = (
            " ".join(words[index] for index in chosen[begin : begin + WORDS_A_LINE])
            for begin in range(0, len(chosen), WORDS_A_LINE)
        )
        yield ("\n".join(lines) + "\n").encode()


def _row(name: str, loads: list[Load], unit_s: float) -> tuple[str, ...]:
    cpu, wall = median(load.cpu_s for load in loads), median(load.wall_s for load in loads)
    state = "hit" if loads[0].hit else "miss"
    return name, f"{1e3 * cpu:.2f}", f"{cpu / unit_s:.3g}", f"{1e3 * wall:.1f}", state, loads[0].reason
