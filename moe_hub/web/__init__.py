"""The dashboard: it only looks at run directories and asks; the work is done by processes of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from moe_hub.web.app import create_dashboard

__all__ = ["create_dashboard"]


def __getattr__(name: str) -> Any:
    """Dash is imported with the first use, so that `python -m moe_hub.web --help` needs none."""
    if name != "create_dashboard":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from moe_hub.web.app import create_dashboard

    return create_dashboard
