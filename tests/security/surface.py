"""All that can be asked of a dashboard, found in the running app and in the code of its routes: a new route, field or
action is attacked by the tests without a word about it here."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import quote

from flask import Flask
from werkzeug.routing import Rule

from moe_hub.figures.view import View

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")
QUERY = {field.name for field in fields(View)} | {"runs", "figure", "x0", "x1"}


@dataclass(frozen=True)
class Words:
    """What the code of a view's module reads from a request."""

    fields: frozenset[str]
    actions: frozenset[str]
    query: frozenset[str]


def rules(server: Flask, prefix: str = "/") -> list[Rule]:
    """The rules of the dashboard under a prefix; the host's own static folder is no part of it."""
    return [rule for rule in server.url_map.iter_rules() if rule.rule.startswith(prefix) and rule.endpoint != "static"]


def filled(rule: Rule, value: str, *, encoded: bool = True) -> str:
    """The path of a rule with a value for each of its parts, as it stands in the request line."""
    path = rule.rule
    shown = quote(value, safe="") if encoded else value
    for name in rule.arguments:
        for kind in ("", "path:", "string:"):
            path = path.replace(f"<{kind}{name}>", shown)
    return path


def words(server: Flask, rule: Rule) -> Words:
    """Field names, actions and query parameters in the module of the rule's view."""
    module = server.view_functions[rule.endpoint].__module__
    if not module.startswith("moe_hub."):
        return Words(frozenset(), frozenset(), frozenset())
    return _words_of(module)


def _words_of(module: str) -> Words:
    found: dict[str, set[str]] = {"fields": set(), "actions": set(), "query": set()}
    for node in ast.walk(ast.parse(inspect.getsource(sys.modules[module]))):
        if isinstance(node, ast.Call):
            name = _called(node)
            if name.endswith("_of") and len(node.args) > 1:
                found["fields"] |= set(_texts(node.args[1]))
            elif name == "body.get" and node.args:
                found["fields"] |= set(_texts(node.args[0]))
            elif name in ("asked.get", "args.get") and node.args:
                found["query"] |= set(_texts(node.args[0]))
        elif isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and node.left.id == "action":
            found["actions"] |= {text for each in node.comparators for text in _texts(each)}
    return Words(
        frozenset(found["fields"] - {"action"}), frozenset(found["actions"]), frozenset(found["query"]) | QUERY
    )


def _called(node: ast.Call) -> str:
    called = node.func
    if isinstance(called, ast.Name):
        return called.id
    if isinstance(called, ast.Attribute):
        owner = called.value
        return f"{owner.id if isinstance(owner, ast.Name) else getattr(owner, 'attr', '')}.{called.attr}"
    return ""


def _texts(node: ast.AST) -> Iterator[str]:
    parts = node.elts if isinstance(node, ast.Tuple | ast.List | ast.Set) else [node]
    for part in parts:
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def callbacks(app: Any) -> dict[str, Any]:
    """The callbacks that the server runs, by output."""
    return {output: each for output, each in app.callback_map.items() if "callback" in each}


def callback_body(output: str, registered: Any, value: Any, *, only: str = "") -> dict[str, Any]:
    """A request that fires a callback with `value` in all its inputs and states, or in those that `only` names."""

    def entries(declared: list[dict[str, str]]) -> list[dict[str, Any]]:
        return [
            {**each, "value": value if only in ("", each["id"]) else None} for each in declared if each["id"][0] != "{"
        ]

    names = output[2:-2].split("...") if output.startswith("..") else [output]
    outputs = [_output(*name.rpartition(".")[::2]) for name in names]
    inputs = entries(registered["inputs"])
    return {
        "output": output,
        "outputs": outputs if output.startswith("..") else outputs[0],
        "inputs": inputs,
        "state": entries(registered["state"]),
        "changedPropIds": [f"{each['id']}.{each['property']}" for each in inputs[:1]],
    }


def _output(name: str, prop: str) -> Any:
    kind = prop.partition("@")[0]
    return [] if name.startswith("{") else {"id": name, "property": kind}
