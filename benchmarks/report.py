"""Tables for people and JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from benchmarks.timing import Ratio


@dataclass(frozen=True)
class Goal:
    """A bound from the design and what was measured against it; `low` and `high` are the 95 % interval if known."""

    text: str
    measured: float
    bound: float
    kind: Literal["at least", "at most"]
    low: float | None = None
    high: float | None = None

    @property
    def met(self) -> bool:
        """Whether the measured value (the median) keeps the bound."""
        return self.measured >= self.bound if self.kind == "at least" else self.measured <= self.bound

    def line(self) -> str:
        """One line: met, or missed and by how much."""
        interval = f" [{self.low:.3g}, {self.high:.3g}]" if self.low is not None and self.high is not None else ""
        state = "met" if self.met else f"MISSED by {abs(self.measured - self.bound):.3g}"
        return f"{state}: {self.text}: {self.measured:.4g}{interval}, goal {self.kind} {self.bound:g}"


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def markdown(self) -> str:
        """A pipe table with aligned columns."""
        lines = [self.columns, *self.rows]
        widths = [max(len(line[index]) for line in lines) for index in range(len(self.columns))]
        text = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
                for line in lines]  # fmt: skip
        text.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
        return "\n".join([f"**{self.title}**", "", *text])


@dataclass
class PartResult:
    """What one part of the benchmark found."""

    tables: list[Table] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    data: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        """All of it for the terminal, in markdown."""
        parts = [table.markdown() for table in self.tables]
        parts += ["\n".join(f"- {goal.line()}" for goal in self.goals)] if self.goals else []
        parts += ["\n".join(f"Note: {note}" for note in self.notes)] if self.notes else []
        return "\n\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        """All of it for the results file."""
        return {
            "tables": [asdict(table) for table in self.tables],
            "goals": [{**asdict(goal), "met": goal.met} for goal in self.goals],
            "notes": self.notes,
            "measured": self.data,
        }


def milliseconds(values: Sequence[float]) -> str:
    """Smallest / median, in milliseconds."""
    from statistics import median

    return f"{1e3 * min(values):.1f} / {1e3 * median(values):.1f}"


def times(ratio: Ratio) -> str:
    """A paired ratio with its interval."""
    return f"{ratio.median:.2f}x [{ratio.low:.2f}, {ratio.high:.2f}]"


def percent_over(ratio: Ratio) -> str:
    """A paired ratio as an overhead in percent, with its interval."""
    return f"{100 * (ratio.median - 1):+.1f} % [{100 * (ratio.low - 1):+.1f}, {100 * (ratio.high - 1):+.1f}]"
