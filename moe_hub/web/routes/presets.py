"""A person's own presets: save, rename, delete, import, export, copy from a run."""

from __future__ import annotations

from typing import Any

import flask

from moe_hub.config import flatten, load_config, preset_names, to_yaml
from moe_hub.errors import ConfigError
from moe_hub.web.panels.configuration import preset_options
from moe_hub.web.routes.asked import download, json_answer, json_body, text_of
from moe_hub.web.workbench import Workbench
from moe_hub.workbench.presets import MOST_BYTES, read_preset_text
from moe_hub.workbench.starting import form_config


def routes(workbench: Workbench) -> list[Any]:
    """POST api/presets changes; GET api/presets/<name>.yaml exports; both answer with what the page shows next."""
    presets = workbench.presets

    def change() -> flask.Response:
        body = json_body()
        action, name = text_of(body, "action"), text_of(body, "name")
        if action == "save":
            presets.save(name, form_config(presets, _base(body), _raw_values(body), workbench.readable.problems))
        elif action == "rename":
            presets.rename(text_of(body, "old"), name)
        elif action == "delete":
            presets.delete(name)
        elif action == "import":
            presets.save(name, read_preset_text(text_of(body, "text", most=MOST_BYTES)), replace=False)
        elif action == "copy":
            config = workbench.store.open(text_of(body, "run")).config()
            return json_answer({"values": flatten(config.model_dump(mode="json"))})
        else:
            raise ConfigError(f"action {action!r} is unknown; allowed: save, rename, delete, import, copy")
        return json_answer({"name": name, "options": preset_options(workbench)})

    def export(name: str) -> flask.Response:
        config = load_config(preset=name) if name in preset_names() else load_config(path=presets.file(name))
        return download(to_yaml(config), f"{name}.yaml", "application/yaml")

    return [("api/presets", change, "POST"), ("api/presets/<name>.yaml", export, "GET")]


def _base(body: dict[str, Any]) -> str | None:
    return text_of(body, "base") if body.get("base") else None


def _raw_values(body: dict[str, Any]) -> dict[str, Any]:
    values = body.get("values")
    if not isinstance(values, dict):
        raise ConfigError("values must be an object of field paths")
    return values
