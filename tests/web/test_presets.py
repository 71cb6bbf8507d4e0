"""Own presets: save, rename, delete, import, export, copy from a run; names are checked and shipped ones stand."""

from __future__ import annotations

from typing import Any

import pytest

from moe_hub.config import load_config, preset_names
from moe_hub.runs.store import RunDirectory
from moe_hub.workbench.assessment import shipped_values
from moe_hub.workbench.fields import to_raw

RAW = to_raw(shipped_values("basic_comparison"))


def change(page: Any, **body: Any) -> Any:
    return page.client.post("/api/presets", json=body)


def save(page: Any, name: str, **fields: Any) -> Any:
    values = {**RAW, **{path.replace("__", "."): value for path, value in fields.items()}}
    return change(page, action="save", name=name, base="basic_comparison", values=values)


def test_save_export_import_rename_delete(page: Any, tmp_path: Any) -> None:
    saved = save(page, "mine", model__num_experts="8")
    assert saved.status_code == 200, saved.data
    assert [option["value"] for option in saved.get_json()["options"]] == [*preset_names(), "mine"]
    text = page.client.get("/api/presets/mine.yaml").data.decode()
    (tmp_path / "mine.yaml").write_text(text)
    exported = load_config(path=tmp_path / "mine.yaml")
    assert exported == load_config(preset="basic_comparison", overrides=["model.num_experts=8"])
    assert change(page, action="import", name="again", text=text).status_code == 200
    assert page.client.get("/api/presets/again.yaml").data.decode() == text
    assert change(page, action="rename", name="other", old="again").status_code == 200
    options = change(page, action="delete", name="other").get_json()["options"]
    assert "other" not in [option["value"] for option in options]


def test_a_preset_that_is_not_valid_is_not_saved(page: Any) -> None:
    answer = save(page, "bad", model__num_experts="999")
    assert answer.status_code == 400
    assert "1 to 64" in answer.get_json()["error"]
    assert change(page, action="import", name="bad", text="model: {num_expert: 3}").get_json()["error"]
    assert (
        "did you mean" in change(page, action="import", name="bad", text="model: {num_expert: 3}").get_json()["error"]
    )
    assert not (page.data_dir / "presets" / "bad.yaml").exists()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "x" * 41, "a b", "con:aux", "geometric_lambda"])
def test_names_are_checked(page: Any, name: str) -> None:
    assert save(page, name).status_code == 400
    assert list((page.data_dir / "presets").glob("*")) == [] if (page.data_dir / "presets").exists() else True
    assert page.client.get(f"/api/presets/{name}.yaml").status_code in (200, 400, 404)


def test_shipped_presets_are_exported_and_stay(page: Any) -> None:
    assert b"hgnn" in page.client.get("/api/presets/basic_comparison.yaml").data
    assert change(page, action="delete", name="basic_comparison").status_code == 400
    assert change(page, action="rename", name="x", old="basic_comparison").status_code == 400


def test_an_import_does_not_overwrite(page: Any) -> None:
    save(page, "mine")
    assert change(page, action="import", name="mine", text="seed: 3").status_code == 400


def test_the_values_of_a_run_come_back(page: Any, finished_run: RunDirectory) -> None:
    values = change(page, action="copy", name="", run=finished_run.run_id).get_json()["values"]
    assert values["model.architecture"] == "geometric"
    assert values["name"] == "fake"
