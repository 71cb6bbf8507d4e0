"""The figures of an experiment: one HTML file that works offline, made of the registry's Compare figures."""

from __future__ import annotations

from collections.abc import Sequence

from moe_hub.errors import RunError
from moe_hub.experiments.plan import Plan
from moe_hub.experiments.results import Arm
from moe_hub.experiments.table import document
from moe_hub.figures.view import View
from moe_hub.runs.history import RunHistory


def report(plan: Plan, arms: Sequence[Arm]) -> bytes:
    """Each metric by step and by time spent training, arms as mean and band over their seeds; then the tables.

    Raises `RunError` where plotly is not installed.
    """
    try:
        from moe_hub.figures.report import comparison_html
    except ImportError:
        raise RunError("the package plotly is not installed; pip install 'moe-hub[web]', then run this again") from None
    histories = [_of_arm(cell.history, arm.name, seed) for arm in arms for seed, cell in arm.cells.items()]
    logged = set().union(*(history.names() for history in histories))
    views = [
        View(width_px=1140, metric=metric, group_by="arm", x=axis)
        for metric in ("train/loss", *plan.metrics)
        if metric in logged
        for axis in ("step", "active_time")
    ]
    return comparison_html(f"Experiment {plan.name}", plan.question, histories, views, document(plan, arms))


def _of_arm(history: RunHistory, arm: str, seed: int) -> RunHistory:
    """The same run under its place in the plan, which its config does not hold."""
    return RunHistory(
        history.run_id, {**history.config, "arm": arm}, history.status, snapshot=history.snapshot,
        label=f"{arm}, seed {seed}", version=history.version, complete=history.complete, total_rows=history.total_rows,
    )  # fmt: skip
