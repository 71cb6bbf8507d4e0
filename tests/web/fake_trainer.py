"""A trainer without a model: writes a run directory as the real one does and obeys the same requests.

python fake_trainer.py RUN_DIR [--steps N] [--delay S] [--ignore-stop] [--fail MESSAGE]
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import time
from pathlib import Path

import numpy as np

from moe_hub.runs import control
from moe_hub.runs.status import Status, process_identity, write_status
from moe_hub.runs.store import RunDirectory
from moe_hub.runs.writer import MetricWriter

TOKENS_PER_STEP = 2048


def rows_of(step: int, rng: np.random.Generator) -> dict[str, object]:
    """Values with the names and shapes of a geometric run: made up, for tests of what shows them."""
    decay = math.exp(-step / 150)
    noise = rng.normal(0, 0.02)
    layers, experts, dims = 2, 4, 4
    theta = np.sin(np.arange(layers * experts * dims).reshape(layers, experts, dims) + step / 80) * (1 - decay) * 0.4
    values: dict[str, object] = {
        "train/loss": 0.6 + 2.2 * decay + noise,
        "loss/task": 0.6 + 2.2 * decay + noise,
        "loss/orthogonality": 0.3 * decay + 0.02,
        "loss/rotation_efficiency": float((1 - np.cos(theta)).mean() / 2),
        "loss/specialization": 0.9 - 0.3 * (1 - decay),
        "loss/total": 0.9 + 2.4 * decay + noise,
        "optim/lr/base": 3e-3 * min(1, step / 50) * (0.1 + 0.9 * decay),
        "optim/lr/rotation": 1e-3 * min(1, step / 50) * (0.1 + 0.9 * decay),
        "optim/lr/expert": 1e-4 * min(1, step / 50) * (0.1 + 0.9 * decay),
        "time/tokens_per_s": 9000 + 400 * noise,
        "time/step_s": 0.05,
        "time/active_s": step * 0.05,
        "system/cpu_percent": 98.0,
        "system/memory_mb": 512.0,
        "expert/load": np.full((layers, experts), 0.25) + 0.03 * np.sin(np.arange(8).reshape(2, 4) + step / 40),
        "expert/orthogonality": np.full(layers, 0.3 * decay + 0.02),
        "rotation/theta_rad": theta,
        "rotation/efficiency": (1 - np.cos(theta)).mean(-1) / 2,
        "probe/rotated": np.stack([np.cos(theta[0, :, 0]), np.sin(theta[0, :, 0]), theta[0, :, 1]], axis=1),
    }
    if step % 25 == 0:
        values |= {"val/loss": 0.7 + 2.1 * decay, "val/perplexity": math.exp(0.7 + 2.1 * decay)}
    return values


class FakeTrainer:
    """Steps through a run until it is done or told to stop."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.run_dir: Path = options.run_dir
        self.options = options
        self.stop = False
        self.paused = False
        self.status = Status(
            state="running", max_steps=options.steps, device="cpu", heartbeat=time.time(), **process_identity()
        )

    def run(self) -> int:
        """The exit code."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN if self.options.ignore_stop else self._terminated)
        rng = np.random.default_rng(0)
        with MetricWriter(self.run_dir) as writer, RunDirectory(self.run_dir).lock():
            self._report("running", 0, {})
            step = 0
            while step < self.options.steps and not self.stop:
                self._take_requests()
                if self.paused:
                    self._report("paused", step, {})
                    time.sleep(0.05)
                    continue
                step += 1
                values = rows_of(step, rng)
                writer.write(step, values, tokens=step * TOKENS_PER_STEP)
                self._report("running", step, values)
                print(f"step {step}", flush=True)
                time.sleep(self.options.delay)
                if self.options.fail and step >= 3:
                    return self._end("failed", step, self.options.fail)
            return self._end("stopped" if self.stop else "finished", step, "stopped on request" if self.stop else "")

    def _end(self, state: str, step: int, reason: str) -> int:
        self._report(state, step, {}, exit_reason=reason)
        return int(state == "failed")

    def _take_requests(self) -> None:
        for request in control.take(self.run_dir):
            if request.action == "stop":
                self.stop = not self.options.ignore_stop
            elif request.action == "save":
                (self.run_dir / "checkpoints" / f"step_{self.status.step:08d}").mkdir(parents=True, exist_ok=True)
            elif request.action in ("pause", "resume"):
                self.paused = request.action == "pause"

    def _report(self, state: str, step: int, values: dict[str, object], exit_reason: str = "") -> None:
        metrics = {name: float(value) for name, value in values.items() if isinstance(value, float)}
        self.status = Status(
            **{
                **vars(self.status), "state": state, "step": step, "heartbeat": time.time(),
                "exit_reason": exit_reason, "metrics": {**self.status.metrics, **metrics},
            }
        )  # fmt: skip
        write_status(self.run_dir, self.status)

    def _terminated(self, _number: int, _frame: object) -> None:
        self.stop = True


def main() -> int:
    """Reads the flags and runs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--delay", type=float, default=0.02)
    parser.add_argument("--ignore-stop", action="store_true")
    parser.add_argument("--fail", default="")
    return FakeTrainer(parser.parse_args()).run()


if __name__ == "__main__":
    sys.exit(main())
