"""`python -m moe_hub.web`: serves the dashboard with waitress."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from moe_hub.data.folder import use_data_dir
from moe_hub.errors import ConfigError, MoeHubError

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's malloc.h
TOKEN_VARIABLE = "MOE_HUB_TOKEN"
SHORTEST_TOKEN = 8
# For waitress. A body of one chunk of an upload fits; a client that says nothing for a minute is closed.
SERVER: dict[str, Any] = {
    "threads": 12, "max_request_body_size": 32 << 20, "channel_timeout": 60, "connection_limit": 500,
    "ident": "moe-hub",
    "clear_untrusted_proxy_headers": False,  # the gate looks at them, and nothing trusts them
}  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until Ctrl-C; returns the exit code: 2 for a busy port, a bad flag, or an open host with no token."""
    options = build_parser().parse_args(arguments)
    try:
        serve(options)
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        pass
    print("The page is closed; runs go on.")
    return 0


def _quit(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt  # so that SIGTERM ends the inference processes too


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m moe_hub.web", description="The dashboard of MoE Hub.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8050, help="port to listen on (default 8050)")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="folder of the runs (default runs)")
    parser.add_argument("--data-dir", type=Path, help="uploads, presets, cache (default $MOE_HUB_DATA, else data)")
    parser.add_argument(
        "--read-dir", type=Path, action="append", default=[], help="another folder whose files the page may train on"
    )
    parser.add_argument("--url-base-path", default="/", help="path that the page lies under, such as /moe/")
    parser.add_argument(
        "--token",
        default=os.environ.get(TOKEN_VARIABLE),
        help=f"what visitors must enter; needed with a host that is not this machine (also, and unseen by other users "
        f"of this machine: {TOKEN_VARIABLE})",
    )
    parser.add_argument(
        "--celery", metavar="URL", help="Redis whose Celery workers start the runs, such as redis://127.0.0.1:6379/0 "
        "(they are started with python -m moe_hub.web.worker); default: processes of this machine",
    )  # fmt: skip
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    return parser


def give_memory_back() -> None:
    """Tells glibc's malloc to keep two arenas and to return large blocks; does nothing with another C library.

    Each of the server's threads would otherwise keep what its largest figure once needed: 600 MB after a run of a
    million rows where this way it is 280.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_MMAP_THRESHOLD, 1 << 20)


def serve(options: argparse.Namespace) -> None:
    """Builds the app and serves it; raises `ConfigError` before anything is served."""
    from moe_hub.web.guard import is_loopback_name

    local = is_loopback_name(options.host)
    if not local and not options.token:
        raise ConfigError(
            f"--host {options.host} is open to other machines, so --token is needed: for example "
            f"--token {secrets.token_urlsafe(18)}"
        )
    give_memory_back()
    listener = listen(options.host, options.port)
    signal.signal(signal.SIGTERM, _quit)
    import waitress

    app = build(options)
    address = f"http://{'127.0.0.1' if options.host in ('0.0.0.0', '::') else options.host}:{options.port}"
    print(
        f"MoE Hub is on {address}{app.config.requests_pathname_prefix}  (Ctrl-C closes the page; runs go on)",
        flush=True,
    )
    if options.open:
        threading.Timer(0.5, webbrowser.open, [address + app.config.requests_pathname_prefix]).start()
    waitress.serve(app.server, sockets=[listener], **SERVER)


def build(options: argparse.Namespace) -> Any:
    """The app of these flags, with the sign-in page where there is a token."""
    from moe_hub.web import background
    from moe_hub.web.app import create_dashboard
    from moe_hub.web.sign_in import SignIn

    # The token cache of this server, and of the trainers that it starts, lies in its data folder.
    data_dir = use_data_dir(options.data_dir)
    folders = {
        "url_base_path": options.url_base_path, "runs_dir": options.runs_dir, "data_dir": data_dir,
        "read_dirs": options.read_dir, "celery": options.celery,
    }  # fmt: skip
    if not options.token:
        return create_dashboard(**folders)
    if len(options.token) < SHORTEST_TOKEN:
        raise ConfigError(f"--token must have at least {SHORTEST_TOKEN} characters")
    sign_in = SignIn(options.token, options.url_base_path, data_dir / background.FOLDER / "sign-in")
    return create_dashboard(
        sign_in.server,
        **folders,
        authorize=sign_in.knows,
        refuse=sign_in.refuse,
        sign_out_path=sign_in.out_path,
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; raises `ConfigError` where the port is taken or the host is not this machine's."""
    if not 0 < port < 65536:
        raise ConfigError(f"--port {port}: allowed are 1 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        raise ConfigError(
            f"--host {host} --port {port}: {error.strerror}; choose another port with --port, or close what uses it"
        ) from None
    return listener


if __name__ == "__main__":
    sys.exit(main())
