"""Checks the links of the documents: files, anchors, pictures, and that pictures hold no foreign address.

python docs/links.py    prints what is broken; exit code 1 where anything is
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from moe_hub.web.guide import inline_tokens, tokens_of

ROOT = Path(__file__).resolve().parent.parent
BACKED = re.compile(r"`((?:moe_hub|assets|configs|tests|docs|benchmarks|examples)/[\w./-]*)`")
FOREIGN = re.compile(rb"""url\(\s*["']?https?:|(?:href|src)\s*=\s*["']https?:""")


def documents() -> list[Path]:
    """Every Markdown file that people read."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
    return sorted(path for path in found if "_build" not in path.parts)


def problems(paths: list[Path]) -> Iterator[str]:
    """What is broken, a line each: document, link, why."""
    for path in paths:
        name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
        text = path.read_text(encoding="utf-8")
        for kind, address in _addresses(text):
            if why := _problem(path, kind, address):
                yield f"{name}: {kind} {address}: {why}"
        yield from (f"{name}: path {found}: not there" for found in BACKED.findall(text) if not (ROOT / found).exists())


def foreign_pictures(folder: Path) -> Iterator[str]:
    """Pictures that would ask another machine for a font or an image."""
    for path in sorted(folder.rglob("*.svg")):
        if FOREIGN.search(path.read_bytes()):
            yield f"{path.name}: asks another machine for something"


def _addresses(text: str) -> Iterator[tuple[str, str]]:
    for token in inline_tokens(tokens_of(text)):
        if token.type == "link_open":
            yield "link", str(token.attrGet("href"))
        elif token.type == "image":
            yield "picture", str(token.attrGet("src"))


def _problem(document: Path, kind: str, address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return "a picture must lie in the repository" if kind == "picture" else ""
    target = (document.parent / unquote(parts.path)).resolve() if parts.path else document
    if not target.exists():
        return "not there"
    if kind == "picture" and not target.stat().st_size:
        return "empty"
    if parts.fragment and target.suffix == ".md" and unquote(parts.fragment) not in _anchors(target):
        return f"no heading #{parts.fragment}"
    return ""


@cache
def _anchors(path: Path) -> frozenset[str]:
    tokens = tokens_of(path.read_text(encoding="utf-8"))
    return frozenset(str(token.attrGet("id")) for token in tokens if token.type == "heading_open")


def main() -> int:
    """Prints what is broken."""
    found = [*problems(documents()), *foreign_pictures(ROOT / "docs")]
    print("\n".join(found), end="\n" if found else "", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
