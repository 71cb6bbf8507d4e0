"""Clients that poll the live route as the page does, each once a second: what they waited, and what went wrong."""

from __future__ import annotations

import http.client
import random
import threading
import time
import urllib.parse
from typing import Any

import orjson

PERIOD_S = 1.0


class PollingClients:
    """`count` threads, each with a connection of its own; they poll while `on` is set."""

    def __init__(self, port: int, run_id: str, figure: str, count: int) -> None:
        self.on = threading.Event()
        self.waits_s: list[float] = []
        self.news = 0
        self.problems: list[str] = []
        self._address = ("127.0.0.1", port)
        self._asked = {"runs": run_id, "focus": run_id, "figure": figure, "width_px": "800"}
        self._end = threading.Event()
        dice = random.Random(0)
        self._threads = [
            threading.Thread(target=self._poll, args=[dice.random() * PERIOD_S], daemon=True) for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Ends the clients."""
        self._end.set()
        self.on.set()
        for thread in self._threads:
            thread.join(30)

    def _poll(self, phase_s: float) -> None:
        known: dict[str, str] = {}
        connection = http.client.HTTPConnection(*self._address, timeout=30)
        due = time.monotonic() + phase_s
        while not self._end.is_set():
            self.on.wait()
            late = time.monotonic() - due
            due += PERIOD_S * max(0, 1 + late // PERIOD_S)  # a page, too, asks again only after the answer
            if self._end.wait(max(0.0, due - time.monotonic())) or not self.on.is_set():
                continue
            begin = time.perf_counter()
            try:
                answer = self._ask(connection, known)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.problems.append(f"{type(error).__name__}: {error}")
                connection.close()
                continue
            self.waits_s.append(time.perf_counter() - begin)
            if answer:
                self.news += 1
                known.update({f"{name}_v": part["v"] for name, part in answer.items() if isinstance(part, dict)})
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, known: dict[str, str]) -> Any:
        query = urllib.parse.urlencode({**self._asked, **known})
        connection.request("GET", f"/api/live?{query}", headers={"Accept-Encoding": "identity"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise ValueError(f"{answer.status} {content[:200]!r}")
        return orjson.loads(content)
