"""What a figure is: a key, a question, the metrics that it needs, and a pure function that draws it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from moe_hub.figures.drawing import Drawing
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory

Draw = Callable[[Sequence[RunHistory], View], Drawing]

GROUPS = ("Core", "Geometric", "Lambda", "Ghost", "Architecture", "Compare")


@dataclass(frozen=True)
class FigureSpec:
    """One row of the table of figures.

    `needs`: metric names, of which one is enough; `*` stands for any text. `question` is the first sentence of the
    help text. `several` is the number of runs from which the figure says something, `most` how many it draws: the
    first ones of those that are asked for.
    """

    key: str
    group: str
    title: str
    question: str
    help: str
    needs: tuple[str, ...]
    draw: Draw
    several: int = 1
    most: int = 20

    def fits(self, names: Iterable[str]) -> bool:
        """Whether a run that logged these metrics can be drawn."""
        return any(re.fullmatch(_expression(need), name) for need in self.needs for name in names)


def figure(
    group: str, title: str, needs: tuple[str, ...], *, several: int = 1, most: int = 20
) -> Callable[[Draw], FigureSpec]:
    """Makes a `FigureSpec` of a function; its name is the key and its docstring the help text."""
    assert group in GROUPS

    def make(draw: Draw) -> FigureSpec:
        text = inspect.getdoc(draw) or ""
        question = " ".join(text.split("\n\n")[0].split())
        return FigureSpec(draw.__name__.replace("_", "-"), group, title, question, text, needs, draw, several, most)

    return make


def _expression(pattern: str) -> str:
    return ".*".join(re.escape(part) for part in pattern.split("*"))
