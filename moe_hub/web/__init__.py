"""The dashboard: it only looks at run directories and asks; the work is done by processes of their own."""

from __future__ import annotations

from moe_hub.web.app import create_dashboard

__all__ = ["create_dashboard"]
