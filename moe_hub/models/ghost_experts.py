"""Ghost experts: dormant capacity with parameters of its own, and the state of each.

Legend: E experts, G ghosts, A ghosts that are awake, B batch, T time, N = B x T tokens, D d_model, O = 3 D, F = 4 D,
C coupling rounds, R coupling width.

Each ghost's weights are separate parameters, not rows of the experts' stack: the optimizer then leaves a dormant ghost
alone (no gradient, no weight decay, no moments), and each has its own learning rate. Only awake ghosts are stacked
and computed. A ghost wakes silent (Net2Net, arXiv 1511.05641; GradMax, arXiv 2201.05125): its output weights are 0,
so the function does not change at that step, whatever its activation a in (0, 1] is; a then scales what it adds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from moe_hub.config.model import ModelConfig
from moe_hub.models.attention import Context
from moe_hub.models.expert import ExpertSettings, ExpertWeights, expert_deltas
from moe_hub.models.rotation import Rotation, build_rotation
from moe_hub.models.saturation import Saturation
from moe_hub.models.shared_tokens import per_token, shared, sharing

DORMANT, ACTIVATING, ACTIVE = 0, 1, 2


class GhostExpert(nn.Module):
    """The weights of one ghost: expert, gate row, output of each coupling round, and rotation where there are any."""

    def __init__(self, settings: ModelConfig, stream: int, *, rotated: bool, rounds: int) -> None:
        super().__init__()
        d_model = settings.d_model
        self.stream = stream
        self.qkv_OD, self.out_DD = None, None
        if settings.scope == "block":
            self.qkv_OD = nn.Parameter(torch.empty(3 * d_model, d_model))
            self.out_DD = nn.Parameter(torch.empty(d_model, d_model))
        self.w1_FD = nn.Parameter(torch.empty(4 * d_model, d_model))
        self.w2_DF = nn.Parameter(torch.empty(d_model, 4 * d_model))
        self.gate_D = nn.Parameter(torch.empty(d_model)) if settings.readout == "gate" else None
        self.u_CRD = nn.Parameter(torch.empty(rounds, d_model // 4, d_model)) if rounds else None
        self.rotation: Rotation | None = build_rotation(settings, 1) if rotated else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Input weights normal, std 0.02, from a random stream of its own: a model draws the same with and without."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch.initial_seed() + 1 + self.stream)
            for weight in (self.qkv_OD, self.w1_FD):
                if weight is not None:
                    nn.init.normal_(weight, std=0.02)
        if self.gate_D is not None:
            nn.init.zeros_(self.gate_D)
        for output in self.outputs():
            nn.init.zeros_(output)

    def outputs(self) -> list[nn.Parameter]:
        """The parameters through which all that the ghost says passes."""
        return [output for output in (self.out_DD, self.w2_DF, self.u_CRD) if output is not None]

    @torch.no_grad()
    def silence(self) -> None:
        """Sets the output weights to 0."""
        for output in self.outputs():
            output.zero_()

    @torch.no_grad()
    def become(self, weights: ExpertWeights, noise: float = 0.01) -> None:
        """Takes an expert's weights (stacks of one), each with noise of 1 % of its size; stays out of the coupling."""
        pairs = [(self.w1_FD, weights.w1_EFD), (self.w2_DF, weights.w2_EDF)]
        if self.qkv_OD is not None and self.out_DD is not None and weights.qkv_EOD is not None:
            pairs += [(self.qkv_OD, weights.qkv_EOD), (self.out_DD, weights.out_EDD)]  # type: ignore[list-item]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.stream)
            for mine, theirs in pairs:
                draws = torch.randn(mine.shape).to(mine)
                mine.copy_(theirs[0] + noise * theirs.std() * draws)


class Ghosts(nn.Module):
    """The ghosts of one layer. State changes between optimizer steps only (see train/adaptation.py)."""

    state_G: Tensor
    ramp_G: Tensor
    activation_G: Tensor
    threshold: Tensor
    load_E: Tensor  # running mean of the experts' load; fed only where a ghost wakes as a clone of the busiest

    def __init__(self, settings: ModelConfig, layer: int, *, rotated: bool, rounds: int) -> None:
        super().__init__()
        self.settings = settings.ghost
        count = settings.num_ghosts
        streams = range(1000 * layer, 1000 * layer + count)
        self.experts = nn.ModuleList(GhostExpert(settings, s, rotated=rotated, rounds=rounds) for s in streams)
        self.slot = settings.num_layers + layer  # of the key-value cache
        self.register_buffer("state_G", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("ramp_G", torch.zeros(count, dtype=torch.int64))
        self.register_buffer("activation_G", torch.zeros(count))
        self.register_buffer("load_E", torch.full((settings.num_experts,), 1 / settings.num_experts))
        self.register_buffer("threshold", torch.tensor(settings.ghost.activation_threshold))
        self.saturation = Saturation(settings.ghost, settings.num_experts)
        self.quiet = ExpertSettings(settings.num_heads, settings.rope_base, 0.0)
        self.background_gradients: dict[Tensor, Tensor] = {}
        self.loads: list[Tensor] = []  # of the forward passes since the last optimizer step
        self._seen: tuple[int, int] | None = None
        self._states: tuple[int, ...] = ()

    def states(self) -> tuple[int, ...]:
        """DORMANT, ACTIVATING or ACTIVE for each ghost; the buffer is read again only after it has changed."""
        seen = (id(self.state_G), self.state_G._version)
        if seen != self._seen:
            self._seen, self._states = seen, tuple(self.state_G.tolist())
        return self._states

    def forget(self) -> None:
        """Drops what the passes since the last optimizer step have left."""
        self.loads.clear()
        self.background_gradients.clear()
        self.saturation.parts.clear()

    def follow_load(self) -> None:
        """Takes the loads of the forward passes since the last optimizer step into their running mean."""
        for load_E in self.loads:
            self.load_E.lerp_(load_E, 0.01)
        self.loads.clear()

    def activations(self) -> tuple[float, ...]:
        """a of each ghost, in [0, 1]."""
        if not any(self.states()):
            return (0.0,) * len(self.states())
        return tuple(min(1.0, steps / self.settings.ramp_steps) for steps in self.ramp_G.tolist())

    def awake(self) -> tuple[int, ...]:
        """Numbers of the ghosts that are not dormant."""
        return tuple(ghost for ghost, state in enumerate(self.states()) if state != DORMANT)

    def expert(self, ghost: int) -> GhostExpert:
        """One ghost's weights."""
        expert = self.experts[ghost]
        assert isinstance(expert, GhostExpert)
        return expert

    def stacked(self, awake: tuple[int, ...]) -> ExpertWeights:
        """Weights of some ghosts, rotations folded in."""
        each = [ghost_weights(self.expert(ghost)) for ghost in awake]
        qkv = [weights.qkv_EOD for weights in each if weights.qkv_EOD is not None]
        out = [weights.out_EDD for weights in each if weights.out_EDD is not None]
        return ExpertWeights(
            torch.cat([weights.w1_EFD for weights in each]),
            torch.cat([weights.w2_EDF for weights in each]),
            torch.cat(qkv) if qkv else None,
            torch.cat(out) if out else None,
        )

    def deltas(
        self, x_BTD: Tensor, seen_BTD: Tensor, context: Context, options: ExpertSettings, awake: tuple[int, ...]
    ) -> Tensor:
        """Deltas (A, N, D) of some ghosts."""
        return expert_deltas(x_BTD, seen_BTD, self.stacked(awake), context, self.slot, options)

    def gate_logits(self, x_ND: Tensor, awake: tuple[int, ...]) -> Tensor:
        """Logits (N, A) of some ghosts at the gate, in at least fp32."""
        rows: list[Tensor] = [gate for ghost in awake if (gate := self.expert(ghost).gate_D) is not None]
        logits_NA = x_ND @ torch.stack(rows).T.to(x_ND.dtype)
        return logits_NA if logits_NA.dtype == torch.float64 else logits_NA.float()

    def coupling_outputs(self, awake: tuple[int, ...], number: int) -> Tensor:
        """Output weights (A, R, D) of some ghosts in a coupling round."""
        return torch.stack([u[number] for ghost in awake if (u := self.expert(ghost).u_CRD) is not None])

    def learn_in_background(self, x_BTD: Tensor, seen_BTD: Tensor, y_BTD: Tensor, context: Context) -> None:
        """Lets dormant ghosts learn what would lower the loss, from the gradient that reaches the layer's output.

        Each predicts -dL/dy, scaled to length 1 per entry, from the detached input of the layer. The gradients are kept
        apart from those of the model (`background_gradients`), so nothing else in training changes by a bit.
        """
        dormant = tuple(ghost for ghost, state in enumerate(self.states()) if state == DORMANT)
        if not self.settings.background_learning or not dormant or not y_BTD.requires_grad:
            return
        x_BTD, seen_BTD, between = x_BTD.detach(), seen_BTD.detach(), sharing()

        def collect(grad_BTD: Tensor) -> None:
            target_ND = -grad_BTD.detach().flatten(0, 1).float()
            with torch.enable_grad(), shared(between):
                target_ND = target_ND / _mean(target_ND.square()).sqrt().clamp(min=1e-30)
                delta_GND = self.deltas(x_BTD, seen_BTD, context, self.quiet, dormant)
                loss = _mean((delta_GND.float() - target_ND).square().sum(0))
            weights = [weight for ghost in dormant for weight in self.expert(ghost).parameters()]
            gradients = torch.autograd.grad(loss, weights, allow_unused=True)
            for weight, gradient in zip(weights, gradients, strict=True):
                if gradient is not None:
                    known = self.background_gradients.get(weight)
                    self.background_gradients[weight] = gradient if known is None else known + gradient

        y_BTD.register_hook(collect)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def wake(self, ghost: int) -> None:
        """Dormant to activating (binary: active): it counts from the next forward pass on."""
        binary = self.settings.activation_schedule == "binary"
        steps = self.settings.ramp_steps if binary else 1
        self.ramp_G[ghost] = steps
        self._follow_ramp()

    @torch.no_grad()
    def advance(self) -> None:
        """One step further for every ghost that is activating."""
        if ACTIVATING in self.states():
            self.ramp_G.add_((self.state_G == ACTIVATING).long())
            self._follow_ramp()

    def _follow_ramp(self) -> None:
        done_G = self.ramp_G >= self.settings.ramp_steps
        self.state_G.copy_(torch.where(done_G, ACTIVE, (self.ramp_G > 0).long()))
        self.activation_G.copy_((self.ramp_G / self.settings.ramp_steps).clamp(max=1.0))


def _mean(value_ND: Tensor) -> Tensor:
    return per_token(value_ND.sum(), value_ND.numel())


def ghost_weights(ghost: GhostExpert) -> ExpertWeights:
    """A ghost's weights as a stack of one, its rotation folded in."""
    attention = [weight for weight in (ghost.qkv_OD,) if weight is not None]
    inputs = [weight.unsqueeze(0) for weight in (ghost.w1_FD, *attention)]
    if ghost.rotation is not None:
        inputs = list(ghost.rotation.fold(*inputs))
    out_EDD = None if ghost.out_DD is None else ghost.out_DD.unsqueeze(0)
    return ExpertWeights(inputs[0], ghost.w2_DF.unsqueeze(0), inputs[1] if attention else None, out_EDD)
