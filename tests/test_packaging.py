"""The package as people get it: a wheel that runs from any folder, declared dependencies, a Makefile that is quick."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from moe_hub import __version__
from moe_hub.config import preset_names

ROOT = Path(__file__).parent.parent
PACKAGED = ("moe_hub", "configs", "assets", "docs")
PACKAGED_FILES = ("setup.cfg", "setup.py", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "constraints.txt")
# Where the name that is imported is not the name of the distribution.
DISTRIBUTIONS = {"yaml": "pyyaml", "markdown_it": "markdown-it-py"}


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def requirements(text: str) -> dict[str, str]:
    """Distribution -> its bounds, of the lines of setup.cfg."""
    found = {}
    for line in text.strip().splitlines():
        name, bounds = re.fullmatch(r"([A-Za-z0-9_.-]+)(?:\[\w+\])?\s*(.*)", line.strip()).groups()  # type: ignore[union-attr]
        found[name.lower().replace("_", "-")] = bounds
    return found


def declared(*extras: str) -> dict[str, str]:
    parser = setup_cfg()
    found = requirements(parser["options"]["install_requires"])
    for extra in extras:
        found |= requirements(parser["options.extras_require"][extra])
    found.pop("moe-hub", None)
    return found


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower().replace("_", "-"): version for name, version in pairs}


# --- metadata


def test_no_setting_stands_in_two_files() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert set(pyproject) == {"build-system", "tool"}
    assert not {"setuptools"} & set(pyproject["tool"])
    assert set(setup_cfg().sections()) == {
        "metadata", "options", "options.extras_require", "options.entry_points", "options.packages.find",
        "options.package_data",
    }  # fmt: skip


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    pins = pinned()
    for name, bounds in declared("web", "test").items():
        assert name in pins, f"{name} is not in constraints.txt"
        if bounds:
            assert bounds.startswith(">=")
            least = [int(part) for part in bounds.removeprefix(">=").split(".")]
            assert [int(part) for part in re.findall(r"\d+", pins[name])[: len(least)]] >= least
    assert pins["torch"] == "2.13.0"


def third_party(folder: Path) -> dict[str, set[str]]:
    """Outside packages that the modules below a folder import, with the files."""
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"moe_hub"}:
                found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


def test_every_package_that_is_imported_is_declared() -> None:
    extras_of = {
        "moe_hub/web": ("web", "celery"),
        "moe_hub/figures": ("web",),
        "moe_hub/export": ("tensorboard", "wandb"),
        "moe_hub/harness": ("harness",),
        "moe_hub/sweeps": ("sweeps",),
        "moe_hub/terminal": ("terminal",),
    }
    for name, files in third_party(ROOT / "moe_hub").items():
        distribution = DISTRIBUTIONS.get(name, name).lower().replace("_", "-")
        for file in files:
            extras = next((each for folder, each in extras_of.items() if file.startswith(folder)), ())
            assert distribution in declared(*extras), f"{name}, imported by {file}, is not declared in setup.cfg"


def test_every_command_is_there() -> None:
    lines = setup_cfg()["options.entry_points"]["console_scripts"].strip().splitlines()
    commands = dict(re.split(r"\s*=\s*", line) for line in lines)
    assert {"moe-hub", "moe-hub-train", "moe-hub-web"} <= set(commands)
    for place in commands.values():
        module, _, function = place.partition(":")
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        functions = [
            node.name for node in ast.parse(Path(spec.origin).read_text()).body if isinstance(node, ast.FunctionDef)
        ]
        assert function in functions


def test_the_commands_of_the_hub_have_a_main() -> None:
    from moe_hub.__main__ import COMMANDS

    for name, (module, _) in COMMANDS.items():
        spec = importlib.util.find_spec(module)
        assert spec is not None, f"moe-hub {name}: {module} is not there"
        assert spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        assert any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body)


# --- the wheel


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what makes the package, so that nothing is built in the checkout."""
    folder = tmp_path_factory.mktemp("source")
    for name in PACKAGED:
        ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in PACKAGED_FILES:
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def installed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built offline and unpacked as an installer does it."""
    out = tmp_path_factory.mktemp("wheel")
    flags = ["--quiet", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *flags, str(source)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("*.whl")
    assert wheel.name == f"moe_hub-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out / "site")
    return out / "site"


def files_below(folder: Path) -> set[Path]:
    return {path.relative_to(folder) for path in folder.rglob("*") if path.is_file()}


needs_setuptools = pytest.mark.skipif(
    importlib.util.find_spec("setuptools") is None,
    reason="a wheel is built offline with the setuptools that is installed",
)


@pytest.mark.slow
@needs_setuptools
def test_the_wheel_holds_presets_assets_and_types(installed: Path) -> None:
    for name in ("configs", "assets"):
        assert files_below(installed / "moe_hub" / name) == files_below(ROOT / name)
    documents = {path for path in files_below(ROOT / "docs") if path.suffix in (".md", ".png", ".svg")}
    assert files_below(installed / "moe_hub" / "docs") == documents
    assert (installed / "moe_hub" / "py.typed").is_file()
    assert sorted(path.name for path in installed.iterdir()) == ["moe_hub", f"moe_hub-{__version__}.dist-info"]
    assert (installed / f"moe_hub-{__version__}.dist-info" / "licenses" / "LICENSE").is_file()


@pytest.mark.slow
@needs_setuptools
def test_the_wheel_runs_from_any_folder(installed: Path, tmp_path: Path) -> None:
    code = (
        "import moe_hub, moe_hub.config as c, moe_hub.web.app as w;"
        "print(moe_hub.__file__); print(c.preset_folder()); print(w.assets_folder()); print(*c.preset_names())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:3] == [str(installed / "moe_hub" / name) for name in ("__init__.py", "configs", "assets")]
    assert lines[3].split() == preset_names()


@pytest.mark.slow
@needs_setuptools
def test_a_run_is_launched_by_the_installed_wheel(installed: Path, tmp_path: Path) -> None:
    """The starter finds the package that launched it, not another one."""
    code = (
        "import sys, time; from pathlib import Path; from moe_hub import launch; from moe_hub.config import Config;"
        "from moe_hub.runs.store import RunStore\n"
        "run = RunStore(Path('runs')).create(Config())\n"
        "launch.start(run.path, command=[sys.executable, '-c', 'import moe_hub; print(moe_hub.__file__)'])\n"
        "while not run.log_tail(): time.sleep(0.01)\n"
        "print(run.log_tail(), end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=60,
        env={**os.environ, "PYTHONPATH": str(installed)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(installed / "moe_hub" / "__init__.py")


@pytest.mark.slow
@needs_setuptools
def test_the_source_archive_holds_what_a_wheel_is_built_from(source: Path, tmp_path: Path) -> None:
    code = "import setuptools.build_meta as b, sys; print(b.build_sdist(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, cwd=source
    )
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    shutil.unpack_archive(archive, tmp_path)
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    for name in ("configs", "assets", "moe_hub"):
        assert files_below(source / name) <= files_below(folder / name)
    assert (folder / "constraints.txt").is_file()


# --- the Makefile


def make(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS", "ARGS"))}
    return subprocess.run(["make", *words], capture_output=True, text=True, check=False, cwd=cwd, env=environment)


def stamped(tmp_path: Path) -> str:
    """A VENV in which everything was installed a moment ago."""
    for name in (".made", ".web-installed", ".test-installed"):
        (tmp_path / name).touch()
    return f"VENV={tmp_path}"


def test_make_alone_explains_every_target() -> None:
    done = make()
    assert (done.returncode, done.stderr) == (0, "")
    shown = {line.split()[0] for line in done.stdout.splitlines()}
    assert {"setup", "train", "web", "test", "check", "fix", "bench", "clean"} <= shown


def test_make_does_nothing_where_nothing_changed(tmp_path: Path) -> None:
    done = make("-n", "setup", stamped(tmp_path))
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout


def test_make_train_passes_preset_and_flags_on(tmp_path: Path) -> None:
    done = make(
        "-n", "train", "PRESET=basic_comparison", "ARGS=--set train.max_steps=50 --set name=x", stamped(tmp_path)
    )
    assert done.stdout.strip() == (
        f"{tmp_path}/bin/python -m moe_hub.train --preset basic_comparison --set train.max_steps=50 --set name=x"
    )


def test_a_fresh_clone_installs_quietly_with_the_tested_versions(tmp_path: Path) -> None:
    done = make("-n", "train", f"VENV={tmp_path / 'new'}", "PYTHON=python3.99")
    lines = done.stdout.splitlines()
    assert any("python3.99 -m venv" in line for line in lines)
    installs = [line for line in lines if "pip install" in line]
    assert installs
    assert all("--quiet" in line and "--constraint constraints.txt" in line for line in installs)
    assert lines[-1].split()[-2:] == ["--preset", "geometric_lambda"]


def test_a_python_that_is_too_old_or_not_there_is_said(tmp_path: Path) -> None:
    old = tmp_path / "python-old"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    for python in (str(old), "no-such-python"):
        done = make("setup", f"VENV={tmp_path / 'new'}", f"PYTHON={python}")
        assert done.returncode != 0
        assert f"MoE Hub needs Python 3.11 or newer, which {python} is not" in done.stderr


def test_the_check_of_a_change_runs_check_and_test() -> None:
    text = (ROOT / ".ci" / "run").read_text()
    assert "make check" in text
    assert "make test" in text
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_this_very_package_is_the_one_that_is_installed() -> None:
    try:
        assert importlib.metadata.version("moe-hub") == __version__
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package is not installed here")
