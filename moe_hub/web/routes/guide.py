"""GET help/<page>: the guide and the references, from the documents that come with the package."""

from __future__ import annotations

from typing import Any

from flask import Response, redirect

from moe_hub.web import guide
from moe_hub.web.workbench import Workbench

PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}


def routes(workbench: Workbench) -> list[Any]:
    """A page by its path; the bare address is the guide's first."""
    root = guide.docs_folder().resolve()

    def page(page: str) -> Response:
        path = (root / page).resolve() if "\0" not in page and "\\" not in page else root
        if not path.is_relative_to(root) or not path.is_file():
            raise FileNotFoundError(page)
        if path.suffix == ".md":
            answer = Response(guide.chapter(path, root, workbench.prefix), mimetype="text/html")
        elif path.suffix in PICTURES:
            answer = Response(path.read_bytes(), mimetype=PICTURES[path.suffix])
        else:
            raise FileNotFoundError(page)
        answer.headers["Cache-Control"] = "no-cache"
        return answer

    def first() -> Any:
        return redirect(f"{workbench.prefix}help/guide/index.md")

    return [("help/<path:page>", page, "GET"), ("help/", first, "GET")]
