"""What an assessment says, in words."""

from __future__ import annotations

from moe_hub.workbench.assessment import BYTES_PER_SAVED_PARAMETER, BYTES_PER_TRAINED_PARAMETER, Assessment


def preset_label(name: str) -> str:
    """The name of a preset as a title."""
    return name.replace("_", " ").title()


def facts_of(result: Assessment) -> list[tuple[str, str]]:
    """(name, value) of memory, checkpoint, vocabulary, epoch and steps; empty where the config is not valid."""
    if result.count is None or result.config is None:
        return []
    train = result.config.train
    found = [
        ("Memory", f"about {size_text(result.count.total * BYTES_PER_TRAINED_PARAMETER)} + activations"),
        ("Checkpoint", f"about {size_text(result.count.total * BYTES_PER_SAVED_PARAMETER)}"),
        ("Vocabulary", f"{result.vocab_size:,} tokens"),
    ]
    if result.tokens_per_epoch:
        found.append(("Epoch", f"{'' if result.exact_tokens else 'about '}{result.tokens_per_epoch:,} tokens"))
    if result.batches_per_epoch:
        passes = train.max_steps * train.grad_accumulation / result.batches_per_epoch
        found.append(("Steps", f"{train.max_steps:,} = {passes:.2g} epochs"))
    return found


def size_text(count: float) -> str:
    """Bytes in a unit that keeps the number short."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
