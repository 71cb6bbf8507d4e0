"""Runs side by side: groups, bands, tables, and CSV of all rows."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import pytest

from moe_hub.figures import registry, serve, tables
from moe_hub.figures.compare import group_runs
from moe_hub.figures.registry import View
from moe_hub.runs.history import RunHistory


def run(name: str, seed: int, rate: float, values: list[float], every: int = 1, **config: Any) -> RunHistory:
    rows = [
        {"step": step * every, "time": step, "tokens": step, "val/loss": value} for step, value in enumerate(values)
    ]
    settings = {"name": name, "seed": seed, "schema_version": 1, "train": {"learning_rate": rate}, **config}
    return RunHistory(f"{name}-{seed:04d}", settings, None, rows)


RUNS = [
    run("a", 0, 0.1, [4.0, 3.0, 2.0, 1.0]), run("a", 1, 0.1, [6.0, 5.0, 4.0]), run("b", 0, 0.2, [1.0, 1.0, 1.0, 1.0]),
]  # fmt: skip


def test_groups_by_any_config_key() -> None:
    assert {value: len(runs) for value, runs in group_runs(RUNS, "train.learning_rate").items()} == {"0.1": 2, "0.2": 1}
    assert {value: len(runs) for value, runs in group_runs(RUNS, "nothing").items()} == {"none": 3}


def test_mean_and_band_where_all_runs_of_a_group_have_rows() -> None:
    figure = registry.compose("overlay-of-runs", RUNS, View(group_by="train.learning_rate"))
    mean = next(item for item in figure["data"] if item["name"] == "train.learning_rate = 0.1 (n = 2)")
    assert mean["x"].tolist() == [0, 1, 2]
    assert mean["y"].tolist() == [5, 4, 3]
    [band] = [item for item in figure["data"] if item["name"] == "band"]
    deviation = np.std([4, 6], ddof=1)
    np.testing.assert_allclose(band["y"], [5 + deviation, 4 + deviation, 3 + deviation, 3 - deviation, 4 - deviation,
                                           5 - deviation])  # fmt: skip
    assert figure["data"].index(band) < figure["data"].index(mean), "the band lies under the line"


def test_runs_logged_at_other_steps_are_interpolated() -> None:
    runs = [run("a", 0, 0.1, [0.0, 10.0], every=10), run("a", 1, 0.1, [0.0, 2.0, 4.0], every=5)]
    figure = registry.compose("overlay-of-runs", runs, View(group_by="name"))
    mean = next(item for item in figure["data"] if "n = 2" in item["name"])
    assert mean["x"].tolist() == [0, 5, 10]
    assert mean["y"].tolist() == [0, 3.5, 7]


def test_the_metric_of_an_overlay_can_be_chosen() -> None:
    figure = registry.compose("overlay-of-runs", RUNS, View(metric="train/loss"))
    assert figure["data"] == []
    assert "3 of 3 runs have no train/loss" in figure["layout"]["meta"]["notes"]


def test_config_difference_lists_only_what_differs() -> None:
    other = run("b", 0, 0.2, [1.0], extra=True)
    table = tables.config_difference([RUNS[0], RUNS[1], other])
    assert table.columns == ("setting", "a 0000", "a 0001", "b 0000")
    assert table.rows == (
        ("name", "a", "a", "b"), ("seed", 0, 1, 0), ("train.learning_rate", 0.1, 0.1, 0.2), ("extra", None, None, True),
    )  # fmt: skip
    assert tables.config_difference([RUNS[0], RUNS[0]]).rows == ()


def test_final_metrics_are_the_last_and_the_best() -> None:
    history = run("a", 0, 0.1, [4.0, 1.0, float("nan"), 2.0])
    table = tables.final_metrics([history, RunHistory("empty")])
    assert table.columns == ("run", "state", "steps", "val/loss", "val/loss (best)")
    assert table.rows == (("a 0000", None, 3, 2.0, 1.0), ("empty", None, None, None, None))


def test_one_looks_first_at_a_few_columns() -> None:
    table = tables.comparison(RUNS)
    first = [table.columns[index] for index in tables.main_columns(table)]
    assert first == ["run", "state", "steps", "seed", "train.learning_rate", "val/loss"]
    assert "val/loss (best)" in table.columns


def test_what_an_overlay_can_choose(history: RunHistory) -> None:
    assert tables.scalar_names([history])[:2] == ["val/loss", "val/perplexity"]
    assert not {"expert/load", "event/checkpoint"} & set(tables.scalar_names([history]))
    assert tables.differing_keys(RUNS) == ["name", "seed", "train.learning_rate"]


def test_csv_holds_all_rows_of_all_runs() -> None:
    rows = [{"step": step, "time": step / 2, "tokens": step * 3, "train/loss": step / 7} for step in range(12_000)]
    rows[5]["val/loss"] = "Infinity"
    rows[6].pop("train/loss")
    content = b"".join(
        serve.figure_csv("training-loss", [RunHistory("one", {}, None, rows), RUNS[2]], View(smoothing=0.9))
    )
    found = list(csv.DictReader(io.StringIO(content.decode())))
    assert len(found) == 11_999 + 4, "step 6 has no value of the figure"
    assert found[5] == {"run": "one", "step": "5", "time": "2.5", "tokens": "15", "train/loss": str(5 / 7),
                        "val/loss": "Infinity"}  # fmt: skip
    assert float(found[11_998]["train/loss"]) == 11_999 / 7
    assert [row["val/loss"] for row in found[-4:]] == ["1.0"] * 4
    assert {row["train/loss"] for row in found[-4:]} == {""}


def test_csv_of_array_metrics_has_a_column_per_entry(history: RunHistory) -> None:
    content = b"".join(serve.figure_csv("expert-activations", [history], View()))
    found = list(csv.DictReader(io.StringIO(content.decode())))
    load = history.arrays("expert/load")[1]
    assert len(found) == len(load)
    assert float(found[3]["expert/load[1,2]"]) == load[3, 1, 2]


@pytest.mark.parametrize("name", ["=cmd", "+1", "-1", "@x", "\tx"])
def test_csv_cells_are_no_formulas(name: str) -> None:
    history = RunHistory("run", {}, None, [{"step": 1, name: 1.0, "val/loss": 1.0}])
    header = b"".join(serve.figure_csv("overlay-of-runs", [history], View())).decode().splitlines()[0]
    assert name not in next(csv.reader([header]))
    assert f"'{name}" in next(csv.reader([header]))
