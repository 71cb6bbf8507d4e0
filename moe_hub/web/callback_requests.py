"""Checks the body of a Dash callback against what was registered, before Dash sees it.

Dash 4.4 answers 500 with a traceback to `[]`, `{}`, unknown outputs, clientside callbacks and lists of another length.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from flask import Request
from werkzeug.exceptions import BadRequest, MethodNotAllowed, NotFound, UnsupportedMediaType

Registered = Mapping[str, Mapping[str, Any]]  # dash.Dash.callback_map


def check_callback(request: Request, registered: Registered) -> None:
    """Raises werkzeug's `HTTPException` for a body that Dash could not answer."""
    if request.method != "POST":
        raise MethodNotAllowed(["POST"], "callbacks are POST")
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("a callback's body is application/json")
    try:
        body = json.loads(request.get_data(cache=True))
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON") from None
    if not isinstance(body, dict) or not isinstance(body.get("output"), str):
        raise BadRequest("the body is not a callback request")
    callback = registered.get(body["output"])
    if callback is None or "callback" not in callback:  # one that runs in the browser has no function here
        raise NotFound("there is no such callback")
    if not _fits(body, callback):
        raise BadRequest("the body does not fit the callback")


def _fits(body: Mapping[str, Any], callback: Mapping[str, Any]) -> bool:
    inputs = body.get("inputs", [])
    fit = _all_fit(inputs, callback["inputs"]) and _all_fit(body.get("state", []), callback["state"])
    return fit and _outputs_fit(body.get("outputs"), body["output"]) and _changed_fit(body, inputs)


def _all_fit(given: Any, declared: Sequence[Mapping[str, str]]) -> bool:
    return (
        isinstance(given, list)
        and len(given) == len(declared)
        and all(_fits_one(item, each["id"], each["property"]) for item, each in zip(given, declared, strict=True))
    )


def _fits_one(item: Any, wanted_id: str, wanted_property: str) -> bool:
    """Whether an entry names the declared property; for a pattern such as {"type": "row", "path": ["ALL"]}, a list."""
    if wanted_id.startswith("{"):
        keys = set(json.loads(wanted_id))
        return isinstance(item, list) and all(_matches(each, keys, wanted_property) for each in item)
    return isinstance(item, dict) and item.get("id") == wanted_id and item.get("property") == wanted_property


def _matches(item: Any, keys: set[str], wanted_property: str) -> bool:
    if not isinstance(item, dict) or item.get("property") != wanted_property or not isinstance(item.get("id"), dict):
        return False
    return item["id"].keys() == keys and all(isinstance(value, str | int | bool) for value in item["id"].values())


def _outputs_fit(given: Any, output: str) -> bool:
    """Whether the outputs are those in the callback's name: `id.property`, or `..id.property...id.property..`."""
    several = output.startswith("..")
    names = output[2:-2].split("...") if several else [output]
    wanted = [(name, kind) for name, _, kind in (each.rpartition(".") for each in names)]
    entries = given if several else [given]
    return isinstance(entries, list) and len(entries) == len(wanted) and all(map(_fits_output, entries, wanted))


def _fits_output(entry: Any, wanted: tuple[str, str]) -> bool:
    """As `_fits_one`; a second callback with the same output has a mark, `value@HASH`, that the page may leave out."""
    name, kind = wanted
    return _fits_one(entry, name, kind) or _fits_one(entry, name, kind.partition("@")[0])


def _changed_fit(body: Mapping[str, Any], inputs: Sequence[Any]) -> bool:
    changed = body.get("changedPropIds", [])
    known = {f"{item['id']}.{item['property']}" for item in inputs if isinstance(item, dict)}
    return isinstance(changed, list) and all(isinstance(each, str) and each in known for each in changed)
