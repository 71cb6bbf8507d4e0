"""The guide as the page serves it: the Markdown files of docs/ turned into HTML, each with the list of chapters.

What stands in the files is shown as text: HTML in them is escaped. A link that leaves docs/ is shown without its
address, for the page serves nothing else.
"""

from __future__ import annotations

import html
import posixpath
import re
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

FIRST = "guide/index.md"
COMMENT = re.compile(r"^<!--.*?-->\n?", re.MULTILINE)

_FRAME = """<!DOCTYPE html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <meta name="color-scheme" content="light dark">
    <title>{title} - MoE Hub</title>
    <link rel="icon" type="image/svg+xml" href="{prefix}assets/icon.svg">
    <script src="{prefix}assets/theme.js"></script>
    <link rel="stylesheet" href="{prefix}assets/tokens.css">
    <link rel="stylesheet" href="{prefix}assets/guide.css">
  </head>
  <body>
    <a class="skip-link" href="#text">Skip to the text</a>
    <nav aria-label="Chapters"><p><a href="{prefix}">Back to the workbench</a></p>{chapters}</nav>
    <main id="text">{text}</main>
  </body>
</html>
"""


def docs_folder() -> Path:
    """The folder of the documents: beside the package in a checkout, inside it in a wheel."""
    inside = Path(__file__).resolve().parent.parent / "docs"
    return inside if inside.is_dir() else Path(__file__).resolve().parent.parent.parent / "docs"


def slug(heading: str) -> str:
    """The anchor of a heading: lower case, without signs, a hyphen for each space (as GitHub and MyST make it)."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def chapter(path: Path, root: Path, prefix: str) -> str:
    """A document as a whole page. `path` lies under `root`; `prefix` is that of the dashboard."""
    return _chapter(path, root, prefix, path.stat().st_mtime_ns, (root / FIRST).stat().st_mtime_ns)


@cache
def _chapter(path: Path, root: Path, prefix: str, _modified_ns: int, _index_modified_ns: int) -> str:
    name = path.relative_to(root).as_posix()
    tokens = tokens_of(path.read_text(encoding="utf-8"))
    title = next((token.content for before, token in _pairs(tokens) if before.tag == "h1"), name)
    _mend_links(tokens, name)
    return _FRAME.format(
        title=html.escape(title.replace("`", "")),
        prefix=html.escape(prefix),
        chapters=_chapters(root, name),
        text=_markdown().renderer.render(tokens, _markdown().options, {}),
    )


def tokens_of(text: str) -> list[Token]:
    """The tokens of a Markdown text, its headings with ids; comments that fill a line are left out."""
    tokens = _markdown().parse(COMMENT.sub("", text))
    taken: dict[str, int] = {}
    for before, token in _pairs(tokens):
        if before.type == "heading_open":
            words = "".join(child.content for child in token.children or [] if child.type in ("text", "code_inline"))
            anchor = slug(words)
            taken[anchor] = taken.get(anchor, -1) + 1
            before.attrSet("id", f"{anchor}-{taken[anchor]}" if taken[anchor] else anchor)
    return tokens


def inline_tokens(tokens: list[Token]) -> Iterator[Token]:
    """The tokens within lines: texts, links, images."""
    for token in tokens:
        yield from token.children or []


@cache
def _markdown() -> MarkdownIt:
    return MarkdownIt("commonmark", {"html": False}).enable("table")


def _pairs(tokens: list[Token]) -> Iterator[tuple[Token, Token]]:
    return pairwise(tokens)


def _chapters(root: Path, current: str) -> str:
    """The list of links of the first page, as seen from another page; the one that is open is marked."""
    tokens = tokens_of((root / FIRST).read_text(encoding="utf-8"))
    parts, opened = [], ""
    for token in inline_tokens(tokens):
        if token.type == "link_open":
            opened = str(token.attrGet("href"))
        elif token.type == "text" and opened:
            target = posixpath.normpath(posixpath.join(posixpath.dirname(FIRST), opened))
            address = posixpath.relpath(target, posixpath.dirname(current) or ".")
            mark = ' aria-current="page"' if target == current else ""
            parts.append(f'<li><a href="{html.escape(address)}"{mark}>{html.escape(token.content)}</a></li>')
            opened = ""
    here = posixpath.relpath(FIRST, posixpath.dirname(current) or ".")
    mark = ' aria-current="page"' if current == FIRST else ""
    return f'<p><a href="{html.escape(here)}"{mark}>The guide</a></p><ul>{"".join(parts)}</ul>'


def _mend_links(tokens: list[Token], name: str) -> None:
    """Takes the address from links that leave docs/; those to other sites open in a tab of their own."""
    closing = []
    for token in inline_tokens(tokens):
        if token.type == "link_open":
            address = urlsplit(str(token.attrGet("href")))
            if address.scheme:
                token.attrSet("target", "_blank")
                token.attrSet("rel", "noopener noreferrer")
            leaves = not address.scheme and address.path != "" and not _served(address.path, name)
            closing.append(leaves)
            if leaves:
                token.tag, token.attrs = "span", {}
        elif token.type == "link_close" and closing.pop():
            token.tag = "span"


def _served(path: str, name: str) -> bool:
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), unquote(path)))
    return not target.startswith("..") and posixpath.splitext(target)[1] in (".md", ".png", ".svg")
