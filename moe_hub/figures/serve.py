"""Figures for a page: bytes for the browser, and a stamp that tells whether anything is new."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from moe_hub.figures.csv_rows import figure_csv as figure_csv
from moe_hub.figures.drawing import to_json
from moe_hub.figures.registry import compose
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory


def figure_json(key: str, histories: Sequence[RunHistory], view: View) -> bytes:
    """{"data", "layout"} for Plotly.react, UTF-8; raises `ConfigError` for an unknown key."""
    return to_json(compose(key, histories, view))


def stamp(key: str, histories: Sequence[RunHistory], view: View) -> str:
    """A short text that changes whenever `figure_json` of the same arguments would: compare it before drawing."""
    content = repr((key, view, [(history.run_id, history.version) for history in histories]))
    return hashlib.blake2b(content.encode(), digest_size=12).hexdigest()
