"""Curves: gaps, marks, log axes, smoothing, zoom, and what a figure says about them."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from moe_hub.figures import registry, serve
from moe_hub.figures.axes import duration, duration_ticks
from moe_hub.figures.drawing import compact, to_json
from moe_hub.figures.registry import View
from moe_hub.figures.smoothing import smooth
from moe_hub.runs.history import RunHistory


def losses(values: Any, **more: Any) -> RunHistory:
    """A run that logged these training losses, one a step."""
    rows = [{"step": step, "time": 100.0 + step, "tokens": 10 * step, "train/loss": value, **more}
            for step, value in enumerate(values)]  # fmt: skip
    return RunHistory("run", {"name": "run"}, None, rows)


def draw(history: RunHistory, key: str = "training-loss", **view: Any) -> dict[str, Any]:
    return registry.compose(key, [history], View(**view))


def trace(figure: dict[str, Any], name: str) -> dict[str, Any]:
    return next(item for item in figure["data"] if item["name"].startswith(name))


def notes(figure: dict[str, Any]) -> str:
    return "; ".join(figure["layout"]["meta"]["notes"])


def test_values_that_are_not_finite_are_gaps_with_marks() -> None:
    figure = draw(losses([3.0, "NaN", 2.0, "Infinity", 1.0]))
    np.testing.assert_array_equal(trace(figure, "train")["y"], [3, np.nan, 2, np.nan, 1])
    assert trace(figure, "train")["connectgaps"] is False
    marks = trace(figure, "not finite (2)")
    assert marks["x"].tolist() == [1, 3]
    assert marks["y"].tolist() == [3, 2], "at the height of the last finite value"
    assert marks["text"] == ["NaN", "Infinity"]


def test_a_run_that_is_not_finite_throughout_still_shows_marks() -> None:
    marks = trace(draw(losses(["NaN"] * 3)), "not finite (3)")
    assert np.isfinite(marks["y"]).all()


def test_the_crosses_of_all_curves_have_one_entry_in_the_legend() -> None:
    rows = [{"step": step, "train/loss": 2.0, "val/loss": 3.0} for step in range(8)]
    rows[3] |= {"train/loss": "NaN", "val/loss": "NaN"}
    figure = draw(RunHistory("run", {}, None, rows))
    crosses = [trace for trace in figure["data"] if trace["uid"].endswith("not-finite")]
    assert len(crosses) == 2
    assert [trace["name"] for trace in crosses if trace["showlegend"]] == ["not finite (2)"]


def test_a_log_axis_counts_what_it_cannot_draw() -> None:
    figure = draw(losses([1.0, 0.0, -2.0, 3.0]), log_y=True, log_x=True)
    assert "2 of 4 values are 0 or less" in notes(figure)
    assert "1 of 4 values have no place on a log x axis" in notes(figure)
    assert figure["layout"]["yaxis"]["type"] == figure["layout"]["xaxis"]["type"] == "log"
    assert not (trace(figure, "train")["y"] <= 0).any()


def test_smoothing_uses_all_rows_and_is_labelled() -> None:
    values = np.random.default_rng(0).normal(5, 1, 50_000)
    history = losses(values.tolist())
    figure = draw(history, smoothing=0.99)
    assert "debiased moving average of all rows, weight 0.99" in notes(figure)
    smoothed = next(item for item in figure["data"] if item["name"] == "train" and item["opacity"] == 1)
    assert smoothed["hovertemplate"].endswith("(smoothed)</extra>")
    np.testing.assert_allclose(smoothed["y"], smooth(values, 0.99)[smoothed["x"]], rtol=1e-6)
    zoomed = draw(history, smoothing=0.99, x_range=(30_000.0, 30_100.0))
    part = next(item for item in zoomed["data"] if item["name"] == "train" and item["opacity"] == 1)
    np.testing.assert_allclose(part["y"], smooth(values, 0.99)[part["x"]], rtol=1e-12)


def test_a_spike_survives_and_a_zoom_shows_the_raw_rows() -> None:
    values = np.ones(100_000)
    values[70_001] = 9.5
    history = losses(values.tolist())
    whole = draw(history)
    assert "100,000 rows, shown as first, last, lowest and highest of 1,000 buckets" in notes(whole)
    assert trace(whole, "train")["y"].max() == 9.5
    part = draw(history, x_range=(69_500.0, 71_000.0))
    assert trace(part, "train")["x"].tolist() == list(range(69_499, 71_002)), "one row beyond each side"
    assert "buckets" not in notes(part)
    assert trace(part, "train")["y"].dtype == np.float64


def test_superseded_rows_are_dotted_and_explained() -> None:
    first = [{"step": step, "train/loss": 1.0} for step in range(6)]
    second = [{"step": step, "train/loss": 2.0, "attempt": 1} for step in range(3, 8)]
    figure = registry.compose("training-loss", [RunHistory("run", {}, None, first + second)], View())
    older = [item for item in figure["data"] if "older" in item["uid"]]
    assert [item["x"].tolist() for item in older] == [[3, 4, 5]]
    assert "an earlier attempt" in notes(figure)


def test_an_incomplete_history_says_so() -> None:
    history = RunHistory("run", {}, None, [{"step": 1, "train/loss": 1.0}], complete=False, total_rows=1_000_000)
    assert "reading about 1,000,000 rows" in notes(draw(history))


def test_checkpoints_pauses_and_resumes_are_marked_on_the_curve() -> None:
    rows: list[dict[str, Any]] = [{"step": step, "train/loss": 9.0 - step} for step in range(6)]
    rows[2]["event/checkpoint"] = rows[4]["event/pause"] = rows[5]["event/resume"] = 1
    figure = draw(RunHistory("run", {}, None, rows))
    found = {name: (trace(figure, name)["x"].tolist(), trace(figure, name)["y"].tolist())
             for name in ("checkpoint", "paused", "resumed")}  # fmt: skip
    assert found == {"checkpoint": ([2], [7]), "paused": ([4], [5]), "resumed": ([5], [4])}


def test_events_of_many_runs_stand_once_in_the_legend() -> None:
    rows: list[dict[str, Any]] = [{"step": step, "train/loss": 9.0 - step} for step in range(6)]
    rows[2]["event/checkpoint"] = rows[4]["event/pause"] = 1
    runs = [RunHistory(f"run-{index}", {"name": f"run {index}"}, None, rows) for index in range(3)]
    marks = [item for item in registry.compose("training-loss", runs, View())["data"]
             if item.get("legendgroup", "").startswith("event/")]  # fmt: skip
    assert len(marks) == 6
    assert [item["name"] for item in marks if item["showlegend"]] == ["checkpoint", "paused"]
    assert len({item["hovertemplate"] for item in marks if item["name"] == "paused"}) == 3  # each names its run


def test_the_trend_is_that_of_the_last_third() -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate([np.full(200, 5.0), 5 - 0.01 * np.arange(100) + rng.normal(0, 1e-3, 100)])
    figure = draw(losses(values.tolist()))
    assert trace(figure, "trend")["hovertemplate"].startswith("-10")
    assert "trend: -10" in notes(figure)


def test_a_heatmap_shows_means_of_many_rows_and_gaps_where_nothing_is_finite() -> None:
    load = np.random.default_rng(0).random((3000, 2, 2))
    load[1200:1800, 0, 1] = np.nan
    rows = [{"step": step, "expert/load": values} for step, values in enumerate(load)]
    figure = draw(RunHistory("run", {}, None, rows), "expert-activations")
    [heatmap] = figure["data"]
    each = -(-3000 // 500)
    assert f"3,000 rows, shown as means of {each} neighbouring rows" in notes(figure)
    np.testing.assert_allclose(heatmap["z"][3], load[:, 1, 1].reshape(-1, each).mean(1), rtol=1e-5)
    assert np.isnan(heatmap["z"][1, 1200 // each : 1800 // each]).all()
    assert heatmap["y"] == ["L0 E0", "L0 E1", "L1 E0", "L1 E1"]
    assert heatmap["zmin"] == 0
    assert heatmap["zmax"] == np.nanmax(heatmap["z"])


def test_the_probe_is_drawn_as_it_was_measured() -> None:
    probe = np.random.default_rng(0).normal(size=(50, 2, 3)).astype(np.float32)
    rows = [{"step": 2 * step, "probe/rotated": values} for step, values in enumerate(probe)]
    figure = draw(RunHistory("run", {}, None, rows), "rotation-3d")
    line, ends = figure["data"][2:4]
    for axis, name in enumerate("xyz"):
        np.testing.assert_array_equal(line[name], probe[:, 1, axis])
        np.testing.assert_array_equal(ends[name], probe[[0, -1], 1, axis])
    assert line["customdata"].tolist() == list(range(0, 100, 2))


def test_the_hypergraph_is_drawn_from_its_members() -> None:
    config = {"model": {"architecture": "hgnn", "num_experts": 4, "coupling": {"strategy": "all_triplets"}}}
    rows = [{"step": 1, "coupling/hyperedge_weight": [[0.5, 1.0, 0.0, 2.0]]}]
    figure = draw(RunHistory("run", config, None, rows), "hypergraph")
    edges = {item["name"]: item for item in figure["data"] if item["mode"] == "lines"}
    assert set(edges) == {"{0, 1, 2}", "{0, 1, 3}", "{1, 2, 3}"}, "a weight of 0 is no edge"
    nodes = next(item for item in figure["data"] if item["name"] == "experts")
    corners = set(zip(edges["{1, 2, 3}"]["x"], edges["{1, 2, 3}"]["y"], strict=True))
    assert {(float(nodes["x"][i]), float(nodes["y"][i])) for i in (1, 2, 3)} <= corners
    assert edges["{1, 2, 3}"]["line"]["width"] > edges["{0, 1, 2}"]["line"]["width"]
    unknown = draw(RunHistory("run", {}, None, [{"step": 1, "coupling/hyperedge_weight": [[1.0] * 5]}]), "hypergraph")
    assert "does not name the members" in notes(unknown)


def test_cognitive_angles_add_up() -> None:
    theta = np.zeros((1, 2, 2), np.float32)
    theta[0, 1, 0] = np.pi / 4
    rows = [{"step": 1, "rotation/theta_rad": theta, "lambda/phase_offset_rad": [0, np.pi / 2, np.pi, 1.5 * np.pi]}]
    [heatmap] = draw(RunHistory("run", {}, None, rows), "lambda-rotation-patterns")["data"]
    np.testing.assert_allclose(heatmap["z"][0], [0, 90, 180, -90], atol=1e-4)
    np.testing.assert_allclose(heatmap["z"][2], [45, 135, -135, -45], atol=1e-4)
    other = {"model": {"geometric": {"rotation_type": "cayley"}}}
    figure = draw(RunHistory("run", other, None, rows), "lambda-rotation-patterns")
    assert len(figure["data"][0]["z"]) == 1
    assert "angle of the phase alone" in notes(figure)


def test_arrays_go_as_plotly_reads_them() -> None:
    sent = json.loads(to_json({"x": np.arange(3), "f": np.array([[1.5, np.nan]], np.float32), "s": np.array(["a"])}))
    assert sent["f"]["dtype"] == "f4"
    assert sent["f"]["shape"] == "1, 2"
    np.testing.assert_array_equal(np.frombuffer(base64.b64decode(sent["f"]["bdata"]), "<f4"), [1.5, np.nan])
    assert sent["x"] == [0, 1, 2], "Plotly.js has no 64 bit integers"
    assert sent["s"] == ["a"]


def test_compact_arrays_lose_no_step() -> None:
    steps = np.array([0.0, 16_777_217.0, 2**31 - 1.0])
    assert compact(steps, exact=False).tolist() == steps.tolist()
    assert compact(np.array([2.0**40]), exact=False).tolist() == [2.0**40]
    assert compact(np.array([0.1]), exact=True).tolist() == [0.1]
    assert compact(np.array([0.1, np.nan]), exact=False).dtype == np.float32


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min"), (90, "1 min 30 s"), (7200, "2 h"), (93_784, "1 d 2 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_time_ticks_are_round_and_few() -> None:
    for high in (5, 60, 1000, 86_400, 1e7):
        for width in (390, 1200):
            ticks = duration_ticks(0, high, View(x="time", width_px=width))
            assert 2 <= len(ticks) <= max(4, width // 110 + 1)
            assert all(0 <= tick <= high for tick in ticks)


def test_figures_of_many_rows_and_many_runs_stay_small_and_quick(cpu_s: Callable[..., float]) -> None:
    rng = np.random.default_rng(0)
    runs = [
        RunHistory(f"run-{index}", {"name": "run"}, None, [
            {"step": step, "time": step, "tokens": step, "train/loss": value}
            for step, value in enumerate(rng.normal(size=2500).tolist())
        ]) for index in range(40)
    ]  # fmt: skip
    assert cpu_s(lambda: serve.figure_json("training-loss", runs, View()), repeats=3, clock=time.process_time) < 0.3
    assert len(serve.figure_json("training-loss", runs, View())) < 1_000_000
