"""The folder of runs: ids made here, nothing reached outside of it, nothing lost by a click."""

from __future__ import annotations

import os
import re
import resource
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from moe_hub.config import Config, load_config
from moe_hub.errors import ConfigError, RunError
from moe_hub.runs import store as store_module
from moe_hub.runs.status import Status, process_identity, write_status
from moe_hub.runs.store import CONFIG_FILE, LOG_FILE, RunDirectory, RunStore, new_run_id

OUTSIDE = [
    "..", ".", "", "/", "/etc", "../other", "a/../..", "a/b", "a\\b", "..\\x", "%2e%2e", "..%2f", "~", "~root", "$HOME",
    "a\0b", "a\nb", "run\n", " run", "run ", "-rf", ".trash", ".hidden", "a..b", "…", "x" * 129, "con:", "*", "?",
    "[a]", "ｒｕｎ", "a;b", "a|b", "`id`", "$(id)", "'", '"', "<b>",
]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "runs")


def made(store: RunStore, name: str = "run", state: str = "finished") -> RunDirectory:
    return store.create(Config(name=name), state)


# --- making


def test_a_new_run_has_everything_a_reader_looks_for(store: RunStore) -> None:
    config = load_config("basic_comparison")
    run = store.create(config)
    assert {path.name for path in run.path.iterdir()} == {
        "config.yaml", "status.json", "log.txt", "control", "checkpoints",
    }  # fmt: skip
    assert run.config() == config
    assert run.state() == "starting"
    status = run.status()
    assert status is not None
    assert status.max_steps == config.train.max_steps
    assert (run.log_tail(), run.checkpoints(), run.notes()) == ("", [], {})


def test_ids_are_time_name_and_suffix() -> None:
    assert re.fullmatch(r"\d{8}-\d{6}-geometric-lambda-[0-9a-f]{4}", new_run_id("geometric_lambda"))
    assert re.fullmatch(r"\d{8}-\d{6}-run-[0-9a-f]{4}", new_run_id("___"))
    assert re.fullmatch(r"\d{8}-\d{6}-etc-passwd-[0-9a-f]{4}", new_run_id("../../etc/passwd"))
    assert len(new_run_id("x" * 1000)) <= 61


def test_an_id_is_never_given_twice(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter(["same", "same", "same", "same", "other"])
    monkeypatch.setattr(store_module, "new_run_id", lambda name: next(ids))
    first = made(store)
    store.delete(first.run_id)
    assert made(store).run_id == "other"  # `same` lies in the trash


def test_many_runs_at_once_get_their_own_folders(store: RunStore) -> None:
    threads = [threading.Thread(target=lambda: [made(store) for _ in range(5)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.list()) == 20


def test_a_full_disk_leaves_no_half_run(store: RunStore) -> None:
    store.runs_dir.mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
    try:
        with pytest.raises(RunError, match=r"a run cannot be made there: File too large; make room"):
            made(store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(store.runs_dir.iterdir()) == []


def test_a_runs_folder_that_cannot_be_made_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="a run cannot be made there"):
        made(RunStore(tmp_path / "file" / "runs"))


# --- finding


@pytest.mark.parametrize("text", OUTSIDE)
def test_what_is_no_run_id_is_refused(store: RunStore, text: str) -> None:
    made(store)
    (store.runs_dir.parent / "other").mkdir()
    (store.runs_dir.parent / "other" / CONFIG_FILE).touch()
    with pytest.raises(RunError, match=r"is no run id|is not in"):
        store.open(text)
    for action in (store.delete, store.undelete, lambda run_id: store.rename(run_id, "x"), lambda i: store.tag(i, [])):
        with pytest.raises(RunError):
            action(text)


def test_a_link_is_no_run(store: RunStore, tmp_path: Path) -> None:
    run = made(store)
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(run.path, elsewhere)
    (store.runs_dir / "link").symlink_to(elsewhere)
    (store.runs_dir / "inner").symlink_to(run.path)
    for name in ("link", "inner"):
        with pytest.raises(RunError, match="is not in"):
            store.open(name)
    assert [summary.run_id for summary in store.list()] == [run.run_id]
    with pytest.raises(RunError):
        store.delete("link")
    assert elsewhere.is_dir()


def test_the_runs_folder_itself_may_be_a_link(store: RunStore, tmp_path: Path) -> None:
    run = made(store)
    (tmp_path / "link").symlink_to(store.runs_dir)
    assert RunStore(tmp_path / "link").open(run.run_id).config() == run.config()


def test_links_inside_a_run_lead_nowhere(store: RunStore, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key.txt").write_text("secret")
    (secret / "step_00000001").mkdir()
    run = made(store)
    (run.path / LOG_FILE).unlink()
    (run.path / LOG_FILE).symlink_to(secret / "key.txt")
    (run.path / "checkpoints" / "step_00000002").symlink_to(secret / "step_00000001")
    assert run.log_tail() == ""
    assert run.checkpoints() == []
    shutil.rmtree(run.path / "checkpoints")
    (run.path / "checkpoints").symlink_to(secret)
    assert run.checkpoints() == []
    with pytest.raises(RunError, match="no path inside the run"):
        run.inside("checkpoints", "step_00000001")
    (run.path / CONFIG_FILE).unlink()
    (run.path / CONFIG_FILE).symlink_to(secret / "key.txt")
    with pytest.raises(RunError):
        store.open(run.run_id)
    with pytest.raises(RunError, match="cannot be read"):
        run.config_values()


@pytest.mark.parametrize(
    "parts", [("..",), ("a", "..", "..", "x"), ("/etc/passwd",), ("a", "/etc"), ("a\0b",), ("x" * 300, "..")]
)
def test_paths_out_of_a_run_are_refused(store: RunStore, parts: tuple[str, ...]) -> None:
    with pytest.raises(RunError, match="no path inside the run"):
        made(store).inside(*parts)


def test_paths_inside_a_run_need_not_exist(store: RunStore) -> None:
    run = made(store)
    assert run.inside("checkpoints", "step_00000001") == run.path / "checkpoints" / "step_00000001"
    assert run.inside("log.txt").is_file()


def test_find_takes_a_beginning_a_part_or_latest(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter(["20260101-000000-alpha-aaaa", "20260102-000000-beta-bbbb", "20260102-000001-beta-cccc"])
    monkeypatch.setattr(store_module, "new_run_id", lambda name: next(ids))
    runs = [made(store) for _ in range(3)]
    assert store.find("latest") == runs[2]
    assert store.find(runs[1].run_id) == runs[1]
    assert store.find("20260101") == runs[0]
    assert store.find("alpha") == runs[0]
    assert store.find("bbbb") == runs[1]
    with pytest.raises(RunError, match=r"run 'beta' fits 2 runs: 20260102-000001-beta-cccc, .*; give more of the id"):
        store.find("beta")
    with pytest.raises(RunError, match="is not in"):
        store.find("gamma")
    for text in ("", "..", "/"):
        with pytest.raises(RunError):
            store.find(text)


def test_latest_passes_over_what_is_no_run_and_says_when_there_is_none(store: RunStore) -> None:
    with pytest.raises(RunError, match="there is no run in"):
        store.find("latest")
    run = made(store)
    (store.runs_dir / "zzz").mkdir()
    assert store.find("latest") == run


# --- reading


def test_a_list_shows_what_the_files_say_newest_first(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter(["20260101-000000-a-aaaa", "20260102-030405-b-bbbb"])
    monkeypatch.setattr(store_module, "new_run_id", lambda name: next(ids))
    first = store.create(load_config("basic_comparison"), "queued")
    second = made(store, "second")
    write_status(second.path, Status(state="running", step=5, max_steps=9, metrics={"train/loss": 0.5}))
    store.rename(first.run_id, "  my \n label ")
    store.tag(first.run_id, ["b", " a ", "b", ""])
    newest, oldest = store.list()
    assert (newest.run_id, newest.name, newest.state, newest.step, newest.max_steps) == (
        second.run_id, "second", "interrupted", 5, 9,
    )  # fmt: skip
    assert newest.metrics == {"train/loss": 0.5}
    assert newest.created == 1767323045.0
    assert (oldest.label, oldest.tags, oldest.state, oldest.architecture) == ("my label", ("a", "b"), "queued", "hgnn")


def test_broken_runs_do_not_break_the_list(store: RunStore) -> None:
    good, broken, empty, gone = made(store), made(store), made(store), made(store)
    (broken.path / CONFIG_FILE).write_text("model: {")
    (empty.path / CONFIG_FILE).write_text("- 1\n")
    (gone.path / "status.json").unlink()
    (store.runs_dir / "notes.txt").touch()
    (store.runs_dir / "folder").mkdir()
    os.mkfifo(good.path / "notes.json")
    states = {summary.run_id: summary.state for summary in store.list()}
    assert states == {good.run_id: "finished", gone.run_id: "interrupted"}
    with pytest.raises(RunError, match=r"config.yaml cannot be read: "):
        broken.config()
    with pytest.raises(RunError, match="holds no mapping"):
        empty.config()


def test_no_runs_folder_is_an_empty_list(tmp_path: Path) -> None:
    assert RunStore(tmp_path / "none").list() == []


def test_the_config_of_a_newer_version_is_refused_and_not_guessed(store: RunStore) -> None:
    run = made(store)
    text = (run.path / CONFIG_FILE).read_text()
    (run.path / CONFIG_FILE).write_text(text.replace("schema_version: 1", "schema_version: 9"))
    with pytest.raises(ConfigError, match="newer MoE Hub"):
        run.config()


def test_the_end_of_a_long_log_is_read_alone(store: RunStore) -> None:
    run = made(store)
    (run.path / LOG_FILE).write_bytes(b"x" * 1_000_000 + "é\nlast line\n".encode())
    assert run.log_tail(12).endswith("\nlast line\n")
    assert len(run.log_tail(12)) <= 12


def test_only_whole_checkpoints_are_listed_in_order_of_their_steps(store: RunStore) -> None:
    run = made(store)
    for name in ("step_00000200", "step_00000050", ".step_00000300.tmp", "step_5", "best", "step_00000400x"):
        (run.path / "checkpoints" / name).mkdir()
    (run.path / "checkpoints" / "step_00000999").touch()
    assert [path.name for path in run.checkpoints()] == ["step_00000050", "step_00000200"]


def test_many_runs_are_listed_quickly(store: RunStore, cpu_s: Callable[..., float]) -> None:
    run = made(store, "first")
    files = {name: (run.path / name).read_bytes() for name in (CONFIG_FILE, "status.json")}
    for index in range(249):
        folder = store.runs_dir / f"20260101-000000-copy-{index:04d}"
        folder.mkdir()
        for name, content in files.items():
            (folder / name).write_bytes(content)
    assert cpu_s(lambda: RunStore(store.runs_dir).list(), repeats=2) < 1.0
    assert len(store.list()) == 250
    assert cpu_s(store.list) < 0.15  # the configs are read once


# --- notes, trash, lock


def test_label_and_tags_set_at_once_both_stay(store: RunStore) -> None:
    run = made(store)
    threads = [
        threading.Thread(target=lambda: [store.rename(run.run_id, "label") for _ in range(10)]),
        threading.Thread(target=lambda: [store.tag(run.run_id, ["tag"]) for _ in range(10)]),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert run.notes() == {"label": "label", "tags": ["tag"]}


def test_a_label_does_not_change_the_id_and_is_bounded(store: RunStore) -> None:
    run = made(store)
    store.rename(run.run_id, "x" * 10_000)
    store.tag(run.run_id, [f"tag {index}" * 100 for index in range(1000)])
    (summary,) = store.list()
    assert summary.run_id == run.run_id
    assert len(summary.label) == 200
    assert len(summary.tags) == 32
    assert all(len(tag) <= 200 for tag in summary.tags)


def test_delete_moves_to_the_trash_and_undelete_brings_all_back(store: RunStore) -> None:
    run = made(store)
    (run.path / "metrics.jsonl").write_text("{}\n")
    store.delete(run.run_id)
    assert store.list() == []
    assert [summary.run_id for summary in store.trash().list()] == [run.run_id]
    with pytest.raises(RunError, match="is not in"):
        store.open(run.run_id)
    back = store.undelete(run.run_id)
    assert back.path == run.path
    assert (back.path / "metrics.jsonl").read_text() == "{}\n"
    with pytest.raises(RunError):
        store.undelete(run.run_id)


@pytest.mark.parametrize("state", ["starting", "running", "paused", "stopping"])
def test_a_run_whose_process_lives_is_not_deleted(store: RunStore, state: str) -> None:
    run = made(store)
    write_status(run.path, Status(state=state, heartbeat=time.time(), **process_identity()))
    with pytest.raises(RunError, match=f"is {state}; stop it before it is deleted"):
        store.delete(run.run_id)
    assert run.path.is_dir()


def test_a_queued_run_leaves_the_queue_before_it_is_deleted(store: RunStore) -> None:
    run = made(store, state="queued")
    with pytest.raises(RunError, match="is queued; take it out of the queue before it is deleted"):
        store.delete(run.run_id)


def test_an_interrupted_run_is_deleted_unless_a_process_holds_it(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moe_hub.runs.store.BRIEFLY_S", 0.0)
    run = made(store)
    write_status(run.path, Status(state="running"))
    with run.lock(), pytest.raises(RunError, match="is held by another process"):
        store.delete(run.run_id)
    store.delete(run.run_id)
    assert store.list() == []


def test_one_process_at_a_time_holds_a_run(store: RunStore) -> None:
    run = made(store)
    with run.lock():
        with pytest.raises(RunError, match="is held by another process"), run.lock():
            pass
        with pytest.raises(RunError, match="is held by another process"), RunDirectory(run.path).lock():
            pass
    with run.lock():
        pass


def test_the_lock_of_a_run_that_is_gone_is_a_run_error(store: RunStore) -> None:
    run = made(store)
    shutil.rmtree(run.path)
    with pytest.raises(RunError, match="is not in"), run.lock():
        pass
    assert not run.path.exists()
