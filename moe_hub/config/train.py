"""The section of the config that describes the training loop."""

from __future__ import annotations

from typing import Literal

from moe_hub.config.schema import Section, option


class LossWeightsConfig(Section):
    """Weights of the geometric loss terms; each term lies in [0, 1]."""

    orthogonality: float = option(0.5, "Orthogonality", "Weight of expert overlap.", ge=0.0, le=10.0)
    rotation_efficiency: float = option(
        0.2, "Rotation efficiency", "Weight of the size of the rotations.", ge=0.0, le=10.0
    )
    specialization: float = option(
        0.3, "Specialization", "Weight of 1 - normalised mutual information of token and expert.", ge=0.0, le=10.0
    )


class LambdaCognitiveConfig(Section):
    """Rotation of the data by reasoning phase (0, 90, 180, 270 degrees) in lambda-calculus samples."""

    enabled: bool = option(False, "Cognitive rotations", "Rotate by the phase that a token belongs to.")
    scheduling: Literal["curriculum", "adaptive", "fixed"] = option(
        "curriculum", "Schedule", "When the rotation of each phase is switched on."
    )


class ParallelConfig(Section):
    """Training by several processes (torch.distributed, under torchrun)."""

    processes: int = option(
        1,
        "Processes",
        "On this machine, each with its rows of every batch; torchrun started by hand decides for itself.",
        ge=1,
        le=1024,
        advanced=True,
    )
    strategy: Literal["auto", "ddp", "fsdp"] = option(
        "auto",
        "Strategy",
        "ddp: each process has the whole model; fsdp: gradients and moments stand in shards (FSDP2). auto: ddp.",
        advanced=True,
    )


class TrainConfig(Section):
    """The training loop."""

    mode: Literal["standard", "geometric"] = option(
        "standard", "Training mode", "geometric: own learning rates and the geometric loss terms."
    )
    max_steps: int = option(600, "Steps", "Optimizer steps.", unit="steps", ge=1, le=100_000_000)
    epochs: int | None = option(
        None, "Epochs", "Stop after this many passes over the data, if that comes first.", ge=1, advanced=True
    )
    max_batches_per_epoch: int | None = option(
        None, "Batches per epoch", "An epoch ends after this many batches.", ge=1, advanced=True
    )
    batch_size: int = option(32, "Batch size", "Sequences per batch.", unit="sequences", ge=1, le=65536)
    grad_accumulation: int = option(
        1, "Gradient accumulation", "Batches per optimizer step.", unit="batches", ge=1, le=4096, advanced=True
    )
    optimizer: Literal["adamw", "muon"] = option(
        "adamw",
        "Optimizer",
        "torch.optim's own; muon: Muon for the experts' matrices, scaled to AdamW's rates, AdamW for the rest.",
        advanced=True,
    )
    schedule: Literal["cosine", "linear", "wsd", "constant"] = option(
        "cosine", "Schedule", "Shape of the learning rate after the warm-up."
    )
    learning_rate: float = option(1e-3, "Learning rate", "Embedding, head, norms, router, coupler.", gt=0.0, le=1.0)
    geometric_learning_rate: float = option(
        1e-3, "Rotation learning rate", "Rotation angles, in geometric mode.", gt=0.0, le=1.0
    )
    expert_learning_rate: float = option(
        1e-4, "Expert learning rate", "Expert weights, in geometric mode.", gt=0.0, le=1.0
    )
    ghost_learning_rate: float = option(
        1e-4, "Ghost learning rate", "Peak for ghost experts; see Learning rate coupling.", gt=0.0, le=1.0
    )
    weight_decay: float = option(
        0.1,
        "Weight decay",
        "On matrices only; never on gains, biases, angles or edge weights.",
        ge=0.0,
        le=1.0,
        advanced=True,
    )
    beta2: float = option(0.98, "Adam beta 2", "Decay of the second moment.", gt=0.0, lt=1.0, advanced=True)
    warmup_steps: int = option(50, "Warm-up", "Steps of linear warm-up.", unit="steps", ge=0, advanced=True)
    min_lr_ratio: float = option(0.1, "Final learning rate", "As a share of the peak.", ge=0.0, le=1.0, advanced=True)
    on_nonfinite: Literal["stop", "pause"] = option(
        "stop",
        "After a bad step",
        "A non-finite loss or gradient is never applied. stop: the run ends; pause: it holds, and resume leaves that "
        "step out.",
        advanced=True,
    )
    grad_clip: float = option(1.0, "Gradient clip", "Largest gradient norm; 0 turns it off.", ge=0.0, advanced=True)
    precision: Literal["auto", "fp32", "bf16"] = option(
        "auto", "Precision", "auto: bf16 where the device computes it natively.", advanced=True
    )
    device: str = option(
        "auto",
        "Device",
        "Where to train; auto takes a GPU if there is one.",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        allowed="auto, cpu, cuda, cuda:N, mps",
        advanced=True,
    )
    threads: int = option(0, "CPU threads", "0: all cores.", ge=0, le=1024, advanced=True)
    eval_every: int = option(100, "Evaluate every", "Steps between evaluations.", unit="steps", ge=1)
    eval_batches: int = option(
        8, "Evaluation batches", "Batches per evaluation while training; the last uses all.", ge=1, advanced=True
    )
    log_every: int = option(5, "Log every", "Steps between metric rows.", unit="steps", ge=1)
    checkpoint_every: int = option(200, "Checkpoint every", "Steps between checkpoints.", unit="steps", ge=1)
    keep_checkpoints: int = option(3, "Keep checkpoints", "Newest checkpoints kept; the best is kept too.", ge=1)
    compile: bool = option(False, "torch.compile", "28 to 42 s to start, 4 to 10 % faster on a CPU.", advanced=True)
    loss_chunk_tokens: int = option(
        0,
        "Loss chunk",
        "Computes the loss this many tokens at a time: less memory with a large vocabulary, more time. 0: all at once.",
        unit="tokens",
        ge=0,
        advanced=True,
    )
    parallel: ParallelConfig = ParallelConfig()
    loss_weights: LossWeightsConfig = LossWeightsConfig()
    lambda_cognitive: LambdaCognitiveConfig = LambdaCognitiveConfig()
