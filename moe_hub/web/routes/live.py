"""GET api/live: all that changed since the versions that the page has, in one answer; "0" where nothing did."""

from __future__ import annotations

import time
from typing import Any

import flask
import orjson

from moe_hub.errors import RunError
from moe_hub.figures.csv_rows import figure_csv
from moe_hub.figures.view import read_view
from moe_hub.web.routes.asked import download, raw_json, run_ids
from moe_hub.web.run_status import status_line
from moe_hub.web.workbench import Workbench

NOTHING_NEW = b"0"


def routes(workbench: Workbench) -> list[Any]:
    """The live answer, and the figure's data as CSV."""

    def live() -> flask.Response:
        asked = flask.request.args
        parts: list[bytes] = []
        _add_runs(workbench, asked.get("runs_v", ""), parts)
        _add_status(workbench, asked.get("focus", ""), asked.get("status_v", ""), parts)
        _add_figure(workbench, asked, parts)
        if not parts:
            return raw_json(NOTHING_NEW)
        parts.append(f'"now":{time.time()}'.encode())
        return raw_json(b"{" + b",".join(parts) + b"}")

    def rows() -> flask.Response:
        asked = flask.request.args
        key = asked.get("figure", "")
        histories = workbench.drawings.look(run_ids())
        return download(figure_csv(key, histories, read_view(asked)), f"{key}.csv", "text/csv")

    return [
        ("api/live", live, "GET"),
        ("api/figure.csv", rows, "GET"),
    ]


def _add_runs(workbench: Workbench, known: str, parts: list[bytes]) -> None:
    changes = workbench.index.changes(known)
    if changes is not None:
        parts.append(b'"runs":' + orjson.dumps(changes))


def _add_status(workbench: Workbench, focus: str, known: str, parts: list[bytes]) -> None:
    if not focus:
        return
    try:
        version, line = status_line(workbench, focus)
    except RunError as error:
        version, line = "gone", {"id": focus, "gone": str(error)}
    if version != known:
        parts.append(b'"status":' + orjson.dumps({"v": version, "line": line}))


def _add_figure(workbench: Workbench, asked: Any, parts: list[bytes]) -> None:
    drawings = workbench.drawings
    histories = drawings.look(workbench.index.known(run_ids()))
    offer = drawings.offer(histories)
    if offer.version != asked.get("offer_v", ""):
        parts.append(b'"offer":{"v":"' + offer.version.encode() + b'","offer":' + offer.content + b"}")
    key = asked.get("figure", "")
    if key not in offer.keys:
        return
    view = read_view(asked)
    if drawings.version(key, histories, view) == asked.get("figure_v", ""):
        return
    drawing = drawings.draw(key, histories, view)
    # The number of the request comes back, so that the page drops an answer to a view it has left.
    head = orjson.dumps({"v": drawing.version, "key": key, "g": asked.get("g", "")})[:-1]
    parts.append(b'"figure":' + head + b',"figure":' + drawing.content + b"}")
