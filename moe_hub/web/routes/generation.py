"""The Inference tab: text from a checkpoint, streamed through a file; and the evaluator's verdict on a lambda term."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

import flask
from flask import Response

from moe_hub.data.tokenizer import generation_template_of
from moe_hub.errors import DataError, MoeHubError
from moe_hub.lambda_calculus.judge import judge
from moe_hub.web.routes.asked import json_answer, json_body, number_of, text_of, whole_of
from moe_hub.web.workbench import Workbench
from moe_hub.workbench.checkpoints import find_checkpoint
from moe_hub.workbench.held_out import held_out_task

LONGEST_PROMPT = 100_000
LONGEST_TERM = 2_000  # characters that the evaluator is asked about


def routes(workbench: Workbench) -> list[Any]:
    """A job is started and stopped by POST, and read by GET."""

    def generate() -> Response:
        body = json_body()
        checkpoint = find_checkpoint(workbench.store, text_of(body, "key"))
        prompt = text_of(body, "prompt", most=LONGEST_PROMPT)
        raw = ["--raw-prompt"] if body.get("raw") is True else []
        arguments = [os.fspath(checkpoint.folder), "--prompt", "-", "--json-lines", *raw, *sampling(body)]
        return json_answer({"job": workbench.jobs.start("moe_hub.generate", arguments, prompt)})

    def read(job_id: str) -> Response:
        offset = flask.request.args.get("offset", "0")
        return json_answer(workbench.jobs.read(job_id, int(offset) if offset.isdigit() else 0))

    def stop() -> Response:
        job_id = text_of(json_body(), "job")
        workbench.jobs.stop(job_id)
        return json_answer({"job": job_id})

    def verdict() -> Response:
        body = json_body()
        prompt, answer = text_of(body, "prompt", most=LONGEST_TERM), text_of(body, "answer", most=LONGEST_TERM * 10)
        try:
            found = judge(prompt, answer)
        except DataError as error:  # what a person wrote need not be a term: an answer, and no wrong request
            return json_answer({"unreadable": str(error)})
        values = {name: value for name, value in asdict(found).items() if name != "trace"}
        return json_answer({**values, "right": found.right, "steps": found.trace.steps})

    def example() -> Response:
        asked = flask.request.args
        run = find_checkpoint(workbench.store, asked.get("key", "")).run
        number = asked.get("number", "0")
        try:
            return json_answer(held_out_task(run.config(), int(number) if number.isdigit() else 0))
        except MoeHubError as error:  # a run of another kind, or of an older version, has no such task
            return json_answer({"unreadable": str(error)})

    def template() -> Response:
        checkpoint = find_checkpoint(workbench.store, flask.request.args.get("key", ""))
        return json_answer({"template": generation_template_of(checkpoint.folder)})

    return [
        ("api/example", example, "GET"),
        ("api/prompt-template", template, "GET"),
        ("api/generate", generate, "POST"),
        ("api/jobs/<job_id>", read, "GET"),
        ("api/jobs/stop", stop, "POST"),
        ("api/judge", verdict, "POST"),
    ]


def sampling(body: dict[str, Any]) -> list[str]:
    """The flags of `moe_hub.generate`; raises `RunError` for a value out of bounds."""
    return [
        "--max-new-tokens", str(whole_of(body, "max_new_tokens", 1, 32768, 128)),
        "--temperature", str(number_of(body, "temperature", 0.0, 10.0, 0.0)),
        "--top-k", str(whole_of(body, "top_k", 0, 1_000_000, 0)),
        "--top-p", str(number_of(body, "top_p", 0.001, 1.0, 1.0)),
        "--seed", str(whole_of(body, "seed", 0, 2**31 - 1, 0)),
    ]  # fmt: skip
