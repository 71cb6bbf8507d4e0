"""Large imports are made without the search for garbage, which goes on afterwards and leaves them out."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, moe_hub.imports
{begin}
before = gc.get_freeze_count()
with moe_hub.imports.uncollected():
    assert not gc.isenabled()
    made = [[] for _ in range(5000)]
assert gc.get_freeze_count() >= before + 5000
print(gc.isenabled())
"""


def found(begin: str) -> str:
    """Whether the collector is on in the end."""
    command = [sys.executable, "-c", PROGRAM.format(begin=begin)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_collector_is_as_it_was_and_leaves_out_what_was_imported() -> None:
    assert found("") == "True"
    assert found("gc.disable()") == "False"


def test_a_failing_import_leaves_it_on() -> None:
    code = (
        "import gc; from moe_hub.imports import uncollected\n"
        "try:\n    with uncollected(): import no_such_module\nexcept ImportError: print(gc.isenabled())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"
