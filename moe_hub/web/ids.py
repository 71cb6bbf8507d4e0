"""Ids of the page's components, written once, here: tests and other programs rely on many of them."""

from __future__ import annotations

PRESET = "preset-select"
ARCHITECTURE = "architecture-select"
TRAINING_MODE = "training-mode-select"
PARAMETER_COUNT = "parameter-count"
VALIDATION_SUMMARY = "validation-summary"
COMMAND_PREVIEW = "command-preview"

START, PAUSE, RESUME, STOP, SAVE, QUEUE = (
    "start-button", "pause-button", "resume-button", "stop-button", "save-button", "queue-button",
)  # fmt: skip
RUN_STATUS, RUN_PROGRESS, RUN_TABLE = "run-status", "run-progress", "run-table"
FIGURE_SELECT, LIVE_FIGURE = "figure-select", "live-figure"

TICK = "tick"  # the one dcc.Interval
SELECTION = "selection"  # Store: {"focus": run id or None, "selected": [run ids]}, written by the page's script
ASSESSMENT = "assessment"  # Store: {"valid", "errors": by field, "hidden": fields and sections} of the form
LAUNCH_REQUEST = "launch-request"  # Store: {"id": uuid, "action": "start" | "queue"}, fresh for each press
LAUNCH_PROGRESS = "launch-progress"  # Store: what the launching job reports
LAUNCHING = "launching"  # Store: True while the background callback runs
LAUNCH_MESSAGE = "launch-message"
CONTROL_MESSAGE = "control-message"
PRESET_BASE = "preset-base"  # Store: {"name", "values"} that the form is compared with
PRESET_LOAD = "preset-load"  # Store: {"nonce", "name" | "run" | "values"}: what to put into the form
TICKED = "ticked"  # Store that the clientside tick answers into
THEME = "theme-select"

# A field that the contract gives a name of its own; every other is `field-` + its path with `.` as `-`.
_NAMED = {"model.architecture": ARCHITECTURE, "train.mode": TRAINING_MODE}


def field_id(path: str) -> str:
    """Id of the input of a config field: `field-model-num_experts` for `model.num_experts`."""
    return _NAMED.get(path, wrapper_id(path))


def wrapper_id(path: str) -> str:
    """Id that any field can be found by: the input's own, or that of the box around a select with another name."""
    return "field-" + path.replace(".", "-")
