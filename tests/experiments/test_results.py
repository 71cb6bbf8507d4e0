"""The table of an experiment against hand-computed cases."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from moe_hub.config import Config, load_config
from moe_hub.errors import ConfigError
from moe_hub.experiments.__main__ import main, run_plan
from moe_hub.experiments.flops import flops_per_token
from moe_hub.experiments.ledger import Ledger
from moe_hub.experiments.plan import Plan, read_plan
from moe_hub.experiments.results import budget_of, collect, estimate
from moe_hub.experiments.table import document
from moe_hub.runs.status import Status, write_status
from moe_hub.runs.store import RunStore
from moe_hub.runs.writer import MetricWriter

PLAN = """
name: small
question: Does coupling help?
preset: basic_comparison
set: {train.max_steps: 20, train.learning_rate: 1e-3}
seeds: [0, 1]
metrics: {val/loss: min}
baseline: dense
arms:
  dense: {model.architecture: dense}
  hgnn: {model.architecture: hgnn, model.coupling.num_layers: 2}
"""


def test_estimate_is_the_textbook_interval() -> None:
    found = estimate([1.0, 2.0, 4.0])
    assert found.mean == pytest.approx(7 / 3)
    assert found.sd == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert found.half_width == pytest.approx(4.303 * found.sd / math.sqrt(3))
    assert estimate([2.0, math.nan]).n == 1
    assert math.isnan(estimate([]).mean)


@pytest.mark.parametrize(("degrees", "quantile"), [(11, 2.201), (15, 2.131), (20, 2.086), (30, 2.042)])
def test_the_fit_of_the_quantile_beyond_the_table(degrees: int, quantile: float) -> None:
    values = [0.0] * degrees + [1.0]
    found = estimate(values)
    assert found.half_width / found.sd * math.sqrt(len(values)) == pytest.approx(quantile, abs=0.003)


def test_a_plan_is_checked_to_the_last_config(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    plan = read_plan(file)
    assert list(plan.cells()) == [("dense", 0), ("hgnn", 0), ("dense", 1), ("hgnn", 1)]
    config = plan.config("hgnn", 1)
    assert (config.seed, config.train.learning_rate, config.model.coupling.num_layers) == (1, 1e-3, 2)
    file.write_text(PLAN.replace("num_layers: 2", "num_layer: 2"))
    with pytest.raises(ConfigError, match=r"arm hgnn: .*did you mean model\.coupling\.num_layers"):
        read_plan(file)
    file.write_text(PLAN.replace("seeds:", "seed:"))
    with pytest.raises(ConfigError, match="unknown key seed; did you mean seeds"):
        read_plan(file)
    file.write_text(PLAN.replace("baseline: dense", "baseline: dens"))
    with pytest.raises(ConfigError, match="is no arm; did you mean dense"):
        read_plan(file)
    file.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="mapping"):
        read_plan(file)


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Ledger, Plan]:
    """Four runs: hgnn's end is 0.1 above dense's with each seed; both see 100 tokens a step."""
    plan = read_plan(_written(tmp_path))
    ledger = Ledger(tmp_path / "runs", plan)
    for number, (arm, seed) in enumerate(plan.cells()):
        run = RunStore(tmp_path / "runs").create(plan.config(arm, seed))
        ledger.record(arm, seed, run.run_id)
        with MetricWriter(run.path) as writer:
            for step in (10, 20):
                values = {"val/loss": 3 - step / 10 + number / 10, "time/cpu_s": 2.0 * step, "train/loss": 1.0}
                writer.write(step, values, tokens=100 * step)
        parameters = {"total": 5, "active": 4, "parts": {"embedding": 64 * 89}}
        write_status(run.path, Status("finished", step=20, max_steps=20, parameters=parameters))
    return Ledger(tmp_path / "runs", plan), plan


def test_equal_compute_stops_every_run_at_the_budget_of_the_cheapest(finished: tuple[Ledger, Plan]) -> None:
    dense, hgnn = collect(*finished)
    assert (dense.name, dense.mean("cpu_s")) == ("dense", 40.0)
    assert dense.equal_steps("val/loss").mean == pytest.approx(1.1)  # mean of 1.0 and 1.2
    budget = budget_of([dense, hgnn])
    assert budget == dense.cells[0].flops < hgnn.cells[0].flops == budget_of([dense, hgnn], "hgnn")
    assert math.isnan(dense.cells[0].at_flops("val/loss", hgnn.cells[0].flops)), "it ended earlier"
    assert dense.cells[0].at_flops("val/loss", 1.01 * budget) == 1.0, "the same, but for the filling of rows"
    assert dense.equal_compute("val/loss", budget).mean == pytest.approx(1.1)
    step = 20 * dense.cells[0].flops_per_token / hgnn.cells[0].flops_per_token
    assert math.isnan(hgnn.cells[0].at_flops("val/loss", budget)), "its first evaluation, at step 10, came later"
    assert step < 10
    middle = 1500 * hgnn.cells[0].flops_per_token
    assert hgnn.equal_compute("val/loss", middle).mean == pytest.approx(1.7)  # half way from 2.2 to 1.2


def test_differences_are_taken_seed_by_seed(finished: tuple[Ledger, Plan]) -> None:
    dense, hgnn = collect(*finished)
    found = hgnn.minus(dense, "val/loss")
    assert found.n == 2
    assert found.mean == pytest.approx(0.1)
    assert found.sd == pytest.approx(0.0, abs=1e-12)
    assert hgnn.equal_steps("val/loss").sd > 0.1, "the seeds differ by more than the arms"


def test_document_and_report(finished: tuple[Ledger, Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ledger, plan = finished
    arguments = [str(tmp_path / "plan.yaml"), "--runs-dir", str(tmp_path / "runs")]
    assert main(["table", *arguments]) == 0
    text = capsys.readouterr().out
    assert text.strip() == document(plan, collect(ledger, plan))
    assert "| val/loss | hgnn | 1.2000 ± 1.2706 | 0.1414 | 2 | none | +0.1000 ± 0.0000 * |" in text
    assert f"- dense: 0: {ledger.run_ids['dense/0']}, 1: {ledger.run_ids['dense/1']}" in text
    out = tmp_path / "report.html"
    assert main(["report", *arguments, "--out", str(out)]) == 0
    page = out.read_text()
    assert page.count('id="data-overlay-') == 4  # two metrics, by step and by time
    assert "arm = hgnn (n = 2)" in page
    assert "Does coupling help?" in page
    assert "http://" not in page.split("</script>", 1)[1].partition("<script>")[0]


def test_the_table_of_a_document_is_the_one_that_is_printed(
    finished: tuple[Ledger, Plan], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "results.md"
    file.write_text("# Results\n\n<!-- experiment small -->\nold\n<!-- end small -->\n\nWords.\n")
    arguments = ["table", str(tmp_path / "plan.yaml"), "--runs-dir", str(tmp_path / "runs"), "--document", str(file)]
    assert main(arguments) == 0
    text, printed = file.read_text(), capsys.readouterr().out
    assert printed in text
    assert text.startswith("# Results\n\n<!-- experiment small -->\n\nTrained on 20")
    assert text.endswith("<!-- end small -->\n\nWords.\n")
    assert "old" not in text
    assert str(tmp_path) not in text
    file.write_text("no place")
    assert main(arguments) == 1
    assert "<!-- experiment small -->" in capsys.readouterr().err


def test_unfinished_cells_are_named(finished: tuple[Ledger, Plan]) -> None:
    ledger, plan = finished
    run = ledger.run("hgnn", 1)
    assert run is not None
    write_status(run.path, Status("running", step=5, max_steps=20))
    text = document(plan, collect(ledger, plan))
    assert "Not finished: hgnn, seed 1." in text
    assert "| val/loss | hgnn | 1.1000 |  | 1 |" in text


def test_a_failed_run_is_tried_again_and_holds_up_no_other(
    finished: tuple[Ledger, Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, plan = finished
    failed = ledger.run("dense", 0)
    assert failed is not None
    write_status(failed.path, Status("failed", exit_reason="out of memory"))
    enqueued: list[Config] = []

    def enqueue(runs_dir: Path, config: Config) -> str:
        enqueued.append(config)
        run = RunStore(runs_dir).create(config)
        write_status(run.path, Status("failed", exit_reason="out of memory again"))
        return run.run_id

    monkeypatch.setattr("moe_hub.launch.enqueue", enqueue)
    problems = run_plan(ledger, plan)
    assert enqueued == [plan.config("dense", 0)]
    assert len(problems) == 1
    assert "(dense, seed 0) is failed: out of memory again" in problems[0]


def test_operations_are_those_of_the_products() -> None:
    """Three times the forward pass of the plain model: 24 d^2 + 4 T d a layer and token, and the head."""
    config = load_config(
        overrides=["model.architecture=dense", "train.mode=standard", "model.d_model=32", "model.num_layers=3",
                   "model.max_seq_len=16", "model.num_heads=2", "train.batch_size=64"]
    )  # fmt: skip
    expected = 3 * (3 * (24 * 32**2 + 4 * 16 * 32) + 2 * 32 * 50)
    assert flops_per_token(config, 50) == pytest.approx(expected, rel=1e-9)
    sparse = config.model_copy(update={"model": config.model.model_copy(update={"architecture": "topk"})})
    more = sparse.model_copy(update={"model": sparse.model.model_copy(update={"num_experts": 16})})
    assert flops_per_token(more, 50) < 1.1 * flops_per_token(sparse, 50), (
        "experts that no token is sent to cost nothing"
    )


def test_a_cell_whose_config_changed_is_run_again(tmp_path: Path) -> None:
    plan = read_plan(_written(tmp_path))
    ledger = Ledger(tmp_path / "runs", plan)
    run = RunStore(tmp_path / "runs").create(plan.config("dense", 0))
    ledger.record("dense", 0, run.run_id)
    found = Ledger(tmp_path / "runs", plan).run("dense", 0)
    assert found is not None
    assert found.run_id == run.run_id
    (tmp_path / "plan.yaml").write_text(PLAN.replace("max_steps: 20", "max_steps: 30"))
    assert Ledger(tmp_path / "runs", read_plan(tmp_path / "plan.yaml")).run("dense", 0) is None


def _written(folder: Path) -> Path:
    file = folder / "plan.yaml"
    file.write_text(PLAN)
    return file
