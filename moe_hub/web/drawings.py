"""Figures as the page gets them: drawn once for all pages that ask for the same one, and only when rows are new."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from moe_hub.figures import registry, serve
from moe_hub.figures.registry import View
from moe_hub.figures.tables import flat_config
from moe_hub.runs.history import RunHistory
from moe_hub.web.alarms import Alarms
from moe_hub.web.histories import Histories

MOST_KEPT = 64
MOST_RUNS = 200  # what a table takes; each figure says how many of them it draws


@dataclass(frozen=True)
class Drawing:
    """A figure as JSON text; `version` changes when the rows behind it do."""

    version: str
    content: bytes


@dataclass(frozen=True)
class Offer:
    """Keys of the figures, and the JSON text that the page fills its selectors from."""

    version: str
    keys: frozenset[str]
    content: bytes


class Drawings:
    """Draws through the figure registry; callers on several threads share the results."""

    def __init__(self, histories: Histories) -> None:
        self.histories = histories
        self.alarms = Alarms()
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], Drawing] = OrderedDict()
        self._offers: OrderedDict[tuple[Any, ...], Offer] = OrderedDict()  # by version, and by what was measured

    def look(self, run_ids: Sequence[str]) -> list[RunHistory]:
        """The runs as their files are now, which all other questions take; raises `RunError` for an unknown run."""
        return self.histories.of_all(list(run_ids)[:MOST_RUNS])

    def version(self, key: str, histories: Sequence[RunHistory], view: View) -> str:
        """What `draw` would give as the version, without drawing."""
        return serve.stamp(key, histories, view)

    def draw(self, key: str, histories: Sequence[RunHistory], view: View) -> Drawing:
        """The figure; raises `ConfigError` for an unknown one."""
        version = serve.stamp(key, histories, view)
        place = (key, tuple(history.run_id for history in histories), view)
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

    def offer(self, histories: Sequence[RunHistory]) -> Offer:
        """The figures that the runs have data for, and what can be chosen in them."""
        place = tuple((history.run_id, history.version) for history in histories)
        with self._lock:
            offer = self._offers.get(place)
            if offer is None:  # new rows rarely bring a new metric
                measured = tuple((run.run_id, frozenset(run.names()), frozenset(_scalars(run))) for run in histories)
                offer = self._offers.pop(measured, None) or _offer(histories)
                self._offers[measured] = offer
            self._offers[place] = offer
            self._offers.move_to_end(place)
            while len(self._offers) > MOST_KEPT:
                self._offers.popitem(last=False)
            return offer


def _offer(histories: Sequence[RunHistory]) -> Offer:
    specs = registry.available(histories) if histories else []
    configs = [flat_config(history) for history in histories]
    keys = sorted(set().union(*configs))
    differing = [key for key in keys if len({str(config.get(key)) for config in configs}) > 1]
    content = orjson.dumps({
        "figures": [
            {"key": spec.key, "group": spec.group, "title": spec.title, "question": spec.question, "help": spec.help}
            for spec in specs
        ],
        "metrics": sorted({name for history in histories for name in _scalars(history)}),
        "groups": differing,
        "layers": max((_layers(config) for config in configs), default=0),
    })  # fmt: skip
    version = hashlib.blake2b(content, digest_size=8).hexdigest()
    return Offer(version, frozenset(spec.key for spec in specs), content)


def _scalars(history: RunHistory) -> list[str]:
    return [name for name, (_, values) in history.snapshot.columns.items() if values.ndim == 1]


def _layers(config: dict[str, Any]) -> int:
    layers = config.get("model.num_layers")
    return layers if isinstance(layers, int) else 0
