"""Load a checkpoint and write text with it, token by token, with the share of each expert in each token.

Legend: L layers, E experts, N tokens, D d_model.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer
from transformers.utils import logging as transformers_logging

import moe_hub.models.language_model  # noqa: F401  (registers the classes)
from moe_hub.errors import RunError

LONGEST_PROMPT = 100_000  # characters


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. Temperature 0 takes the most likely one; top_k 0 and top_p 1 leave all."""

    max_new_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Piece:
    """One generated token: its text, its id, and the share of each expert in each layer's output, (L, E)."""

    text: str
    token_id: int
    shares: list[list[float]]


@dataclass(frozen=True)
class Loaded:
    """A checkpoint in memory."""

    model: PreTrainedModel
    tokenizer: Any
    folder: Path


def load_checkpoint(folder: Path, device: str = "cpu") -> Loaded:
    """Model and tokenizer of a checkpoint folder, in eval mode; raises `RunError`."""
    if not (folder / "config.json").is_file() or not (folder / "model.safetensors").is_file():
        raise RunError(f"checkpoint {folder} is not one: it must hold config.json and model.safetensors")
    transformers_logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise RunError(f"checkpoint {folder} cannot be loaded: {error}") from None
    return Loaded(model.to(device).eval(), tokenizer, folder)


def prompt_ids(loaded: Loaded, prompt: str) -> Tensor:
    """Token ids (1, T) of a prompt as training showed it; raises `RunError` where it is empty or too long."""
    if len(prompt) > LONGEST_PROMPT:
        raise RunError(f"the prompt has {len(prompt):,} characters; at most {LONGEST_PROMPT:,} are allowed")
    ids = list(loaded.tokenizer(prompt)["input_ids"])
    if not ids and loaded.tokenizer.bos_token_id is not None:
        ids = [loaded.tokenizer.bos_token_id]
    if not ids:
        raise RunError("the prompt is empty; write at least one character that the tokenizer knows")
    longest = loaded.model.config.max_position_embeddings
    if len(ids) >= longest:
        raise RunError(f"the prompt has {len(ids)} tokens; this model reads {longest}, so at most {longest - 1} fit")
    return torch.tensor([ids], device=loaded.model.device)


def generate(
    loaded: Loaded, prompt: str, sampling: Sampling, *, stop: Callable[[], bool] = lambda: False
) -> Iterator[Piece]:
    """Streams the continuation of a prompt; ends at the end token, at `max_new_tokens` or when `stop()` is true.

    transformers' own sampler does the work in a thread, so its filters are the published ones.
    """
    ids = prompt_ids(loaded, prompt)
    room = loaded.model.config.max_position_embeddings - ids.shape[1]
    pieces: queue.Queue[tuple[int, list[list[float]]] | BaseException | None] = queue.Queue()
    abandoned = threading.Event()

    def work() -> None:
        try:
            with _recorded_shares(loaded.model) as shares:
                _run_sampler(loaded, ids, sampling, room, _Stream(pieces, shares), lambda: stop() or abandoned.is_set())
            pieces.put(None)
        except BaseException as error:
            pieces.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield from _decoded(loaded.tokenizer, pieces)
    finally:
        abandoned.set()
        thread.join()


@torch.no_grad()
def complete(loaded: Loaded, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
    """Greedy continuations of prompts that have the same number of tokens, without the end token; raises `RunError`."""
    ids_BT = torch.cat([prompt_ids(loaded, prompt) for prompt in prompts])
    room = loaded.model.config.max_position_embeddings - ids_BT.shape[1]
    written = loaded.model.generate(
        input_ids=ids_BT,
        attention_mask=torch.ones_like(ids_BT),
        do_sample=False,
        max_new_tokens=min(max_new_tokens, room),
    )
    end = loaded.model.config.eos_token_id
    answers = []
    for row in written[:, ids_BT.shape[1] :].tolist():
        kept = row[: row.index(end)] if end in row else row
        answers.append(loaded.tokenizer.decode(kept, skip_special_tokens=False))
    return answers


def _run_sampler(
    loaded: Loaded, ids: Tensor, sampling: Sampling, room: int, stream: BaseStreamer, stop: Callable[[], bool]
) -> None:
    warm = sampling.temperature > 0
    torch.manual_seed(sampling.seed)
    filters = {"temperature": sampling.temperature, "top_k": sampling.top_k, "top_p": sampling.top_p} if warm else {}
    loaded.model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=warm,
        max_new_tokens=min(sampling.max_new_tokens, room),
        streamer=stream,
        stopping_criteria=StoppingCriteriaList([_Asked(stop)]),
        **filters,
    )


class _Asked(StoppingCriteria):  # type: ignore[misc]
    """Stops where the caller asks for it."""

    def __init__(self, stop: Callable[[], bool]) -> None:
        self.stop = stop

    def __call__(self, input_ids: Tensor, scores: Tensor, **_: Any) -> Tensor:
        return torch.full((input_ids.shape[0],), self.stop(), device=input_ids.device)


class _Stream(BaseStreamer):  # type: ignore[misc]
    """Passes each new token on, with the shares of the forward pass that predicted it."""

    def __init__(self, pieces: queue.Queue[Any], shares: list[list[float]]) -> None:
        self.pieces = pieces
        self.shares = shares
        self.prompt_seen = False

    def put(self, value: Tensor) -> None:
        if not self.prompt_seen:
            self.prompt_seen = True
            return
        self.pieces.put((int(value.flatten()[-1]), [list(layer) for layer in self.shares]))

    def end(self) -> None:
        """Nothing to do: the worker says when it is done."""


@contextlib.contextmanager
def _recorded_shares(model: nn.Module) -> Iterator[list[list[float]]]:
    """A list that holds, after each forward pass, every layer's expert shares (L, E) at the last position.

    The share of an expert is the length of its contribution over the sum of the lengths.
    """
    layers = list(model.layers)  # type: ignore[arg-type]
    shares: list[list[float]] = [[] for _ in layers]

    def keep(index: int) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            length_E = output[1].contribution_END[:, -1].float().norm(dim=-1)
            shares[index] = (length_E / length_E.sum().clamp(min=1e-12)).tolist()

        return hook

    hooks = [layer.register_forward_hook(keep(index)) for index, layer in enumerate(layers)]
    try:
        yield shares
    finally:
        for hook in hooks:
            hook.remove()


def _decoded(tokenizer: Any, pieces: queue.Queue[Any]) -> Iterator[Piece]:
    """Pieces with the text that each token adds; bytes of an unfinished character wait for the next token."""
    ids: list[int] = []
    shown = ""
    while (item := pieces.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        token_id, shares = item
        ids.append(token_id)
        text = tokenizer.decode(ids, skip_special_tokens=False)
        if text.endswith("\ufffd"):
            yield Piece("", token_id, shares)
            continue
        yield Piece(text[len(shown) :], token_id, shares)
        shown = text
