"""The table of an experiment against hand-computed cases."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from moe_hub.errors import ConfigError
from moe_hub.experiments.ledger import Ledger
from moe_hub.experiments.plan import read_plan
from moe_hub.experiments.results import at_compute, collect, estimate, markdown
from moe_hub.runs.reader import MetricReader
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
    file.write_text("[1, 2]")
    with pytest.raises(ConfigError, match="mapping"):
        read_plan(file)


def test_equal_compute_stops_every_run_at_the_budget_of_the_cheapest(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    plan = read_plan(file)
    ledger = Ledger(tmp_path / "runs", plan)
    for number, (arm, seed) in enumerate(plan.cells()):
        run = RunStore(tmp_path / "runs").create(plan.config(arm, seed))
        ledger.record(arm, seed, run.run_id)
        cost = 1.0 if arm == "dense" else 2.0
        with MetricWriter(run.path) as writer:
            for step in (10, 20):
                writer.write(step, {"val/loss": 3 - step / 10 + number / 10, "time/cpu_s": cost * step})
        write_status(run.path, Status("finished", step=20, max_steps=20, parameters={"total": 5, "active": 4}))
    dense, hgnn = collect(Ledger(tmp_path / "runs", plan), plan)
    assert (dense.arm, dense.cpu_s, hgnn.cpu_s) == ("dense", 20.0, 40.0)
    assert dense.equal_steps["val/loss"].mean == pytest.approx(1.1)  # mean of 1.0 and 1.2
    assert dense.equal_compute["val/loss"].mean == pytest.approx(1.1)
    assert hgnn.equal_steps["val/loss"].mean == pytest.approx(1.2)  # mean of 1.1 and 1.3
    assert hgnn.equal_compute["val/loss"].mean == pytest.approx(2.2)  # at step 10, when 20 CPU-s were used
    assert "| hgnn | 5 | 4 | 40 | 1.2000 ± " in markdown([dense, hgnn], ["val/loss"])


def test_a_run_evaluated_too_late_has_no_value_at_the_budget(tmp_path: Path) -> None:
    run = RunStore(tmp_path).create(read_plan(_written(tmp_path)).config("dense", 0))
    with MetricWriter(run.path) as writer:
        writer.write(10, {"val/loss": 1.0, "time/cpu_s": 10.0})
    reader = MetricReader(run.path)
    reader.poll()
    assert math.isnan(at_compute(reader.history(), "val/loss", 5.0))
    assert at_compute(reader.history(), "val/loss", 10.0) == 1.0


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
