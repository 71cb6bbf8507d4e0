"""A framed part of a screen that draws itself as large as it is."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.geometry import Size
from textual.widget import Widget

from moe_hub.terminal.drawing.cells import Row
from moe_hub.terminal.drawing.panels import Panel
from moe_hub.terminal.menu.look import as_text


class PanelView(Widget):
    """Shows one `Panel`; `show` takes the newest one of the same key."""

    DEFAULT_CSS: ClassVar[str] = """
    PanelView { border: round $panel; border-title-color: $foreground; height: auto; padding: 0 1; }
    """

    def __init__(self, key: str) -> None:
        super().__init__(id=f"panel-{key}")
        self._panel: Panel | None = None

    def show(self, panel: Panel) -> None:
        """Draws a panel in the place of the one before."""
        self._panel = panel
        self.border_title = Text(panel.title).plain.replace("[", "(").replace("]", ")")
        self.refresh(layout=True)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many rows as serve the panel well."""
        return self._panel.height if self._panel is not None else 1

    def rows(self) -> list[Row]:
        """What is drawn now, for the size of now."""
        if self._panel is None or self.content_size.width < 4:
            return []
        size = self.content_size
        return self._panel.draw(size.width, max(1, size.height), False)[: max(1, size.height)]

    def render(self) -> Text:
        """The rows with the colours of the theme."""
        return as_text(self.rows(), self.app.theme)
