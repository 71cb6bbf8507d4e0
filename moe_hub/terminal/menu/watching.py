"""Watch: one run as it goes: status, progress, the panels, the end of the log; keys hold it, go on, save, stop."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, VerticalScroll
from textual.widgets import Button, Label, Select, Static

from moe_hub.errors import RunError
from moe_hub.runs.live import LiveReader
from moe_hub.runs.status import LIVE_STATES, Status, state_of
from moe_hub.runs.store import RunDirectory, RunSummary
from moe_hub.terminal.drawing.panels import Panel, layers_of, panels
from moe_hub.terminal.menu.bench import Bench
from moe_hub.terminal.menu.menu_tab import MenuTab
from moe_hub.terminal.menu.panel_view import PanelView
from moe_hub.terminal.table import age, one_line
from moe_hub.terminal.watch import line_of
from moe_hub.workbench import obeying
from moe_hub.workbench.outlook import failure

POLL_S = 1.0
LOG_LINES = 8
PANELS = ("loss", "load", "rotation", "saturation", "phases", "alarms", "log")
NEWEST = "latest"
# Which buttons do something in which state.
USEFUL = {
    "pause": ("running",),
    "resume": ("paused", "stopped", "failed", "interrupted"),
    "save": ("running", "paused"),
    "stop": ("starting", "running", "paused", "queued"),
}


class WatchScreen(MenuTab):
    """Follows the chosen run, or the newest one."""

    DEFAULT_CSS: ClassVar[str] = """
    WatchScreen .bar { height: 1; }
    WatchScreen .bar > Label { padding: 0 1; }
    WatchScreen #run { width: 1fr; }
    WatchScreen #line { height: auto; max-height: 3; padding: 0 1; }
    WatchScreen #progress { height: 1; padding: 0 1; color: $primary; }
    WatchScreen .bar Button { margin-right: 1; }
    WatchScreen #panels { height: 1fr; }
    WatchScreen #grid { layout: vertical; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "act('pause')", "Pause"),
        Binding("r", "act('resume')", "Resume"),
        Binding("s", "act('save')", "Save"),
        Binding("x", "act('stop')", "Stop"),
        Binding("l", "layer", "Layer"),
    ]

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self.run_id = ""
        self._chosen = NEWEST
        self._reader: LiveReader | None = None
        self._layer = 0
        self._drawn: tuple[Any, ...] = ()
        self._options: list[tuple[str, str]] = []
        self._log = ""

    def compose(self) -> ComposeResult:
        with Horizontal(classes="bar"):
            yield Label("Run")
            yield Select([("the newest run", NEWEST)], value=NEWEST, allow_blank=False, compact=True, id="run")
        yield Static(id="line", markup=False)
        yield Static(id="progress", markup=False)
        with Horizontal(classes="bar"):
            for action, title in (("pause", "Pause (p)"), ("resume", "Resume (r)"), ("save", "Save (s)"),
                                  ("stop", "Stop (x)")):  # fmt: skip
                yield Button(title, compact=True, id=action)
        with VerticalScroll(id="panels"), Container(id="grid"):
            for key in PANELS:
                yield PanelView(key)

    def on_mount(self) -> None:
        self.set_interval(POLL_S, self._poll)

    def opened(self) -> None:
        self._offer(self.bench.store.list())
        self._poll()
        self.take_focus("#panels")

    def choose(self, run_id: str) -> None:
        """Follows this run from now on."""
        self._chosen = run_id
        if self.is_mounted:
            self._offer(self.bench.store.list())
            self._follow(run_id)

    def _offer(self, runs: list[RunSummary]) -> None:
        """The list of runs in the selector, the newest first."""
        options = [("the newest run", NEWEST), *((_title(run), run.run_id) for run in runs)]
        known = {value for _, value in options}
        if self._chosen not in known:
            self._chosen = NEWEST
        if options != self._options:
            self._options = options
            select = self.query_one("#run", Select)
            with self.prevent(Select.Changed):
                select.set_options(options)
                select.value = self._chosen
        elif self.query_one("#run", Select).value != self._chosen:
            with self.prevent(Select.Changed):
                self.query_one("#run", Select).value = self._chosen

    @on(Select.Changed, "#run")
    def _picked(self, event: Select.Changed) -> None:
        if event.value == self._chosen:  # said when the selector is made, too
            return
        self._chosen = str(event.value)
        self._poll()
        self.screen.set_focus(self.query_one("#panels"))

    def _poll(self) -> None:
        """Reads what is new, while the screen is seen."""
        if not self.seen:
            return
        run_id = self._chosen
        if run_id == NEWEST:
            try:
                run_id = self.bench.store.find(NEWEST).run_id
            except RunError:
                self._show_nothing()
                return
        if run_id != self.run_id:
            self._follow(run_id)
        self._refresh_run()

    def _follow(self, run_id: str) -> None:
        self.run_id = run_id
        self._reader = LiveReader(self.bench.store.runs_dir / run_id)
        self._drawn = ()

    def _show_nothing(self) -> None:
        self.run_id, self._reader = "", None
        self.query_one("#line", Static).update(
            f"There is no run in {self.bench.runs_dir} yet. F1 makes one; runs that a shell or the page starts "
            "there appear here by themselves."
        )
        self.query_one("#progress", Static).update("")
        for button in self.query(Button):
            button.disabled = True
        self.query_one("#panels").display = False

    def _refresh_run(self) -> None:
        run = RunDirectory(self.bench.store.runs_dir / self.run_id)
        status = run.status()
        state = state_of(status)
        stage = self.bench.stops.stage(self.run_id) if state in LIVE_STATES else None
        line = f"{self.run_id}  {line_of(state, status)}"
        line += f"  (stop {stage['stage']})" if stage else ""
        if state in ("failed", "interrupted") and status is not None:
            told = failure(run, status, state)
            line += f"\n{one_line(told['cause'])} {told['advice']}"
        self.query_one("#line", Static).update(line)
        self.query_one("#progress", Static).update(_progress(status, self.query_one("#progress").size.width - 2))
        for action, states in USEFUL.items():
            self.query_one(f"#{action}", Button).disabled = state not in states
        self._refresh_panels(run)

    def _refresh_panels(self, run: RunDirectory) -> None:
        """Draws again only where there is something new."""
        self.query_one("#panels").display = True
        assert self._reader is not None
        history = self._reader.history()
        drawn = (self.run_id, history.version, history.complete, self._layer, self.app.theme)
        if drawn != self._drawn:
            self._drawn = drawn
            self._layer %= layers_of(history)
            for panel in panels(history, self._layer):
                self.query_one(f"#panel-{panel.key}", PanelView).show(panel)
        log = run.log_tail(4096)
        if log != self._log or not self.query_one("#panel-log", PanelView).border_title:
            self._log = log
            self.query_one("#panel-log", PanelView).show(_log_panel(log))

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.action_act(str(event.button.id))

    def action_act(self, action: str) -> None:
        """Asks the run to hold, to go on, to save or to stop."""
        if not self.run_id:
            return
        run_id = self.run_id
        if action == "stop" and RunDirectory(self.bench.store.runs_dir / run_id).state() == "queued":
            self.attempt(lambda: self._unqueue(run_id))
        else:
            self.attempt(lambda: obeying.act(self.bench.store, self.bench.stops, run_id, action))
        self._poll()

    def _unqueue(self, run_id: str) -> str:
        self.bench.queue.remove(run_id)
        return "Taken out of the queue."

    def action_layer(self) -> None:
        """The next layer in the panels that show one."""
        self._layer += 1
        self._poll()


def _title(run: RunSummary) -> str:
    label = f"  {one_line(run.label)}" if run.label else ""
    return f"{run.run_id}  {run.state}  {age(run.created)}{label}"


def _progress(status: Status | None, width: int) -> str:
    """A bar as wide as the screen."""
    if status is None or not status.max_steps or width < 8:
        return ""
    share = min(1.0, status.step / status.max_steps)
    filled = round((width - 6) * share)
    return f"{'━' * filled}{'─' * (width - 6 - filled)} {share:4.0%}"


def _log_panel(log: str) -> Panel:
    lines = [one_line(line) for line in log.splitlines() if line.strip()][-LOG_LINES:]
    if not lines:
        return Panel("log", "Log", 1, lambda width, height, ascii_only: [[("nothing yet", "muted")]], known=False)
    return Panel(
        "log", "End of the log", len(lines), lambda width, height, ascii_only: [[(each, "")] for each in lines]
    )
