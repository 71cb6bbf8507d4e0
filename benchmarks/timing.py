"""Interleaved, paired timing in CPU time: every contender in its own process, taking turns.

On a shared machine wall time measures the neighbours, and two runs one after the other measure two different
moments. So each contender is a worker process that says how much CPU time (user + system, all its threads, from
getrusage) a block of steps took; the workers take turns in rounds, in rotating order, and two contenders are compared
round by round. Of the ratios of all rounds the median is reported, with a distribution-free 95 % interval. Memory
settings of one contender (malloc) never reach another. Where differences of a few percent are asked for, the variants
live in one process instead (`Built.variants`), because two processes of the same program differ by a few percent by
where their memory happens to lie; `repeats` then starts that process anew.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Self

PRELOAD = ["torch", "transformers", "benchmarks.training_step"]


@dataclass(frozen=True)
class Contender:
    """What a worker builds: `build` is "module:function", called with `options`; it returns `Built`."""

    name: str
    build: str
    options: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    keep_memory: bool = True  # malloc as in the trainer; False: as glibc has it


@dataclass(frozen=True)
class Built:
    """One step to be timed, facts to report (JSON-able), and what to call by name after the timing.

    With `variants`, each of these is timed under its own name in place of `step`.
    """

    step: Callable[[], object] = lambda: None
    facts: dict[str, Any] = field(default_factory=dict)
    calls: dict[str, Callable[[], Any]] = field(default_factory=dict)
    variants: dict[str, Callable[[], object]] = field(default_factory=dict)


@dataclass(frozen=True)
class Block:
    """Times of one block of steps, each per step."""

    cpu_s: float
    wall_s: float


def _serve(pipe: Connection, contender: Contender) -> None:
    import torch

    from moe_hub.train.device import keep_freed_memory

    torch.set_num_threads(contender.threads)
    if contender.keep_memory:
        keep_freed_memory()
    module, _, name = contender.build.partition(":")
    built: Built = getattr(importlib.import_module(module), name)(**contender.options)
    steps = built.variants or {contender.name: built.step}
    pipe.send((built.facts, list(steps)))
    while (request := pipe.recv()) is not None:
        pipe.send(_time_block(steps[request[0]], request[1]) if isinstance(request, tuple) else built.calls[request]())


def _time_block(step: Callable[[], object], steps: int) -> Block:
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    for _ in range(steps):
        step()
    after, end = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Block(cpu_s / steps, (end - start) / steps)


class Worker:
    """A contender's process. Use as a context manager; the process ends with it."""

    def __init__(self, contender: Contender) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOAD)
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, contender), daemon=True)
        self._process.start()
        other.close()
        self.contender = contender
        self.facts: dict[str, Any]
        self.variants: list[str]
        self.facts, self.variants = self._receive()

    def run(self, variant: str, steps: int) -> Block:
        """Times a block of steps of one of the variants."""
        self._pipe.send((variant, steps))
        block = self._receive()
        assert isinstance(block, Block)
        return block

    def call(self, name: str) -> Any:
        """Calls one of the contender's named calls and returns its result."""
        self._pipe.send(name)
        return self._receive()

    def close(self) -> None:
        """Ends the process."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._pipe.send(None)
        self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"the worker of {self.contender.name!r} ended; its error stands above") from None


@dataclass(frozen=True)
class Ratio:
    """Paired ratio a / b: median over rounds, its 95 % interval, and the ratio of the two minima."""

    median: float
    low: float
    high: float
    of_minima: float
    rounds: int


@dataclass
class Timings:
    """CPU and wall seconds per step of each contender, one value a round, and what the machine did meanwhile."""

    cpu_s: dict[str, list[float]]
    wall_s: dict[str, list[float]]
    facts: dict[str, dict[str, Any]]
    load: list[float]
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def ratio(self, over: str, under: str) -> Ratio:
        """CPU time of `over` in units of `under`."""
        pairs = list(zip(self.cpu_s[over], self.cpu_s[under], strict=True))
        ratios = [a / b for a, b in pairs]
        low, high = median_interval(ratios)
        minima = min(self.cpu_s[over]) / min(self.cpu_s[under])
        return Ratio(median(ratios), low, high, minima, len(ratios))

    def as_json(self) -> dict[str, Any]:
        """Everything measured, for the results file."""
        return {
            "cpu_s_per_step": self.cpu_s,
            "wall_s_per_step": self.wall_s,
            "facts": self.facts,
            "load_1min": self.load,
            "results": self.results,
        }


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Interval of the median from order statistics (sign test); the whole range where the sample is too small."""
    ordered = sorted(values)
    count = len(ordered)
    tail, rank = 0.0, 0
    for successes in range(count // 2):
        tail += math.comb(count, successes) / 2**count
        if tail > (1 - confidence) / 2:
            break
        rank = successes
    return ordered[rank], ordered[count - 1 - rank]


def measure(
    contenders: Sequence[Contender],
    *,
    rounds: int,
    steps: int,
    budget_s: float = math.inf,
    warm_up: int = 2,
    calls: Sequence[str] = (),
    repeats: int = 1,
) -> Timings:
    """Runs all contenders in turns, `repeats` times with fresh processes: `rounds` rounds of `steps` steps each.

    After `budget_s` seconds of wall time (per repeat) no further round is begun; three are always run. `calls` are
    asked of every worker at the end; their results stand in `Timings.results`.
    """
    timings = Timings({}, {}, {}, [])
    for _ in range(repeats):
        with contextlib.ExitStack() as stack:
            workers = []
            for contender in contenders:
                workers.append(stack.enter_context(Worker(contender)))
                for variant in workers[-1].variants if warm_up else ():
                    workers[-1].run(variant, warm_up)
            timings.facts |= {worker.contender.name: worker.facts for worker in workers}
            _take_turns(workers, timings, rounds, steps, time.monotonic() + budget_s)
            for worker in workers:
                timings.results[worker.contender.name] = {name: worker.call(name) for name in calls}
    return timings


def _take_turns(workers: Sequence[Worker], timings: Timings, rounds: int, steps: int, deadline: float) -> None:
    turns = [(worker, variant) for worker in workers for variant in worker.variants]
    names = [variant for _, variant in turns]
    assert len(set(names)) == len(names), f"contenders need different names: {names}"
    for number in range(rounds):
        if number >= 3 and time.monotonic() > deadline:
            return
        timings.load.append(round(os.getloadavg()[0], 2))
        shift = number % len(turns)
        for worker, variant in turns[shift:] + turns[:shift]:
            block = worker.run(variant, steps)
            timings.cpu_s.setdefault(variant, []).append(block.cpu_s)
            timings.wall_s.setdefault(variant, []).append(block.wall_s)
