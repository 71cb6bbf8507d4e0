"""What an import brings with it: nobody pays for a library that he does not use, nor needs it installed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from moe_hub import registration

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
WEB = {"dash", "plotly", "flask", "diskcache", "dash_bootstrap_components", "waitress"}
TORCH = {"torch", "transformers", "datasets"}
WALK = """
import importlib, json, pkgutil, sys, time
def modules(name):
    found = importlib.import_module(name)
    yield name
    for each in pkgutil.walk_packages(getattr(found, "__path__", []), f"{name}."):
        yield each.name
names = [module for name in sys.argv[1].split() for module in modules(name)]
begin = time.process_time()
for name in names:
    importlib.import_module(name)
loaded = {name.partition(".")[0] for name in sys.modules}
print(json.dumps({"names": names, "loaded": sorted(loaded), "seconds": time.process_time() - begin}))
"""


def imported(*names: str, before: str = "") -> dict[str, object]:
    """What a fresh interpreter has loaded after it imported these modules and all below them."""
    done = subprocess.run(
        [sys.executable, "-c", before + WALK, " ".join(names)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def loaded(*names: str) -> set[str]:
    return set(imported(*names)["loaded"])  # type: ignore[call-overload]


def test_the_package_alone_brings_nothing_and_costs_nothing() -> None:
    code = (
        "import sys, time; t = time.process_time(); import moe_hub; print(time.process_time() - t); print(*sys.modules)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for _ in range(3)
    ]
    assert min(float(run.splitlines()[0]) for run in runs) < 0.1
    assert not (WEB | TORCH | {"numpy", "pydantic", "yaml", "psutil"}) & set(runs[0].split())


def test_run_store_launcher_terminal_and_config_need_neither_torch_nor_web() -> None:
    found = loaded(
        "moe_hub.config", "moe_hub.architectures", "moe_hub.runs", "moe_hub.launch", "moe_hub.starter",
        "moe_hub.terminal", "moe_hub.__main__", "moe_hub.data.facts",
    )  # fmt: skip
    assert not (WEB | TORCH | {"pandas"}) & found


def test_the_starter_of_a_trainer_begins_with_few_imports() -> None:
    found = loaded("moe_hub.starter")
    assert not (WEB | TORCH | {"numpy", "pydantic", "yaml", "filelock"}) & found


def test_the_lambda_calculus_needs_the_standard_library_alone() -> None:
    found = loaded("moe_hub.lambda_calculus") - loaded("moe_hub.errors")  # without what every interpreter here loads
    assert not found - set(sys.stdlib_module_names)


def test_figures_know_neither_dash_nor_torch() -> None:
    assert not ({"dash", "flask", "diskcache"} | TORCH) & loaded("moe_hub.figures")


def test_the_page_needs_no_torch() -> None:
    assert not TORCH & loaded("moe_hub.web")


BLOCK_WEB = f"""
import importlib.abc, sys
class NotInstalled(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in {sorted(WEB)!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (kept away by this test)", name=name)
sys.meta_path.insert(0, NotInstalled())
"""


@pytest.mark.training
def test_the_trainer_side_imports_and_trains_where_no_web_package_is_installed(tmp_path: Path) -> None:
    names = [
        "train",
        "models",
        "data",
        "checkpoint",
        "inference",
        "evaluate",
        "generate",
        "experiments",
        "terminal",
        "launch",
    ]
    imported(*(f"moe_hub.{name}" for name in names), before=BLOCK_WEB)
    code = BLOCK_WEB + "from moe_hub.__main__ import main\nsys.exit(main(sys.argv[1:]))"
    flags = ["--set", "train.max_steps=2", "--set", "data.num_train_samples=200", "--set", "data.num_eval_samples=50"]
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "--preset", "basic_comparison", "--runs-dir", str(tmp_path), *flags],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "finished at step 2" in done.stdout


# --- registration with transformers


@pytest.fixture
def auto(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Two modules in the place of transformers' and ours; importing ours looks at theirs."""
    theirs, ours = "registration_test_theirs", "registration_test_ours"
    (tmp_path / f"{theirs}.py").write_text("READY = True\nREGISTERED = []\n")
    (tmp_path / f"{ours}.py").write_text(f"import {theirs}\nassert {theirs}.READY\n{theirs}.REGISTERED.append(1)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registration, "REGISTERED_BY", {theirs: ours})
    others = [finder for finder in sys.meta_path if type(finder).__module__ != registration.__name__]
    monkeypatch.setattr(sys, "meta_path", others)
    yield tmp_path
    for name in (theirs, ours):
        sys.modules.pop(name, None)


def test_ours_follows_theirs_when_that_is_imported_later(auto: Path) -> None:
    registration.install()
    registration.install()
    assert "registration_test_ours" not in sys.modules
    import registration_test_theirs as theirs

    assert theirs.REGISTERED == [1]


def test_ours_follows_at_once_where_theirs_is_loaded(auto: Path) -> None:
    import registration_test_theirs as theirs

    assert theirs.REGISTERED == []
    registration.install()
    registration.install()
    assert theirs.REGISTERED == [1]


def test_ours_imported_first_registers_once(auto: Path) -> None:
    registration.install()
    import registration_test_ours  # noqa: F401
    import registration_test_theirs as theirs

    assert theirs.REGISTERED == [1]


def test_an_error_in_ours_is_seen_with_its_traceback(auto: Path) -> None:
    (auto / "registration_test_ours.py").write_text("raise ImportError('ours is broken')\n")
    registration.install()
    with pytest.raises(ImportError, match="ours is broken"):
        import registration_test_theirs  # noqa: F401


ORDERS = {
    "moe_hub first": "import moe_hub\nassert 'torch' not in sys.modules\nimport transformers",
    "transformers first": "from transformers import AutoModelForCausalLM\nimport moe_hub, transformers",
}


@pytest.mark.training
@pytest.mark.parametrize("order", ORDERS)
def test_transformers_knows_the_model_in_either_order(order: str, tmp_path: Path) -> None:
    code = f"import sys\n{ORDERS[order]}\n" + (
        "config = transformers.AutoConfig.for_model('moe_hub', vocab_size=11)\n"
        "model = transformers.AutoModelForCausalLM.from_config(config)\n"
        "model.save_pretrained(sys.argv[1])\n"
        "again = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])\n"
        "print(type(again).__module__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "moe_hub.models.language_model"
