"""A server on the loopback that speaks as much of the Hub's protocol as `datasets.load_dataset` uses."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
import urllib.parse
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubServer:
    """Serves one dataset repository, `files` by path; `requests` are those that came."""

    def __init__(self, repository: str, files: dict[str, bytes]) -> None:
        self.repository, self.files = repository, files
        self.requests: list[str] = []
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> HubServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {self.path}")
        repository, files = self.hub.repository, self.hub.files
        if path.startswith(f"/api/datasets/{repository}"):
            return self._api(path.removeprefix(f"/api/datasets/{repository}").strip("/"), body)
        prefix = f"/datasets/{repository}/resolve/"
        if path.startswith(prefix):
            revision, _, name = path.removeprefix(prefix).partition("/")
            if revision not in ("main", COMMIT):
                return self._error("RevisionNotFound")
            return self._file(files[name]) if name in files else self._error("EntryNotFound")
        return self._error("RepoNotFound")

    do_GET = do_HEAD = do_POST = answer

    def _api(self, rest: str, body: bytes) -> None:
        kind, _, where = rest.partition("/")
        revision = where.partition("/")[0] or "main"
        if revision not in ("main", COMMIT):
            return self._error("RevisionNotFound")
        if kind in ("", "revision"):
            siblings = [{"rfilename": name} for name in self.hub.files]
            return self._json(
                {"id": self.hub.repository, "sha": COMMIT, "private": False, "siblings": siblings, "tags": []}
            )
        if kind == "tree":
            return self._tree(where.partition("/")[2])
        if kind == "paths-info":
            fields = json.loads(body) if body.startswith(b"{") else urllib.parse.parse_qs(body.decode())
            return self._json([self._entry(name) for name in fields["paths"] if name in self.hub.files])
        return self._error("EntryNotFound")

    def _tree(self, under: str) -> None:
        """Files and folders that stand directly in a folder."""
        prefix = f"{under}/" if under else ""
        inside = [name.removeprefix(prefix) for name in self.hub.files if name.startswith(prefix)]
        folders = sorted({name.partition("/")[0] for name in inside if "/" in name})
        entries = [{"type": "directory", "path": prefix + name, "size": 0, "oid": COMMIT} for name in folders]
        entries += [self._entry(prefix + name) for name in inside if "/" not in name]
        return self._json(entries) if entries else self._error("EntryNotFound")

    def _entry(self, name: str) -> dict[str, Any]:
        content = self.hub.files[name]
        return {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}

    def _file(self, content: bytes) -> None:
        first, last, status = 0, len(content), 200
        if self.headers.get("Range", "").startswith("bytes="):
            begin, _, end = self.headers["Range"].removeprefix("bytes=").partition("-")
            first, last, status = int(begin), min(int(end or last) + 1, len(content)), 206
        self.send_response(status)
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Accept-Ranges", "bytes")
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{last - 1}/{len(content)}")
        self._send(content[first:last])

    def _json(self, value: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self._send(json.dumps(value).encode())

    def _error(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", code)
        self._send(b"{}")

    def _send(self, content: bytes) -> None:
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
