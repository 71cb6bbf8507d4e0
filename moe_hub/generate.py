"""`python -m moe_hub.generate CHECKPOINT --prompt ...`: writes text with a trained model, streamed."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from moe_hub.errors import MoeHubError
from moe_hub.imports import uncollected


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m moe_hub.generate", description="Writes text with a checkpoint.")
    parser.add_argument("checkpoint", type=Path, help="a checkpoint folder: runs/RUN_ID/checkpoints/step_00000600")
    parser.add_argument("--prompt", required=True, help="the text to go on from; - reads standard input")
    parser.add_argument(
        "--raw-prompt",
        action="store_true",
        help="the prompt as it is; without this it is put as the training data wrote its prompts (a question and a "
        "line end, say)",
    )
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.0, help="0 takes the most likely token (default)")
    parser.add_argument("--top-k", type=int, default=0, help="only the k most likely tokens; 0: all")
    parser.add_argument(
        "--top-p", type=float, default=1.0, help="only the most likely tokens of this total probability"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json-lines", action="store_true", help="one JSON object a token, with the experts' shares")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; exit code 0, or 1 where it failed, or 2 for bad usage."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.max_new_tokens < 1 or options.temperature < 0 or options.top_k < 0 or not 0 < options.top_p <= 1:
        parser.error("--max-new-tokens must be at least 1, --temperature and --top-k at least 0, --top-p in (0, 1]")
    stopped: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stopped.append(number))
    try:
        _generate(options, stopped)
    except MoeHubError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(file=sys.stderr)
    return 0


def _generate(options: argparse.Namespace, stopped: list[int]) -> None:
    with uncollected():
        from moe_hub.data.formats import as_trained
        from moe_hub.data.tokenizer import generation_template_of
        from moe_hub.inference import Sampling, generate, load_checkpoint

    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    sampling = Sampling(options.max_new_tokens, options.temperature, options.top_k, options.top_p, options.seed)
    loaded = load_checkpoint(options.checkpoint)
    if not options.raw_prompt:
        prompt = as_trained(generation_template_of(options.checkpoint), prompt)
    for piece in generate(loaded, prompt, sampling, stop=lambda: bool(stopped)):
        if options.json_lines:
            shares = [[round(share, 4) for share in layer] for layer in piece.shares]
            print(json.dumps({"text": piece.text, "id": piece.token_id, "shares": shares}), flush=True)
        else:
            print(piece.text, end="", flush=True)
    if not options.json_lines:
        print()


if __name__ == "__main__":
    sys.exit(main())
