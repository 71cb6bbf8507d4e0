"""GET healthz: whether the server answers."""

from __future__ import annotations

from typing import Any

from moe_hub import __version__
from moe_hub.web.workbench import Workbench


def routes(_workbench: Workbench) -> list[Any]:
    """One route."""

    def healthz() -> dict[str, str]:
        return {"status": "ok", "version": __version__}

    return [("healthz", healthz, "GET")]
