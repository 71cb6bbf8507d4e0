"""Part 2 (long): this project's arms against a nanoGPT equivalent, loss on the whole validation set and CPU time."""

from __future__ import annotations

from dataclasses import replace
from statistics import mean, stdev
from typing import Any

from benchmarks.characters import find_text, is_tiny_shakespeare
from benchmarks.nanogpt import Recipe
from benchmarks.options import Options
from benchmarks.report import Goal, PartResult, Table, times
from benchmarks.timing import Contender, Timings, measure

REFERENCE = "nanoGPT equivalent"
UNCOUPLED = {"model.coupling.num_layers": 0}
ARMS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": ("dense", {}),
    "dense, d 256 (parameters and work of 4 experts)": ("dense", {"model.d_model": 256}),
    "E 4, mean": ("hgnn", {**UNCOUPLED, "model.readout": "mean"}),
    "E 4, gate": ("hgnn", UNCOUPLED),
    "E 4, gnn": ("gnn", {}),
    "E 4, hgnn": ("hgnn", {}),
    "E 4, geometric, standard training": ("geometric", {}),
    "E 4, topk 2": ("topk", {}),
}
BLOCK = 50  # iterations that an arm runs before the next has its turn
EXPERTS = "E 4,"


def run(options: Options) -> PartResult:
    """Trains every arm once a seed, all arms in turns."""
    path = find_text(options.text)
    recipe = replace(Recipe(), iterations=options.iterations)
    result = PartResult()
    runs: list[Timings] = []
    arms = choose(options.arms)
    for seed in range(options.seeds):
        common = {"text": str(path), "seed": seed, "recipe": recipe}
        contenders = [Contender(REFERENCE, "benchmarks.shakespeare_arms:build_reference", common, keep_memory=False)]
        for name, (architecture, overrides) in arms.items():
            chosen = {**common, "architecture": architecture, "overrides": overrides}
            contenders.append(Contender(name, "benchmarks.shakespeare_arms:build_arm", chosen))
        rounds = recipe.iterations // BLOCK
        runs.append(measure(contenders, rounds=rounds, steps=BLOCK, warm_up=0, calls=("full_loss",)))
        result.data[f"seed {seed}"] = runs[-1].as_json()
    rows = [_row(name, runs, result) for name in (REFERENCE, *arms)]
    columns = ("arm", "parameters", "precision", "validation loss, nat", "CPU s", f"CPU, in units of {REFERENCE}")
    title = f"Characters, {recipe.iterations} iterations, seeds {options.seeds}, one thread, training alone"
    result.tables.append(Table(title, columns, rows))
    if not is_tiny_shakespeare(path):
        result.notes.append(f"{path.name} is not the published tinyshakespeare.txt: compare within this table alone")
    result.notes.append("differences under 0.01 nat of one seed are noise")
    return result


def choose(wanted: tuple[str, ...]) -> dict[str, tuple[str, dict[str, Any]]]:
    """The arms of these names, or whose names begin so; all where nothing is asked for."""
    if not wanted:
        return ARMS
    found: dict[str, tuple[str, dict[str, Any]]] = {}
    for word in wanted:
        near = [word] if word in ARMS else [name for name in ARMS if name.startswith(word)]
        if not near:
            raise ValueError(f"no arm begins with {word!r}; arms: {'; '.join(ARMS)}")
        found |= {name: ARMS[name] for name in near}
    return found


def _row(name: str, runs: list[Timings], result: PartResult) -> tuple[str, ...]:
    losses = [run.results[name]["full_loss"] for run in runs]
    seconds = mean(sum(run.cpu_s[name]) * BLOCK for run in runs)
    ratio = runs[0].ratio(name, REFERENCE)
    facts = runs[0].facts[name]
    spread = f" ± {stdev(losses):.4f}" if len(losses) > 1 else ""
    if name == "dense":
        result.goals.append(Goal("dense, validation loss", mean(losses), 1.92, "at most"))
        text = f"dense, CPU time over {REFERENCE}"
        result.goals.append(Goal(text, ratio.median, 0.75, "at most", ratio.low, ratio.high))
    elif name.startswith(EXPERTS):
        result.goals.append(Goal(f"{name}, validation loss", mean(losses), 1.84, "at most"))
    cells = (f"{facts['parameters'] / 1e6:.2f} M", facts["precision"], f"{mean(losses):.4f}{spread}")
    return name, *cells, f"{seconds:.0f}", times(ratio)
