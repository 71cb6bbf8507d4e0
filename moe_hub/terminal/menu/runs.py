"""Runs: the table of all runs; compare, label, tag, delete to the trash and undo, resume, fork."""

from __future__ import annotations

from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import DataTable, Input, Label, Select, Static

from moe_hub import launch
from moe_hub.runs.fork import fork
from moe_hub.runs.store import RunSummary
from moe_hub.terminal.difference import comparison
from moe_hub.terminal.listing import SORT_KEYS, matching, order
from moe_hub.terminal.menu.bench import Bench
from moe_hub.terminal.menu.dialogs import Ask, Read
from moe_hub.terminal.menu.menu_tab import MenuTab
from moe_hub.terminal.table import age, number, one_line
from moe_hub.terminal.watch import cut
from moe_hub.workbench import obeying

POLL_S = 2.0
COLUMNS = ("", "Run", "State", "Step", "Loss", "Val loss", "Age", "Label and tags")
WIDE = 120  # columns from which run ids are shown whole
Cells = tuple[str, ...]


class RunsScreen(MenuTab):
    """The table follows the folder; the cursor stays on its run."""

    DEFAULT_CSS: ClassVar[str] = """
    RunsScreen .bar { height: 1; }
    RunsScreen .bar > Label { padding: 0 1; }
    RunsScreen #filter { width: 1fr; }
    RunsScreen #sort { width: 16; }
    RunsScreen DataTable { height: 1fr; }
    RunsScreen #none { padding: 1; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "watch", "Watch", priority=False),
        Binding("space", "mark", "Mark"),
        Binding("c", "compare", "Compare"),
        Binding("r", "resume", "Resume"),
        Binding("f", "fork", "Fork"),
        Binding("d", "delete", "Delete"),
        Binding("u", "undo", "Undo"),
        Binding("n", "label", "Label"),
        Binding("t", "tags", "Tags"),
        Binding("plus", "move(-1)", "Sooner", show=False),
        Binding("minus", "move(1)", "Later", show=False),
    ]

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._shown: dict[str, Cells] = {}
        self._marked: list[str] = []
        self._deleted: list[str] = []

    def compose(self) -> ComposeResult:
        with Horizontal(classes="bar"):
            yield Label("Filter")
            yield Input(placeholder="words of id, label, tags, state, architecture", compact=True, id="filter")
            yield Label("Sort")
            yield Select([(key, key) for key in SORT_KEYS], value="created", allow_blank=False, compact=True, id="sort")
        yield Static(id="none", markup=False)
        yield DataTable(cursor_type="row", zebra_stripes=True)

    def on_mount(self) -> None:
        self.query_one(DataTable).add_columns(*COLUMNS)
        self.set_interval(POLL_S, self._poll)

    def opened(self) -> None:
        self._poll()
        self.take_focus("DataTable")

    @on(Input.Changed)
    @on(Select.Changed)
    def _changed(self) -> None:
        self._show(self.bench.store.list())

    def _poll(self) -> None:
        if self.seen:
            self._show(self.bench.store.list())

    def _show(self, summaries: list[RunSummary]) -> None:
        """Fills the table again where a cell has changed."""
        key = str(self.query_one("#sort", Select).value)
        wanted = order(matching(summaries, self.query_one("#filter", Input).value), key)
        waiting = self.bench.queue.waiting()
        self._marked = [run_id for run_id in self._marked if any(run.run_id == run_id for run in summaries)]
        rows = {run.run_id: self._cells(run, waiting) for run in wanted}
        none = self.query_one("#none", Static)
        none.display = not rows
        none.update("No run fits the filter." if summaries else f"There is no run in {self.bench.runs_dir} yet.")
        if rows == self._shown and list(rows) == list(self._shown):
            return
        table = self.query_one(DataTable)
        current, scroll = self.current, table.scroll_y
        self._shown = rows
        table.clear()
        for run_id, cells in rows.items():
            table.add_row(*cells, key=run_id)
        if current in rows:
            table.move_cursor(row=list(rows).index(current), scroll=False)
            table.scroll_to(y=scroll, animate=False)

    def _cells(self, run: RunSummary, waiting: tuple[str, ...]) -> Cells:
        place = f" {waiting.index(run.run_id) + 1}" if run.run_id in waiting else ""
        about = " ".join(filter(None, [one_line(run.label), *(f"#{one_line(tag)}" for tag in run.tags)]))
        return (
            "*" if run.run_id in self._marked else " ",
            run.run_id if self.size.width >= WIDE else cut(run.run_id, 36),
            run.state + place,
            f"{run.step:,}/{run.max_steps:,}",
            number(run.metrics.get("train/loss")),
            number(run.metrics.get("val/loss")),
            age(run.created),
            about,
        )

    @property
    def current(self) -> str:
        """The run under the cursor; empty where there is none."""
        table = self.query_one(DataTable)
        ids = list(self._shown)
        return ids[table.cursor_row] if 0 <= table.cursor_row < len(ids) else ""

    @on(DataTable.RowSelected)
    def _row_selected(self) -> None:
        self.action_watch()

    def action_watch(self) -> None:
        """Opens the run on the screen Watch."""
        if self.current:
            self.menu.watch_run(self.current)

    def action_mark(self) -> None:
        """Marks the run for a comparison, or takes the mark away."""
        run_id = self.current
        if run_id in self._marked:
            self._marked.remove(run_id)
        elif run_id:
            self._marked = [*self._marked, run_id][-2:]
        self._poll()

    def action_compare(self) -> None:
        """What differs between the two marked runs, or the marked one and the one under the cursor."""
        pair = list(dict.fromkeys([*self._marked, self.current]))[:2]
        if len(pair) < 2 or not all(pair):
            self.notify("Mark one run with the space bar, move to another, then press c.")
            return
        self.attempt(lambda: self._compare(*pair))

    def _compare(self, first: str, second: str) -> None:
        store = self.bench.store
        lines = comparison(store.open(first), store.open(second), None)
        self.app.push_screen(Read("Comparison", "\n".join(lines)))

    def action_resume(self) -> None:
        """Goes on with a paused or ended run."""
        run_id = self.current
        if run_id:
            self.attempt(lambda: obeying.act(self.bench.store, self.bench.stops, run_id, "resume"))
            self._poll()

    def action_delete(self) -> None:
        """Moves the run to the trash; `u` brings it back."""
        run_id = self.current
        if run_id and self.attempt(lambda: self.bench.store.delete(run_id)):
            self._deleted.append(run_id)
            self.notify(f"{run_id} is in the trash; u brings it back.", markup=False)
            self._poll()

    def action_undo(self) -> None:
        """Takes the run that was deleted last out of the trash, also one of an earlier menu."""
        if not self._deleted:
            self._deleted = list(reversed(self.bench.store.trash().ids()))
        if not self._deleted:
            self.notify("The trash is empty.")
            return
        run_id = self._deleted.pop()
        if self.attempt(lambda: f"{self.bench.store.undelete(run_id).run_id} is back."):
            self._poll()

    @work
    async def action_fork(self) -> None:
        """A new run that begins where this one stands."""
        run_id = self.current
        if not run_id:
            return
        steps = await self.app.push_screen_wait(
            Ask(f"Fork {run_id}"[:60], note="steps of the new run in all; empty: as many as the run has")
        )
        if steps is not None:
            self.attempt(lambda: self._fork(run_id, steps.strip()))
            self._poll()

    def _fork(self, run_id: str, steps: str) -> str:
        run = fork(self.bench.store, run_id, [f"train.max_steps={steps}"] if steps else [])
        launch.start(run.path)
        self.menu.watch_run(run.run_id)
        return f"{run.run_id} begins where {run_id} stands."

    @work
    async def action_label(self) -> None:
        """Gives the run a name for people."""
        run_id = self.current
        if run_id:
            known = str(self.bench.store.open(run_id).notes().get("label") or "")
            label = await self.app.push_screen_wait(Ask("Label", known))
            if label is not None and self.attempt(lambda: self.bench.store.rename(run_id, label)):
                self._poll()

    @work
    async def action_tags(self) -> None:
        """Replaces the tags of the run."""
        run_id = self.current
        if run_id:
            known = self.bench.store.open(run_id).notes().get("tags")
            text = await self.app.push_screen_wait(
                Ask("Tags", " ".join(map(str, known if isinstance(known, list) else [])), "words with blanks between")
            )
            if text is not None and self.attempt(lambda: self.bench.store.tag(run_id, text.split())):
                self._poll()

    def action_move(self, by: int) -> None:
        """Another place in the queue."""
        run_id, waiting = self.current, self.bench.queue.waiting()
        if run_id in waiting and self.attempt(lambda: self.bench.queue.move(run_id, waiting.index(run_id) + by)):
            self._poll()
