"""Imports of the large libraries, without Python's search for garbage in between.

torch and transformers make about a million objects that stay. The collector, started by their number, looks at all of
them over and over, and finds nothing: a tenth of the time that a trainer needs until it trains.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """For a block of imports; afterwards the collector leaves out what they made, also in the steps of a training."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()
