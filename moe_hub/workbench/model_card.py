"""The model card of a checkpoint: a README.md that the Hub reads, with what the run's own files say and no more."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from moe_hub.architectures import ARCHITECTURES
from moe_hub.config import Config, to_yaml
from moe_hub.runs.store import RunDirectory
from moe_hub.workbench.checkpoints import trainer_state

NAME = "README.md"
# Metric -> what it is called in the card, and its unit.
_SHOWN = {
    "val/loss": "held-out loss (nat per token)",
    "val/perplexity": "held-out perplexity",
    "val/token_accuracy": "held-out token accuracy",
    "val/exact_match": "exact match (share of tasks)",
}


def model_card(run: RunDirectory, folder: Path) -> str:
    """The card of a checkpoint folder of the run; raises `RunError` or `ConfigError` where the run has no config."""
    config = run.config()
    state = _state(folder)
    facts = {name: state["metrics"][name] for name in _SHOWN if _is_number(state["metrics"].get(name))}
    return "\n".join([_head(config, facts), "", *_text(run, config, state, facts)]) + "\n"


def _head(config: Config, facts: dict[str, float]) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    named = _dataset(config)
    results = [
        EvalResult(
            task_type="text-generation", dataset_type=re.sub(r"[^A-Za-z0-9_./-]+", "-", named), dataset_name=named,
            dataset_split="validation", metric_type=name.removeprefix("val/"), metric_value=value,
            metric_name=_SHOWN[name],
        )
        for name, value in facts.items()
    ]  # fmt: skip
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["mixture-of-experts", "moe-hub", config.model.architecture],
        model_name=config.name if results else None,
        eval_results=results or None,
    )
    return f"---\n{data.to_yaml()}\n---"


def _text(run: RunDirectory, config: Config, state: dict[str, Any], facts: dict[str, float]) -> list[str]:
    architecture = ARCHITECTURES[config.model.architecture]
    status = run.status()
    parameters = status.parameters if status is not None else {}
    size = ""
    if parameters:
        size = f", {int(parameters['total']):,} parameters, {int(parameters['active']):,} used for each token"
    lines = [
        f"# {config.name}",
        "",
        f"A language model with the architecture *{architecture.label}*{size}.",
        f"It was trained with MoE Hub for {int(state['step']):,} steps and {int(state['tokens']):,} tokens "
        f"on {_dataset(config)}, with seed {config.seed} (run {run.run_id}).",
        "",
    ]
    if facts:
        lines += ["| held-out data of the run | value |", "| --- | --- |"]
        lines += [f"| {_SHOWN[name]} | {value:.4g} |" for name, value in facts.items()]
        lines += [""]
    lines += [
        "## Use", "",
        "```python", "import moe_hub  # registers the architecture with transformers",
        "from transformers import AutoModelForCausalLM, AutoTokenizer", "",
        'model = AutoModelForCausalLM.from_pretrained("path/or/name")',
        'tokenizer = AutoTokenizer.from_pretrained("path/or/name")', "```", "",
        "## Limits", "",
        "Trained from random weights on the data named above and on nothing else: outside of it the text means "
        "nothing. The numbers are those of one run with one seed.", "",
        "## Config", "", "```yaml", to_yaml(_without_paths(config)).rstrip(), "```",
    ]  # fmt: skip
    return lines


def _dataset(config: Config) -> str:
    """The data by a name that gives away no path of the machine."""
    data = _without_paths(config).data
    named = {"lambda": "lambda-calculus tasks", "file": data.path, "hub": data.name, "mixture": data.mixture}
    return named[data.source] or data.source


def _without_paths(config: Config) -> Config:
    """The config with the names of its files alone: folders are nobody else's business."""
    data = config.data
    changed = {
        "path": _name(data.path),
        "tokenizer_path": _name(data.tokenizer_path),
        "mixture": re.sub(r"(file:)([^;]+)", lambda found: found[1] + (_name(found[2].strip()) or ""), data.mixture)
        if data.mixture else None,
    }  # fmt: skip
    return config.model_copy(update={"data": data.model_copy(update=changed)})


def _name(path: str | None) -> str | None:
    return path and (Path(path).name if path.startswith(("/", ".", "~")) or Path(path).suffix else path)


def _state(folder: Path) -> dict[str, Any]:
    values = trainer_state(folder)
    metrics = values.get("metrics")
    metrics = metrics if isinstance(metrics, dict) else {}
    return {"step": values.get("step", 0), "tokens": values.get("tokens", 0), "metrics": metrics}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
