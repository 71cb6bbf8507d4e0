"""The token cache: hit and miss with a reason, one writer, nothing half-written, purge."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from moe_hub.data import cache
from moe_hub.data.cache import entries, find, open_or_build, purge, sha256_of_file
from moe_hub.errors import DataError

PARTS = {"source": "file a.txt", "sha256": "0" * 64, "tokenizer": "bytes"}


def build(folder: Path) -> dict[str, int]:
    (folder / "ids.bin").write_bytes(b"12345")
    return {"rows": 5}


def never(folder: Path) -> dict[str, int]:
    raise AssertionError("a hit builds nothing")


def test_second_opening_is_a_hit(tmp_path: Path) -> None:
    first = open_or_build(tmp_path, PARTS, build)
    again = open_or_build(tmp_path, PARTS, never)
    assert (first.hit, first.reason) == (False, "not prepared before")
    assert (again.hit, again.entry.facts, again.entry.folder) == (True, {"rows": 5}, first.entry.folder)
    assert find(tmp_path, PARTS) is not None
    assert find(tmp_path, PARTS | {"tokenizer": "bpe"}) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sha256": "1" * 64}, "the content changed: sha256 000000000000 is now 111111111111"),
        ({"tokenizer": "bpe"}, "tokenizer changed from bytes to bpe"),
        ({"bad_rows": "skip"}, "bad_rows changed from None to skip"),
        ({"source": "file b.txt"}, "not prepared before"),
    ],
)
def test_miss_says_what_changed(change: dict[str, str], reason: str, tmp_path: Path) -> None:
    open_or_build(tmp_path, PARTS, build)
    found = open_or_build(tmp_path, PARTS | change, build)
    assert (found.hit, found.reason) == (False, reason)
    assert len(entries(tmp_path)) == 2


def test_another_version_of_the_code_misses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_or_build(tmp_path, PARTS, build)
    monkeypatch.setattr(cache, "CACHE_VERSION", 10_000)
    assert open_or_build(tmp_path, PARTS, build).reason == "prepared by another version of this program"


@pytest.mark.parametrize("damage", ["shorter", "missing", "entry", "no entry"])
def test_damaged_entry_is_made_again(damage: str, tmp_path: Path) -> None:
    folder = open_or_build(tmp_path, PARTS, build).entry.folder
    if damage == "shorter":
        (folder / "ids.bin").write_bytes(b"123")
    elif damage == "missing":
        (folder / "ids.bin").unlink()
    elif damage == "entry":
        (folder / "entry.json").write_bytes(b"{")
    else:
        (folder / "entry.json").unlink()
    assert entries(tmp_path) == []
    found = open_or_build(tmp_path, PARTS, build)
    assert not found.hit
    assert found.reason.startswith("the entry was damaged")
    assert (folder / "ids.bin").read_bytes() == b"12345"


def test_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fails(folder: Path) -> dict[str, int]:
        build(folder)
        raise DataError("row 3 is bad")

    with pytest.raises(DataError, match="row 3"):
        open_or_build(tmp_path, PARTS, fails)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


def _build_slowly(root: str, log: str) -> None:
    def slow(folder: Path) -> dict[str, int]:
        with Path(log).open("a") as file:
            file.write("built\n")
        time.sleep(0.3)
        return build(folder)

    found = open_or_build(Path(root), PARTS, slow)
    assert found.entry.facts == {"rows": 5}


def test_second_process_waits_and_reads(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_build_slowly, args=(str(tmp_path / "c"), str(tmp_path / "log"))) for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "log").read_text() == "built\n"


def _die_while_building(root: str) -> None:
    def dies(folder: Path) -> dict[str, int]:
        build(folder)
        os._exit(9)

    open_or_build(Path(root), PARTS, dies)


def test_killed_process_leaves_no_entry_and_no_lock(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die_while_building, args=(str(tmp_path),))
    process.start()
    process.join(20)
    assert process.exitcode == 9
    assert entries(tmp_path) == []
    assert open_or_build(tmp_path, PARTS, build).entry.facts == {"rows": 5}
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1, "the leftover is gone"


def test_purge_deletes_all_or_those_that_are_named(tmp_path: Path) -> None:
    one = open_or_build(tmp_path, PARTS, build).entry
    open_or_build(tmp_path, PARTS | {"tokenizer": "bpe"}, build)
    count, size = purge(tmp_path, {one.key[:6]})
    assert count == 1
    assert size > one.size == 5
    assert [entry.parts["tokenizer"] for entry in entries(tmp_path)] == ["bpe"]
    (tmp_path / ".0123.99999").mkdir()
    outside = tmp_path.parent / "outside"
    outside.mkdir(exist_ok=True)
    (tmp_path / "link").symlink_to(outside)
    assert purge(tmp_path)[0] == 1
    assert entries(tmp_path) == []
    assert outside.is_dir()
    assert not (tmp_path / ".0123.99999").exists()
    assert purge(tmp_path / "nowhere") == (0, 0)


def test_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="MOE_HUB_DATA"):
        open_or_build(tmp_path / "file" / "cache", PARTS, build)


def test_full_disk_is_explained(tmp_path: Path) -> None:
    def full(folder: Path) -> dict[str, int]:
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="cache purge"):
        open_or_build(tmp_path, PARTS, full)


def test_hash_of_a_file_is_remembered_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, root = tmp_path / "a.txt", tmp_path / "cache"
    path.write_text("one")
    assert not cache.is_remembered(path, root)
    first = sha256_of_file(path, root)
    assert not cache.is_remembered(path, root), "changed within the last clock ticks: it may change again"
    monkeypatch.setattr(cache, "RACY_NS", -1)
    assert sha256_of_file(path, root) == first
    assert cache.is_remembered(path, root)
    times = path.stat()
    time.sleep(0.02)
    path.write_text("two")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert sha256_of_file(path, root) != first, "same size and date, another content"
