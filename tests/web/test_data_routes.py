"""Uploads in chunks, preview, inspection and cache over HTTP."""

from __future__ import annotations

import json
import os
import resource
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from conftest import wait_for

from moe_hub.config import parse_overrides
from moe_hub.errors import DataError
from moe_hub.web.uploads import Uploads
from moe_hub.workbench.data_choice import data_arguments, data_config

pytestmark = pytest.mark.slow

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
    first = uploads.begin("a.txt", 5)["upload"]
    os.utime(tmp_path / f".upload-{first}.part", (time.time() - 60,) * 2)
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
    old = uploads.begin("a.txt", 5)["upload"]
    orphan = tmp_path / f".upload-{'0' * 16}.json"
    orphan.write_bytes(b"{}")
    for path in (orphan, tmp_path / f".upload-{old}.part"):
        os.utime(path, (1, 1))
    fresh = uploads.begin("a.txt", 5)["upload"]
    assert {path.name for path in tmp_path.iterdir()} == {f".upload-{fresh}.part", f".upload-{fresh}.json"}


def test_what_was_broken_off_goes_on_after_a_restart_and_ends_as_the_same_bytes(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40
    begun = Uploads(tmp_path).begin("a b.txt", len(content), 7)
    Uploads(tmp_path).append(begun["upload"], 0, content[:3000])
    uploads = Uploads(tmp_path)
    assert [each["received"] for each in uploads.unfinished()] == [3000]
    assert uploads.begin("a b.txt", len(content), 7) == {"upload": begun["upload"], "received": 3000}
    for name, size, modified in (("a b.txt", len(content), 8), ("a b.txt", 9, 7), ("c.txt", len(content), 7)):
        assert uploads.begin(name, size, modified)["received"] == 0, "another file"
    assert uploads.append(begun["upload"], 2000, content[2000:5000]) == {"received": 5000}, "an overlap is skipped"
    assert uploads.append(begun["upload"], 0, content[:100]) == {"received": 5000}, "an answer that was lost"
    with pytest.raises(DataError, match="not the file"):
        uploads.append(begun["upload"], 4999, b"\x00" * 10)
    last = uploads.append(begun["upload"], 5000, content[5000:])
    assert uploads.append(begun["upload"], 5000, content[5000:]) == last == uploads.state(begun["upload"])
    assert (tmp_path / "a_b.txt").read_bytes() == content
    assert not any(each["upload"] == begun["upload"] for each in uploads.unfinished())


def test_a_whole_part_that_was_not_named_yet_is_named(tmp_path: Path) -> None:
    begun = Uploads(tmp_path).begin("a.txt", 3, 7)["upload"]
    (tmp_path / f".upload-{begun}.part").write_bytes(b"abc")  # killed before the file got its name
    uploads = Uploads(tmp_path)
    assert uploads.begin("a.txt", 3, 7)["received"] == 3
    assert uploads.append(begun, 3, b"")["name"] == "a.txt"
    again = uploads.begin("b.txt", 3, 7)["upload"]
    (tmp_path / f".upload-{again}.part").write_bytes(b"abc")
    os.link(tmp_path / f".upload-{again}.part", tmp_path / "b.txt")  # killed just after it got its name
    assert Uploads(tmp_path).begin("b.txt", 3, 7)["received"] == 0
    assert not (tmp_path / f".upload-{again}.part").exists()
    assert (tmp_path / "b.txt").read_bytes() == b"abc"


def test_a_chunk_that_the_disk_does_not_take_leaves_the_upload_as_it_was(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    begun = uploads.begin("a.txt", 20)["upload"]
    uploads.append(begun, 0, b"0123456789")

    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12, limit[1]))  # a real write that ends after two bytes
    try:
        with pytest.raises(DataError, match="cannot be written"):
            uploads.append(begun, 10, b"abcdefghij")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert uploads.state(begun) == {"received": 10}
    uploads.append(begun, 10, b"abcdefghij")
    assert (tmp_path / "a.txt").read_bytes() == b"0123456789abcdefghij"


def test_an_upload_can_be_discarded(page: Any) -> None:
    upload = page.client.post("/api/uploads", json={"name": "a.txt", "size": 10}).get_json()["upload"]
    listed = page.client.get("/api/data").get_json()["unfinished"]
    assert [(each["upload"], each["name"], each["size"], each["received"]) for each in listed] == [
        (upload, "a.txt", 10, 0)
    ]
    assert page.client.get(f"/api/uploads/{upload}").get_json() == {"received": 0}
    for wrong in ("../../x", "0" * 16, ""):
        answer = page.client.post("/api/data", json={"action": "discard", "upload": wrong})
        assert answer.status_code == 400
    assert page.client.post("/api/data", json={"action": "discard", "upload": upload}).status_code == 200
    assert list((page.data_dir / "uploads").iterdir()) == []


def test_jobs_read_a_mixture_and_templates_as_they_were_set(page: Any) -> None:
    path = send(page, "rows.jsonl", ROWS.encode())["path"]
    data = {"source": "mixture", "mixture": f"1 lambda; 3 file:{path}", "num_train_samples": 60, "num_eval_samples": 9}
    found = page.client.post("/api/data/preview", json={"data": data, "max_seq_len": 300}).get_json()
    assert [row[:2] for row in found["rows"]] == [["25.0%", "lambda"], ["75.0%", path]]
    assert found["cached"] == "Training on this would be a miss: not prepared before."
    config = data_config({"source": "file", "path": path, "prompt_template": "Q: {question}\n\tA: "}, 300)
    command = data_arguments("prepare", config)
    assert parse_overrides(command[3::2]) == {
        "data": {"source": "file", "path": path, "prompt_template": "Q: {question}\n\tA: "},
        "model": {"max_seq_len": 300},
    }


def test_preparing_tells_its_progress_and_then_is_a_hit(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOE_HUB_DATA", str(page.data_dir))
    path = send(page, "rows.jsonl", ROWS.encode())["path"]
    body = {"data": {"source": "file", "path": path}}
    for hit, reason in ((False, "not prepared before"), (True, "content and options are unchanged")):
        job = page.client.post("/api/data/prepare", json=body).get_json()["job"]
        answer = wait_for(partial(ended, page, job), 60)
        events = [json.loads(line) for line in answer["text"].splitlines()]
        assert (events[-1]["prepared"]["hit"], events[-1]["prepared"]["reason"]) == (hit, reason)
        assert (
            bool([event for event in events if event.get("phase", "").startswith("Reading rows.jsonl, 0 rows")]) != hit
        )
    said = page.client.post("/api/data/preview", json=body).get_json()["cached"]
    assert said == "Training on this would be a hit: content and options are unchanged."
    other = {"data": {"source": "file", "path": path, "tokenizer": "characters"}}
    said = page.client.post("/api/data/preview", json=other).get_json()["cached"]
    assert said == "Training on this would be a miss: tokenizer changed from bytes to characters."


def ended(page: Any, job: str) -> Any:
    answer = page.client.get(f"/api/jobs/{job}").get_json()
    return answer if answer["state"] != "running" else None


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
