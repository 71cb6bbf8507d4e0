"""The table of architectures, where it needs no model (tests/models/test_contract.py compares it with built ones)."""

from __future__ import annotations

import subprocess
import sys
from math import comb

import pytest

from moe_hub.architectures import (
    ARCHITECTURES,
    count_parameters,
    ghost_hyperedges,
    hyperedge_count,
    hyperedges,
    logged_hyperedges,
    measured_metrics,
    swiglu_width,
)
from moe_hub.config import field_paths, load_config
from moe_hub.errors import ConfigError
from moe_hub.runs.metrics import METRICS


def test_all_seven_are_there() -> None:
    assert list(ARCHITECTURES) == ["dense", "topk", "gnn", "hgnn", "orthogonal", "ghost", "geometric"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_row_names_what_exists(name: str) -> None:
    row = ARCHITECTURES[name]
    fields = field_paths()
    assert all(any(path.startswith(f"{section}.") for path in fields) for section in row.sections)
    assert all(f"model.{field}" in fields for field in row.ignores)
    assert set(row.metrics) <= set(METRICS)
    assert row.label
    assert row.summary.endswith(".")


def test_each_architecture_shows_the_sections_it_reads() -> None:
    sections = {name: set(row.sections) for name, row in ARCHITECTURES.items()}
    assert sections["dense"] == set()
    assert sections["topk"] == {"model.topk"}
    assert sections["gnn"] == sections["hgnn"] == {"model.coupling"}
    assert sections["orthogonal"] == {"model.coupling", "model.orthogonal"}
    assert sections["ghost"] == {"model.coupling", "model.ghost"}
    assert sections["geometric"] == {"model.coupling", "model.geometric", "model.ghost"}


@pytest.mark.parametrize("strategy", ["all_pairs", "all_triplets", "all", "all_orders"])
@pytest.mark.parametrize("experts", range(1, 8))
def test_the_count_of_hyperedges_is_their_number(strategy: str, experts: int) -> None:
    edges = hyperedges(strategy, experts)
    assert hyperedge_count(strategy, experts) == len(edges) == len(set(edges))
    for edge in ghost_hyperedges(strategy, experts, 2):
        assert edge == tuple(sorted(edge))
        assert edge[-1] >= experts


def test_logged_hyperedges_hold_those_of_ghosts_last() -> None:
    edges = logged_hyperedges(load_config(overrides=["model.architecture=ghost"]).model)
    assert len(edges) == comb(4, 2) + 4 * 2 + 1
    assert edges[:6] == hyperedges("all_pairs", 4)
    assert all(edge[-1] >= 4 for edge in edges[6:])


def test_a_large_model_is_counted_without_building_it() -> None:
    config = load_config(
        overrides=["model.architecture=topk", "model.d_model=8192", "model.num_heads=64", "model.num_layers=80",
                   "model.num_experts=64", "model.topk.top_k=8"]
    )  # fmt: skip
    count = count_parameters(config.model, 50_000)
    assert count.total == 50_000 * 8192 + 80 * (4 * 8192**2 + 64 * 8 * 8192**2 + 64 * 8192)
    assert count.total - count.active == 80 * 56 * 8 * 8192**2


def test_the_gated_width_keeps_the_number_of_weights() -> None:
    for d_model in (64, 128, 512, 1000):
        assert 3 * swiglu_width(d_model) == pytest.approx(8 * d_model, rel=0.04)


def test_what_is_measured_follows_the_settings() -> None:
    def measured(*choices: str) -> set[str]:
        return set(measured_metrics(load_config(overrides=[f"model.{choice}" for choice in choices]).model))

    assert measured("architecture=dense") == set()
    assert "router/entropy" not in measured("architecture=hgnn", "readout=mean")
    assert not {m for m in measured("architecture=hgnn", "coupling.scale=0") if m.startswith("coupling/")}
    assert measured("architecture=hgnn", "num_experts=1") == set()
    assert not {m for m in measured("architecture=ghost", "ghost.num_ghosts=0") if m.startswith("ghost/")}
    with_ghosts = measured("architecture=geometric", "geometric.ghosts=true")
    own = {"fvu_grad": "ghost/gradient_fvu", "legacy": "ghost/residual_variance"}  # of a saturation measure alone
    every = {m for m in METRICS if m.startswith("ghost/")} - set(own.values())
    assert with_ghosts - measured("architecture=geometric") == every
    for measure, name in own.items():
        one = f"ghost.saturation_measure={measure}"
        assert measured("architecture=ghost", one) == measured("architecture=ghost") | {name}
        assert not {m for m in measured("architecture=ghost", one, "ghost.num_ghosts=0") if m.startswith("ghost/")}


def test_every_metric_of_experts_has_a_null_value() -> None:
    groups = ("expert/", "router/", "rotation/", "coupling/", "ghost/", "probe/")
    without = [m for m in METRICS if m.startswith(groups) and not METRICS[m].null and m != "ghost/threshold"]
    assert without == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.architecture=hgn"], "did you mean hgnn"),
        (["model.architecture=geometric", "model.d_model=12", "model.num_heads=2",
          "model.geometric.rotation_type=cayley"], "geometric.block_size = 8 must divide d_model = 12"),
        (["model.architecture=ghost", "model.num_experts=7", "model.coupling.strategy=all_orders"], "up to 8 experts"),
        (["model.orthogonal.min_weight=0.5"], "min_weight = 0.5 is above max_weight = 0.3"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(overrides=overrides)


def test_the_table_needs_no_torch() -> None:
    code = "import sys, moe_hub.architectures, moe_hub.config.model; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
