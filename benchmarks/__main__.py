"""`python -m benchmarks [--only PART ...] [--full]`: prints tables of ratios, writes JSON to bench-results/."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks import document, machine
from benchmarks.options import Options
from benchmarks.report import PartResult

QUICK = {
    "step": "hgnn, ghost and geometric steps against the plain implementations",
    "overhead": "what coupling, rotation, dormant ghosts and metric rows add to a step",
    "peak": "share of the GEMM peak of the same run (MFU)",
    "topk": "topk against transformers' Mixtral with each experts_implementation",
    "generation": "generation with and without the key-value cache",
    "pipeline": "data loading and the run writer, in units of a step",
    "processes": "training by one process against two, with DDP and with FSDP2",
    "terms": "lambda terms and tasks a second, by level and split",
    "data": "second load of a prepared 100 MB text against the first",
    "upload": "a 1 GB upload by a browser: time, memory of the server, killed midway; preparing the file",
    "live": "live figures at scale: reader, routes, server and a real browser",
}
ON_GPU = {"gpu": "steps on a GPU: MFU, against Mixtral and a dense model of the same active size"}
FULL = {"shakespeare": "dense and 4-expert arms against a nanoGPT equivalent: loss and CPU time, 2000 iterations"}


EVERY = {**QUICK, **ON_GPU, **FULL}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    listing = "\n".join(f"  {name:<12} {text}" for name, text in EVERY.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog=f"parts:\n{listing}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--only", nargs="+", choices=list(EVERY), metavar="PART", help="run these parts alone")
    parser.add_argument("--full", action="store_true", help=f"also run the long parts: {', '.join(FULL)}")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies rounds and time budgets (default 1)")
    parser.add_argument("--text", type=Path, help="text of the shakespeare part (tinyshakespeare.txt)")
    parser.add_argument("--seeds", type=int, default=1, help="seeds of the shakespeare part (default 1)")
    parser.add_argument("--iterations", type=int, default=2000, help="its iterations (default 2000, as published)")
    parser.add_argument("--arms", nargs="+", default=[], metavar="ARM", help="its arms, by the start of their names")
    parser.add_argument("--document", action="store_true", help="put the newest results into docs/performance.md")
    parser.add_argument("--out", type=Path, default=Path("bench-results"), help="folder of the JSON files")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Runs the chosen parts in turn. Exit code 1 where one could not run; a missed goal is a result, not a failure."""
    chosen = parse(arguments)
    names = chosen.only or [*QUICK, *(ON_GPU if torch_sees_a_gpu() else ()), *(FULL if chosen.full else ())]
    options = Options(chosen.scale, chosen.text, chosen.seeds, chosen.iterations, tuple(chosen.arms))
    started = datetime.now().astimezone()
    record: dict[str, Any] = {"started": started.isoformat(timespec="seconds"), "machine": machine.facts()}
    record["command"] = ["python", "-m", "benchmarks", *(sys.argv[1:] if arguments is None else arguments)]
    record["parts"] = {}
    print(f"{started:%Y-%m-%d %H:%M}  " + ", ".join(f"{key} {value}" for key, value in record["machine"].items()))
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / f"{started:%Y%m%d-%H%M%S}-{'-'.join(names) if chosen.only else 'all'}.json"
    failures = 0
    for name in names:
        begin = time.monotonic()
        found, text = _run_part(name, options)
        failures += "error" in found
        seconds = time.monotonic() - begin
        print(f"\n## {name}: {EVERY[name]} ({seconds:.0f} s)\n\n{text}", flush=True)
        record["parts"][name] = {"seconds": round(seconds, 1), **found}
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")
    if chosen.document:
        document.write(chosen.out)
    return 1 if failures else 0


def torch_sees_a_gpu() -> bool:
    """Whether there is a CUDA device; torch is imported for it."""
    import torch

    return torch.cuda.is_available()


def _run_part(name: str, options: Options) -> tuple[dict[str, Any], str]:
    try:
        result: PartResult = importlib.import_module(f"benchmarks.parts.{name}").run(options)
    except Exception as error:  # one part that cannot run here must not cost the others' results
        message = f"{type(error).__name__}: {error}"
        return {"error": message}, f"FAILED: {message}"
    return result.as_json(), result.text()


if __name__ == "__main__":
    raise SystemExit(main())
