"""Why a training failed and what to change, for the status, the log and the page; and what is kept of a bad step."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import nn

from moe_hub.errors import ConfigError, DataError, MoeHubError, RunError
from moe_hub.runs.files import replace_file, to_json

if TYPE_CHECKING:
    from moe_hub.data.batch import Batch

DUMP_FOLDER = "failures"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_MOST_NAMES = 50
# What the allocators of the CPU, CUDA, cuBLAS, MPS and C++ say when they have no memory left.
_NO_MEMORY = (
    "can't allocate memory", "cannot allocate memory", "out of memory", "alloc_failed", "bad_alloc",
    "not enough memory",
)  # fmt: skip
_LESS = (
    "Lower train.batch_size (raise train.grad_accumulation by the same factor to keep the step), model.max_seq_len or "
    "model.d_model, then start again"
)


class NonFiniteLoss(MoeHubError):
    """The loss or a gradient became NaN or infinite; the step was not applied."""


class FolderLost(RunError):
    """The run directory is gone, so nothing of the training can be kept."""


@dataclass(frozen=True)
class Failure:
    """`kind` is one of `moe_hub.runs.status.FAILURE_KINDS`; `cause` and `advice` are a sentence or two each."""

    kind: str
    cause: str
    advice: str

    @property
    def line(self) -> str:
        """Both in one line."""
        return f"{self.cause.rstrip('.')}. {self.advice}".strip() if self.advice else self.cause

    def values(self, log: str) -> dict[str, str]:
        """As status.json holds it, with the end of the log."""
        return {"kind": self.kind, "cause": self.cause, "advice": self.advice, "log": log}


def explain(error: BaseException) -> Failure:
    """What an error that ended a training means, and what to change."""
    text = " ".join(str(error).split())
    if isinstance(error, NonFiniteLoss):
        advice = "Fork from there with a lower learning rate, a lower train.grad_clip or train.precision=fp32"
        return Failure("non_finite", text, advice)
    if isinstance(error, FolderLost):
        return Failure("folder_lost", text, "Put the folder back, or start a new run in another one with --runs-dir")
    if isinstance(error, DataError):
        return Failure("data", text, "Mend the data that the message names, or choose other data, then start again")
    if isinstance(error, ConfigError):
        return Failure("config", text, "Change the setting that the message names, then start again")
    if isinstance(error, MoeHubError):
        return Failure("run", text, "")
    if is_out_of_memory(error):
        return Failure("out_of_memory", f"out of memory: {text[:300] or type(error).__name__}", _LESS)
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return Failure("disk_full", f"the disk is full: {text[:300]}", "Free some space, then resume the run")
    if is_lost_process(error):
        cause = "another process of this training is gone: killed, out of memory, or its machine was lost"
        return Failure("lost_process", cause, "What it said last stands in the log; resume from the last checkpoint")
    return Failure("error", f"{type(error).__name__}: {text[:400]}", "The end of the log says where; then resume")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error is the device's or the machine's memory running out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _NO_MEMORY)


def is_lost_process(error: BaseException) -> bool:
    """Whether the processes of a training could not talk to each other any more."""
    if isinstance(error, torch.distributed.DistError):
        return True
    return isinstance(error, RuntimeError) and ("/gloo/" in str(error) or "Connection closed by peer" in str(error))


def not_finite(model: nn.Module) -> list[dict[str, Any]]:
    """The parameters with non-finite values or gradients: name, which of both, how many of how many numbers."""
    found = []
    for name, parameter in model.named_parameters():
        for which, tensor in (("weight", parameter.detach()), ("gradient", parameter.grad)):
            if tensor is None:
                continue
            tensor = (
                tensor.to_local() if hasattr(tensor, "to_local") else tensor
            )  # of a sharded one this process's part
            if not bool(torch.isfinite(tensor).all()):
                count = int((~torch.isfinite(tensor)).sum())
                found.append({"name": name, "which": which, "not_finite": count, "numbers": tensor.numel()})
    return found


def dump_step(run_dir: Path, step: int, report: Mapping[str, Any], batches: Sequence[Batch]) -> Path | None:
    """Keeps a step that went wrong in failures/step_<8 digits>; None where the disk does not take it.

    report.json holds what is known of the step; batches.safetensors the token ids, labels and documents of its
    batches. The weights before the step are the checkpoint of the step before.
    """
    folder = run_dir / DUMP_FOLDER / f"step_{step:08d}"
    tensors = {
        f"{number}/{name}": getattr(batch, name).detach().cpu().contiguous()
        for number, batch in enumerate(batches)
        for name in ("input_ids_BT", "labels_BT", "documents_BT")
        if isinstance(getattr(batch, name, None), torch.Tensor)
    }
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / "batches.safetensors")
        replace_file(folder / "report.json", to_json(report, indent=True))
        return folder
    return None


def names_of(found: Sequence[Mapping[str, Any]]) -> str:
    """The first names of parameters that are not finite, for a message."""
    names = list(dict.fromkeys(str(each["name"]) for each in found))[:_MOST_NAMES]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def room_problem(error: OSError) -> str:
    """Why a file cannot be written, for people."""
    return error.strerror or os.strerror(error.errno or errno.EIO)
