"""Sweeps on the page: the list, one with its figures, and what is no sweep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Site, until

from moe_hub.runs.sweeps import SweepSummary, Trial, write_sweep


def made(runs_dir: Path, count: int = 8) -> SweepSummary:
    runs_dir.mkdir(parents=True, exist_ok=True)
    trials = tuple(Trial(n, "complete", {"train.learning_rate": 1e-4 * 2**n}, 1.0 / (n + 1)) for n in range(count))
    summary = SweepSummary("rates", "Which <b>rate</b>?", "val/loss", "min", 20, trials, {"train.learning_rate": 1.0})
    write_sweep(runs_dir, summary)
    return summary


def test_the_list_and_one_sweep(page: Any) -> None:
    assert page.client.get("/api/sweeps").get_json() == []
    made(page.runs_dir)
    assert page.client.get("/api/sweeps").get_json() == ["rates"]
    answer = page.client.get("/api/sweeps/rates", query_string={"theme": "dark", "width_px": "400"}).get_json()
    assert (answer["tried"], answer["total"], answer["trials"][0]["number"]) == (8, 20, 7)
    assert [len(answer["figures"][key]["data"]) for key in ("trials", "importance")] == [8, 1]


@pytest.mark.parametrize("name", ["none", "..", "..%5cetc", "a" * 300, "%00"])
def test_what_is_no_sweep_is_refused(page: Any, name: str) -> None:
    answer = page.client.get(f"/api/sweeps/{name}")
    assert 400 <= answer.status_code < 500
    assert b"Traceback" not in answer.data


@pytest.mark.browser
def test_the_analysis_tab_shows_the_sweep_as_it_grows(site: Site, visit: Callable[..., Any]) -> None:
    made(site.runs_dir)
    watched = visit("?tab=analysis")
    page = watched.page
    until(lambda: page.locator("#sweep-table tbody tr").count() == 8)
    until(lambda: page.locator("[data-figure=trials] .scatterlayer .trace").count() == 8)
    assert "Which <b>rate</b>? 8 of 20 trials." in page.inner_text("#sweep-question")
    made(site.runs_dir, 9)
    until(lambda: page.locator("#sweep-table tbody tr").count() == 9)
