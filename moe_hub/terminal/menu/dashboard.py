"""Dashboard: starts the page for these folders and prints its address."""

from __future__ import annotations

import importlib.util
import os
import socket
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Button, Input, Label, Static

from moe_hub.errors import RunError
from moe_hub.terminal.menu.bench import Bench
from moe_hub.terminal.menu.menu_tab import MenuTab

POLL_S = 0.5
MISSING = "the page needs Dash, which is not installed; install it with: pip install 'moe-hub[web]'"
ABOUT = """The page shows and controls the same runs as this menu, in a browser. It listens on this machine only.

From another machine, forward the port and open the address there:
    ssh -N -L {port}:127.0.0.1:{port} {user}@{host}

The page ends with this menu; runs go on. One that stays: moe-hub web --port {port}"""


class DashboardScreen(MenuTab):
    """Start, stop, address."""

    DEFAULT_CSS: ClassVar[str] = """
    DashboardScreen { padding: 1; }
    DashboardScreen .bar { height: 1; margin-bottom: 1; }
    DashboardScreen .bar > Label { padding: 0 1 0 0; }
    DashboardScreen #port { width: 9; margin-right: 2; }
    DashboardScreen .bar Button { margin-right: 1; }
    DashboardScreen #address { height: auto; text-style: bold; color: $primary; margin-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("f9", "start", "Start"), Binding("f8", "stop", "Stop")]

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._job = ""

    def compose(self) -> ComposeResult:
        with Horizontal(classes="bar"):
            yield Label("Port")
            yield Input("8050", compact=True, id="port")
            yield Button("Start (F9)", variant="primary", compact=True, id="start-page")
            yield Button("Stop (F8)", compact=True, id="stop-page", disabled=True)
        yield Static("The page is not running.", id="address", markup=False)
        yield Static(id="about", markup=False)

    def on_mount(self) -> None:
        self.set_interval(POLL_S, self._read)
        self._explain()

    def opened(self) -> None:
        self.take_focus("#port")

    def on_input_changed(self) -> None:
        self._explain()

    def _explain(self) -> None:
        port = self.query_one("#port", Input).value.strip() or "8050"
        user = os.environ.get("USER") or "USER"
        self.query_one("#about", Static).update(ABOUT.format(port=port, user=user, host=socket.gethostname()))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "start-page":
            self.action_start()
        else:
            self.action_stop()

    def on_input_submitted(self) -> None:
        self.action_start()

    def action_start(self) -> None:
        """Starts the page in a process of its own."""
        if not self._job:
            self.attempt(self._start)

    def _start(self) -> None:
        if importlib.util.find_spec("dash") is None:
            raise RunError(MISSING)
        port = self.query_one("#port", Input).value.strip()
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise RunError(f"Port = {port!r}: a whole number from 1 to 65535 is needed")
        folders = ["--runs-dir", str(self.bench.runs_dir), "--data-dir", str(self.bench.data_dir)]
        self._job = self.bench.servers.start("moe_hub.web", ["--port", port, *folders], offline=False)
        self._say("The page is starting ...")

    def action_stop(self) -> None:
        """Ends the page."""
        if self._job:
            self.bench.servers.stop(self._job)

    def _read(self) -> None:
        """Says where the page is, or why it is not."""
        if not self._job:
            return
        answer = self.bench.servers.read(self._job, 0)
        if answer["state"] == "running":
            said = answer["text"].splitlines()
            if said:
                self._say(said[0].replace("Ctrl-C", "F8"))
        else:
            self._job = ""
            self._say("The page is not running." if answer["state"] == "stopped" else answer["error"] or "It ended.")
        self.query_one("#stop-page", Button).disabled = not self._job
        self.query_one("#start-page", Button).disabled = bool(self._job)

    def _say(self, text: str) -> None:
        self.query_one("#address", Static).update(text)
