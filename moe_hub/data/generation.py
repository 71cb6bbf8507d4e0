"""Many lambda tasks: on all cores where that pays, and as a file of rows for programs that are not this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path

import orjson

from moe_hub.data.source import Progress
from moe_hub.errors import ConfigError, DataError
from moe_hub.lambda_calculus.splits import Split
from moe_hub.lambda_calculus.tasks import Layout, Sample, TaskSettings, draw_sample

BLOCK = 50  # tasks that a process makes at once
WORTH_S = 5.0  # seconds of work from which more processes pay
LOOK_S = 1.0  # seconds between two looks whether the trainer lives


def tasks(settings: TaskSettings, split: Split | None, seed: int, count: int) -> Iterator[Sample]:
    """Tasks 0 to `count` - 1 in order; the same whether one process makes them or many. Split None: of any split."""
    began = time.perf_counter()
    first = make_block(settings, split, seed, range(min(BLOCK, count)))
    expected_s = (time.perf_counter() - began) / len(first) * (count - len(first))
    yield from first
    blocks = [range(at, min(at + BLOCK, count)) for at in range(len(first), count, BLOCK)]
    if expected_s > WORTH_S and len(blocks) > 1 and _can_fork():
        yield from _in_processes(settings, split, seed, blocks)
    else:
        yield from chain.from_iterable(make_block(settings, split, seed, block) for block in blocks)


def make_block(settings: TaskSettings, split: Split | None, seed: int, indices: range) -> list[Sample]:
    """The tasks with these numbers."""
    return [draw_sample(settings, split, seed, index) for index in indices]


def _can_fork() -> bool:
    """Whether there is more than one core, and processes can be made that start at once where this one stands."""
    return (
        sys.platform == "linux"
        and len(os.sched_getaffinity(0)) > 1
        and not multiprocessing.current_process().daemon  # such a process may not have children
    )


def _in_processes(settings: TaskSettings, split: Split | None, seed: int, blocks: list[range]) -> Iterator[Sample]:
    """Forked processes run nothing but the generator, which is plain Python: no threads, no torch, no files."""
    context = multiprocessing.get_context("fork")
    workers = min(len(os.sched_getaffinity(0)), len(blocks))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns where the process has threads
        pool = context.Pool(workers, _begin_worker, (os.getpid(),))
    with pool:
        yield from chain.from_iterable(pool.imap(partial(make_block, settings, split, seed), blocks))


def _begin_worker(trainer: int) -> None:
    """A worker dies at SIGTERM, whatever the trainer does then, leaves Ctrl-C to it, and does not outlive it."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(trainer,), daemon=True).start()


def _end_with(trainer: int) -> None:
    """A killed trainer tells its workers nothing, and the pipe they wait at stays open among them."""
    while os.getppid() == trainer:
        time.sleep(LOOK_S)
    os._exit(1)


def settings_from(levels: str, min_size: int, max_size: int, layout: Layout, max_tokens: int) -> TaskSettings:
    """Settings from the words of a command line; raises `ConfigError`."""
    try:
        numbers = tuple(sorted({int(word) for word in levels.split(",")}))
    except ValueError:
        raise ConfigError(f"--levels {levels!r}: give numbers separated by commas, such as 1,2,3") from None
    return TaskSettings(numbers, min_size, max_size, layout, max_tokens)


def write_tasks(out: Path, settings: TaskSettings, split: Split, seed: int, count: int, progress: Progress) -> None:
    """Writes `count` tasks as JSON lines (index, level, steps, prompt, answer, term), whole or not at all."""
    if count < 1:
        raise ConfigError(f"--num {count}: allowed is 1 or more")
    lines = _lines(settings, split, seed, count, progress)
    if str(out) == "-":
        sys.stdout.buffer.writelines(lines)
        return
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.writelines(lines)
        temporary.replace(out)
    except OSError as error:
        raise DataError(f"{out}: {error.strerror}; choose another place with --out") from None
    finally:
        temporary.unlink(missing_ok=True)


def _lines(settings: TaskSettings, split: Split, seed: int, count: int, progress: Progress) -> Iterator[bytes]:
    for done, sample in enumerate(tasks(settings, split, seed, count)):
        if done % BLOCK == 0:
            progress("Generating", done / count)
        yield orjson.dumps(asdict(sample), option=orjson.OPT_APPEND_NEWLINE)
