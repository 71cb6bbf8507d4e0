"""Operations of training, counted by torch while the model of a config does one step.

Every matrix product that is executed counts two operations per multiply-add, forward and backward: what an arm skips
(experts that a token is not sent to, dormant ghosts, frozen weights) is not counted. CPU time depends on the machine
and on what else it does; this does not.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from moe_hub.config import Config
from moe_hub.models import build_model


def flops_per_token(config: Config, vocab_size: int) -> float:
    """Operations of one training step on a batch of full rows, by token; ghosts are asleep, as at the start."""
    shape = config.model_copy(update={"seed": 0, "name": "flops"})
    return _counted(shape.model_dump_json(), vocab_size)


@lru_cache(maxsize=256)
def _counted(config_json: str, vocab_size: int) -> float:
    config = Config.model_validate_json(config_json)
    model = build_model(config, vocab_size=vocab_size).train()
    length = config.model.max_seq_len
    ids_BT = torch.randint(vocab_size, (config.train.batch_size, length), generator=torch.Generator().manual_seed(0))
    geometric = config.train.mode == "geometric"
    # torch does not count what is done inside the fused attention of a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        found = model(input_ids=ids_BT, labels=ids_BT, documents=torch.ones_like(ids_BT), geometric=geometric)
        found.loss.backward()
    return float(counter.get_total_flops()) / ids_BT.numel()
