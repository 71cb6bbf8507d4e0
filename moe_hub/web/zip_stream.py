"""Files as one ZIP archive, written while it is sent: nothing is copied to disk or held in memory."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

PIECE = 1 << 20


class _Outlet(io.RawIOBase):
    """Collects what the archive writes until it is taken; cannot be sought, so sizes follow each file."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, content: bytes) -> int:  # type: ignore[override]
        self.written += content
        return len(content)

    def take(self) -> bytes:
        content = bytes(self.written)
        self.written.clear()
        return content


def zip_stream(files: Sequence[Path], folder: str, texts: Mapping[str, str] | None = None) -> Iterator[bytes]:
    """The archive in pieces; files and `texts` (by name) lie in `folder` in it. Weights do not compress: nothing is."""
    outlet = _Outlet()
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_STORED) as archive:
        for path in files:
            entry = zipfile.ZipInfo.from_file(path, f"{folder}/{path.name}")
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while piece := source.read(PIECE):
                    target.write(piece)
                    yield outlet.take()
        for name, text in (texts or {}).items():
            archive.writestr(f"{folder}/{name}", text)
    yield outlet.take()
