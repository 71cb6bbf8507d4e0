"""Puts the dashboard together and mounts it on a Flask app."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import dash
from dash import Dash
from flask import Flask, Request, Response

from moe_hub import launch
from moe_hub.errors import ConfigError, MoeHubError
from moe_hub.web import background, layout
from moe_hub.web.callbacks import register_callbacks
from moe_hub.web.compression import Compressor
from moe_hub.web.guard import Gate, guard_views
from moe_hub.web.index_page import index_string
from moe_hub.web.routes import register_routes
from moe_hub.web.workbench import open_workbench

DEFAULT_RUNS_DIR = "runs"
DEFAULT_DATA_DIR = "data"


def create_dashboard(
    server: Flask | None = None,
    *,
    url_base_path: str = "/",
    runs_dir: str | os.PathLike[str] = DEFAULT_RUNS_DIR,
    data_dir: str | os.PathLike[str] = DEFAULT_DATA_DIR,
    authorize: Callable[[Request], bool] | None = None,
    read_dirs: Sequence[str | os.PathLike[str]] = (),
    refuse: Callable[[Request], Response] | None = None,
    sign_out_path: str = "",
    celery: str | None = None,
) -> dash.Dash:
    """The dashboard as a Dash app, on its own server or mounted on `server` under `url_base_path`.

    Mounted, it adds routes under the prefix and leaves every other route alone; mount it before the host answers its
    first request. `authorize(request)` is asked on every request under the prefix; without it, only visitors that
    come from this machine and address it by a loopback name are answered. `refuse` makes the answer to those it turns
    away. `sign_out_path` is a link in the header. Data files may lie in `data_dir` and `read_dirs`.
    `celery` is the address of a Redis through which Celery workers start the runs, in place of processes of this
    machine. Raises `ConfigError` for a prefix or an address that is none.
    """
    prefix = _prefix(url_base_path)
    workbench = open_workbench(Path(runs_dir), Path(data_dir), prefix, [Path(each) for each in read_dirs])
    flask_app = server if server is not None else Flask("moe_hub.web")
    _refuse_place(flask_app, prefix)
    before = set(flask_app.view_functions)
    handlers = dict(flask_app.error_handler_spec[None][None])
    manager = background.manager(Path(data_dir), celery)
    app = _mount(flask_app, prefix, manager)
    app.layout = lambda: layout.page(workbench, sign_out_path)  # anew for each page: presets come and go
    register_callbacks(app, workbench, manager)
    register_routes(flask_app, workbench)
    gate = Gate(
        prefix=prefix,
        authorize=authorize,
        policy=_content_policy(app),
        compressor=Compressor(),
        callbacks=lambda: app.callback_map,
        refuse=refuse,
    )
    guard_views(flask_app, set(flask_app.view_functions) - before, gate)
    # Dash registers handlers of its own exceptions on the whole host; the gate answers those.
    flask_app.error_handler_spec[None][None] = handlers
    threading.Thread(target=_reconcile, args=[workbench.runs_dir], name="reconcile", daemon=True).start()
    return app


def _reconcile(runs_dir: Path) -> None:
    """Writes down which runs ended without a word; the page shows the same states before and after."""
    with contextlib.suppress(MoeHubError, OSError):
        launch.reconcile(runs_dir)


def assets_folder() -> Path:
    """The folder of scripts, styles and vendored files: beside the package in a checkout, inside it in a wheel."""
    inside = Path(__file__).resolve().parent.parent / "assets"
    return inside if inside.is_dir() else Path(__file__).resolve().parent.parent.parent / "assets"


def _prefix(url_base_path: str) -> str:
    path = f"/{url_base_path.strip('/')}/".replace("//", "/")
    if any(not part.replace("-", "").replace("_", "").isalnum() for part in path.strip("/").split("/") if part):
        raise ConfigError(f"url_base_path {url_base_path!r}: use letters, digits, - and _ between slashes, like /moe/")
    return path


def _refuse_place(server: Flask, prefix: str) -> None:
    if server._got_first_request:
        raise ConfigError("the site has answered requests already; call create_dashboard before it is served")
    if any(rule.rule == prefix and rule.endpoint != "static" for rule in server.url_map.iter_rules()):
        raise ConfigError(f"url_base_path {prefix!r} is taken by a page of the site; choose another")


def _mount(server: Flask, prefix: str, manager: Any) -> Dash:
    return Dash(
        "moe_hub.web",
        server=server,
        url_base_pathname=prefix,
        use_pages=False,  # pages_folder="" alone switches pages on, and every route of the host answers 500
        pages_folder="",
        assets_folder=str(assets_folder()),
        assets_ignore=".*",  # index_string names each file, in order, with its fingerprint
        title="MoE Hub",
        update_title="",
        index_string=index_string(prefix, assets_folder()),
        background_callback_manager=manager,
        prevent_initial_callbacks=False,
        suppress_callback_exceptions=True,  # else each page carries its whole layout a second time, to check ids by
        add_log_handler=False,
        serve_locally=True,
        enable_mcp=False,
    )


def _content_policy(app: Dash) -> Callable[[], str]:
    @cache
    def policy() -> str:
        inline = " ".join(app.csp_hashes())
        return "; ".join((
            "default-src 'none'", f"script-src 'self' {inline}", "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:", "font-src 'self'", "connect-src 'self'", "base-uri 'none'",
            "form-action 'none'", "frame-ancestors 'self'",
        ))  # fmt: skip

    return policy
