"""Several processes train as one: losses, metrics, checkpoints on other numbers of processes, exact resume."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import moe_hub  # noqa: F401 (registers the model)
from moe_hub.architectures import ARCHITECTURES
from moe_hub.checkpoint import convert, restore
from moe_hub.config import load_config
from moe_hub.data.batch import Batch, Part, Whole
from moe_hub.errors import ConfigError, RunError
from moe_hub.models.attention import SAMPLE, Context
from moe_hub.train.optimization import build_optimizer
from moe_hub.train.parallel.group import own_sample
from moe_hub.train.parallel.launching import torchrun

pytestmark = [pytest.mark.training, pytest.mark.timeout(900)]

WORKER = Path(__file__).with_name("parallel_worker.py")
ARMS = [*ARCHITECTURES, "muon", "fvu", "legacy", "gram"]
TOLERANCE = 1e-5
MUON_TOLERANCE = 5e-5  # torch's Muon orthogonalises in bf16, whose rounding carries the last bits of a sum far


def start(processes: int, mode: str, folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(WORKER), mode, str(folder / f"{mode}{processes}.json"), str(folder)]
    if processes > 1:
        command[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MOE_HUB_DATA": str(folder / "data")}
    with (folder / f"{mode}{processes}.log").open("wb") as log:
        return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def result(process: subprocess.Popen[bytes], processes: int, mode: str, folder: Path) -> dict[str, Any]:
    assert process.wait(timeout=800) == 0, (folder / f"{mode}{processes}.log").read_text()[-4000:]
    found: dict[str, Any] = json.loads((folder / f"{mode}{processes}.json").read_bytes())
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, dict[str, Any]]:
    """What four, two and one processes found; each number of them is started once."""
    folder = tmp_path_factory.mktemp("parallel")
    alone = start(1, "compare", folder)
    four = result(start(4, "save", folder), 4, "save", folder)
    two = result(start(2, "compare", folder), 2, "compare", folder)
    return {"four": four, "two": two, "one": result(alone, 1, "compare", folder)["ddp"]}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("arm", ARMS)
def test_two_processes_have_the_loss_curve_of_one(found: Mapping[str, dict[str, Any]], strategy: str, arm: str) -> None:
    one, two = found["one"][arm], found["two"][strategy][arm]
    assert len(one["rows"]) == len(two["rows"]) == 20
    assert one["rows"][-1][0] < one["rows"][0][0] - 0.1  # it learns, so equal curves say something
    tolerance = MUON_TOLERANCE if arm == "muon" else TOLERANCE
    torch.testing.assert_close(torch.tensor(two["rows"]), torch.tensor(one["rows"]), rtol=0, atol=tolerance)
    assert two["tokens"] == one["tokens"]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("arm", ARMS)
def test_two_processes_have_the_metrics_of_one(found: Mapping[str, dict[str, Any]], strategy: str, arm: str) -> None:
    """Gradient norms, measures of experts, state machines of ghosts, held-out loss and matches."""
    one, two = found["one"][arm], found["two"][strategy][arm]
    for kind in ("logged", "held_out"):
        assert one[kind].keys() == two[kind].keys()
        for name, value in one[kind].items():
            # Utilization counts tokens on either side of a threshold.
            slack = 2 / SAMPLE if name == "expert/utilization" else 1e-3 if "perplexity" in name else 2e-4
            if arm == "muon":  # its bf16 rounding, see above, and some measures divide by small lengths
                slack = max(slack, 2e-3)
            elif name == "expert/cka":
                slack = 1e-5
            torch.testing.assert_close(torch.tensor(two[kind][name]), torch.tensor(value), rtol=0, atol=slack, msg=name)


def test_a_checkpoint_of_four_processes_has_the_same_logits_on_two_and_one(
    found: Mapping[str, dict[str, Any]], tmp_path: Path
) -> None:
    logits = found["four"]["logits"]
    assert found["two"]["logits"] == logits
    for folder in (found["four"]["folder"], found["two"]["folder"]):
        model = AutoModelForCausalLM.from_pretrained(folder).eval()
        with torch.no_grad():
            assert model(input_ids=torch.arange(12).view(2, 6)).logits.flatten().tolist() == logits
        blank = AutoModelForCausalLM.from_config(model.config)
        optimizer = build_optimizer(blank, load_config(path=Path(folder) / "run_config.yaml").train)
        assert restore(Path(folder), blank, optimizer).step == 6
        for name, weight in model.state_dict().items():
            assert torch.equal(blank.state_dict()[name], weight), name
        moments = {key for state in optimizer.state.values() for key in state}
        assert moments == {"exp_avg", "exp_avg_sq", "step", "momentum_buffer"}


def test_a_checkpoint_in_shards_is_converted(found: Mapping[str, dict[str, Any]]) -> None:
    folder = Path(found["two"]["folder"])
    model = AutoModelForCausalLM.from_pretrained(folder)
    config = load_config(path=folder / "run_config.yaml").train
    before, after = build_optimizer(model, config), build_optimizer(model, config)
    restore(folder, model, before)
    assert {file.suffix for file in (folder / "shards").iterdir()} == {".safetensors"}  # no pickle
    assert convert(folder)
    assert not (folder / "shards").exists()
    assert not convert(folder)
    restore(folder, model, after)
    for parameter in model.parameters():
        assert before.state[parameter].keys() == after.state[parameter].keys()
        for name, value in before.state[parameter].items():
            assert torch.equal(value, after.state[parameter][name])


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_checkpoint_of_one_strategy_loads_with_the_other(found: Mapping[str, dict[str, Any]], strategy: str) -> None:
    one, other = found["two"][f"{strategy} elsewhere"]
    assert one == other
    assert one != found["two"]["logits"]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_the_same_number_of_processes_goes_on_bit_for_bit(found: Mapping[str, dict[str, Any]], strategy: str) -> None:
    assert found["two"]["resumed"][strategy] is True


@pytest.mark.parametrize(("processes", "fills"), [(2, [5, 5, 3]), (3, [200, 199, 7, 64, 90]), (4, [6])])
def test_the_parts_sample_what_the_whole_batch_does(processes: int, fills: list[int]) -> None:
    width, rows = max(fills), len(fills)
    number_BT = torch.arange(rows * width).view(rows, width)
    documents_BT = (torch.arange(width) < torch.tensor(fills)[:, None]).long()
    wanted = number_BT.flatten()[Context(0, width, rows * width, documents_BT).sample(torch.device("cpu"))]
    sampled = []
    for index in range(processes):
        own = Part(index, processes).rows(rows)
        numbers_BT = number_BT[own.start : own.stop] if own else torch.full((1, width), -1)
        index_N = own_sample(Batch(numbers_BT, numbers_BT, numbers_BT, Whole(tuple(fills), own)))
        assert index_N is not None
        sampled.append(numbers_BT.flatten()[index_N])
    assert torch.equal(torch.cat(sampled), wanted)


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (("train.batch_size=1",), "train.batch_size = 1"),
        (("train.device=cuda:1",), "train.device = cuda:1"),
        (("train.compile=true",), "train.compile"),
        (
            ("model.architecture=ghost", "train.parallel.strategy=fsdp", "model.ghost.background_learning=true"),
            "strategy=ddp",
        ),
        (
            ("model.architecture=ghost", "train.parallel.strategy=fsdp", "model.ghost.initialization=clone"),
            "strategy=ddp",
        ),
    ],
)
def test_what_several_processes_cannot_train_is_refused(overrides: tuple[str, ...], named: str) -> None:
    load_config(overrides=overrides)  # one process can
    with pytest.raises(ConfigError, match=named):
        load_config(overrides=(*overrides, "train.parallel.processes=2"))


def test_the_command_is_torchruns() -> None:
    assert torchrun(3, ["--adopt", "x"])[1:] == [
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "-m", "moe_hub.train", "--adopt", "x",
    ]  # fmt: skip


def test_what_is_no_checkpoint_is_not_converted(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="take another checkpoint"):
        convert(tmp_path)
