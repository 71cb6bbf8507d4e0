"""Tasks that a run has not trained on, to ask its checkpoints."""

from __future__ import annotations

from moe_hub.config import Config
from moe_hub.data.lambda_source import HELD_OUT_SPLIT, LambdaSource
from moe_hub.errors import RunError
from moe_hub.lambda_calculus.tasks import make_sample

MOST_TASKS = 100_000


def held_out_task(config: Config, number: int) -> dict[str, str]:
    """Prompt and true answer of a held-out task of a run; raises `RunError` where it trained on something else."""
    if config.data.source != "lambda":
        raise RunError("this run did not train on lambda tasks alone; write a prompt of your own")
    source = LambdaSource(config.data, config.model.max_seq_len)
    sample = make_sample(source.settings, HELD_OUT_SPLIT, source.seed, number % MOST_TASKS)
    return {"prompt": sample.prompt, "answer": sample.answer}
