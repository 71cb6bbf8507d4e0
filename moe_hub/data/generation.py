"""Lambda tasks as a file of rows, for programs that are not this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import orjson

from moe_hub.data.source import Progress
from moe_hub.errors import ConfigError, DataError
from moe_hub.lambda_calculus.splits import Split
from moe_hub.lambda_calculus.tasks import Layout, TaskSettings, make_sample


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
    for index in range(count):
        if index % 500 == 0:
            progress("Generating", index / count)
        yield orjson.dumps(asdict(make_sample(settings, split, seed, index)), option=orjson.OPT_APPEND_NEWLINE)
