"""Uploads in chunks, preview, inspection and cache over HTTP."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from moe_hub.errors import DataError
from moe_hub.web.uploads import Uploads

ROWS = "".join(json.dumps({"question": f"q{n}", "answer": f"<i>{n}</i>", "extra": {"n": n}}) + "\n" for n in range(50))


def send(page: Any, name: str, content: bytes, chunk: int = 1000) -> Any:
    begun = page.client.post("/api/uploads", json={"name": name, "size": len(content)})
    assert begun.status_code == 200, begun.data
    upload = begun.get_json()["upload"]
    answer = None
    for offset in range(0, len(content), chunk):
        answer = page.client.post(
            f"/api/uploads/{upload}?offset={offset}",
            data=content[offset : offset + chunk],
            content_type="application/octet-stream",
        )
        assert answer.status_code == 200, answer.data
    assert answer is not None
    return answer.get_json()


def test_an_upload_appears_whole_under_a_name_of_the_servers(page: Any) -> None:
    content = ROWS.encode()
    for name, wanted in [
        ("my rows (1).JSONL", "my_rows_1.jsonl"),
        ("my rows (1).jsonl", "my_rows_1-2.jsonl"),
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\evil\\x.csv", "x.csv"),
        ("....jsonl", "data.jsonl"),
    ]:
        answer = send(page, name, content)
        assert answer["name"] == wanted
        path = page.data_dir / "uploads" / wanted
        assert path.read_bytes() == content
        assert answer["path"] == str(path)
    names = {file["name"] for file in page.client.get("/api/data").get_json()["files"]}
    assert "passwd.txt" in names
    assert not [path for path in (page.data_dir / "uploads").iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("name", "size"),
    [("x.exe", 5), ("x", 5), ("x.pkl", 5), ("x.txt", 0), ("x.txt", -1), ("x.txt", 1 << 60), ("x.txt", "5"), (5, 5)],
)
def test_other_kinds_and_sizes_are_refused(page: Any, name: Any, size: Any) -> None:
    assert page.client.post("/api/uploads", json={"name": name, "size": size}).status_code == 400


def test_chunks_must_follow_each_other_and_fit(page: Any) -> None:
    upload = page.client.post("/api/uploads", json={"name": "a.txt", "size": 10}).get_json()["upload"]
    address = f"/api/uploads/{upload}"

    def chunk(offset: Any, data: bytes, kind: str = "application/octet-stream") -> int:
        code: int = page.client.post(f"{address}?offset={offset}", data=data, content_type=kind).status_code
        return code

    assert chunk(3, b"abc") == 400
    assert chunk("x", b"abc") == 400
    assert chunk(0, b"abc", "text/plain") == 400
    assert chunk(0, b"abc") == 200
    assert chunk(3, b"too much for it") == 400
    assert chunk(3, b"defghij") == 400  # the upload was dropped
    assert page.client.post("/api/uploads/0000?offset=0", data=b"x").status_code == 400


def test_a_full_disk_is_said_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 300 << 20})
    monkeypatch.setattr("moe_hub.web.uploads.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DataError, match="make room"):
        Uploads(tmp_path).begin("a.txt", 200 << 20)


def test_uploads_at_once_are_limited_and_idle_ones_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = Uploads(tmp_path)
    first = uploads.begin("a.txt", 5)
    for _ in range(15):
        uploads.begin("a.txt", 5)
    with pytest.raises(DataError, match="under way"):
        uploads.begin("a.txt", 5)
    monkeypatch.setattr("moe_hub.web.uploads.IDLE_S", -1.0)
    uploads.begin("a.txt", 5)
    with pytest.raises(DataError, match="not known"):
        uploads.append(first, 0, b"x")


def test_abandoned_parts_go_after_a_day(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    old = tmp_path / f".upload-{'0' * 16}.part"
    old.write_bytes(b"x")
    os.utime(old, (1, 1))
    uploads.begin("a.txt", 5)
    assert not old.exists()


def test_preview_shows_rows_mapping_and_what_the_model_reads(page: Any) -> None:
    path = send(page, "rows.jsonl", ROWS.encode())["path"]
    found = page.client.post("/api/data/preview", json={"data": {"source": "file", "path": path}}).get_json()
    assert found["columns"] == ["question", "answer", "extra"]
    assert found["rows"][0] == ["1", "q0", "<i>0</i>", '{"n":0}']
    assert found["mapping"] == {"prompt": "question", "answer": "answer"}
    assert "q0" in found["texts"][0]
    body = {"source": "file", "path": path, "text_format": "text", "text_column": "answer"}
    other = page.client.post("/api/data/preview", json={"data": body}).get_json()
    assert other["mapping"] == {"text": "answer"}


@pytest.mark.parametrize("data", [None, [], "x", {"source": "file", "path": "/nowhere/at/all.jsonl"}])
def test_what_cannot_be_read_is_an_answer_for_people(page: Any, data: Any) -> None:
    answer = page.client.post("/api/data/preview", json={"data": data})
    assert answer.status_code in (200, 400)
    assert answer.get_json().get("unreadable") or answer.get_json().get("error")


def test_only_uploaded_files_can_be_deleted(page: Any) -> None:
    send(page, "rows.jsonl", ROWS.encode())
    secret = page.data_dir / "secret.txt"
    secret.write_text("keep")
    for name in ("../secret.txt", "/etc/passwd", "", "none.jsonl"):
        assert page.client.post("/api/data", json={"action": "delete", "name": name}).status_code == 400
    assert page.client.post("/api/data", json={"action": "delete", "name": "rows.jsonl"}).status_code == 200
    assert secret.read_text() == "keep"
    assert page.client.get("/api/data").get_json()["files"] == []


@pytest.mark.parametrize("keys", ["all", [], ["../x"], [5], ["a" * 31]])
def test_purge_takes_whole_keys_only(page: Any, keys: Any) -> None:
    assert page.client.post("/api/data", json={"action": "purge", "keys": keys}).status_code == 400
