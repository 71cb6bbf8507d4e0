"""Device, precision, threads and memory settings of a training process."""

from __future__ import annotations

import contextlib
import ctypes

import torch

from moe_hub.config import TrainConfig
from moe_hub.errors import ConfigError

# glibc maps every tensor above 32 MB anew and pays a page fault per 4 kB of it, at every operation: 10 to 20 % of
# a step here. With these thresholds freed memory is kept and used again.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Tells glibc's malloc to reuse large blocks; does nothing with another C library."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def set_threads(config: TrainConfig) -> None:
    """Uses `train.threads` CPU threads; 0 keeps torch's choice, all cores unless OMP_NUM_THREADS says otherwise."""
    if config.threads:
        torch.set_num_threads(config.threads)


def choose_device(config: TrainConfig, local_rank: int | None = None) -> torch.device:
    """The device that the config names; `auto` prefers a GPU. Raises `ConfigError` if it is not there.

    The processes of a machine have a number each, and a GPU each of that number.
    """
    name = config.device
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    missing = (name.startswith("cuda") and not torch.cuda.is_available()) or (
        name == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise ConfigError(f"train.device = {config.device!r}: this machine has no such device; use auto or cpu")
    device = torch.device(name if local_rank is None or name != "cuda" else f"cuda:{local_rank}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        if local_rank is not None:
            raise ConfigError(
                f"process {local_rank} of this machine has no GPU: there are {torch.cuda.device_count()}; start fewer "
                "processes (train.parallel.processes, or torchrun's), or take train.device=cpu"
            )
        raise ConfigError(f"train.device = {config.device!r}: there are {torch.cuda.device_count()} GPUs, from cuda:0")
    return device


def choose_precision(config: TrainConfig, device: torch.device) -> str:
    """`auto` is bf16 where the device multiplies in it natively, else fp32."""
    if config.precision != "auto":
        return config.precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and native_bf16_on_cpu() else "fp32"


def native_bf16_on_cpu() -> bool:
    """Whether this CPU has bf16 dot products."""
    return bool(torch.cpu._is_avx512_bf16_supported())
