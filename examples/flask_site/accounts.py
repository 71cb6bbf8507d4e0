"""Accounts in one JSON file: name and a salted, slow hash of the password."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from pathlib import Path

from werkzeug.security import check_password_hash, generate_password_hash

SHORTEST_PASSWORD = 10
LONGEST_PASSWORD = 1000
MOST_TRIES = 8
WINDOW_S = 60.0
_NAME = re.compile(r"[A-Za-z0-9._-]{1,40}")
# Checked for a name that is not known, so that an answer takes as long as for one that is.
_NOBODY = generate_password_hash("no one has this password")


class Accounts:
    """`add`, `accepts` and `knows`; the file is read anew each time, so that several workers agree."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, name: str, password: str) -> None:
        """Adds an account or changes its password; raises `ValueError`."""
        if not _NAME.fullmatch(name):
            raise ValueError("a name has 1 to 40 letters, digits, '.', '_' and '-'")
        if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
            raise ValueError(f"a password has at least {SHORTEST_PASSWORD} characters")
        content = json.dumps({**self._read(), name: generate_password_hash(password)}, indent=2)
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".accounts-")  # mode 0600
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        os.replace(temporary, self.path)

    def accepts(self, name: str, password: str) -> bool:
        """Whether this is the password of the account."""
        known = self._read().get(name)
        right = check_password_hash(known or _NOBODY, password[:LONGEST_PASSWORD])
        return known is not None and right

    def knows(self, name: str) -> bool:
        """Whether there is such an account."""
        return name in self._read()

    def _read(self) -> dict[str, str]:
        try:
            found: dict[str, str] = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return found


class SlowDown:
    """Counts wrong passwords of an account and of an address, within a minute and in this worker."""

    def __init__(self) -> None:
        self._tries: dict[str, list[float]] = {}

    def note(self, *keys: str) -> None:
        """A wrong password."""
        if len(self._tries) > 1000:
            self._tries = {key: times for key, times in self._tries.items() if self._recent(times)}
        for key in keys:
            self._tries[key] = [*self._recent(self._tries.get(key, [])), time.monotonic()]

    def refuses(self, *keys: str) -> bool:
        """Whether one of the keys has had its tries."""
        return any(len(self._recent(self._tries.get(key, []))) >= MOST_TRIES for key in keys)

    def _recent(self, times: list[float]) -> list[float]:
        since = time.monotonic() - WINDOW_S
        return [moment for moment in times if moment > since]
