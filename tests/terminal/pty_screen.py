"""A real program in a pseudo-terminal, and the screen that a person would see there."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Sequence

import pexpect
import pyte

KEYS = {
    "enter": "\r", "tab": "\t", "escape": "\x1b", "down": "\x1b[B", "up": "\x1b[A", "backspace": "\x7f", "space": " ",
    "f1": "\x1bOP", "f2": "\x1bOQ", "f3": "\x1bOR", "f4": "\x1bOS", "f5": "\x1b[15~", "f6": "\x1b[17~",
    "f7": "\x1b[18~", "f8": "\x1b[19~", "f9": "\x1b[20~", "ctrl+q": "\x11", "ctrl+t": "\x14", "ctrl+z": "\x1a",
    "shift+tab": "\x1b[Z",
    "pagedown": "\x1b[6~",
}  # fmt: skip
_MODE = re.compile(rb"\x1b\[\?([0-9;]+)([hl])")


class Terminal:
    """`bash` in a terminal of a size; `type` writes to it, `wait` reads until the screen is as it should be."""

    def __init__(self, size: tuple[int, int], **environment: str) -> None:
        columns, rows = size
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.child = pexpect.spawn(
            "bash", ["--norc", "--noprofile", "--noediting"], dimensions=(rows, columns), timeout=60,
            env={**known, "TERM": "xterm-256color", "PS1": "ready> ", "LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1",
                 "PYTHON": sys.executable, **environment},
        )  # fmt: skip

    @property
    def lines(self) -> list[str]:
        """The rows of the screen."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """The whole screen."""
        return "\n".join(self.lines)

    def read(self, patience_s: float = 0.1) -> None:
        """Takes what the program has written."""
        with contextlib.suppress(pexpect.TIMEOUT, pexpect.EOF):
            while True:
                content = self.child.read_nonblocking(65536, timeout=patience_s)
                self.raw += content
                self._answer(content)
                # pyte writes private sequences of other terminals out as text
                self._stream.feed(re.sub(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]|\x1b\[\?[0-9;]*\$p", b"", content))

    def _answer(self, content: bytes) -> None:
        if b"\x1b[6n" in content:  # where is the cursor?
            self.child.send(f"\x1b[{self.screen.cursor.y + 1};{self.screen.cursor.x + 1}R")

    def wait(self, holds: str | Callable[[], object], timeout_s: float = 240.0) -> str:
        """The screen once it holds a text, or once the function is true; fails with the screen where it does not."""
        deadline = time.monotonic() + timeout_s
        while True:
            self.read()
            if holds in self.text if isinstance(holds, str) else holds():
                return self.text
            if time.monotonic() > deadline:
                raise AssertionError(f"waited in vain for {holds!r}; the screen:\n{self.text}")

    def press(self, *keys: str) -> None:
        """Names of `KEYS`, or text as it is typed."""
        for key in keys:
            self.child.send(KEYS.get(key, key))
            self.read(0.05)

    def run(self, words: Sequence[str]) -> None:
        """Types `python -m moe_hub WORDS` at the prompt."""
        self.child.sendline(" ".join(['"$PYTHON"', "-m", "moe_hub", *words]))

    def shows(self, *patterns: str) -> str:
        """The first row in which every pattern is found; empty where there is none."""
        return next((line for line in self.lines if all(re.search(each, line) for each in patterns)), "")

    def modes(self) -> dict[int, bool]:
        """Private modes of the terminal that the program has set (True) or reset, as they are now."""
        found: dict[int, bool] = {}
        for numbers, state in _MODE.findall(self.raw):
            found |= {int(number): state == b"h" for number in numbers.split(b";") if number}
        return found

    def close(self) -> None:
        """Ends bash and what it started."""
        self.child.close(force=True)
