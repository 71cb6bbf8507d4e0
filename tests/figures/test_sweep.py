"""The figures of a sweep: what is drawn where, with few, many and no trials."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from moe_hub.figures.sweep import FIGURES, importance, parallel_coordinates, ranked
from moe_hub.figures.view import View
from moe_hub.runs.sweeps import SweepSummary, Trial


def made(count: int, direction: str = "min") -> SweepSummary:
    trials = [
        Trial(
            n,
            "complete",
            {"train.learning_rate": 10.0 ** (-4 + n % 4), "model.readout": ("mean", "gate")[n % 2]},
            float(n),
        )
        for n in range(count)
    ]
    trials += [Trial(count, "pruned", {}, 99.0), Trial(count + 1, "failed", {}, None, (), "<b>no</b>")]
    return SweepSummary(
        "s", "?", "val/loss", direction, 50, tuple(trials), {"train.learning_rate": 0.8, "model.readout": 0.2}
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("count", [0, 1, 2, 60, 500])
@pytest.mark.parametrize("key", list(FIGURES))
def test_plotly_takes_them(key: str, count: int, theme: str) -> None:
    go.Figure(dict(FIGURES[key](made(count), View(theme=theme)).items()))  # type: ignore[arg-type]


@pytest.mark.parametrize(("direction", "best"), [("min", 0), ("max", 9)])
def test_the_best_trial_is_drawn_last_and_strongest(direction: str, best: int) -> None:
    traces = parallel_coordinates(made(10, direction), View())["data"]
    assert len(traces) == 10
    assert traces[-1]["uid"] == f"trial-{best}"
    assert traces[-1]["line"]["width"] > traces[0]["line"]["width"]


def test_heights_follow_the_values_and_a_far_span_is_logarithmic() -> None:
    figure = parallel_coordinates(made(4), View())
    assert figure["layout"]["xaxis"]["ticktext"] == ["learning_rate (log)", "readout", "val/loss"]
    heights = {trace["uid"]: trace["y"] for trace in figure["data"]}
    assert [heights[f"trial-{n}"][0] for n in range(4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [heights[f"trial-{n}"][1] for n in range(4)] == [1, 0, 1, 0]  # by name: gate, mean
    assert [heights[f"trial-{n}"][2] for n in range(4)] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    ticks = {note["text"]: note["y"] for note in figure["layout"]["annotations"] if note["x"] == 0}
    assert ticks["0.001"] == pytest.approx(1 / 3)


def test_what_is_not_drawn_is_counted_and_text_is_text() -> None:
    figure = parallel_coordinates(made(4), View())
    assert "2 others are not drawn" in figure["layout"]["meta"]["notes"][0]
    summary = SweepSummary("s", "?", "val/loss", "min", 1, (Trial(0, "complete", {"<b>x": "<i>y"}, 1.0),))
    assert "<b>x" not in str(parallel_coordinates(summary, View())["layout"]["xaxis"])


def test_shares_are_drawn_with_their_null_value() -> None:
    figure = importance(made(8), View())
    assert dict(zip(figure["data"][0]["y"], figure["data"][0]["x"], strict=True)) == {
        "model.readout": 0.2, "train.learning_rate": 0.8,
    }  # fmt: skip
    assert figure["layout"]["shapes"][0]["x0"] == 0.5


def test_order_of_the_table() -> None:
    assert [trial.state for trial in ranked(made(2))] == ["complete", "complete", "pruned", "failed"]
