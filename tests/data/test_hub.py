"""Hub datasets through the real `datasets.load_dataset`, against a server on the loopback that speaks the protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hub_server import COMMIT, HubServer

from moe_hub.config import load_config
from moe_hub.errors import ConfigError

pytestmark = pytest.mark.slow

ROWS = [{"question": f"What is {i} plus {i}?", "answer": str(2 * i)} for i in range(50)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
README = b"""---
configs:
- config_name: easy
  data_files:
  - split: train
    path: easy/train.jsonl
  - split: test
    path: easy/test.jsonl
- config_name: hard
  data_files: hard/train.jsonl
---
"""
FILES = {"README.md": README, "easy/train.jsonl": JSONL, "easy/test.jsonl": JSONL, "hard/train.jsonl": JSONL * 2}
BROKEN = {"train.jsonl": JSONL[:1990]}
CODE = """
import json, sys
from pathlib import Path
from moe_hub.config import load_config
from moe_hub.data.corpus import open_corpus
from moe_hub.errors import DataError
for overrides in json.loads(sys.argv[2]):
    try:
        print(json.dumps(open_corpus(load_config(overrides=overrides), cache_dir=Path(sys.argv[1])).facts))
    except DataError as error:
        print(json.dumps({"error": str(error)}))
"""


def ask(folder: Path, url: str, *runs: list[str], **environment: str) -> list[dict[str, Any]]:
    """Facts or error of each run, in one fresh process, which reads the environment as a training would."""
    clean = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    result = subprocess.run(
        [sys.executable, "-c", CODE, str(folder / "cache"), json.dumps([["data.source=hub", *run] for run in runs])],
        env=clean | {"HF_HOME": str(folder / "hf"), "HF_ENDPOINT": url, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in result.stderr, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_dataset_is_loaded_and_found_again_without_network(tmp_path: Path) -> None:
    easy = ["data.name=acme/questions", "data.config_name=easy", f"data.revision={COMMIT}"]
    with HubServer("acme/questions", FILES) as hub:
        loaded, hard, no_config, no_split, missing, here = ask(
            tmp_path,
            hub.url,
            easy,
            ["data.name=acme/questions", "data.config_name=hard"],
            ["data.name=acme/questions", "data.config_name=nope"],
            ["data.name=acme/questions", "data.config_name=easy", "data.split=nope"],
            ["data.name=acme/nothing"],
            ["data.name=json"],
        )
        url = hub.url
    assert (loaded.get("rows"), loaded.get("cache_hit")) == (50, False), loaded
    assert loaded["format"] == "question_answer: prompt from 'question', answer from 'answer'"
    assert (hard["rows"], hard["exact_duplicates"]) == (100, 50)
    assert "easy" in no_config["error"]
    assert "nope" in no_split["error"]
    assert "acme/nothing" in missing["error"]
    assert "not a Hub dataset" in here["error"]
    again, other = ask(tmp_path, url, easy, ["data.name=acme/other"])  # the server is gone
    assert (again["rows"], again["cache_hit"]) == (50, True)
    assert "cannot be reached" in other["error"]
    assert url in other["error"]


def test_broken_file_of_a_dataset_is_explained(tmp_path: Path) -> None:
    with HubServer("acme/broken", BROKEN) as hub:
        (found,) = ask(tmp_path, hub.url, ["data.name=acme/broken"])
    assert "JSON parse error" in found["error"]


@pytest.mark.parametrize(
    "name", ["../etc", "a/b/c", "owner/na me", "owner/..", "/etc/passwd", "https://x", "a--b", "-x/y"]
)
def test_names_are_validated(name: str) -> None:
    with pytest.raises(ConfigError, match="owner/name"):
        load_config(overrides=("data.source=hub", f"data.name={json.dumps(name)}"))


@pytest.mark.parametrize("field", ["revision", "config_name"])
def test_revision_and_config_are_plain_names(field: str) -> None:
    with pytest.raises(ConfigError, match="letters, digits"):
        load_config(overrides=("data.source=hub", "data.name=a/b", f"data.{field}=../../x"))
