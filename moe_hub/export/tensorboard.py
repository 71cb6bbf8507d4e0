"""A run as TensorBoard event files."""

from __future__ import annotations

from pathlib import Path

from moe_hub.errors import RunError
from moe_hub.export.exported import Exported, empty_folder
from moe_hub.export.series import flat_series
from moe_hub.runs.store import RunDirectory


def export_run(run: RunDirectory, folder: Path) -> Exported:
    """Writes the run's metrics as event files into a folder; raises `RunError`.

    Steps and wall times are the run's own. Needs the package tensorboard.
    """
    try:
        from tensorboard.summary import Writer
    except ImportError:
        raise RunError(
            "the package tensorboard is not installed; pip install 'moe-hub[tensorboard]', then run this again"
        ) from None
    found, left_out = flat_series(run)
    empty_folder(folder)
    writer = Writer(str(folder))
    try:
        for series in found:
            for step, time, value in zip(
                series.steps.tolist(), series.times.tolist(), series.values.tolist(), strict=True
            ):
                writer.add_scalar(series.tag, value, step, wall_time=time)
    finally:
        writer.close()
    values = sum(len(series.steps) for series in found)
    told = f"{len(found)} tags, {values:,} values in {folder}"
    return Exported(told, left_out, f"look at it with: tensorboard --logdir {folder.parent}")
