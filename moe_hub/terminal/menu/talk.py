"""Talk: text from a checkpoint, streamed from a process of its own, with the experts behind each token; a lambda answer
is judged by the evaluator."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Button, Input, Label, Select, Static

from moe_hub.errors import DataError, MoeHubError, RunError
from moe_hub.lambda_calculus.judge import judge
from moe_hub.terminal.drawing.cells import SHADES, Row
from moe_hub.terminal.drawing.panels import Panel
from moe_hub.terminal.menu.bench import Bench
from moe_hub.terminal.menu.job import ScreenJob
from moe_hub.terminal.menu.menu_tab import MenuTab
from moe_hub.terminal.menu.panel_view import PanelView
from moe_hub.terminal.table import one_line
from moe_hub.workbench.checkpoints import find_checkpoint, list_checkpoints
from moe_hub.workbench.held_out import held_out_task

POLL_S = 0.15
MOST_TOKENS = 2000  # shown one by one
KINDS = {
    "right": "Right",
    "beta-equal": "The same value, but not the term that was asked for",
    "wrong": "Wrong",
    "divergent": "There is no normal form to find",
    "not a term": "Not a lambda term",
}
SAMPLING = (
    ("max-new-tokens", "Tokens", "128"),
    ("temperature", "Temperature", "0"),
    ("top-k", "Top k", "0"),
    ("top-p", "Top p", "1"),
    ("seed", "Seed", "0"),
)


class TalkScreen(MenuTab):
    """A prompt, the text, the experts, the verdict."""

    DEFAULT_CSS: ClassVar[str] = """
    TalkScreen .bar { height: 1; }
    TalkScreen .bar > Label { padding: 0 1; }
    TalkScreen #checkpoint, TalkScreen #prompt { width: 1fr; }
    TalkScreen .number { width: 7; }
    TalkScreen .bar Button { margin-right: 1; }
    TalkScreen #talk-note { height: auto; max-height: 2; padding: 0 1; color: $foreground 70%; }
    TalkScreen #output { height: 1fr; }
    TalkScreen #text { border: round $panel; padding: 0 1; height: auto; min-height: 3; }
    TalkScreen #verdict { height: auto; padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f9", "generate", "Generate"),
        Binding("f8", "stop", "Stop"),
        Binding("f7", "example", "Held-out task"),
    ]

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._rows: dict[str, dict[str, Any]] = {}
        self._job = ScreenJob(bench.jobs)
        self._asked = ""
        self._task_number = -1
        self.tokens: list[dict[str, Any]] = []

    def compose(self) -> ComposeResult:
        with Horizontal(classes="bar"):
            yield Label("Checkpoint")
            yield Select[str]([], prompt="no checkpoint yet", compact=True, id="checkpoint")
        with Horizontal(classes="bar"):
            yield Label("Prompt")
            yield Input(compact=True, id="prompt")
        with Horizontal(classes="bar"):
            for name, title, value in SAMPLING:
                yield Label(title)
                yield Input(value, compact=True, id=f"sample-{name}", classes="number")
        with Horizontal(classes="bar"):
            yield Button("Generate (F9)", variant="primary", compact=True, id="generate")
            yield Button("Stop (F8)", compact=True, id="stop-text")
            yield Button("Held-out task (F7)", compact=True, id="example")
        yield Static(id="talk-note", markup=False)
        with VerticalScroll(id="output"):
            yield Static(id="text", markup=False)
            yield Static(id="verdict", markup=False)
            yield PanelView("shares")

    def on_mount(self) -> None:
        self.set_interval(POLL_S, self._read)
        self._show_tokens()
        self.query_one("#stop-text", Button).disabled = True

    def opened(self) -> None:
        self._offer()
        self.take_focus("#prompt")

    def _offer(self) -> None:
        rows = {row["key"]: row for row in list_checkpoints(self.bench.store)}
        select = self.query_one("#checkpoint", Select)
        if list(rows) != list(self._rows):
            self._rows = rows
            before = select.value
            options = [(_title(row), key) for key, row in rows.items()]
            select.set_options(options)
            if options:
                select.value = before if before in rows else options[0][1]
        if not rows:
            self._note(
                "There is no checkpoint yet. Runs write one every train.checkpoint_every steps and at their end."
            )

    @property
    def key(self) -> str:
        """RUN_ID@STEP of the chosen checkpoint; empty where there is none."""
        value = self.query_one("#checkpoint", Select).value
        return value if isinstance(value, str) else ""

    @on(Select.Changed, "#checkpoint")
    def _picked(self) -> None:
        if self.key and not self.query_one("#prompt", Input).value:
            self._task_number = -1
            if self._rows[self.key].get("source") == "lambda":
                self.action_example()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        {"generate": self.action_generate, "stop-text": self.action_stop, "example": self.action_example}[
            str(event.button.id)
        ]()

    @on(Input.Submitted, "#prompt")
    def _submitted(self) -> None:
        self.action_generate()

    def action_example(self) -> None:
        """A task that the run has not trained on."""
        if not self.key:
            return
        try:
            self._task_number += 1
            run = find_checkpoint(self.bench.store, self.key).run
            task = held_out_task(run.config(), self._task_number)
        except MoeHubError as error:
            self._note(str(error))
            return
        self.query_one("#prompt", Input).value = task["prompt"]
        self._note(f"A task that this model has not trained on. True answer: {task['answer']}")

    def action_generate(self) -> None:
        """Starts the process that writes the text."""
        if self._job.under_way or not self.key:
            return
        self._asked = self.query_one("#prompt", Input).value
        self.attempt(self._begin)

    def _begin(self) -> None:
        checkpoint = find_checkpoint(self.bench.store, self.key)
        flags = [word for name, title, _ in SAMPLING for word in (f"--{name}", self._number(name, title))]
        arguments = [os.fspath(checkpoint.folder), "--prompt", "-", "--json-lines", *flags]
        self._job.start("moe_hub.generate", arguments, self._asked)
        self.tokens = []
        self.query_one("#verdict", Static).update("")
        self.query_one("#stop-text", Button).disabled = False
        self._show_tokens()
        self._note("Loading the checkpoint ...")

    def _number(self, name: str, title: str) -> str:
        text = self.query_one(f"#sample-{name}", Input).value.strip()
        try:
            (float if name in ("temperature", "top-p") else int)(text)
        except ValueError:
            raise RunError(f"{title} = {text!r}: a number is needed") from None
        return text

    def action_stop(self) -> None:
        """Ends the process."""
        self._job.stop()

    def _read(self) -> None:
        """Shows the tokens that are new."""
        news = self._job.news()
        if news is None:
            return
        if news.events:
            self.tokens += news.events
            self._show_tokens()
            self._note(f"{len(self.tokens)} tokens")
        if news.state != "running":
            self.query_one("#stop-text", Button).disabled = True
            self._note(news.error or f"{len(self.tokens)} tokens, {news.state}")
            if news.state == "done" and self._rows.get(self.key, {}).get("source") == "lambda":
                self.query_one("#verdict", Static).update(verdict(self._asked, self.answer))

    @property
    def answer(self) -> str:
        """The text so far."""
        return "".join(str(token["text"]) for token in self.tokens)

    def _show_tokens(self) -> None:
        self.query_one("#text", Static).update(self.answer or "The text appears here.")
        self.query_one("#panel-shares", PanelView).show(shares_panel(self.tokens))

    def _note(self, text: str) -> None:
        self.query_one("#talk-note", Static).update(text)


def verdict(prompt: str, answer: str) -> str:
    """What the evaluator says of an answer, in lines."""
    try:
        found = judge(prompt, answer)
    except DataError as error:
        return f"The evaluator cannot judge this: {error}"
    partly = found.kind == "right" and not found.right
    kind = "Normal form right, not every phase" if partly else KINDS[found.kind]
    steps = found.trace.steps
    lines = [
        f"{kind}{': ' + found.problem if found.problem else ''}",
        f"Evaluator: {found.expected or 'no normal form'}",
        f"Normal form: {found.normal_form or 'none'} after {steps} step{'' if steps == 1 else 's'}",
    ]
    if found.phases:
        lines.append(
            "Phases: " + ", ".join(f"{name} {'right' if ok else 'wrong'}" for name, ok in found.phases.items())
        )
    return "\n".join(lines)


def shares_panel(tokens: list[dict[str, Any]]) -> Panel:
    """A row for each token: the share of each expert in the output, mean over the layers."""
    if not tokens:
        return Panel(
            "shares", "Experts", 1, lambda width, height, ascii_only: [[("no token yet", "muted")]], known=False
        )
    shown = tokens[-MOST_TOKENS:]

    def draw(width: int, height: int, ascii_only: bool) -> list[Row]:
        return [_share_row(token, width) for token in shown]

    experts = len(shown[-1]["shares"][0])
    return Panel("shares", f"Share of each expert in each token, mean of the layers (even: {1 / experts:.0%})",
                 len(shown), draw)  # fmt: skip


def _share_row(token: dict[str, Any], width: int) -> Row:
    layers = token["shares"]
    experts = len(layers[0])
    shares = [sum(layer[index] for layer in layers) / len(layers) for index in range(experts)]
    text = one_line(str(token["text"])).strip() or repr(str(token["text"]))[1:-1]
    row: Row = [(text[:13].ljust(14), "")]
    room = max(4, min(16, (width - 14) // experts) - 5)
    for share in shares:
        shade = min(SHADES - 1, int(share * experts / 2 * SHADES))
        filled = round(room * min(1.0, share * experts / 2))
        row += [("█" * filled + "·" * (room - filled), f"shade {shade}"), (f"{share:4.0%} ", "")]
    return row


def _title(row: dict[str, Any]) -> str:
    loss = "" if row["loss"] is None else f"  loss {row['loss']:.4g}"
    return f"{row['run']} step {row['step']:,}{loss}{'  best' if row['best'] else ''}  {one_line(row['title'])}"
