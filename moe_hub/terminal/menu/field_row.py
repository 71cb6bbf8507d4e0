"""One config field in the form: its label, its control, and beside it what is wrong or what is allowed."""

from __future__ import annotations

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Checkbox, Input, Label, Select, Static

from moe_hub.workbench.fields import FormField


class Tick(Checkbox):
    """A checkbox that differs by a sign and not by its colour alone."""

    DEFAULT_CSS: ClassVar[str] = "Tick > .toggle--button { color: $foreground; background: $surface; }"
    BUTTON_LEFT = BUTTON_RIGHT = ""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]
        return "[x]" if self.value else "[ ]"


class FieldRow(Horizontal):
    """A row of the form; `value` is what the control holds, as the page's inputs hold it."""

    DEFAULT_CSS: ClassVar[str] = """
    FieldRow { height: auto; min-height: 1; }
    FieldRow > Label { width: 29; height: 1; padding: 0 1 0 2; }
    FieldRow > Input, FieldRow > Select, FieldRow > Checkbox { width: 20; }
    FieldRow > Select.-textual-compact { height: 1; }
    FieldRow > .message { width: 1fr; height: auto; padding: 0 0 0 1; color: $foreground 60%; }
    FieldRow > .message.wrong { color: $error; text-style: bold; }
    FieldRow.changed > Label { text-style: bold; }
    """

    def __init__(self, field: FormField, value: Any) -> None:
        super().__init__(id="row-" + field.path.replace(".", "-"))
        self.field = field
        self._first = value
        self._problem = ""

    def compose(self) -> ComposeResult:
        yield Label(self.field.label[:27])
        yield self._control()
        yield Static(
            self._problem or self._allowed, classes="message wrong" if self._problem else "message", markup=False
        )

    def _control(self) -> Input | Select[str] | Checkbox:
        name = "field-" + self.field.path.replace(".", "-")
        if self.field.kind == "switch":
            return Tick(value=bool(self._first), compact=True, id=name)
        if self.field.kind == "choice":
            options = [(label, choice) for choice, label in self.field.choices]
            return Select(options, value=str(self._first), allow_blank=False, compact=True, id=name)
        return Input(self._shown(self._first), placeholder="none" if self.field.optional else "", compact=True, id=name)

    @property
    def control(self) -> Input | Select[str] | Checkbox:
        """The widget that is typed into."""
        found = self.children[1]
        assert isinstance(found, Input | Select | Checkbox)
        return found

    @property
    def is_ready(self) -> bool:
        """Whether the control is there and holds a value."""
        return self.is_mounted and self.control.is_mounted

    @property
    def value(self) -> Any:
        """What the control holds."""
        value = self.control.value
        return _unescaped(str(value)) if self.field.is_template else value

    def fill(self, value: Any) -> None:
        """Sets the control, once it is there."""
        if not self.is_ready:
            self._first = value
            self.call_after_refresh(self.fill, value)
            return
        control = self.control
        if isinstance(control, Checkbox):
            control.value = bool(value)
        else:
            control.value = self._shown(value)

    def _shown(self, value: Any) -> str:
        """Line ends of a template as \\n: the control has one line."""
        text = str(value)
        return text.replace("\\", "\\\\").replace("\n", "\\n") if self.field.is_template else text

    def say(self, problem: str) -> None:
        """Shows a problem beside the control, or what is allowed where there is none."""
        if problem == self._problem:
            return
        self._problem = problem
        for message in self.query(".message").results(Static):  # none before the row is mounted
            message.update(problem or self._allowed)
            message.set_class(bool(problem), "wrong")

    @property
    def help(self) -> str:
        """Key, meaning and bounds, for the help line."""
        allowed = f" Allowed: {self.field.allowed}." if self.field.allowed else ""
        default = "none" if self.field.default is None else self.field.default
        return f"{self.field.path}: {self.field.help}{allowed} Default: {default}."

    @property
    def _allowed(self) -> str:
        if self.field.kind == "choice":
            return self.field.unit
        return self.field.allowed or self.field.unit


def _unescaped(text: str) -> str:
    return "\\".join(part.replace("\\n", "\n") for part in text.split("\\\\"))
