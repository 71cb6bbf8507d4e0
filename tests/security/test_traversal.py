"""No name, path or text of a request leads out of the folders of the dashboard, on any route or callback."""

from __future__ import annotations

import http.client
import io
import json
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import waitress
from attacks import traversals
from browser import run_in_thread
from surface import callback_body, callbacks, filled, rules, words
from werkzeug.routing import Rule

from moe_hub.config import Config, field_paths
from moe_hub.web.ids import field_id
from moe_hub.workbench.fields import to_raw
from moe_hub.workbench.presets import PresetStore

MARK = b"TOP-SECRET-MARK"
SECRETS = (MARK, b"root:x:0", b"777.25")


def attacks(place: Any) -> list[str]:
    files = ("secret.txt", "secret.jsonl", "secret.yaml", "secret-run")
    found = traversals("/etc/passwd")
    for name in files:
        found += traversals(str(place.outside / name))[: 60 if name == "secret.txt" else 12]
    return list(dict.fromkeys(found))


def harmless(place: Any, answer: Any, what: Any) -> None:
    """The answer is no failure of the server and tells nothing of outside."""
    assert answer.status_code < 500, (what, answer.data[:300])
    for secret in SECRETS:
        assert secret not in answer.data, (what, answer.data[:300])
    assert b"Traceback" not in answer.data, what


@pytest.fixture
def untouched(place: Any) -> Iterator[None]:
    """Nothing outside changed, the run and the upload are where they were, and nothing outside was given to a job."""
    before = place.everything_outside()
    yield
    assert place.everything_outside() == before
    assert sorted(each.name for each in place.root.iterdir()) == ["inside", "outside"]
    assert (place.run / "config.yaml").is_file()
    assert (place.data_dir / "uploads" / "good.jsonl").is_file()
    for job in place.started:
        assert not any("outside" in word or "/etc" in word for word in job), job


def test_there_are_more_than_forty_forms(place: Any) -> None:
    assert len(traversals("/etc/passwd")) > 40
    assert len(set(attacks(place))) > 80


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("untouched")
def test_every_part_of_every_path(place: Any) -> None:
    tried = 0
    for rule in rules(place.app.server):
        methods = sorted((rule.methods or set()) & {"GET", "POST"})
        whole_page = rule.rule == "/<path:path>"  # every path is the page, and takes longest
        for attack in attacks(place)[:: 6 if whole_page else 1] if rule.arguments else []:
            for path in _as_paths(rule, attack):
                for method in methods:
                    body = {"data": b"x", "content_type": "application/octet-stream"} if method == "POST" else {}
                    harmless(place, place.client.open(path, method=method, **body), (method, path))
                    tried += 1
    assert tried > 1500


def _as_paths(rule: Rule, attack: str) -> list[str]:
    found = [filled(rule, attack)]
    if attack.isascii() and attack.isprintable() and not set(attack) & set("?#% "):
        found.append(filled(rule, attack, encoded=False))
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("untouched")
def test_every_parameter_of_every_query(place: Any) -> None:
    sample = attacks(place)[::9]
    for rule in rules(place.app.server):
        if "GET" not in (rule.methods or set()) or rule.endpoint.startswith("/"):
            continue  # Dash's own routes read none
        path = filled(rule, f"{place.run_id}@40")
        for name in sorted(words(place.app.server, rule).query):
            for attack in sample:
                query = {"runs": place.run_id, "figure": "training-loss", name: attack}
                harmless(place, place.client.get(path, query_string=query), (path, name, attack))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("untouched")
def test_every_field_of_every_body(place: Any) -> None:
    tried, sample = 0, attacks(place)[::9]
    for rule in rules(place.app.server):
        if "POST" not in (rule.methods or set()) or rule.endpoint.startswith("/"):
            continue
        known = words(place.app.server, rule)
        for action in sorted(known.actions) or [""]:
            for field in sorted(known.fields):
                for attack in sample:
                    body = {**_valid(place), "action": action, field: _shaped(field, attack)}
                    answer = place.client.post(filled(rule, "0" * 16), json=body)
                    harmless(place, answer, (rule.rule, action, field, attack))
                    tried += 1
        if not (place.run / "config.yaml").is_file():  # a valid delete, because the attacked field was not read
            place.client.post("/api/runs", json={"action": "undelete", "run": place.run_id})
    assert tried > 800


def _valid(place: Any) -> dict[str, Any]:
    good = str(place.data_dir / "uploads" / "good.jsonl")
    return {
        "run": place.run_id, "label": "label", "tags": ["a"], "key": f"{place.run_id}@40", "name": "mine",
        "old": "mine", "prompt": "hello", "answer": "hello", "job": "0" * 16, "upload": "0" * 16, "size": 5,
        "keys": ["0" * 32], "text": "seed: 1", "values": {}, "data": {"source": "file", "path": good},
    }  # fmt: skip


def _shaped(field: str, attack: str) -> Any:
    if field == "data":
        return {"source": "file", "path": attack}
    if field == "values":
        return {"data.source": "file", "data.path": attack, "train.lambda_cognitive.enabled": False}
    if field in ("tags", "keys"):
        return [attack]
    return attack


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("untouched")
def test_every_callback(place: Any) -> None:
    found = {output: each for output, each in callbacks(place.app).items() if not each.get("background")}
    assert len(found) >= 3
    for output, registered in found.items():
        names = {each["id"] for each in [*registered["inputs"], *registered["state"]]}
        for attack in attacks(place)[::7]:
            for only in ("", *sorted(name for name in names if "path" in name or "preset" in name)):
                for value in (attack, {"focus": attack}):
                    body = callback_body(output, registered, value, only=only)
                    harmless(
                        place, place.client.post("/_dash-update-component", json=body), (output[:60], only, attack)
                    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("route", ["/api/data/preview", "/api/data/inspect", "/api/presets", "form"])
def test_every_setting_that_names_a_file(place: Any, route: str) -> None:
    good = str(place.data_dir / "uploads" / "good.jsonl")
    for attack in attacks(place):
        for values in (
            {"data.source": "file", "data.path": attack},
            {"data.source": "mixture", "data.mixture": f"0.5 lambda; 0.5 file:{attack}"},
            {"data.source": "file", "data.path": good, "data.tokenizer": "pretrained", "data.tokenizer_path": attack},
            {"data.source": "hub", "data.name": attack},
        ):
            harmless(place, _ask(place, route, values), (route, values))
    if route in ("/api/data/preview", "/api/data/inspect"):
        assert _ask(place, route, {"data.source": "file", "data.path": good}).status_code == 200


def test_the_settings_that_name_files_are_known(place: Any) -> None:
    """A new one has to be judged by `moe_hub.web.readable` too, and then named here."""
    named = {path for path in field_paths() if path.rpartition(".")[2] in ("path", "file", "folder", "dir")
             or path.endswith(("_path", "_file", "_dir", "_folder"))}  # fmt: skip
    assert named == {"data.path", "data.tokenizer_path"}
    assert "file:" in (Config.model_fields["data"].annotation.model_fields["mixture"].description or "")


def _ask(place: Any, route: str, values: dict[str, Any]) -> Any:
    if route == "form":
        output = next(name for name in callbacks(place.app) if "command-preview" in name)
        registered = callbacks(place.app)[output]
        body = callback_body(output, registered, None)
        form = {field_id(path): value for path, value in {**_form(), **values}.items()}
        for entry in body["inputs"]:
            entry["value"] = form.get(entry["id"], "basic_comparison")
        return place.client.post("/_dash-update-component", json=body)
    if route == "/api/presets":
        values = {**values, "train.lambda_cognitive.enabled": False}
        return place.client.post(route, json={"action": "save", "name": "mine", "values": values})
    return place.client.post(route, json={"data": {key.removeprefix("data."): value for key, value in values.items()}})


def _form() -> dict[str, Any]:
    values = to_raw(PresetStore(Path("none")).values("basic_comparison"))
    return {**values, "train.lambda_cognitive.enabled": False}


def test_the_form_names_the_field_and_what_to_do(place: Any) -> None:
    answer = _ask(place, "form", {"data.source": "file", "data.path": "/etc/passwd"})
    text = json.dumps(answer.get_json())
    assert "outside the folders" in text
    assert "--read-dir" in text


@pytest.mark.usefixtures("untouched")
def test_links_in_the_runs_folder_lead_nowhere(place: Any) -> None:
    target = place.outside / "secret-run"
    (place.runs_dir / "20261124-000000-link-aaaa").symlink_to(target)
    _replace(place.run / "log.txt", target / "log.txt")
    _replace(place.run / "notes.json", target / "notes.json")
    _replace(place.run / "metrics.jsonl", target / "metrics.jsonl")
    (place.run / "checkpoints" / "step_00000050").symlink_to(target / "checkpoints" / "step_00000040")
    _ask_for_everything(place, [place.run_id, "20261124-000000-link-aaaa"], [40, 50])
    _replace(place.run / "config.yaml", target / "config.yaml")
    _ask_for_everything(place, [place.run_id], [40])
    (place.run / "config.yaml").unlink()
    (place.run / "config.yaml").write_text("name: own\n")


@pytest.mark.usefixtures("untouched")
def test_links_in_a_checkpoint_lead_nowhere(place: Any) -> None:
    folder = place.run / "checkpoints" / "step_00000040"
    secret = place.outside / "secret-run" / "checkpoints" / "step_00000040"
    (folder / "extra.json").symlink_to(secret / "config.json")
    _replace(folder / "config.json", secret / "config.json")
    _ask_for_everything(place, [place.run_id], [40])
    shutil.copytree(folder, folder.with_name("step_00000060"), symlinks=True)
    for name in ("trainer_state.json", "model.safetensors"):
        _replace(folder / name, secret / name)
        _ask_for_everything(place, [place.run_id], [40, 60])
    keys = f"{place.run_id}@40,{place.run_id}@60"
    answer = place.client.get("/api/checkpoints/compare", query_string={"keys": keys})
    assert answer.status_code == 400
    assert "is a link" in answer.get_json()["error"]
    (place.run / "checkpoints").rename(place.root / "inside" / "moved")
    (place.run / "checkpoints").symlink_to(place.outside / "secret-run" / "checkpoints")
    _ask_for_everything(place, [place.run_id], [40])


@pytest.mark.usefixtures("untouched")
def test_links_among_uploads_and_presets_lead_nowhere(place: Any) -> None:
    (place.data_dir / "uploads" / "link.jsonl").symlink_to(place.outside / "secret.jsonl")
    (place.data_dir / "presets").mkdir()
    (place.data_dir / "presets" / "link.yaml").symlink_to(place.outside / "secret.yaml")
    assert b"link.jsonl" not in place.client.get("/api/data").data
    link = str(place.data_dir / "uploads" / "link.jsonl")
    for route in ("/api/data/preview", "/api/data/inspect"):
        assert place.client.post(route, json={"data": {"source": "file", "path": link}}).status_code == 400
    answer = place.client.post("/api/evaluate", json={"key": f"{place.run_id}@40", "data": "link.jsonl"})
    assert answer.status_code == 400
    assert place.client.post("/api/data", json={"action": "delete", "name": "link.jsonl"}).status_code == 400
    assert place.client.get("/api/presets/link.yaml").status_code == 400
    for action in ("rename", "delete"):
        body = {"action": action, "name": "link", "old": "link"}
        harmless(place, place.client.post("/api/presets", json=body), action)
    assert "link" not in place.client.get("/_dash-layout").get_data(as_text=True).partition("preset-select")[2][:2000]


def _replace(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _ask_for_everything(place: Any, run_ids: list[str], steps: list[int]) -> None:
    keys = [f"{run_id}@{step}" for run_id in run_ids for step in steps]
    for rule in rules(place.app.server):
        if "GET" not in (rule.methods or set()):
            continue
        for value in [*run_ids, *keys] if rule.arguments else [""]:
            query = {"runs": ",".join(run_ids), "focus": run_ids[0], "keys": ",".join(keys), "key": keys[0],
                     "whole": "1",                     "figure": "training-loss"}  # fmt: skip
            answer = place.client.get(filled(rule, value), query_string=query)
            harmless(place, answer, (rule.rule, value))
            if answer.mimetype == "application/zip" and answer.status_code == 200:
                names = zipfile.ZipFile(io.BytesIO(answer.data)).namelist()
                assert not any(name.endswith(("extra.json", "/config.json")) for name in names) or all(
                    MARK not in zipfile.ZipFile(io.BytesIO(answer.data)).read(name) for name in names
                )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("untouched")
def test_raw_request_lines_on_a_real_server(place: Any) -> None:
    """A client's library would tidy these paths up before they are sent."""
    server: Any = waitress.create_server(place.app.server, host="127.0.0.1", port=0, threads=4)
    run_in_thread(server)
    try:
        ask = _asker(server.effective_port)
        for base in ("/assets/", "/_dash-component-suites/dash/", "/api/presets/", "/api/runs/", "/"):
            for attack in attacks(place):
                for shown in {quote(attack, safe=""), quote(attack, safe="/."), quote(attack, safe="/.\\:%")}:
                    code, content = ask(base + shown)
                    assert code < 500, (base, attack)
                    assert not any(secret in content for secret in SECRETS), (base, attack)
    finally:
        server.close()


def _asker(port: int) -> Callable[[str], tuple[int, bytes]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(path: str) -> tuple[int, bytes]:
        if len(path) > 60_000:
            return 414, b""
        connection.putrequest("GET", path, skip_accept_encoding=True)
        connection.endheaders()
        answer = connection.getresponse()
        content = answer.read()
        if answer.will_close:
            connection.close()
        return answer.status, content

    return ask
