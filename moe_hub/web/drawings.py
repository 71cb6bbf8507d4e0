"""Figures as the page gets them: drawn once for all pages that ask for the same one, and only when rows are new."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from moe_hub.figures import registry, serve
from moe_hub.figures.csv_rows import figure_csv
from moe_hub.figures.registry import View
from moe_hub.runs.history import RunHistory
from moe_hub.web.histories import Histories

MOST_KEPT = 64
MOST_RUNS = 20


@dataclass(frozen=True)
class Drawing:
    """A figure as JSON text; `version` changes when the rows behind it do."""

    version: str
    content: bytes


class Drawings:
    """Draws through the figure registry; callers on several threads share the results."""

    def __init__(self, histories: Histories) -> None:
        self.histories = histories
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], Drawing] = OrderedDict()

    def version(self, key: str, run_ids: Sequence[str], view: View) -> str:
        """What `draw` would give as the version, without drawing."""
        return serve.stamp(key, self._histories(run_ids), view)

    def draw(self, key: str, run_ids: Sequence[str], view: View) -> Drawing:
        """The figure; raises `ConfigError` for an unknown figure and `RunError` for an unknown run."""
        histories = self._histories(run_ids)
        version = serve.stamp(key, histories, view)
        place = (key, tuple(run_ids), view)
        with self._lock:
            kept = self._kept.get(place)
        if kept is not None and kept.version == version:
            return kept
        drawing = Drawing(version, serve.figure_json(key, histories, view))
        with self._lock:
            self._kept[place] = drawing
            self._kept.move_to_end(place)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return drawing

    def available(self, run_ids: Sequence[str]) -> list[dict[str, str]]:
        """The figures that the runs have data for, as the selector shows them."""
        return [
            {"key": spec.key, "group": spec.group, "title": spec.title, "question": spec.question, "help": spec.help}
            for spec in registry.available(self._histories(run_ids))
        ]

    def csv(self, key: str, run_ids: Sequence[str], view: View) -> Iterator[bytes]:
        """All rows behind a figure as CSV, in pieces."""
        return figure_csv(key, self._histories(run_ids), view)

    def _histories(self, run_ids: Sequence[str]) -> list[RunHistory]:
        return self.histories.of_all(list(run_ids)[:MOST_RUNS])
