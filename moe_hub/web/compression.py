"""Compresses the page's own files once and keeps the result, and large live answers where the network is slow."""

from __future__ import annotations

import gzip
import threading

from flask import Request, Response

STATIC = ("/_dash-component-suites/", "/assets/")
LARGE_BYTES = 100_000
_TEXT = ("text/", "application/javascript", "application/json", "image/svg+xml")


class Compressor:
    """`compress` returns the response, gzipped where that pays; the files of the page are compressed only once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: dict[tuple[str, str, int], bytes] = {}

    def compress(self, request: Request, response: Response) -> Response:
        static = any(part in request.path for part in STATIC)
        if static:
            _cache_headers(request, response)
        if not self._pays(request, response, static):
            return response
        content = response.get_data()
        packed = self._packed(request, response, content) if static else gzip.compress(content, compresslevel=1)
        response.set_data(packed)
        response.headers["Content-Encoding"] = "gzip"
        response.headers.add("Vary", "Accept-Encoding")
        return response

    def _pays(self, request: Request, response: Response, static: bool) -> bool:
        if response.status_code != 200 or "gzip" not in request.headers.get("Accept-Encoding", ""):
            return False
        if response.headers.get("Content-Encoding") or not str(response.mimetype).startswith(_TEXT):
            return False
        if static:
            response.direct_passthrough = False
            return True
        # A live answer is only worth the time on a slow network.
        local = request.remote_addr in ("127.0.0.1", "::1")
        return not local and not response.is_streamed and (response.content_length or 0) > LARGE_BYTES

    def _packed(self, request: Request, response: Response, content: bytes) -> bytes:
        place = (request.path, response.headers.get("ETag", ""), len(content))
        with self._lock:
            packed = self._kept.get(place)
        if packed is None:
            packed = gzip.compress(content, compresslevel=6)
            with self._lock:
                self._kept[place] = packed
        return packed


def _cache_headers(request: Request, response: Response) -> None:
    """A file asked for with its fingerprint never changes; any other is asked about again each time."""
    fingerprinted = "v" in request.args or ".v" in request.path
    if fingerprinted and response.status_code == 200:
        response.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    elif response.status_code == 200:
        response.headers["Cache-Control"] = "no-cache"
