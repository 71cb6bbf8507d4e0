"""The base of the screens: each is told when it is opened, and asks less of the machine while it is not seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from textual.containers import Vertical
from textual.widgets import TabPane

from moe_hub.errors import MoeHubError
from moe_hub.terminal.menu.bench import Bench

if TYPE_CHECKING:
    from moe_hub.terminal.menu.app import MenuApp


class MenuTab(Vertical):
    """One screen of the menu."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench

    @property
    def menu(self) -> MenuApp:
        """The program that this screen is part of."""
        return cast("MenuApp", self.app)

    @property
    def seen(self) -> bool:
        """Whether the screen is in front."""
        pane = self.parent
        return isinstance(pane, TabPane) and self.menu.shown == pane.id

    def opened(self) -> None:
        """Called each time the screen comes to the front."""

    def take_focus(self, selector: str) -> None:
        """Moves the focus to a part of this screen, unless it is on the screen already: a person may be typing."""
        focused = self.app.focused
        if focused is None or self not in focused.ancestors:
            # At once: `focus` would do it later, and bring this screen back where a person has gone on to another.
            self.screen.set_focus(self.query_one(selector))

    def attempt(self, work: Callable[[], str | None]) -> bool:
        """Does the work and says what it returns; an error for people is shown as one, and the answer is False."""
        try:
            said = work()
        except MoeHubError as error:
            self.notify(str(error), severity="error", timeout=12, markup=False)
            return False
        if said:
            self.notify(said, markup=False)
        return True
