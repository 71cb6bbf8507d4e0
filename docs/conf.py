"""How Sphinx builds the guide: `make docs`. Nothing is fetched, neither while it is built nor while it is read."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

from moe_hub import __version__  # noqa: E402

project = "MoE Hub"
release = version = __version__
copyright = "MoE Hub contributors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "guide/index"
exclude_patterns = ["references.py", "links.py", "conf.py"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = "MoE Hub"
html_show_sourcelink = False
html_copy_source = False
nitpicky = True
# Blocks of formulas and of shell lines with placeholders are no program text.
highlight_language = "none"

LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def without_foreign_links(app: Sphinx, docname: str, source: list[str]) -> None:
    """A link that leaves docs/ (to code, SECURITY.md) becomes its text: the site holds docs/ only. It must exist."""
    folder = (DOCS / docname).parent

    def mended(match: re.Match[str]) -> str:
        target = (folder / match[2]).resolve()
        if not target.exists():
            raise FileNotFoundError(f"docs/{docname}.md links to {match[2]}, which is not there")
        return match[0] if target.is_relative_to(DOCS) else match[1]

    text = LINK.sub(mended, source[0])
    source[0] = text + chapters() if docname == root_doc else text


def chapters() -> str:
    """The table of contents, in the order of the links of the first page; what it does not name comes last."""
    index = (DOCS / f"{root_doc}.md").read_text(encoding="utf-8")
    parts, listed = [], []
    for title, body in re.findall(r"^\*\*([^*]+)\*\*\n\n(.*?)(?=^\*\*|\Z)", index, re.MULTILINE | re.DOTALL):
        entries = [f"/{(DOCS / 'guide' / path).resolve().relative_to(DOCS).with_suffix('')}"
                   for path in re.findall(r"\]\(([^)#]+\.md)\)", body)]  # fmt: skip
        listed += entries
        parts.append((title, entries))
    known = {f"/{path.relative_to(DOCS).with_suffix('')}" for path in DOCS.rglob("*.md")} - {f"/{root_doc}"}
    if left := sorted(known - set(listed)):
        parts.append(("More", left))
    return "".join(
        f"\n\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n" + "\n".join(entries) + "\n```\n"
        for title, entries in parts
    )


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", without_foreign_links)
