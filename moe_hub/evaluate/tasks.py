"""What a model answers to lambda-calculus tasks, judged by the evaluator of the calculus.

Answers are written by greedy decoding, many at once: prompts of equal length share a batch, so nothing is padded.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from moe_hub.inference import Loaded, complete
from moe_hub.lambda_calculus.judge import Verdict, judge
from moe_hub.lambda_calculus.tasks import Sample
from moe_hub.train.evaluation import wilson_interval


@dataclass
class Count:
    """Hits out of trials."""

    hits: int = 0
    trials: int = 0

    def add(self, hit: bool) -> None:
        self.hits += hit
        self.trials += 1

    def report(self) -> dict[str, float]:
        """Hits, trials, share, and the ends of Wilson's 95 % interval."""
        low, high = wilson_interval(self.hits, self.trials)
        share = self.hits / self.trials if self.trials else 0.0
        return {"hits": self.hits, "trials": self.trials, "share": share, "low": low, "high": high}


@dataclass
class Tally:
    """Counts of all tasks, by number of steps k, by level and by phase.

    alpha: equal up to names; beta: the right value; valid: a term at all; steps: steps of an answered trace that
    follow from the step before; trace: whole traces.
    """

    measures: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))
    by_steps: dict[int, Count] = field(default_factory=lambda: defaultdict(Count))
    by_level: dict[int, Count] = field(default_factory=lambda: defaultdict(Count))
    by_phase: dict[str, Count] = field(default_factory=lambda: defaultdict(Count))

    def add(self, sample: Sample, verdict: Verdict) -> None:
        """Counts one answer."""
        self.measures["alpha_exact_match"].add(verdict.right)
        self.measures["beta_exact_match"].add(verdict.beta_right)
        self.measures["validity"].add(verdict.kind != "not a term")
        self.by_steps[sample.steps].add(verdict.right)
        self.by_level[sample.level].add(verdict.right)
        for valid in verdict.steps_valid:
            self.measures["step_accuracy"].add(valid)
        if verdict.asked in ("trace", "segments"):
            self.measures["trace_accuracy"].add(bool(verdict.steps_valid) and verdict.right)
        for phase, right in verdict.phases.items():
            self.by_phase[phase].add(right)

    def report(self) -> dict[str, Any]:
        """The counts as JSON-able values."""
        tables: dict[str, dict[Any, Count]] = {
            "by_steps": self.by_steps, "by_level": self.by_level, "by_phase": self.by_phase
        }  # fmt: skip
        result: dict[str, Any] = {name: count.report() for name, count in self.measures.items()}
        for name, table in tables.items():
            if table:
                result[name] = {str(key): table[key].report() for key in sorted(table)}
        return result


def answer_tasks(
    loaded: Loaded,
    samples: Sequence[Sample],
    *,
    batch_size: int = 128,
    progress: Callable[[int], None] = lambda _done: None,
) -> Tally:
    """Lets the model answer every sample and judges the answers."""
    tally = Tally()
    done = 0
    for group in _of_equal_length(loaded, samples, batch_size):
        # An answer longer than the true one by a few tokens is wrong whatever follows.
        longest = max(len(loaded.tokenizer(sample.answer)["input_ids"]) for sample in group) + 4
        for sample, answer in zip(group, complete(loaded, [sample.prompt for sample in group], longest), strict=True):
            tally.add(sample, judge(sample.prompt, answer))
        done += len(group)
        progress(done)
    return tally


def _of_equal_length(loaded: Loaded, samples: Sequence[Sample], batch_size: int) -> Iterator[list[Sample]]:
    by_length: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        by_length[len(loaded.tokenizer(sample.prompt)["input_ids"])].append(sample)
    for length in sorted(by_length):
        group = sorted(by_length[length], key=lambda sample: len(sample.answer))
        for first in range(0, len(group), batch_size):
            yield group[first : first + batch_size]
