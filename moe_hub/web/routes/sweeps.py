"""Sweeps on the Analysis tab: which there are, and one with its trials and figures."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import flask
from flask import Response

from moe_hub.figures.sweep import FIGURES, ranked
from moe_hub.figures.view import read_view
from moe_hub.runs.sweeps import read_sweep, sweep_names
from moe_hub.web.routes.asked import json_answer
from moe_hub.web.workbench import Workbench

MOST_ROWS = 200


def routes(workbench: Workbench) -> list[Any]:
    """All are GET."""

    def sweeps() -> Response:
        return json_answer(sweep_names(workbench.runs_dir))

    def sweep(name: str) -> Response:
        summary, view = read_sweep(workbench.runs_dir, name), read_view(flask.request.args)
        trials = ranked(summary)
        return json_answer({
            "name": summary.name, "question": summary.question, "metric": summary.metric,
            "direction": summary.direction, "total": summary.total, "tried": len(trials),
            "trials": [asdict(trial) for trial in trials[:MOST_ROWS]],
            "figures": {key: draw(summary, view) for key, draw in FIGURES.items()},
        })  # fmt: skip

    return [("api/sweeps", sweeps, "GET"), ("api/sweeps/<name>", sweep, "GET")]
