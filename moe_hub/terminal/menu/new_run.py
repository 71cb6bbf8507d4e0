"""New run: preset, every config field by section, what is wrong beside it, counts, the difference and the command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from textual import events, on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget
from textual.widgets import Button, Checkbox, Input, Label, Select, Static

from moe_hub.config import preset_names
from moe_hub.errors import MoeHubError
from moe_hub.terminal.menu.bench import Bench
from moe_hub.terminal.menu.dialogs import Ask, Read
from moe_hub.terminal.menu.field_row import FieldRow, Tick
from moe_hub.terminal.menu.menu_tab import MenuTab
from moe_hub.terminal.menu.summary import command_of, details, shortly
from moe_hub.workbench import starting
from moe_hub.workbench.assessment import Assessment, assess, is_hidden
from moe_hub.workbench.fields import form_fields, to_raw
from moe_hub.workbench.presets import FIRST_PRESET

CHECK_S = 0.05  # after the last key
HINT = "Move to a field to read what it means. F9 starts, F8 queues, Ctrl-T light or dark, Ctrl-Q quits."
HINTS = {
    "find": "Find: part of a field's name or label; this shows advanced fields too.",
    "advanced": "Advanced: shows the fields that are seldom changed.",
}


class NewRunScreen(MenuTab):
    """The form."""

    DEFAULT_CSS: ClassVar[str] = """
    NewRunScreen .bar { height: 1; }
    NewRunScreen .bar > Label { padding: 0 1; }
    NewRunScreen #preset { width: 30; }
    NewRunScreen #find { width: 1fr; }
    NewRunScreen #advanced { width: 14; margin-left: 1; }
    NewRunScreen #body { height: 1fr; }
    NewRunScreen #form { width: 1fr; }
    NewRunScreen .section { text-style: bold; color: $primary; height: 1; }
    NewRunScreen #side { width: 56; border-left: solid $panel; padding: 0 1; display: none; }
    NewRunScreen #help { height: 2; background: $surface; padding: 0 1; color: $foreground 80%; }
    NewRunScreen #count { height: 1; padding: 0 1; }
    NewRunScreen #command { height: auto; max-height: 2; padding: 0 1; color: $foreground 70%; }
    NewRunScreen .bar Button { margin-right: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f9", "start", "Start"),
        Binding("f8", "queue", "Queue"),
        Binding("f7", "details", "Details"),
    ]

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench)
        self._filled = FIRST_PRESET  # the preset whose values the form was given
        self._base = bench.presets.values(FIRST_PRESET)
        self._raw = to_raw(self._base)
        # By path, and `section NAME`: made when they are first shown, for most fields are not for most runs.
        self._rows: dict[str, FieldRow] = {}
        self._heads: dict[str, Label] = {}
        self.assessment: Assessment | None = None
        self._timer: Any = None

    def compose(self) -> ComposeResult:
        with Horizontal(classes="bar"):
            yield Label("Preset")
            yield Select(self._preset_options(), value=FIRST_PRESET, allow_blank=False, compact=True, id="preset")
            yield Label("Find")
            yield Input(placeholder="part of a name", compact=True, id="find")
            yield Tick("Advanced", compact=True, id="advanced")
        with Horizontal(id="body"):
            yield VerticalScroll(id="form", can_focus=False)
            with VerticalScroll(id="side", can_focus=False):
                yield Static(id="details", markup=False)
        yield Static(HINT, id="help", markup=False)
        yield Static(id="count", markup=False)
        yield Static(id="command", markup=False)
        with Horizontal(classes="bar"):
            yield Button("Start (F9)", variant="primary", compact=True, id="start")
            yield Button("Queue (F8)", compact=True, id="queue")
            yield Button("Details (F7)", compact=True, id="show-details")
            yield Button("Copy command", compact=True, id="copy")
            yield Button("Save preset", compact=True, id="save-preset")

    def _preset_options(self) -> list[tuple[str, str]]:
        return [*((name, name) for name in preset_names()), *((f"{name} (own)", name) for name in self._own())]

    def _own(self) -> list[str]:
        return self.bench.presets.own()

    def on_mount(self) -> None:
        self._check()

    def opened(self) -> None:
        self.take_focus("#preset")

    # --- checks

    @property
    def preset(self) -> str:
        """The preset that the form began with."""
        return str(self.query_one("#preset", Select).value)

    def values(self) -> dict[str, Any]:
        """What the form holds, by field; those that are not shown too."""
        # From the controls themselves: what was typed a moment ago need not have been told yet.
        self._raw |= {path: row.value for path, row in self._rows.items() if row.is_ready}
        return dict(self._raw)

    @on(Input.Changed)
    @on(Checkbox.Changed)
    @on(Select.Changed)
    def _changed(self, event: Input.Changed | Checkbox.Changed | Select.Changed) -> None:
        if event.control.id == "preset":
            if self.preset != self._filled:  # said when the selector is made, too
                self._fill()
        else:
            if self._timer is not None:
                self._timer.stop()
            self._timer = self.set_timer(CHECK_S, self._check)

    def _fill(self) -> None:
        """Sets every field to the preset's values."""
        try:
            self._base, self._filled = self.bench.presets.values(self.preset), self.preset
        except MoeHubError as error:
            self.notify(str(error), severity="error", markup=False)
            return
        self.fill(self._base)

    def fill(self, flat: Mapping[str, Any]) -> None:
        """Sets every field to these values; fields that are missing get their default."""
        self._raw = to_raw(flat)
        with self.prevent(Input.Changed, Checkbox.Changed, Select.Changed):
            for path, row in self._rows.items():
                row.fill(self._raw[path])
        self._check()

    def _check(self) -> None:
        """Assesses what the controls hold and shows it."""
        result = self.assessment = assess(self.values(), self._base)
        self._show_rows(result)
        self.query_one("#count", Static).update(shortly(result))
        self.query_one("#count", Static).set_class(bool(result.errors), "wrong")
        self.query_one("#command", Static).update(command_of(self.bench, self.preset, result))
        self.query_one("#details", Static).update(details(self.bench, self.preset, self._base, result))
        for name in ("start", "queue"):
            self.query_one(f"#{name}", Button).disabled = not result.valid

    def _show_rows(self, result: Assessment) -> None:
        wanted = self.query_one("#find", Input).value.lower().strip()
        advanced = self.query_one("#advanced", Checkbox).value or bool(wanted)
        shown = [
            field.path for field in form_fields().values()
            if (wanted in field.path.lower() or wanted in field.label.lower())
            and (advanced or not field.advanced or field.path in result.changed or field.path in result.errors)
            and not is_hidden(field.path, result.hidden)
        ]  # fmt: skip
        self._mount_missing(shown)
        for path, row in self._rows.items():
            row.display = path in shown
            row.set_class(path in result.changed, "changed")
            row.say(result.errors.get(path, ""))
        sections = {form_fields()[path].section for path in shown}
        for section, head in self._heads.items():
            head.display = section in sections

    def _mount_missing(self, shown: list[str]) -> None:
        """Makes the rows and section heads that were never shown before, each in its place in the schema."""
        form = self.query_one("#form")
        wanted = set(shown)
        new: list[Widget] = []
        section: str | None = None
        for path, field in form_fields().items():
            if field.section != section:
                section = field.section
                if section in self._heads:
                    new = self._mount_before(form, new, self._heads[section])
                elif any(form_fields()[each].section == section for each in wanted):
                    self._heads[section] = Label(section or "run", classes="section")
                    new.append(self._heads[section])
            if path in self._rows:
                new = self._mount_before(form, new, self._rows[path])
            elif path in wanted:
                self._rows[path] = FieldRow(field, self._raw[path])
                new.append(self._rows[path])
        if new:
            form.mount_all(new)

    def _mount_before(self, form: Widget, new: list[Widget], place: Widget) -> list[Widget]:
        if new:
            form.mount_all(new, before=place)
        return []

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        row = next((each for each in event.widget.ancestors if isinstance(each, FieldRow)), None)
        self.query_one("#help", Static).update(row.help if row else HINTS.get(str(event.widget.id), HINT))

    # --- what is done with it

    def on_button_pressed(self, event: Button.Pressed) -> None:
        actions = {"start": self.action_start, "queue": self.action_queue, "show-details": self.action_details,
                   "copy": self._copy, "save-preset": self._ask_name}  # fmt: skip
        actions[str(event.button.id)]()

    def action_details(self) -> None:
        """Everything that is known of the config, over the form."""
        if self.assessment is not None:
            text = details(self.bench, self.preset, self._base, self.assessment)
            self.app.push_screen(Read("What would be trained", text))

    def action_start(self) -> None:
        """Starts the run in the background and watches it."""
        self._check()
        if self._ready():
            self._start(self.preset, self.values(), queue=False)

    def action_queue(self) -> None:
        """Puts the run at the end of the queue."""
        self._check()
        if self._ready():
            self._start(self.preset, self.values(), queue=True)

    def _ready(self) -> bool:
        result = self.assessment
        if result is not None and result.valid:
            return True
        first = next(iter(result.errors.items()), ("", "")) if result else ("", "")
        self.notify(f"{first[0]}: {first[1]}".lstrip(": "), title="Not ready", severity="error", markup=False)
        if first[0] in self._rows:
            self._rows[first[0]].control.focus()
        return False

    @work(thread=True)
    def _start(self, preset: str, values: dict[str, Any], *, queue: bool) -> None:
        """The same steps as the page's job behind Start."""
        try:
            config = starting.form_config(self.bench.presets, preset, values)
            begin = starting.queue_and_report if queue else starting.start_and_report
            said = begin(self.bench.runs_dir, config, lambda report: self._reported(report, queue))
        except MoeHubError as error:
            self.app.call_from_thread(self.notify, str(error), severity="error", timeout=12, markup=False)
            return
        if said:
            self.app.call_from_thread(self.notify, said, timeout=10, markup=False)

    def _reported(self, report: Mapping[str, Any], queue: bool) -> None:
        if not queue:
            self.app.call_from_thread(self.menu.watch_run, str(report["run_id"]))

    def _copy(self) -> None:
        if self.assessment is not None:
            self.app.copy_to_clipboard(command_of(self.bench, self.preset, self.assessment))
            self.notify("The command is on the clipboard, where the terminal allows it.")

    @work
    async def _ask_name(self) -> None:
        name = await self.app.push_screen_wait(Ask("Save as a preset of your own", note="letters, digits, - and _"))
        if name and self.attempt(lambda: self._save_preset(name)):
            select = self.query_one("#preset", Select)
            with self.prevent(Select.Changed):
                select.set_options(self._preset_options())
                select.value = name
            self._base, self._filled = self.bench.presets.values(name), name
            self._check()

    def _save_preset(self, name: str) -> str:
        config = starting.form_config(self.bench.presets, self.preset, self.values())
        self.bench.presets.save(name, config)
        return f"Preset {name} is saved."
