"""Which run belongs to which cell of an experiment, beside the runs; so an experiment can be stopped and go on."""

from __future__ import annotations

from pathlib import Path

import orjson

from moe_hub.errors import RunError
from moe_hub.experiments.plan import Plan
from moe_hub.runs.files import replace_file
from moe_hub.runs.store import RunDirectory, RunStore

FOLDER = ".experiments"


class Ledger:
    """The runs of one plan by (arm, seed); a run that was deleted, or whose config is another now, is forgotten."""

    def __init__(self, runs_dir: Path, plan: Plan) -> None:
        self.store = RunStore(runs_dir)
        self.plan = plan
        self.path = runs_dir / FOLDER / f"{plan.name}.json"
        self.run_ids: dict[str, str] = self._read()

    def run(self, arm: str, seed: int) -> RunDirectory | None:
        """The run of a cell, or None where there is none with the plan's present config."""
        run_id = self.run_ids.get(_key(arm, seed))
        if run_id is None:
            return None
        try:
            run = self.store.open(run_id)
            return run if run.config() == self.plan.config(arm, seed) else None
        except RunError:
            return None

    def record(self, arm: str, seed: int, run_id: str) -> None:
        """Notes the run of a cell; raises `RunError` where the disk refuses."""
        self.run_ids[_key(arm, seed)] = run_id
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_file(self.path, orjson.dumps(self.run_ids, option=orjson.OPT_INDENT_2))
        except OSError as error:
            raise RunError(f"experiment {self.plan.name}: {self.path} cannot be written: {error.strerror}") from None

    def _read(self) -> dict[str, str]:
        try:
            values = orjson.loads(self.path.read_bytes())
        except (OSError, ValueError):
            return {}
        return {str(key): str(value) for key, value in values.items()} if isinstance(values, dict) else {}


def _key(arm: str, seed: int) -> str:
    return f"{arm}/{seed}"
