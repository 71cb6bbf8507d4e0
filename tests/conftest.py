"""What tests of several folders share: one driver of the browser, because Playwright runs only one in a process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="session")
def playwright() -> Iterator[Any]:
    """Starts browsers; each test file launches its own with the flags that it needs."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver
