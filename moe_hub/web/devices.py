"""The devices of this machine with their free memory, found without torch."""

from __future__ import annotations

import platform
import subprocess
import time

import psutil

FRESH_S = 10.0
_QUERY = ["nvidia-smi", "--query-gpu=index,name,memory.free,memory.total", "--format=csv,noheader,nounits"]
_seen: tuple[float, list[tuple[str, str]]] = (float("-inf"), [])


def devices() -> list[tuple[str, str]]:
    """(value of train.device, what it is) for each choice that this machine has; looked at again after 10 s."""
    global _seen
    if time.monotonic() - _seen[0] > FRESH_S:
        _seen = (time.monotonic(), [("auto", "a GPU where there is one, else the CPU"), _cpu(), *_gpus(), *_mps()])
    return _seen[1]


def _cpu() -> tuple[str, str]:
    memory = psutil.virtual_memory()
    cores = psutil.cpu_count() or 1
    return "cpu", f"{cores} cores, {memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free"


def _gpus() -> list[tuple[str, str]]:
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, timeout=3, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return parse_gpus(done.stdout) if done.returncode == 0 else []


def parse_gpus(text: str) -> list[tuple[str, str]]:
    """Choices from the lines of nvidia-smi: `0, NVIDIA H100, 79000, 81559`."""
    found = []
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 4 and parts[0].isdigit() and parts[2].isdigit() and parts[3].isdigit():
            free, total = int(parts[2]) / 1024, int(parts[3]) / 1024
            found.append((f"cuda:{parts[0]}", f"{parts[1]}, {free:.1f} of {total:.1f} GiB free"))
    return found


def _mps() -> list[tuple[str, str]]:
    apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    return [("mps", "the GPU of this Mac")] if apple else []
