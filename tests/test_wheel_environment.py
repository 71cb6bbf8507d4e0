"""A fresh virtual environment with the wheel: train and web from an empty folder by the installed commands."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
import venv
from pathlib import Path

import pytest

from moe_hub.runs.store import RunStore

ROOT = Path(__file__).parent.parent
PARTS = ("moe_hub", "configs", "assets", "docs")
FILES = ("setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "constraints.txt")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.training,
    pytest.mark.skipif(importlib.util.find_spec("setuptools") is None, reason="the wheel is built without a network"),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its bin folder. Of what the tests run with, it sees the dependencies alone: the package comes from the wheel."""
    folder = tmp_path_factory.mktemp("fresh")
    source = folder / "source"
    for name in PARTS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip"]
    flags = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(folder)]
    subprocess.run([*pip, "wheel", *flags, str(source)], check=True, capture_output=True, timeout=300)
    shutil.rmtree(source)
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("*.whl")
    install = ["--python", str(python), "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run([*pip, *install], check=True, capture_output=True, timeout=300)
    (packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin"


def clean(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MOE_HUB"))}
    return {**kept, "OMP_NUM_THREADS": "1", **more}


def test_the_package_is_that_of_the_wheel(environment: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [environment / "python", "-c", "import moe_hub; print(moe_hub.__file__)"],
        cwd=tmp_path, env=clean(), capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.startswith(str(environment.parent))


@pytest.mark.timeout(900)
def test_train_from_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    command = [str(environment / "moe-hub"), "train", "--preset", "geometric_lambda", "--set", "train.max_steps=5"]
    done = subprocess.run(command, cwd=tmp_path, env=clean(), capture_output=True, text=True, timeout=880, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    run = RunStore(tmp_path / "runs").find("latest")
    assert run.state() == "finished"
    assert run.checkpoints()


@pytest.mark.timeout(200)
def test_web_from_an_empty_folder(environment: Path, tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [environment / "moe-hub", "web", "--port", str(port)],
        cwd=tmp_path,
        env=clean(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert f"http://127.0.0.1:{port}/" in process.stdout.readline()
        deadline = time.monotonic() + 60
        page = ""
        while time.monotonic() < deadline and not page:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
                page = answer.read().decode()
        script = page.split("assets/core.js")[1].split('"')[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/assets/core.js{script}", timeout=60) as answer:
            assert b"moeHub" in answer.read()
    finally:
        process.send_signal(signal.SIGTERM)  # a shell's background jobs ignore SIGINT
        process.wait(60)
    assert process.returncode == 0
