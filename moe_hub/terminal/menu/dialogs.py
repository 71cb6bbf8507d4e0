"""Small questions over a screen: a text to give, a yes or no, a text to read."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Input, Static

BOX = """
    {name} {{ align: center middle; }}
    {name} > Vertical {{ width: {width}; max-width: 95%; height: auto; max-height: 90%; border: round $primary;
        background: $surface; padding: 0 1; }}
    {name} Horizontal {{ height: auto; align-horizontal: right; margin-top: 1; }}
    {name} Button {{ margin-left: 2; }}
    {name} VerticalScroll {{ height: auto; max-height: 100%; }}
"""


class Ask(ModalScreen[str | None]):
    """A line of text, or None where the person thought better of it."""

    DEFAULT_CSS: ClassVar[str] = BOX.format(name="Ask", width=64)
    BINDINGS: ClassVar[list[BindingType]] = [("escape", "dismiss(None)", "Cancel")]

    def __init__(self, title: str, text: str = "", note: str = "") -> None:
        super().__init__()
        self._title, self._text, self._note = title, text, note

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = self._title
            yield Input(self._text, compact=True, id="answer")
            yield Static(self._note, markup=False)
            with Horizontal():
                yield Button("OK", variant="primary", compact=True, id="ok")
                yield Button("Cancel", compact=True, id="cancel")

    def on_input_submitted(self) -> None:
        self.dismiss(self.query_one(Input).value)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        self.dismiss(self.query_one(Input).value if event.button.id == "ok" else None)


class Read(ModalScreen[None]):
    """A text to read, closed by any of its keys."""

    DEFAULT_CSS: ClassVar[str] = BOX.format(name="Read", width=100)
    BINDINGS: ClassVar[list[BindingType]] = [("escape,enter,q", "dismiss", "Close")]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title, self._text = title, text

    def compose(self) -> ComposeResult:
        with Vertical() as box:
            box.border_title = self._title
            with VerticalScroll():
                yield Static(self._text, markup=False, id="read-text")
            with Horizontal():
                yield Button("Close", variant="primary", compact=True)

    def on_button_pressed(self) -> None:
        self.dismiss(None)
