"""What holds for every figure of the table, so that a new one is tested unasked."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from moe_hub.errors import ConfigError
from moe_hub.figures import registry, serve
from moe_hub.figures.registry import FIGURES, View
from moe_hub.figures.spec import GROUPS
from moe_hub.runs.history import RunHistory
from moe_hub.runs.metrics import METRICS, find_metric

from .conftest import CONFIG, Make, made_row

KEYS = list(FIGURES)
VIEWS = (
    View(),
    View(smoothing=0.9, log_y=True, theme="dark", width_px=390),
    View(x="time", log_x=True, layer=5),
    View(x="active_time", x_range=(10.0, 60.0), threshold=0.5),
    View(x="tokens", x_range=(5e8, 6e8)),
)
EXPECTED_TITLES = {
    "Training Loss", "Expert Activations", "Learning Rate Schedule", "Throughput and System",
    "Rotation Angles Evolution", "Orthogonality Preservation", "Expert Specialization", "Geometric Loss Components",
    "Rotation Efficiency", "3D Rotation Visualization", "Cognitive Rotation Schedule", "Lambda Rotation Patterns",
    "Reasoning Accuracy", "Ghost Expert Activation", "Saturation Monitoring", "Ghost vs Primary Learning",
    "Activation Threshold Tuning", "Expert Connection Heatmap", "Hypergraph Edge Weights", "Hypergraph", "Expert Load",
    "Overlay of Runs", "Config Difference", "Final Metrics",
}  # fmt: skip


def rows(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    return [made_row(index, max(count, 2), 5, rng, 0) for index in range(count)]


def spoiled(value: Any) -> Any:
    """The same shape with NaN everywhere."""
    if isinstance(value, bool | str):
        return value
    return "NaN" if isinstance(value, int | float) else np.full(np.shape(value), np.nan)


def with_nan() -> list[dict[str, Any]]:
    found = rows(40)
    for index in (0, 7, 8, 39):
        found[index] = {
            name: value if name in ("step", "time", "tokens") else spoiled(value)
            for name, value in found[index].items()
        }  # fmt: skip
    return found


@pytest.fixture(scope="module")
def cases(make_history: Make) -> dict[str, list[RunHistory]]:
    nothing = RunHistory("20261124-155512-empty-0000", CONFIG)
    return {
        "one run": [make_history(60)],
        "no run": [],
        "no rows": [nothing],
        "one point": [RunHistory("20261124-155512-point-0001", CONFIG, None, rows(1))],
        "nan": [RunHistory("20261124-155512-nan-0002", CONFIG, None, with_nan())],
        "all nan": [RunHistory("20261124-155512-nan-0003", CONFIG, None, [with_nan()[0], with_nan()[39]])],
        "no config": [RunHistory("bare", {}, None, rows(30))],
        "many": [make_history(25, seed) for seed in range(12)] + [nothing],
    }  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "case", ["one run", "no run", "no rows", "one point", "nan", "all nan", "no config", "many"]
)  # fmt: skip
def test_every_figure_draws_every_history(key: str, case: str, cases: dict[str, list[RunHistory]]) -> None:
    for view in VIEWS:
        figure = registry.compose(key, cases[case], view)
        if view is VIEWS[1] and case in ("one run", "nan", "no rows"):
            go.Figure(figure)  # plotly.py checks every property and value
        content = json.loads(serve.figure_json(key, cases[case], view))
        check_figure(content)


def check_figure(figure: dict[str, Any]) -> None:
    """What the page relies on."""
    layout = figure["layout"]
    assert layout["title"]["text"]
    assert layout["uirevision"]
    uids = [trace["uid"] for trace in figure["data"]]
    assert len(set(uids)) == len(uids), "two traces with one uid"
    assert all(re.fullmatch(r"[A-Za-z0-9_-]+", uid) for uid in uids), "Plotly looks colour bars up by the uid"
    assert not any("range" in axis for name, axis in layout.items() if name[1:5] == "axis"), "an axis range was sent"
    assert "camera" not in layout.get("scene", {})
    assert "Infinity" not in json.dumps(figure["layout"])
    if not figure["data"]:
        assert layout["meta"]["notes"], "an empty figure must say why"
        assert layout["xaxis"]["visible"] is layout["yaxis"]["visible"] is False, "axes of nothing"


@pytest.fixture(scope="module")
def two(make_history: Make) -> list[RunHistory]:
    return [make_history(40, 0), make_history(40, 1)]


@pytest.mark.parametrize(
    "key", ["expert-similarity", "expert-connection-heatmap", "lambda-rotation-patterns", "hypergraph"]
)
def test_a_figure_of_one_step_shows_the_newest_that_is_finite(key: str) -> None:
    table = rows(10)
    table[9] = {
        name: value if name in ("step", "time", "tokens") else spoiled(value) for name, value in table[9].items()
    }
    figure = registry.compose(key, [RunHistory("run", CONFIG, None, table)], View())
    assert figure["data"]
    assert "step 40, the newest that is finite" in figure["layout"]["meta"]["notes"]


@pytest.mark.parametrize("key", KEYS)
def test_every_figure_is_pure(key: str, two: list[RunHistory]) -> None:
    histories = two
    before = {
        (history.run_id, name): copy.deepcopy(history.arrays(name)) for history in histories for name in history.names()
    }  # fmt: skip
    view = View(smoothing=0.5, threshold=0.3)
    first = serve.figure_json(key, histories, view)
    assert serve.figure_json(key, histories, view) == first
    for history in histories:
        for name in history.names():
            for now, then in zip(history.arrays(name), before[history.run_id, name], strict=True):
                np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("key", KEYS)
def test_every_figure_says_what_it_is(key: str, history: RunHistory) -> None:
    spec = FIGURES[key]
    assert spec.group in GROUPS
    assert spec.question.endswith("?"), "the help text begins with the question that the figure answers"
    assert len(spec.question) < 120
    assert re.search(r"[Nn]ull value|[Nn]o null value", spec.help), "the help text gives the null value"
    for need in spec.needs:
        stem = need.split("*")[0]
        named = find_metric(need.replace("*", "x")) or any(name.startswith(stem) for name in METRICS)
        assert named, f"{need} is in no row of the table of metrics"
    figure = registry.compose(key, [history, history], View())
    for panel in (item for item in figure["layout"]["annotations"] if item.get("name") == "panel"):
        assert panel["text"]


def test_the_table_has_the_figures_of_the_product() -> None:
    assert {spec.title for spec in FIGURES.values()} >= EXPECTED_TITLES
    assert list(dict.fromkeys(spec.group for spec in FIGURES.values())) == list(GROUPS)
    assert all(re.fullmatch(r"[a-z0-9-]+", key) for key in FIGURES)


def test_every_metric_of_the_table_has_a_figure() -> None:
    """Besides the overlay, which shows any scalar: what is measured can be looked at."""
    shown = [spec for spec in FIGURES.values() if spec.group != "Compare"]
    beside = {"val/perplexity", "val/token_accuracy", "time/active_s", "time/cpu_s"}  # overlay and final metrics
    for name in METRICS:
        if name.startswith("event/") or name in beside:
            continue
        logged = re.sub(r"<[^>]*>", "x", name)
        assert any(spec.fits([logged]) or logged in _also_drawn(spec.key) for spec in shown), name


def _also_drawn(key: str) -> set[str]:
    """Metrics that a figure draws without needing them."""
    return {
        "saturation-monitoring": {
            "ghost/diversity",
            "ghost/unexplained",
            "ghost/gradient_fvu",
            "ghost/residual_variance",
            "ghost/loss_improvement",
            "ghost/threshold",
        },
        "geometric-loss-components": {"loss/task", "loss/total"},
        "ghost-expert-activation": {"ghost/state"},  # activation shows it
    }.get(key, set())


def test_saturation_monitoring_draws_each_factor_that_was_logged(history: RunHistory) -> None:
    """By layer as the mean of layers; that of a saturation measure alone where the run has it."""
    figure = registry.compose("saturation-monitoring", [history], View())
    curves = {trace["name"]: trace for trace in figure["data"]}
    for name in ("gradient_fvu", "residual_variance", "diversity"):
        values = history.arrays(f"ghost/{name}")[1].mean(1)
        assert curves[f"{name.replace('_', ' ')}, mean of layers"]["y"][-1] == pytest.approx(values[-1])
    assert "unexplained" in curves


@pytest.mark.parametrize("width_px", [1000, 390])
def test_expert_similarity_shows_cosine_and_cka_apart(width_px: int, make_history: Make) -> None:
    history = make_history(40)
    figure = registry.compose("expert-similarity", [history], View(layer=1, width_px=width_px))
    cosine, cka = figure["data"]
    np.testing.assert_array_equal(cosine["z"], history.arrays("expert/similarity")[1][-1, 1])
    np.testing.assert_array_equal(cka["z"], history.arrays("expert/cka")[1][-1, 1])
    assert (cosine["xaxis"], cosine["yaxis"], cka["xaxis"], cka["yaxis"]) == ("x", "y", "x2", "y2")
    assert (cosine["zmin"], cosine["zmax"]) == (cka["zmin"], cka["zmax"]) == (-1, 1)
    assert [trace["showscale"] for trace in (cosine, cka)] == [True, False]
    layout = figure["layout"]
    assert [layout[f"xaxis{n}"]["title"]["text"] for n in ("", "2")] == ["mean cosine", "linear CKA"]
    if width_px < 500:  # one below the other
        assert layout["yaxis"]["domain"][0] > layout["yaxis2"]["domain"][1]
        assert "domain" not in layout["xaxis"]
    else:
        assert layout["xaxis"]["domain"][1] < layout["xaxis2"]["domain"][0]
        assert "domain" not in layout["yaxis"]


def test_the_values_of_cells_are_written_on_them(history: RunHistory) -> None:
    figure = registry.compose("expert-similarity", [history], View())
    words = [item for item in figure["layout"]["annotations"] if item.get("name") == "cell"]
    for trace in figure["data"]:
        own = {(item["y"], item["x"]): item["text"] for item in words if item["xref"] == trace.get("xaxis", "x")}
        assert own == {
            (row, column): f"{value:.2f}"
            for row, values in zip(trace["y"], trace["z"], strict=True)
            for column, value in zip(trace["x"], values, strict=True)
        }


def test_a_figure_grows_with_its_notes_panels_and_legend(history: RunHistory) -> None:
    def height(key: str, width_px: int) -> int:
        return int(registry.compose(key, [history], View(width_px=width_px))["layout"]["meta"]["height_px"])

    assert height("expert-load", 390) > height("expert-load", 1400) >= 3 * registry.PANEL_PX
    assert height("training-loss", 1400) == registry.LEAST_HEIGHT_PX


def test_expert_similarity_of_a_run_that_has_no_cka(make_history: Make) -> None:
    table = [{name: value for name, value in row.items() if name != "expert/cka"} for row in rows(10)]
    figure = registry.compose("expert-similarity", [RunHistory("old", CONFIG, None, table)], View())
    assert [trace["name"] for trace in figure["data"]] == ["expert/similarity"]
    assert figure["layout"]["xaxis"]["domain"] == [0, 1]
    assert "xaxis2" not in figure["layout"]


def test_only_figures_with_data_are_offered(history: RunHistory, make_history: Make) -> None:
    loss_only = RunHistory("a", CONFIG, None, [{"step": 1, "train/loss": 1.0}])
    assert [spec.key for spec in registry.available([loss_only])] == ["training-loss", "final-metrics-of-runs"]
    assert registry.available([RunHistory("e")]) == []
    assert registry.available([]) == []
    one = {spec.key for spec in registry.available([history])}
    assert set(KEYS) - one == {"overlay-of-runs", "config-difference-of-runs"}, "these need two runs"
    assert {spec.key for spec in registry.available([history, make_history(5, 1)])} == set(KEYS)


def test_an_unknown_figure_is_named_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean training-loss"):
        registry.draw("training-los", [], View())


def test_text_from_outside_is_shown_as_text(make_history: Make) -> None:
    evil = RunHistory(
        "a", {"name": "<img src=x onerror=alert(1)>"}, None, [{"step": 1, "train/loss": 1.0, "optim/lr/<b>%{x}": 1}],
        label="<script>%{y}",
    )  # fmt: skip
    for key in ("training-loss", "learning-rate-schedule", "final-metrics-of-runs", "overlay-of-runs"):
        text = serve.figure_json(key, [evil, make_history(3)], View()).decode()
        assert "<script" not in text
        assert "<img" not in text
        assert "<b>%{" not in text


def test_zoom_and_choices_hang_on_stable_names(history: RunHistory, make_history: Make) -> None:
    """More rows or another run in front change neither the uids of a run's traces nor the revisions."""
    short, long = make_history(40), make_history(60)
    for key in KEYS:
        alone = registry.compose(key, [short], View())
        later = registry.compose(key, [long], View())
        assert {trace["uid"] for trace in alone["data"]} <= {trace["uid"] for trace in later["data"]}, key
        assert alone["layout"]["uirevision"] == later["layout"]["uirevision"]
        for name in ("xaxis", "yaxis", "scene"):
            revisions = [layout.get(name, {}).get("uirevision") for layout in (alone["layout"], later["layout"])]
            assert revisions[0] == revisions[1], (key, name)
    before = registry.compose("training-loss", [history], View())["layout"]
    logged = registry.compose("training-loss", [history], View(log_y=True))["layout"]
    tokens = registry.compose("training-loss", [history], View(x="tokens"))["layout"]
    assert before["xaxis"]["uirevision"] == logged["xaxis"]["uirevision"] != tokens["xaxis"]["uirevision"]
    assert before["yaxis"]["uirevision"] == tokens["yaxis"]["uirevision"] != logged["yaxis"]["uirevision"]


def test_a_figure_says_whether_its_zoom_is_a_range_of_the_run(history: RunHistory, make_history: Make) -> None:
    """A zoom into a matrix or a drawing must not be taken for a range of steps."""
    own = {
        "rotation-3d", "expert-similarity", "expert-connection-heatmap", "hypergraph", "lambda-rotation-patterns",
        "activation-threshold-tuning", "config-difference-of-runs", "final-metrics-of-runs",
    }  # fmt: skip
    for key in KEYS:
        meta = registry.compose(key, [history, make_history(20, 1)], View())["layout"]["meta"]
        assert meta["run_axis"] == (key not in own), key
        assert meta["layers"] in (0, 2)


def test_the_stamp_changes_with_rows_config_and_view_only(make_history: Make) -> None:
    first, again, more = make_history(20), make_history(20), make_history(21)
    stamp = serve.stamp("training-loss", [first], View())
    assert stamp == serve.stamp("training-loss", [again], View())
    assert stamp != serve.stamp("training-loss", [more], View())
    assert stamp != serve.stamp("training-loss", [first], View(smoothing=0.1))
    assert stamp != serve.stamp("expert-load", [first], View())
    assert stamp != serve.stamp("training-loss", [first, more], View())
