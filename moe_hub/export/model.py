"""A checkpoint as a folder that transformers loads and `hf upload` takes: weights, config, tokenizer, model card."""

from __future__ import annotations

import shutil
from pathlib import Path

from moe_hub.errors import RunError
from moe_hub.export.exported import Exported, empty_folder
from moe_hub.runs.store import RunDirectory
from moe_hub.workbench.checkpoints import files_to_download
from moe_hub.workbench.model_card import NAME, model_card


def export_run(run: RunDirectory, folder: Path) -> Exported:
    """Copies the newest checkpoint of the run, without the trainer's state, and writes its card; raises `RunError`."""
    checkpoints = run.checkpoints()
    if not checkpoints:
        raise RunError(f"run {run.run_id} has no checkpoint yet; save one with: moe-hub save {run.run_id}")
    files = files_to_download(checkpoints[-1], whole=False)
    card = model_card(run, checkpoints[-1])
    empty_folder(folder)
    for path in files:
        shutil.copyfile(path, folder / path.name)
    (folder / NAME).write_text(card, encoding="utf-8")
    return Exported(
        f"{len(files) + 1} files of {checkpoints[-1].name} in {folder}",
        (),
        f"publish it with: hf upload OWNER/NAME {folder}",
    )
