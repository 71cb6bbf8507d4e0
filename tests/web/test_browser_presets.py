"""The shipped presets from start to finish on the page, the first start on a fresh machine, and own presets."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import Site, Watched, drawn_points, load_factor, newest_run, status, until
from conftest import write_run

from moe_hub.config import load_config

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]

Visit = Callable[..., Watched]
# Fewer and more often measured steps; the model is the preset's own.
SHORT = {"train-max_steps": "40", "train-log_every": "1", "train-eval_every": "20", "train-checkpoint_every": "20",
         "data-num_train_samples": "400", "data-num_eval_samples": "20"}  # fmt: skip


def shown_figure(page: Any) -> Any:
    """Key of the figure that is drawn."""
    return page.evaluate(
        "() => { const host = document.getElementById('live-figure');"
        " return host._fullLayout && host._fullLayout.meta && host._fullLayout.meta.key; }"
    )


@pytest.mark.training
@pytest.mark.parametrize(
    ("preset", "architecture", "figure"),
    [
        ("geometric_lambda", "geometric", "rotation-angles-evolution"),
        ("ghost_expert_test", "ghost", "saturation-monitoring"),
        ("basic_comparison", "hgnn", "hypergraph-edge-weights"),
    ],
)
def test_a_preset_from_start_to_finish(site: Site, visit: Visit, preset: str, architecture: str, figure: str) -> None:
    page = visit().page
    page.select_option("#preset-select", preset)
    until(lambda: page.input_value("#architecture-select") == architecture)
    page.evaluate("() => document.querySelectorAll('#configuration details').forEach((each) => { each.open = true; })")
    for name, value in SHORT.items():
        page.fill(f"#field-{name}", value)
    until(lambda: "train.max_steps=40" in page.inner_text("#command-preview"))
    assert f"--preset {preset}" in page.inner_text("#command-preview")
    until(lambda: page.is_enabled("#start-button"))
    page.click("#start-button")
    run = newest_run(site)
    first = until(lambda: drawn_points(page), 240)
    until(lambda: drawn_points(page) > first, 240)
    until(lambda: "finished" in status(page), 240)
    assert run.state() == "finished"
    assert "40 / 40" in status(page)
    until(lambda: page.get_attribute(".progress-track", "aria-valuenow") == "100")
    until(lambda: drawn_points(page) == 40)
    page.select_option("#figure-select", figure)
    until(lambda: shown_figure(page) == figure)
    assert page.is_hidden("#failure-card")
    page.click("#tab-models")
    until(lambda: page.locator("#panel-models tbody tr").count() == 2)
    assert "40" in page.locator("#panel-models tbody tr").first.inner_text()
    expected = load_config(preset=preset, overrides=[f"{n.replace('-', '.', 1)}={v}" for n, v in SHORT.items()])
    assert run.config() == expected


@pytest.mark.training
def test_a_fresh_machine_offers_the_preset_and_moves_within_a_minute(site: Site, visit: Visit) -> None:
    page = visit().page
    until(lambda: page.is_visible("#figure-empty"))
    assert "No runs yet" in page.inner_text("#run-table")
    begun = time.monotonic()
    page.click("text=Start with this preset")
    first = until(lambda: drawn_points(page), 300)
    until(lambda: drawn_points(page) > first, 300)
    seconds = time.monotonic() - begun
    print(f"from the press to a curve that moves: {seconds:.1f} s, load factor {load_factor():.1f}")
    assert newest_run(site).config() == load_config(preset="geometric_lambda")
    page.click("#stop-button")
    until(lambda: newest_run(site).state() == "stopped", 120)
    assert seconds < 60 * load_factor()


def test_presets_of_ones_own_are_saved_renamed_exported_imported_and_deleted(
    site: Site, visit: Visit, tmp_path: Path
) -> None:
    watched = visit()
    page = watched.page
    until(lambda: page.is_enabled("#start-button"))
    page.fill("#field-model-num_experts", "3")
    until(lambda: "1 changed" in (page.text_content("#preset-difference-title") or ""))
    page.click("#preset-difference-title")
    assert page.inner_text("#preset-difference").split() == ["model.num_experts", "4", "3"]
    manage(page, "Save as", name="mine")
    until(lambda: page.input_value("#preset-select") == "mine")
    until(lambda: page.is_hidden("#preset-difference-box"))
    manage(page, "Rename", name="renamed")
    until(lambda: page.input_value("#preset-select") == "renamed")
    assert sorted(path.name for path in (site.data_dir / "presets").iterdir()) == ["renamed.yaml"]
    with page.expect_download() as waiting:
        manage(page, "Export YAML")
    exported = tmp_path / "brought.yaml"
    waiting.value.save_as(exported)
    assert load_config(path=exported) == load_config(preset="geometric_lambda", overrides=["model.num_experts=3"])
    manage(page, "Delete")
    until(lambda: page.input_value("#preset-select") == "geometric_lambda")
    until(lambda: page.input_value("#field-model-num_experts") == "4")
    assert not list((site.data_dir / "presets").iterdir())
    with page.expect_file_chooser() as chooser:
        manage(page, "Import YAML")
    chooser.value.set_files(exported)
    until(lambda: page.input_value("#preset-select") == "brought")
    until(lambda: page.input_value("#field-model-num_experts") == "3")
    exported.write_text("model: {num_expertz: 3}\n")
    with page.expect_file_chooser() as chooser:
        manage(page, "Import YAML")
    chooser.value.set_files({"name": "wrong.yaml", "mimeType": "text/yaml", "buffer": exported.read_bytes()})
    until(lambda: "did you mean" in page.inner_text("#preset-message"))
    assert page.input_value("#preset-select") == "brought"
    assert len(watched.wrong) == 1  # what the browser says of any refusal
    assert "400" in watched.wrong.pop()


def test_the_config_of_a_run_is_copied_into_the_form(site: Site, visit: Visit) -> None:
    run = write_run(site.runs_dir, 5, name="to-copy")
    text = (run.path / "config.yaml").read_text()
    (run.path / "config.yaml").write_text(text.replace("num_experts: 4", "num_experts: 7"))
    page = visit().page
    until(lambda: "to-copy" in status(page))
    until(lambda: page.is_enabled("#start-button"))
    manage(page, "From run")
    until(lambda: page.input_value("#field-model-num_experts") == "7")
    until(lambda: page.input_value("#field-name") == "to-copy")
    until(lambda: "model.num_experts=7" in page.inner_text("#command-preview"))
    assert run.run_id in page.inner_text("#preset-message")


def manage(page: Any, button: str, name: str = "") -> None:
    """Presses a button of the menu of presets."""
    if not page.is_visible("#preset-name"):
        page.click("#preset-menu summary")
    if name:
        page.fill("#preset-name", name)
    page.click(f"#preset-menu >> text={button}")
