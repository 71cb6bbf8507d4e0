"""Fuzzed data files: `python tests/data/fuzz.py --num 10000 [--seed S]`.

Each file is a valid one with a few random changes. It must be read or refused with a message that names it, within
seconds, without any other exception and without leftovers in the cache.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

from malformed import CSV, JSON, JSONL, PARQUET, TEXT

from moe_hub.config import load_config
from moe_hub.data.cache import entries
from moe_hub.data.corpus import open_corpus
from moe_hub.data.inspection import as_text, inspect
from moe_hub.data.shape import shape_of
from moe_hub.errors import MoeHubError

MESSAGES = b"".join(
    json.dumps(
        {"messages": [{"role": "user", "content": f"say {i}"}, {"role": "assistant", "content": str(i)}]}
    ).encode()
    + b"\n"
    for i in range(20)
)
WRAPPED = json.dumps({"version": 1, "data": [{"text": f"sentence number {i}"} for i in range(20)]}).encode()
SEEDS = (
    (".jsonl", JSONL), (".json", JSON), (".csv", CSV), (".txt", TEXT), (".parquet", PARQUET), (".jsonl", MESSAGES),
    (".json", WRAPPED),
)  # fmt: skip
SPICE = (
    b"\x00", b"\xff", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\ud800", b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b",",
    b":", b"\n", b"\r", b"\t", b"null", b"NaN", b"1e999", b"-", b"\xc3", b"\xe2\x80\xa8", b"\xf0\x9f\x98\x80", 
    b"PK\x03\x04", b"PAR1", b"{}", b"[]",
)  # fmt: skip
LIMIT_S = 20


def mutate(content: bytes, rng: random.Random) -> bytes:
    """A few random changes: bytes replaced, removed, doubled, put in; the file cut; another kind spliced in."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data) + 1)
        choice = rng.randrange(8)
        if choice == 0 and at < len(data):
            data[at] = rng.randrange(256)
        elif choice == 1:
            del data[at : at + rng.randint(1, 40)]
        elif choice == 2:
            data[at:at] = rng.choice(SPICE) * rng.choice((1, 1, 1, 3, 500))
        elif choice == 3:
            data[at:at] = data[at : at + rng.randint(1, 200)]
        elif choice == 4:
            del data[at:]
        elif choice == 5:
            data[at:at] = rng.choice(SEEDS)[1][: rng.randint(1, 400)]
        elif choice == 6:
            data[at:at] = rng.randbytes(rng.randint(1, 30))
        else:
            data = data.replace(rng.choice((b"answer", b"question", b"\n", b'"')), rng.choice(SPICE), rng.randint(1, 3))
    return bytes(data)


def check(path: Path, cache: Path, rng: random.Random) -> str:
    """What is wrong with how a file is handled; empty if nothing."""
    config = load_config(
        overrides=(
            "data.source=file",
            f"data.path={json.dumps(str(path))}",
            f"data.bad_rows={rng.choice(('refuse', 'skip'))}",
            f"data.tokenizer={rng.choice(('auto', 'bytes', 'characters'))}",
        )
    )
    report = inspect(config, cache_dir=cache)
    text = as_text(report)
    text.encode()
    json.dumps(report.to_dict()).encode()
    if not report.usable and str(path) not in text:
        return f"the message does not name the file: {text}"
    try:
        shape_of(config, open_corpus(config, cache_dir=cache))
        opened = True
    except MoeHubError as error:
        opened = "max_seq_len" in str(error)  # which is about the model, not about the file
    if opened is not report.usable:
        return f"usable is {report.usable}, but opening it says {opened}"
    leftovers = [item.name for item in cache.glob(".*") if item.is_dir()]
    if leftovers or (not report.usable and entries(cache)):
        return f"left in the cache: {leftovers or 'an entry'}"
    return ""


def run(count: int, seed: int, folder: Path, *, told: bool = False) -> list[str]:
    """Problems of `count` files, each with the number that makes it again; changed files are kept in `folder`."""
    problems: list[str] = []
    began = time.monotonic()
    for number in range(count):
        rng = random.Random(f"{seed} {number}")
        suffix, content = rng.choice(SEEDS)
        if rng.random() < 0.1:
            suffix = rng.choice(SEEDS)[0]
        path, cache = folder / f"fuzzed{number}{suffix}", folder / "cache"
        path.write_bytes(mutate(content, rng))
        signal.signal(signal.SIGALRM, _too_slow)
        signal.alarm(LIMIT_S)
        try:
            problem = check(path, cache, rng)
        except Exception:
            problem = traceback.format_exc()
        finally:
            signal.alarm(0)
        shutil.rmtree(cache, ignore_errors=True)
        if problem:
            problems.append(f"seed {seed}, file {number} ({path}): {problem}")
        else:
            path.unlink()
        if told and number % 500 == 499:
            print(f"{number + 1} files, {len(problems)} problems, {time.monotonic() - began:.0f} s", flush=True)
    return problems


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"longer than {LIMIT_S} s")


def main() -> int:
    """Prints the problems; exit code 1 where there are any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="moe-hub-fuzz-"))
    problems = run(options.num, options.seed, folder, told=True)
    print("\n".join(problems[:20]) or f"{options.num} files: none gave a traceback, a hang or a half-written cache")
    if not problems:
        shutil.rmtree(folder)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
