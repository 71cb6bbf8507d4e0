"""A training state in shards, written and read by all processes with torch.distributed.checkpoint.

Each process writes what it holds to a safetensors file of its own, whose header says where in each tensor its part
belongs. Any number of processes reads them back, one included. No pickle.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor, distribute_tensor

FOLDER = "shards"


def in_shards(model: nn.Module) -> bool:
    """Whether the parameters stand in shards (FSDP2)."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights on rank 0's CPU, nothing on the others; a collective."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return cast(dict[str, Tensor], get_model_state_dict(model, options=options))


def like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor, known to each process, in the shards of a parameter."""
    if not isinstance(parameter, DTensor) or value.shape != parameter.shape:
        return value
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def save_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes the tensors, each process its own parts; a collective. Raises `OSError` on all where one cannot write."""
    try:
        save(
            {name: _at_least_1d(value) for name, value in tensors.items()},
            storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True),
            no_dist=not dist.is_initialized(),
        )
    except CheckpointException as error:
        raise next((e for e, _ in error.failures.values() if isinstance(e, OSError)), error) from None


def load_shards(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fills the tensors in place, each process its own parts; a collective."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        load(
            {name: _at_least_1d(value) for name, value in tensors.items()},
            storage_reader=HuggingFaceStorageReader(str(folder)),
            no_dist=not dist.is_initialized(),
        )


def shapes(folder: Path) -> dict[str, tuple[torch.Size, torch.dtype]]:
    """Shape and dtype of each tensor that is stored."""
    stored = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {
        name: (entry.size, entry.properties.dtype)
        for name, entry in stored.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def _at_least_1d(value: Tensor) -> Tensor:
    return value.detach() if value.ndim else value.detach().view(1)
