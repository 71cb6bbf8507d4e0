"""Data: look at a source before a run reads it: preview, quality report, the token cache."""

from __future__ import annotations

from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Button, Input, Label, Select, Static

from moe_hub.config import Config
from moe_hub.data import cache
from moe_hub.data.inspection import Report, as_text
from moe_hub.terminal.menu.bench import Bench
from moe_hub.terminal.menu.job import ScreenJob
from moe_hub.terminal.menu.menu_tab import MenuTab
from moe_hub.terminal.table import age, lay_out, one_line
from moe_hub.workbench.data_choice import data_arguments, data_config
from moe_hub.workbench.data_preview import preview
from moe_hub.workbench.fields import form_fields
from moe_hub.workbench.readout import size_text

POLL_S = 0.3
SOURCES = ("file", "lambda", "hub")
LONGEST_LINE = 300


class DataScreen(MenuTab):
    """A source, what is done with it, and what came out."""

    DEFAULT_CSS: ClassVar[str] = """
    DataScreen .bar { height: 1; }
    DataScreen .bar > Label { padding: 0 1; }
    DataScreen #source { width: 14; }
    DataScreen #path { width: 1fr; }
    DataScreen #text_format { width: 22; }
    DataScreen #tokenizer { width: 16; }
    DataScreen .bar Button { margin-right: 1; }
    DataScreen #data-note { height: auto; max-height: 3; padding: 0 1; color: $foreground 70%; }
    DataScreen #result { height: 1fr; border-top: solid $panel; }
    DataScreen #result-text { padding: 0 1; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f9", "inspect", "Inspect"),
        Binding("f8", "prepare", "Prepare"),
        Binding("f7", "preview", "Preview"),
    ]

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._job = ScreenJob(bench.jobs)

    def compose(self) -> ComposeResult:
        fields = form_fields()
        with Horizontal(classes="bar"):
            yield Label("Source")
            yield Select([(name, name) for name in SOURCES], value="file", allow_blank=False, compact=True, id="source")
            yield Label("File or dataset")
            yield Input(placeholder="rows.jsonl, or owner/name", compact=True, id="path")
        with Horizontal(classes="bar"):
            for name in ("text_format", "tokenizer"):
                field = fields[f"data.{name}"]
                yield Label(field.label)
                yield Select([(label, choice) for choice, label in field.choices], value=str(field.default),
                             allow_blank=False, compact=True, id=name)  # fmt: skip
        with Horizontal(classes="bar"):
            yield Button("Inspect (F9)", variant="primary", compact=True, id="inspect")
            yield Button("Prepare (F8)", compact=True, id="prepare")
            yield Button("Preview (F7)", compact=True, id="preview")
            yield Button("Stop", compact=True, id="stop-job")
            yield Button("Cache", compact=True, id="cache")
            yield Button("Purge cache", compact=True, id="purge")
        yield Static(id="data-note", markup=False)
        with VerticalScroll(id="result"):
            yield Static(id="result-text", markup=False)

    def on_mount(self) -> None:
        self.set_interval(POLL_S, self._read)
        self.query_one("#stop-job", Button).disabled = True

    def opened(self) -> None:
        if not self._job.under_way and not str(self.query_one("#result-text", Static).content):
            self.action_cache()
        self.take_focus("#path")

    def config(self) -> Config:
        """The config of what is chosen; raises `MoeHubError`."""
        values = {name: self.query_one(f"#{name}", Select).value for name in ("source", "text_format", "tokenizer")}
        path = self.query_one("#path", Input).value.strip()
        source = values["source"]
        if source != "lambda":
            values["path" if source == "file" else "name"] = path
        return data_config(values)

    @on(Input.Submitted, "#path")
    def _submitted(self) -> None:
        self.action_inspect()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        {
            "inspect": self.action_inspect, "prepare": self.action_prepare, "preview": self.action_preview,
            "stop-job": self._job.stop, "cache": self.action_cache, "purge": self._purge,
        }[str(event.button.id)]()  # fmt: skip

    def action_inspect(self) -> None:
        """The quality report, made by a process of its own."""
        self.attempt(lambda: self._begin("inspect"))

    def action_prepare(self) -> None:
        """Fills the token cache, so that a training begins at once."""
        self.attempt(lambda: self._begin("prepare"))

    def action_preview(self) -> None:
        """The first rows as they stand in the file, and as the model reads them."""
        if self.attempt(lambda: self._show("\n".join(preview_lines(preview(self.config()))))):
            self._note("The first rows")

    def action_cache(self) -> None:
        """What the token cache holds."""
        root = cache.default_cache_dir()
        entries = cache.entries(root)
        rows = [
            (entry.key[:12], size_text(entry.size), age(entry.used), entry.parts.get("tokenizer", ""),
             one_line(entry.parts.get("source", ""))) for entry in entries
        ]  # fmt: skip
        lines = lay_out([("ENTRY", "SIZE", "USED", "TOKENIZER", "SOURCE"), *rows], frozenset({1, 2})) if rows else []
        total = size_text(sum(entry.size for entry in entries))
        self._note(f"Token cache {root}: {len(rows)} entries, {total}")
        self._show("\n".join(lines) or "The token cache is empty: a training, or Prepare, fills it.")

    def _purge(self) -> None:
        count, size = cache.purge(cache.default_cache_dir(), None)
        self.action_cache()
        self.notify(f"{count} entries, {size_text(size)} deleted; a training makes them again.")

    def _begin(self, command: str) -> None:
        config = self.config()
        offline = config.data.source != "hub"
        self._job.start("moe_hub.data", data_arguments(command, config), offline=offline)
        self.query_one("#stop-job", Button).disabled = False
        self._note(f"{command.capitalize()} ...")
        self._show("")

    def _read(self) -> None:
        """Progress and result of the process."""
        news = self._job.news()
        if news is None:
            return
        for event in news.events:
            self._take(event)
        if news.state != "running":
            self.query_one("#stop-job", Button).disabled = True
            if news.state == "stopped" or (news.error and not str(self._result.content)):
                self._note(news.error or "stopped")

    def _take(self, event: dict[str, Any]) -> None:
        if "phase" in event:
            self._note(f"{event['phase']}  {event['share']:.0%}")
        elif "report" in event:
            values = {name: value for name, value in event["report"].items() if name != "verdict"}
            self._note(f"{event['report']['source']}: {event['report']['verdict']}")
            self._show(as_text(Report(**values)))
        elif "prepared" in event:
            found = event["prepared"]
            hit = "was in the cache already" if found["hit"] else f"prepared in {found['seconds']:.1f} s"
            self._note(f"{found['tokens']:,} tokens, {size_text(found['bytes'])}: {hit}")
            self._show(f"{found['reason']}\nkey {found['key']}")

    @property
    def _result(self) -> Static:
        return self.query_one("#result-text", Static)

    def _show(self, text: str) -> None:
        self._result.update(text)

    def _note(self, text: str) -> None:
        self.query_one("#data-note", Static).update(text)


def preview_lines(found: dict[str, Any]) -> list[str]:
    """A preview as lines: mapping, problems, rows, texts."""
    lines = [f"kind: {found['kind']}   format: {found['format']}"]
    lines += [f"  {name}: {column}" for name, column in found["mapping"].items()]
    lines += ["", *(f"! {problem}" for problem in found["problems"])] if found["problems"] else []
    columns = [str(name) for name in found["columns"]]
    for row in found["rows"]:
        named = zip(columns if len(columns) == len(row) else ["line", *columns], row, strict=False)
        lines.append("  ".join(f"{name}: {one_line(str(cell))}" for name, cell in named)[:LONGEST_LINE])
    if found["texts"]:
        lines += ["", "As the model reads them:", *(f"  {one_line(text)}"[:LONGEST_LINE] for text in found["texts"])]
    return lines
