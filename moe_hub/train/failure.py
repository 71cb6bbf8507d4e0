"""Why a training failed and what to change, for the status, the log and the page."""

from __future__ import annotations

import errno

import torch

from moe_hub.errors import MoeHubError


class NonFiniteLoss(MoeHubError):
    """The loss or a gradient became NaN or infinite; the step was not applied."""


def advice(error: BaseException) -> str:
    """One line: the cause, and what to change."""
    text = " ".join(str(error).split())
    if isinstance(error, MoeHubError):
        return text
    if is_out_of_memory(error):
        return (
            "out of memory: lower train.batch_size (raise train.grad_accumulation by the same factor to keep the "
            f"step), model.max_seq_len or model.d_model. {text[:200]}"
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"the disk is full: {text[:200]}; free some space, then resume the run"
    return f"{type(error).__name__}: {text[:400]}"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error is the device's or the machine's memory running out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
