"""Every callback and every route of the page with 200 runs present: no median over 100 ms. Run with -s for the table.

The time is the CPU time of the server's process, which does not depend on what else this machine does.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import Page, write_run
from safetensors.numpy import save_file

from moe_hub.web import create_dashboard, ids
from moe_hub.web.panels.header import CHAPTERS
from moe_hub.workbench.assessment import shipped_values
from moe_hub.workbench.fields import to_raw

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

RUNS = 200
REPEATS = 5
LIMIT_MS = 100
# A whole file for the person to keep: as long as its content, and sent piece by piece where it is large.
FILES = {"/api/runs/<run_id>/report.html", "/api/runs/<run_id>/metrics.csv", "/api/checkpoints/<key>.zip"}
# Not the page's: parts of Dash that the page never asks for, and the address of a foreign file.
UNUSED = {"/static/<path:filename>", "/_reload-hash", "/_favicon.ico", "/<path:path>"}
# What these start is a process of its own; the answer names it (test_jobs.py, test_browser_*.py).
STARTS_A_PROCESS = {"/api/generate", "/api/evaluate", "/api/data/inspect", "/api/data/prepare"}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """A dashboard on 200 runs with 300 rows and a checkpoint each."""
    folder = tmp_path_factory.mktemp("pace")
    first = write_run(folder / "runs", 300)
    checkpoint = first.path / "checkpoints" / "step_00000300"
    checkpoint.mkdir(parents=True)
    rng = np.random.default_rng(0)
    weights = {f"layers.{n}.weight": rng.normal(size=(300, 300)).astype(np.float32) for n in range(4)}
    save_file(weights, checkpoint / "model.safetensors")
    (checkpoint / "trainer_state.json").write_text('{"metrics": {"val/loss": 1.0}, "best_step": 300}')
    for number in range(RUNS - 1):
        shutil.copytree(first.path, folder / "runs" / f"20260101-{number:06d}-copy-{number:04x}")
    app = create_dashboard(runs_dir=folder / "runs", data_dir=folder / "data")
    return Page(app, app.server.test_client(), folder / "runs", folder / "data")


def test_no_callback_takes_long(full: Page) -> None:
    registered = {key: each for key, each in full.app.callback_map.items() if "callback" in each}
    assert len(registered) >= 4
    took = {}
    for key, callback in registered.items():
        body = request_of(full, key, callback)
        took[key[:60]] = median_ms(lambda body=body: full.client.post("/_dash-update-component", json=body))
    report(took)
    assert {key: ms for key, ms in took.items() if ms > LIMIT_MS} == {}


def test_no_route_takes_long(full: Page) -> None:
    asks = questions(full)
    rules = {(rule.rule, method) for rule in full.app.server.url_map.iter_rules() for method in rule.methods or ()}
    wanted = {
        f"{method} {rule}" for rule, method in rules
        if method in ("GET", "POST") and rule not in FILES | UNUSED | STARTS_A_PROCESS | {"/_dash-update-component"}
    }  # fmt: skip
    assert wanted == asks.keys()  # a new route is timed here as well
    took = {name: median_ms(ask) for name, ask in asks.items()}
    report(took)
    assert {name: ms for name, ms in took.items() if ms > LIMIT_MS} == {}


def median_ms(ask: Callable[[], Any]) -> float:
    """CPU time of this process for one answer, in ms: the median after a first one."""
    times = []
    for _ in range(REPEATS + 1):
        begun = time.process_time()
        answer = ask()
        times.append((time.process_time() - begun) * 1000)
        assert answer.status_code in (200, 204, 302), answer.data[:300]
        answer.close()
    return statistics.median(times[1:])


def report(took: dict[str, float]) -> None:
    """The table, slowest first."""
    for name, ms in sorted(took.items(), key=lambda item: -item[1]):
        print(f"{ms:8.1f} ms  {name}")


def request_of(page: Page, key: str, callback: dict[str, Any]) -> dict[str, Any]:
    """The body that the page sends for a callback, with the values of the first preset and a pressed button."""
    raw = {ids.field_id(path): value for path, value in to_raw(shipped_values("geometric_lambda")).items()}
    values = {
        **raw,
        ids.PRESET: "basic_comparison",
        ids.SELECTION: {"focus": page.store.ids()[0], "selected": []},
        ids.field_id("model.num_experts"): "6",
    }

    def entries(declared: list[dict[str, str]]) -> list[dict[str, Any]]:
        return [{"id": d["id"], "property": d["property"], "value": values.get(d["id"])} for d in declared]

    names = key[2:-2].split("...") if key.startswith("..") else [key]
    outputs = [dict(zip(("id", "property"), name.rsplit(".", 1), strict=True)) for name in names]
    for output in outputs:
        output["property"] = output["property"].partition("@")[0]
    first = callback["inputs"][0]
    return {
        "output": key,
        "outputs": outputs if key.startswith("..") else outputs[0],
        "inputs": entries(callback["inputs"]),
        "state": entries(callback["state"]),
        "changedPropIds": [f"{first['id']}.{first['property']}"],
    }


def questions(page: Page) -> dict[str, Callable[[], Any]]:
    """One sensible request for each route."""
    client, runs = page.client, page.store.ids()
    key, other = f"{runs[0]}@300", f"{runs[1]}@300"
    page.client.get("/")
    suite = "/_dash-component-suites/dash/deps/react@18.v4_4_1m1.3.1.min.js"
    upload = client.post("/api/uploads", json={"name": "a.txt", "size": 10, "modified": 0}).get_json()
    known: dict[str, str] = {}
    compared = ",".join(runs[:20])

    def get(path: str, **query: Any) -> Callable[[], Any]:
        return lambda: client.get(path, query_string=query)

    def post(path: str, **body: Any) -> Callable[[], Any]:
        return lambda: client.post(path, json=body)

    return {
        "GET /": get("/"),
        "GET /healthz": get("/healthz"),
        "GET /help/": get("/help/"),
        "GET /help/<path:page>": get(f"/help/{CHAPTERS['']}"),
        "GET /_dash-layout": get("/_dash-layout"),
        "GET /_dash-dependencies": get("/_dash-dependencies"),
        "GET /assets/<path:filename>": get("/assets/core.js"),
        "GET /_dash-component-suites/<string:package_name>/<path:fingerprinted_path>": get(suite),
        "GET /api/live": get("/api/live", runs=runs[0], focus=runs[0], figure="training-loss", width_px=900, **known),
        "GET /api/figure": get("/api/figure", runs=compared, figure="training-loss", width_px=900),
        "GET /api/figure.csv": get("/api/figure.csv", runs=runs[0], figure="training-loss"),
        "GET /api/compare": get("/api/compare", runs=compared),
        "GET /api/compare.csv": get("/api/compare.csv", runs=compared),
        "GET /api/runs/<run_id>/config.yaml": get(f"/api/runs/{runs[0]}/config.yaml"),
        "GET /api/runs/<run_id>/log": get(f"/api/runs/{runs[0]}/log"),
        "POST /api/runs": post("/api/runs", run=runs[0], action="rename", label="named"),
        "POST /api/runs/setting": post("/api/runs/setting", run=runs[0], ghost_threshold=0.1),
        "POST /api/queue": lambda: _refused(client.post("/api/queue", json={"action": "up", "run": runs[0]})),
        "POST /api/presets": post("/api/presets", action="copy", name="", run=runs[0]),
        "GET /api/presets/<name>.yaml": get("/api/presets/geometric_lambda.yaml"),
        "GET /api/checkpoints": get("/api/checkpoints"),
        "GET /api/checkpoints/compare": get("/api/checkpoints/compare", keys=f"{key},{other}"),
        "POST /api/checkpoints": lambda: _refused(client.post("/api/checkpoints", json={"action": "x", "key": key})),
        "GET /api/data": get("/api/data"),
        "POST /api/data": lambda: _refused(client.post("/api/data", json={"action": "delete", "name": "none"})),
        "POST /api/data/preview": post("/api/data/preview", data={"source": "lambda"}),
        "POST /api/uploads": post("/api/uploads", name="a.txt", size=10, modified=0),
        "GET /api/uploads/<upload_id>": get(f"/api/uploads/{upload['upload']}"),
        "POST /api/uploads/<upload_id>": lambda: _refused(client.post("/api/uploads/none", data=b"x")),
        "GET /api/example": get("/api/example", key=key, number=1),
        "GET /api/prompt-template": get("/api/prompt-template", key=key),
        "GET /api/jobs/<job_id>": lambda: _refused(client.get("/api/jobs/none")),
        "POST /api/jobs/stop": lambda: _refused(client.post("/api/jobs/stop", json={"job": "none"})),
        "POST /api/judge": post("/api/judge", prompt="( λ a . a ) b =", answer="b"),
        "GET /api/sweeps": get("/api/sweeps"),
        "GET /api/sweeps/<name>": lambda: _refused(client.get("/api/sweeps/none")),
    }


def _refused(answer: Any) -> Any:
    """An answer that says what is wrong, as it should here: the way there is the same."""
    assert 400 <= answer.status_code < 500, (answer.status_code, answer.data[:300])
    answer.status_code = 200
    return answer
