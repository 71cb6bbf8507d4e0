"""The program: six screens behind six keys, the theme, and the end when the process that guards it is gone."""

from __future__ import annotations

import os
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer, TabbedContent, TabPane

from moe_hub.terminal.menu.bench import Bench
from moe_hub.terminal.menu.dashboard import DashboardScreen
from moe_hub.terminal.menu.data import DataScreen
from moe_hub.terminal.menu.look import DARK, LIGHT, themes
from moe_hub.terminal.menu.menu_tab import MenuTab
from moe_hub.terminal.menu.new_run import NewRunScreen
from moe_hub.terminal.menu.runs import RunsScreen
from moe_hub.terminal.menu.talk import TalkScreen
from moe_hub.terminal.menu.watching import WatchScreen

SCREENS: tuple[tuple[str, str, type[MenuTab]], ...] = (
    ("new", "New run", NewRunScreen),
    ("watch", "Watch", WatchScreen),
    ("runs", "Runs", RunsScreen),
    ("talk", "Talk", TalkScreen),
    ("data", "Data", DataScreen),
    ("dashboard", "Dashboard", DashboardScreen),
)
GUARD_S = 1.0


class MenuApp(App[None]):
    """`bench` is what all screens work on."""

    TITLE = "MoE Hub"
    ENABLE_COMMAND_PALETTE = False
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (120, "-wide"), (150, "-wider")]
    CSS: ClassVar[str] = """
    TabPane { padding: 0; height: 1fr; }
    MenuTab { height: 1fr; }
    TabbedContent { height: 1fr; }
    ContentSwitcher { height: 1fr; }
    Tabs { height: 2; }
    Footer { height: 1; }
    Button.-style-default { min-width: 6; }
    .-wider #side { display: block; }
    .-wide #grid, .-wider #grid { layout: grid; grid-size: 2; grid-rows: auto; grid-gutter: 0 1; }
    .-wide #panel-log, .-wider #panel-log { column-span: 2; }
    .wrong { color: $error; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(
            Binding(f"f{number},alt+{number}", f"show('{key}')", title, show=False, priority=True)
            for number, (key, title, _) in enumerate(SCREENS, 1)
        ),
        Binding("ctrl+t", "change_theme", "Light/dark"),
        Binding("ctrl+q", "quit", "Quit", priority=True),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False),
    ]

    def __init__(self, bench: Bench, *, light: bool = False, first: str = "new") -> None:
        super().__init__()
        self.bench = bench
        self.shown = first  # the key of the screen that is seen
        self._tabs = {key: screen(bench) for key, _, screen in SCREENS}
        for theme in themes():
            self.register_theme(theme)
        self.theme = LIGHT if light else DARK
        self._guard_pid = os.getppid()

    def compose(self) -> ComposeResult:
        with TabbedContent(initial=self.shown):
            for number, (key, title, _) in enumerate(SCREENS, 1):
                yield TabPane(f"F{number} {title}", id=key)
        yield Footer()

    def on_mount(self) -> None:
        self.set_interval(GUARD_S, self._end_with_the_guard)

    async def on_tabbed_content_tab_activated(self, event: TabbedContent.TabActivated) -> None:
        screen = self._tabs[str(event.pane.id)]
        if not screen.is_attached:  # made when it is first looked at: the menu is there sooner
            await event.pane.mount(screen)
        if event.tabbed_content.active == event.pane.id:  # a person may be two screens further already
            self.shown = str(event.pane.id)
            screen.opened()

    def tab(self, key: str) -> MenuTab:
        """One of the screens."""
        return self._tabs[key]

    def action_show(self, key: str) -> None:
        """Opens a screen."""
        if len(self.screen_stack) == 1 and self.query_one(TabbedContent).active != key:
            self.screen.set_focus(None)  # a focus that is left behind brings the old screen back
            self.query_one(TabbedContent).active = key

    def action_change_theme(self) -> None:
        """From light to dark and back."""
        self.theme = DARK if self.theme == LIGHT else LIGHT
        self.refresh(layout=True)

    def watch_run(self, run_id: str) -> None:
        """Opens Watch with a run."""
        screen = self.tab("watch")
        assert isinstance(screen, WatchScreen)
        screen.choose(run_id)
        self.action_show("watch")

    def _end_with_the_guard(self) -> None:
        if os.getppid() != self._guard_pid:  # nobody is left who would set the terminal right
            self.exit()
