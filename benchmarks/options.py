"""What a person chose on the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """`scale` multiplies rounds and time budgets; the others are of the long part (`arms`: none means all)."""

    scale: float = 1.0
    text: Path | None = None
    seeds: int = 1
    iterations: int = 2000
    arms: tuple[str, ...] = ()

    def rounds(self, usual: int) -> int:
        """Rounds to run where `usual` is the quick default; never under three."""
        return max(3, round(usual * self.scale))

    def budget_s(self, usual: float) -> float:
        """Wall seconds after which a part begins no further round."""
        return usual * self.scale
