"""The Analysis tab: figures for the grid, runs in a table, a run's metrics as CSV, and its report in one HTML file."""

from __future__ import annotations

from typing import Any

import flask
import orjson
from flask import Response

from moe_hub.figures.csv_rows import table_csv
from moe_hub.figures.report import report_html
from moe_hub.figures.tables import comparison, main_columns
from moe_hub.figures.view import Theme, read_view
from moe_hub.runs.files import plain
from moe_hub.web.metrics_csv import metrics_csv
from moe_hub.web.routes.asked import download, json_answer, raw_json, run_ids
from moe_hub.web.workbench import Workbench


def routes(workbench: Workbench) -> list[Any]:
    """All are GET."""

    def figure() -> Response:
        asked = flask.request.args
        key, view, histories = asked.get("figure", ""), read_view(asked), workbench.drawings.look(run_ids())
        if workbench.drawings.version(key, histories, view) == asked.get("v", ""):
            return raw_json(b"0")
        drawing = workbench.drawings.draw(key, histories, view)
        head = orjson.dumps({"v": drawing.version, "key": key})[:-1]
        return raw_json(head + b',"figure":' + drawing.content + b"}")

    def compare() -> Response:
        histories = workbench.drawings.look(run_ids())
        table = comparison(histories)
        rows = [{"id": run.run_id, "cells": plain(row)} for run, row in zip(histories, table.rows, strict=True)]
        return json_answer({"columns": table.columns, "main": main_columns(table), "rows": rows})

    def compare_csv() -> Response:
        histories = workbench.drawings.look(run_ids())
        content = table_csv(comparison(histories), [run.run_id for run in histories])
        return download(content, "runs.csv", "text/csv")

    def metrics(run_id: str) -> Response:
        history = workbench.histories.of(run_id)
        return download(metrics_csv(history), f"{run_id}.csv", "text/csv")

    def report(run_id: str) -> Response:
        history = workbench.histories.of(run_id)
        chosen: Theme = "dark" if flask.request.args.get("theme") == "dark" else "light"
        return download(report_html(history, chosen), f"{run_id}.html", "text/html")

    return [
        ("api/figure", figure, "GET"),
        ("api/compare", compare, "GET"),
        ("api/compare.csv", compare_csv, "GET"),
        ("api/runs/<run_id>/metrics.csv", metrics, "GET"),
        ("api/runs/<run_id>/report.html", report, "GET"),
    ]
