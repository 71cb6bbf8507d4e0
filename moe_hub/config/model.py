"""The model section of the config: one class for the model, one for each part that only some architectures read."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import field_validator, model_validator

from moe_hub.architectures import ARCHITECTURES
from moe_hub.config.schema import Section, did_you_mean, option


class CouplingConfig(Section):
    """How the deltas of the experts of a layer are mixed before they are added to the stream."""

    strategy: Literal["all_pairs", "all_triplets", "all", "all_orders"] = option(
        "all_pairs", "Hyperedges", "Which sets of experts form a hyperedge (gnn: always every pair)."
    )
    num_layers: int = option(
        1, "Coupling layers", "Message passing rounds per layer; two cost about 20 % of a step.", ge=0, le=4
    )
    learnable_edge_weights: bool = option(
        True, "Learn hyperedge weights", "Off keeps every hyperedge weight at its first value.", advanced=True
    )
    scale: float = option(1.0, "Coupling scale", "0 gives exactly the uncoupled model.", ge=0.0, le=1.0, advanced=True)


class OrthogonalConfig(Section):
    """Diversity loss on the experts, with one adaptive weight per layer."""

    target: Literal["activations", "weights"] = option(
        "activations", "What must differ", "The outputs of the experts for the same token, or their weights."
    )
    loss: Literal["overlap", "gram_identity"] = option(
        "overlap",
        "Form of the loss",
        "overlap: squared cosine of each token above the tolerated one; gram_identity: distance of the mean cosines "
        "from the identity, all of it.",
        advanced=True,
    )
    target_overlap: float | None = option(
        None,
        "Tolerated overlap",
        "What the controller holds the loss at, and with overlap not punished; empty: 2 / model width, twice the mean "
        "squared cosine of independent experts.",
        ge=0.0,
        le=1.0,
    )
    initial_weight: float = option(0.1, "First weight", "Weight of the loss at the start.", ge=0.0, le=10.0)
    min_weight: float = option(
        1e-3, "Smallest weight", "The controller never goes below it.", ge=0.0, le=10.0, advanced=True
    )
    max_weight: float = option(
        0.3, "Largest weight", "The controller never goes above it.", ge=0.0, le=10.0, advanced=True
    )
    controller_gain: float = option(
        0.01, "Controller gain", "How fast the weight follows the overlap; 0 holds it.", ge=0.0, le=1.0, advanced=True
    )
    average_decay: float = option(
        0.99, "Averaging", "Decay of the running mean of the overlap.", ge=0.0, lt=1.0, advanced=True
    )
    warmup_steps: int = option(
        200, "Warm-up of the loss", "Steps in which its weight grows from 0.", unit="steps", ge=0, advanced=True
    )
    schedule: Literal["constant", "cosine", "linear", "exponential", "step"] = option(
        "constant", "Schedule of the loss", "Multiplier of the weight over the run, from 1 down.", advanced=True
    )
    depth_scale: float = option(
        0.8, "Depth scale", "Each deeper layer's weight is multiplied by this once more.", gt=0.0, le=1.0, advanced=True
    )

    @model_validator(mode="after")
    def _weights_are_ordered(self) -> Self:
        if not self.min_weight <= self.max_weight:
            raise ValueError(f"min_weight = {self.min_weight} is above max_weight = {self.max_weight}")
        if self.controller_gain and not self.min_weight <= self.initial_weight <= self.max_weight:
            raise ValueError(
                f"initial_weight = {self.initial_weight} is not between min_weight = {self.min_weight} and "
                f"max_weight = {self.max_weight}, where the controller keeps it; change one, or set controller_gain = 0"
            )
        return self


class GhostConfig(Section):
    """Dormant experts that wake when the others are saturated."""

    num_ghosts: int = option(2, "Ghost experts", "Dormant experts per layer.", ge=0, le=16)
    activation_threshold: float = option(
        0.01,
        "Activation threshold",
        "Saturation above which ghosts may wake; it can be changed while the run goes on.",
        ge=0.0,
        le=2.0,
    )
    saturation_measure: Literal["explained", "fvu_grad", "legacy"] = option(
        "explained",
        "Saturation measure",
        "What diversity is multiplied with. explained: loss over unigram entropy; fvu_grad: share of the layer's "
        "gradient that no mixture of its experts' outputs follows; legacy: both factors of the first implementation.",
        advanced=True,
    )
    activation_schedule: Literal["gradual", "binary", "selective"] = option(
        "gradual",
        "Activation schedule",
        "gradual: over ramp_steps; binary: at once; selective: gradual, in the most saturated layer only.",
    )
    saturation_window: int = option(
        100, "Saturation window", "Steps over which saturation and progress are judged.", unit="steps", ge=2, le=100_000
    )
    patience: int = option(
        1, "Patience", "Saturated windows in a row before a ghost wakes.", unit="windows", ge=1, le=1000, advanced=True
    )
    plateau: float = option(
        0.01,
        "Plateau",
        "The loss stands still where a window improves it by less than this share.",
        ge=-1.0,
        le=1.0,
        advanced=True,
    )
    min_step: int = option(
        200, "Earliest step", "No ghost wakes before it: all is unexplained at first.", unit="steps", ge=0
    )
    ramp_steps: int = option(
        100, "Ramp", "Steps from dormant to fully active (gradual, selective).", unit="steps", ge=1, advanced=True
    )
    lr_coupling: Literal["inverse", "complementary", "none"] = option(
        "inverse",
        "Learning rate coupling",
        "inverse: grows as the common schedule falls; complementary: what that has fallen by; none: follows it.",
    )
    initialization: Literal["silent", "clone"] = option(
        "silent",
        "Waking as",
        "silent: output weights 0, so that waking changes nothing; clone: a noisy copy of the busiest expert.",
        advanced=True,
    )
    background_learning: bool = option(
        False, "Background learning", "Dormant ghosts learn to predict what would lower the loss.", advanced=True
    )


class GeometricConfig(Section):
    """Geometric Constrained Learning: each expert reads the data under its own learned rotation."""

    rotation_dims: int = option(
        4, "Rotation angles per expert", "Angles theta, tiled over the planes of the model width.", ge=1, le=256
    )
    rotation_type: Literal["givens", "butterfly", "householder", "cayley"] = option(
        "givens", "Rotation type", "How an orthogonal matrix is made from its parameters."
    )
    reflection_pairs: int = option(
        4, "Pairs of reflections", "Householder: each pair turns one plane.", ge=1, le=32, advanced=True
    )
    block_size: int = option(
        8, "Block size", "Cayley: width of the blocks that are turned; 0 is the full model width.", ge=0, advanced=True
    )
    max_angle_rad: float = option(
        0.8,
        "Largest expected angle",
        "Drawn as a line in the angle figure; angles are periodic and never clipped.",
        unit="rad",
        gt=0.0,
        le=3.1416,
        advanced=True,
    )
    freeze_experts: bool = option(
        False, "Freeze experts", "Train rotations and everything else, but no expert weight.", advanced=True
    )
    freeze_rotations: bool = option(
        False, "Freeze rotations", "Keep every rotation at its start: the control arm.", advanced=True
    )
    share_experts: bool = option(
        False, "Share expert weights", "One set of weights; experts differ by their rotation only.", advanced=True
    )
    expert_init: Literal["orthogonal", "normal"] = option(
        "orthogonal", "First expert weights", "orthogonal: input weights with orthonormal columns.", advanced=True
    )
    ghosts: bool = option(False, "Ghost experts", "Add the dormant experts of the ghost section.", advanced=True)


class TopkConfig(Section):
    """Sparse router: each token goes to few experts (Mixtral, OLMoE)."""

    top_k: int = option(2, "Experts per token", "Experts that each token is sent to.", ge=1, le=64)
    load_balance_weight: float = option(
        0.01, "Load balance weight", "Weight of the load-balance loss.", ge=0.0, le=10.0, advanced=True
    )
    router_z_weight: float = option(
        0.001, "Router z weight", "Weight of the squared log-sum-exp of the router.", ge=0.0, le=10.0, advanced=True
    )
    activation: Literal["relu2", "swiglu"] = option(
        "relu2",
        "Expert activation",
        "relu2: squared ReLU, as in the other architectures; swiglu: as in Mixtral, at the same number of weights.",
        advanced=True,
    )


class ModelConfig(Section):
    """The language model."""

    architecture: str = option("geometric", "Architecture", "How the experts of a layer are combined.")
    d_model: int = option(128, "Model width", "Width of the residual stream.", ge=8, le=16384)
    num_layers: int = option(2, "Layers", "Number of layers.", ge=1, le=128)
    num_heads: int = option(4, "Attention heads", "Heads per attention; must divide the model width.", ge=1, le=128)
    num_experts: int = option(4, "Experts", "Experts per layer (dense: always one).", ge=1, le=64)
    max_seq_len: int = option(
        128, "Sequence length", "Longest sequence in training and generation.", unit="tokens", ge=8, le=32768
    )
    dropout: float = option(0.0, "Dropout", "Share of activations dropped in training.", ge=0.0, le=0.9, advanced=True)
    scope: Literal["block", "ffn"] = option(
        "block",
        "Expert scope",
        "block: each expert has attention and feed-forward; ffn: experts share the attention (topk: always).",
        advanced=True,
    )
    readout: Literal["gate", "mean"] = option(
        "gate",
        "Readout",
        "How expert outputs are summed: a learned soft gate, or the plain mean (topk: always its router).",
        advanced=True,
    )
    rope_base: float = option(
        10000.0, "RoPE base", "Base of the rotary position frequencies.", gt=1.0, le=1e7, advanced=True
    )
    coupling: CouplingConfig = CouplingConfig()
    orthogonal: OrthogonalConfig = OrthogonalConfig()
    ghost: GhostConfig = GhostConfig()
    geometric: GeometricConfig = GeometricConfig()
    topk: TopkConfig = TopkConfig()

    @property
    def num_ghosts(self) -> int:
        """Ghost experts per layer that this architecture makes."""
        features = ARCHITECTURES[self.architecture].features
        optional = "rotation" in features and self.geometric.ghosts
        return self.ghost.num_ghosts if self.num_experts > 1 and ("ghosts" in features or optional) else 0

    @field_validator("architecture")
    @classmethod
    def _known_architecture(cls, name: str) -> str:
        if name not in ARCHITECTURES:
            raise ValueError(f"allowed: {', '.join(ARCHITECTURES)}{did_you_mean(name, ARCHITECTURES)}")
        return name

    @model_validator(mode="after")
    def _shapes_fit(self) -> Self:
        if self.d_model % (2 * self.num_heads):
            raise ValueError(
                f"d_model = {self.d_model} must be a multiple of 2 x num_heads = {2 * self.num_heads} "
                "(rotary positions need an even head width); change d_model or num_heads"
            )
        if self.geometric.rotation_dims > self.d_model // 2:
            raise ValueError(
                f"geometric.rotation_dims = {self.geometric.rotation_dims} is more than the "
                f"{self.d_model // 2} planes of d_model = {self.d_model}; lower it"
            )
        block = self.geometric.block_size
        if self.geometric.rotation_type == "cayley" and block and (block < 2 or self.d_model % block):
            raise ValueError(
                f"geometric.block_size = {block} must divide d_model = {self.d_model} and be at least 2, or be 0 (full)"
            )
        return self

    @model_validator(mode="after")
    def _experts_fit(self) -> Self:
        nodes = self.num_experts + self.num_ghosts
        if self.coupling.strategy == "all_orders" and nodes > 8:
            raise ValueError(
                f"coupling.strategy all_orders has 2^{nodes} hyperedges; it is allowed up to 8 experts with ghosts"
            )
        if self.architecture == "topk" and self.topk.top_k > self.num_experts:
            raise ValueError(
                f"topk.top_k = {self.topk.top_k} is more than num_experts = {self.num_experts}; lower it or add experts"
            )
        return self
