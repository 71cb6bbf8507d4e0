"""The form in a real browser: errors beside fields, what a choice shows, presets, sliders, the command, reload."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from browser import Site, Watched, until

from moe_hub.config import load_config
from moe_hub.web.ids import field_id
from moe_hub.workbench.fields import form_fields

pytestmark = [pytest.mark.browser, pytest.mark.timeout(200)]

Visit = Callable[..., Watched]


def test_a_wrong_value_is_named_at_its_field_and_blocks_start(visit: Visit) -> None:
    page = visit().page
    until(lambda: page.is_enabled("#start-button"))
    page.fill("#field-model-num_experts", "999")
    until(lambda: "1 to 64" in page.inner_text("[data-path='model.num_experts'] .field-error"), 3)
    until(lambda: page.is_disabled("#start-button"))
    assert page.get_attribute("#field-model-num_experts", "aria-invalid") == "true"
    assert "Experts" in page.inner_text("#validation-summary")
    page.click("#validation-summary a")
    assert page.evaluate("document.activeElement.id") == "field-model-num_experts"
    page.fill("#field-model-num_experts", "8")
    until(lambda: page.is_enabled("#start-button"))
    assert page.inner_text("[data-path='model.num_experts'] .field-error") == ""


def test_the_count_the_command_and_the_difference_follow(visit: Visit) -> None:
    page = visit().page
    before = until(lambda: "parameters" in page.inner_text("#parameter-count") and page.inner_text("#parameter-count"))
    page.fill("#field-model-num_experts", "6")
    until(lambda: page.inner_text("#parameter-count") != before)
    until(lambda: "--set model.num_experts=6" in page.inner_text("#command-preview"))
    assert "1 changed" in page.inner_text("#preset-difference-title")


def test_a_slider_and_its_number_move_together(visit: Visit) -> None:
    page = visit().page
    until(lambda: page.is_enabled("#start-button"))
    page.locator("#slider-model-num_experts").focus()
    page.keyboard.press("ArrowRight")
    until(lambda: page.input_value("#field-model-num_experts") == "5")
    page.fill("#field-model-num_experts", "12")
    until(lambda: page.input_value("#slider-model-num_experts") == "12")


@pytest.mark.parametrize(
    ("architecture", "shown", "hidden"),
    [
        ("dense", [], ["model.coupling.strategy", "model.geometric.rotation_type", "model.num_experts"]),
        ("hgnn", ["model.coupling.strategy"], ["model.geometric.rotation_type", "train.loss_weights.orthogonality"]),
        ("topk", ["model.topk.top_k"], ["model.coupling.strategy"]),
    ],
)
def test_only_what_the_architecture_reads_is_shown(
    visit: Visit, architecture: str, shown: list[str], hidden: list[str]
) -> None:
    page = visit().page
    until(lambda: page.is_enabled("#start-button"))
    page.select_option("#training-mode-select", "standard")
    page.select_option("#architecture-select", architecture)
    until(lambda: f"model.architecture={architecture}" in page.inner_text("#command-preview"))
    for path in shown:
        if path in form_fields():
            assert page.is_visible(f"#{field_id(path)}"), path
    for path in hidden:
        assert not page.is_visible(f"#{field_id(path)}"), path
    assert page.is_enabled("#start-button")


def test_every_field_of_the_schema_is_on_the_page(visit: Visit) -> None:
    page = visit().page
    missing = [path for path in form_fields() if page.locator(f"#{field_id(path)}").count() != 1]
    assert missing == []


def test_a_preset_of_ones_own_goes_round(site: Site, visit: Visit) -> None:
    page = visit().page
    until(lambda: page.is_enabled("#start-button"))
    page.select_option("#preset-select", "basic_comparison")
    until(lambda: page.input_value("#architecture-select") == "hgnn")
    page.fill("#field-model-num_experts", "3")
    until(lambda: "model.num_experts=3" in page.inner_text("#command-preview"))
    page.click("#preset-menu summary")
    page.fill("#preset-name", "mine")
    page.click("#preset-save")
    until(lambda: page.input_value("#preset-select") == "mine")
    saved = load_config(path=site.data_dir / "presets" / "mine.yaml")
    assert saved == load_config(preset="basic_comparison", overrides=["model.num_experts=3"])
    until(lambda: "--config" in page.inner_text("#command-preview"))
    page.select_option("#preset-select", "geometric_lambda")
    until(lambda: page.input_value("#field-model-num_experts") == "4")
    page.select_option("#preset-select", "mine")
    until(lambda: page.input_value("#field-model-num_experts") == "3")


def test_what_is_in_the_form_outlives_a_reload(visit: Visit) -> None:
    page = visit().page
    until(lambda: page.is_enabled("#start-button"))
    page.select_option("#preset-select", "basic_comparison")
    until(lambda: page.input_value("#architecture-select") == "hgnn")
    page.fill("#field-train-max_steps", "77")
    until(lambda: "train.max_steps=77" in page.inner_text("#command-preview"))
    page.reload()
    until(lambda: page.input_value("#field-train-max_steps") == "77")
    assert page.input_value("#preset-select") == "basic_comparison"
    until(lambda: "--preset basic_comparison --set train.max_steps=77" in page.inner_text("#command-preview"))
