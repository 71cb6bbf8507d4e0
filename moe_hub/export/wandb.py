"""A run for Weights & Biases: an offline run folder, which `wandb sync` sends when and where the person wants."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from moe_hub.errors import RunError
from moe_hub.export.exported import Exported, empty_folder
from moe_hub.export.series import flat_series
from moe_hub.runs.store import RunDirectory

PROJECT = "moe-hub"


def export_run(run: RunDirectory, folder: Path) -> Exported:
    """Writes the run, with its config, as an offline run of W&B into a folder; raises `RunError`.

    Nothing leaves the machine. Steps are the run's own; each row carries its wall time as `_timestamp`, which W&B
    draws by. Needs the package wandb.
    """
    try:
        import wandb
    except ImportError:
        raise RunError(
            "the package wandb is not installed; pip install 'moe-hub[wandb]', then run this again"
        ) from None
    found, left_out = flat_series(run)
    rows: dict[int, dict[str, float]] = defaultdict(dict)
    for series in found:
        for step, time, value in zip(series.steps.tolist(), series.times.tolist(), series.values.tolist(), strict=True):
            rows[step] |= {series.tag: value, "_timestamp": time}
    empty_folder(folder)
    written = wandb.init(
        project=PROJECT, name=run.run_id, id=run.run_id, dir=str(folder), mode="offline", config=run.config_values(),
        tags=tuple(run.notes().get("tags", ())), settings=wandb.Settings(
            silent=True, console="off", disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True,
        ),
    )  # fmt: skip
    for step in sorted(rows):
        written.log(rows[step], step=step)
    written.finish()
    wandb.teardown()  # its process ends, and what it has in hand is in the file
    values = sum(len(series.steps) for series in found)
    offline = next(folder.glob("wandb/offline-run-*"))
    told = f"{len(found)} tags, {values:,} values in {offline}"
    return Exported(told, left_out, f"send it with: wandb sync {offline}")
