"""A training state on disk and back: weights, optimizer moments, random state, data position. No pickle.

    checkpoints/step_00000200/
        model.safetensors, config.json, generation_config.json, tokenizer files   what transformers loads
        run_config.yaml                                                           the run's config
        optimizer.safetensors                                                     moments, and random states
        trainer_state.json                                                        counters, schedules, controllers
        shards/                                                                   FSDP: weights and moments in shards

What transformers loads is there also after a training in shards; the moments are then in `shards/` alone, until
`python -m moe_hub.checkpoint convert` brings them into optimizer.safetensors. Each loads on any number of processes.
A checkpoint is written under another name, flushed to the disk and renamed, so a folder with its final name is whole.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from moe_hub.checkpoint.shards import FOLDER as SHARDS
from moe_hub.checkpoint.shards import in_shards, like, load_shards, save_shards, shapes, whole_weights
from moe_hub.config import Config, to_yaml
from moe_hub.errors import RunError
from moe_hub.ranks import ALONE, Ranks

WEIGHTS = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
STATE = "trainer_state.json"
RUN_CONFIG = "run_config.yaml"
_RANDOM = "random/"
_SPARE_BYTES = 16 << 20  # room for what else a run writes


class SavesItself(Protocol):
    """A tokenizer, as far as a checkpoint is concerned."""

    def save(self, folder: Path) -> None: ...


class Model(Protocol):
    """A transformers model, as far as a checkpoint is concerned."""

    def save_pretrained(self, folder: Path) -> None: ...


@dataclass
class TrainerState:
    """Where a training stands. `step` optimizer steps are done, which also is the position in the data.

    `active_s` are seconds of training without pauses, `cpu_s` the CPU seconds of all threads in them; `window` holds
    the sums that the next metric row will show, and `row_*` where the last one was written; `schedules` is the state
    of what is neither weight nor optimizer.
    """

    step: int = 0
    tokens: int = 0
    active_s: float = 0.0
    cpu_s: float = 0.0
    row_step: int = 0
    row_tokens: int = 0
    row_active_s: float = 0.0
    best_loss: float | None = None
    best_step: int | None = None
    window: dict[str, float] = field(default_factory=dict)
    schedules: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)


def folder_name(step: int) -> str:
    """Name of the checkpoint of a step: step_00000200."""
    return f"step_{step:08d}"


def step_of(folder: Path) -> int:
    """The step that a checkpoint's name tells."""
    return int(folder.name.removeprefix("step_"))


def save_checkpoint(
    root: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    tokenizer: SavesItself,
    config: Config,
    state: TrainerState,
    ranks: Ranks = ALONE,
) -> Path:
    """Writes the checkpoint of `state.step` under `root` in one step; raises `OSError` (a full disk, say).

    A checkpoint of the same step is replaced. Several processes call it together, and rank 0 gives the checkpoint its
    name when all have written.
    """
    require_room(root, model, optimizer, ranks)
    temporary = ranks.on_main(lambda: root / f".{folder_name(state.step)}.{secrets.token_hex(4)}.tmp")
    sharded = in_shards(model)
    moments = _moments(model, optimizer)
    random = _random_states(ranks)
    weights = {"state_dict": whole_weights(model)} if sharded else {}

    def write() -> None:
        temporary.mkdir(parents=True)
        model.save_pretrained(temporary, **weights)  # type: ignore[operator]
        tokenizer.save(temporary)
        (temporary / RUN_CONFIG).write_text(to_yaml(config), encoding="utf-8")
        save_file(random if sharded else {**moments, **random}, temporary / OPTIMIZER)
        (temporary / STATE).write_bytes(orjson.dumps(asdict(state), option=orjson.OPT_INDENT_2))

    try:
        ranks.on_main(write)
        if sharded:
            save_shards(temporary / SHARDS, {**model.state_dict(), **moments})
        return ranks.on_main(lambda: _commit(temporary, root / folder_name(state.step)))
    except BaseException:
        if ranks.main:
            shutil.rmtree(temporary, ignore_errors=True)
        raise


def read_state(folder: Path) -> TrainerState:
    """The counters of a checkpoint; raises `RunError`."""
    try:
        values = orjson.loads((folder / STATE).read_bytes())
        return TrainerState(**values)
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"checkpoint {folder} has no usable {STATE}: {error}; take another checkpoint") from None


def restore(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks = ALONE) -> TrainerState:
    """Loads weights, moments and random states in place and returns the counters; raises `RunError`.

    The model and the optimizer must have been made from the checkpoint's config. The number of processes, and whether
    their parameters stand in shards, may be another than when it was written.
    """
    state = read_state(folder)
    sharded = (folder / SHARDS).is_dir()
    try:
        saved = load_file(folder / OPTIMIZER)
        weights = {} if sharded else load_file(folder / WEIGHTS)
        names = shapes(folder / SHARDS).keys() if sharded else weights.keys()
        _require_fit(folder, model, {name for name in names if "/" not in name})
        if sharded:
            _load_shards(folder / SHARDS, model, optimizer)
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(f"checkpoint {folder} cannot be read: {error}; take another checkpoint") from None
    if not sharded:
        held = model.state_dict()
        model.load_state_dict({name: like(value, held[name]) for name, value in weights.items()})
        _load_moments(model, optimizer, saved)
    _load_random_states(saved, ranks, state.step)
    return state


def _require_fit(folder: Path, model: nn.Module, found: set[str]) -> None:
    wanted = set(model.state_dict())
    if found != wanted:
        raise RunError(
            f"checkpoint {folder} does not fit this model: missing {sorted(wanted - found)[:3]}, "
            f"unexpected {sorted(found - wanted)[:3]}; the model section of the config must be the checkpoint's"
        )


def convert(folder: Path) -> bool:
    """Brings a checkpoint in shards into the layout of one process, in one step; False where it is in that already.

    Raises `RunError` where it cannot be read or there is no room beside it.
    """
    shards = folder / SHARDS
    if not shards.is_dir():
        read_state(folder)
        return False
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.tmp")
    try:
        tensors = {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in shapes(shards).items()}
        load_shards(shards, tensors)
        moments = {name: _as_saved(name, value) for name, value in tensors.items() if "/" in name}
        shutil.copytree(folder, temporary, ignore=shutil.ignore_patterns(SHARDS))
        save_file({**moments, **load_file(folder / OPTIMIZER)}, temporary / OPTIMIZER)
        _commit(temporary, folder)
    except (OSError, ValueError, SafetensorError) as error:
        raise RunError(f"checkpoint {folder} cannot be converted: {error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _as_saved(name: str, value: Tensor) -> Tensor:
    """Adam's count of its steps is a scalar, which shards hold as one element."""
    return value.view(()) if name.endswith("/step") else value


def require_room(root: Path, model: nn.Module, optimizer: torch.optim.Optimizer, ranks: Ranks = ALONE) -> None:
    """Raises `OSError` (ENOSPC) where the disk has no room for another checkpoint; on all processes alike."""
    tensors = [*model.state_dict().values(), *_moments(model, optimizer).values()]
    needed = sum(tensor.numel() * tensor.element_size() for tensor in tensors) + _SPARE_BYTES
    if in_shards(model):
        needed += sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    free = ranks.on_main(lambda: shutil.disk_usage(root).free)
    if free < needed:
        raise OSError(28, f"No space left on device: a checkpoint needs {needed >> 20} MB, {free >> 20} MB are free")


def remove_old(root: Path, keep: int, best_step: int | None) -> None:
    """Keeps the newest `keep` checkpoints and the best one; removes the others and what a crash left half written."""
    for leftover in root.glob(".step_*.tmp"):
        shutil.rmtree(leftover, ignore_errors=True)
    for folder in sorted(root.glob("step_*"))[:-keep]:
        if step_of(folder) != best_step:
            hidden = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.old.tmp")
            with contextlib.suppress(OSError):  # at once: a crash leaves no half of a checkpoint under its name
                folder.rename(hidden)
                shutil.rmtree(hidden, ignore_errors=True)


def _commit(temporary: Path, target: Path) -> Path:
    for path in (*temporary.rglob("*"), temporary):
        _flush(path)
    old = target.with_name(f".{target.name}.{secrets.token_hex(4)}.old.tmp")
    with contextlib.suppress(FileNotFoundError):
        target.rename(old)
    temporary.rename(target)
    _flush(target.parent)
    shutil.rmtree(old, ignore_errors=True)
    return target


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Optimizer tensors as {parameter name + '/' + moment name: tensor}."""
    return {
        f"{name}/{key}": value.contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def _load_shards(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    tensors = dict(model.state_dict())
    parameters = dict(model.named_parameters())
    for key, (shape, dtype) in shapes(folder).items():
        name, _, moment = key.rpartition("/")
        if name not in parameters:
            continue
        parameter = parameters[name]
        held = torch.zeros_like(parameter, dtype=dtype) if shape == parameter.shape and moment != "step" else None
        if held is None:  # Adam's count of its steps, a scalar
            held = torch.zeros((), dtype=dtype, device=parameter.device)
        optimizer.state[parameter][moment] = tensors[key] = held
    load_shards(folder, tensors)


def _load_moments(model: nn.Module, optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for key, value in saved.items():
        name, _, moment = key.rpartition("/")
        if key.startswith(_RANDOM) or name not in parameters:
            continue
        # Adam counts its steps on the CPU unless it is fused on a GPU; all else lives beside its parameter.
        device = parameters[name].device if value.ndim or parameters[name].is_cuda else torch.device("cpu")
        optimizer.state[parameters[name]][moment] = like(value.to(device), parameters[name])


def _random_states(ranks: Ranks) -> dict[str, Tensor]:
    """Random states of all processes, by `random/DEVICE` of rank 0 and `random/rankR/DEVICE` of the others."""
    own = {"cpu": torch.get_rng_state()} | {f"cuda{i}": torch.cuda.get_rng_state(i) for i in _cuda_devices(ranks)}
    gathered = ranks.gather(own)
    return {
        f"{_prefix(rank)}{device}": state for rank, states in enumerate(gathered) for device, state in states.items()
    }


def _load_random_states(saved: Mapping[str, Tensor], ranks: Ranks, step: int) -> None:
    """A process that was not there when the checkpoint was written begins a random stream of its own."""
    prefix = _prefix(ranks.rank)
    if f"{prefix}cpu" not in saved:
        torch.manual_seed(torch.initial_seed() + step)
        return
    torch.set_rng_state(saved[f"{prefix}cpu"])
    for index in _cuda_devices(ranks):
        if f"{prefix}cuda{index}" in saved:
            torch.cuda.set_rng_state(saved[f"{prefix}cuda{index}"], index)


def _prefix(rank: int) -> str:
    return f"{_RANDOM}rank{rank}/" if rank else _RANDOM


def _cuda_devices(ranks: Ranks) -> list[int]:
    """The GPUs that this process uses."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return []
    return [torch.cuda.current_device()] if ranks.several else list(range(torch.cuda.device_count()))
