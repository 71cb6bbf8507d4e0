"""The screen of `moe-hub watch` in a terminal: the status line, the loss curve and the alarms."""

from __future__ import annotations

import os
import sys
import textwrap

from moe_hub.runs.live import LiveReader
from moe_hub.runs.store import RunDirectory
from moe_hub.terminal.drawing.cells import Row, as_ansi, as_text
from moe_hub.terminal.drawing.panels import alarm_panel, loss_panel
from moe_hub.terminal.watch import Screen, cut

MOST_ROWS = 18
MOST_COLUMNS = 120
MOST_ALARMS = 4


class CurveScreen(Screen):
    """Reads metrics.jsonl only where it has grown, and draws the curve again only then."""

    def __init__(self, run: RunDirectory) -> None:
        super().__init__()
        self._reader = LiveReader(run.path)
        self._drawn_of: tuple[str, int, int] | None = None
        self._curve: list[str] = []

    def lines(self, line: str, width: int, height: int) -> list[str]:
        """The status line (wrapped), the curve and the alarms."""
        head = textwrap.wrap(line, width, subsequent_indent="  ") or [""]
        head = head if len(head) <= 3 else [*head[:2], cut(" ".join(head[2:]), width)]
        room = min(MOST_ROWS, height - len(head))
        if room < 6:
            return head
        history = self._reader.history()
        drawn_of = (f"{history.version}", width, room)
        if drawn_of != self._drawn_of:
            alarms = alarm_panel(history)
            alarm_rows = min(MOST_ALARMS, alarms.height) if alarms.title != "Alarms" else 0
            rows = loss_panel(history).draw(min(width, MOST_COLUMNS), max(4, room - alarm_rows), ascii_only())
            if alarm_rows:
                rows += [[(cut(text, width), style) for text, style in row]
                         for row in alarms.draw(width, alarm_rows, ascii_only())]  # fmt: skip
            self._curve = _coloured(rows)
            self._drawn_of = drawn_of
        return [*head, *self._curve]


def ascii_only() -> bool:
    """Whether the terminal cannot show more than ASCII."""
    return "utf" not in (sys.stdout.encoding or "").lower()


def _coloured(rows: list[Row]) -> list[str]:
    if os.environ.get("NO_COLOR"):
        return as_text(rows)
    return as_ansi(rows, true_colour=os.environ.get("COLORTERM", "") in ("truecolor", "24bit"))
