"""The table of metrics: every name that a run may log stands here once, with unit, shape and meaning.

A name with `<...>` is a pattern: the part in brackets is one word, such as a parameter group or a phase.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    `shape` is empty for a scalar, else the names of the axes; `null` is the value of an untrained model or of
    independent experts, where there is one: a value is only worth showing beside it.
    """

    name: str
    unit: str
    shape: str
    meaning: str
    null: str = ""


_TABLE = (
    Metric("train/loss", "nat", "", "Task loss on the training batches since the last row.", "ln(vocabulary)"),
    Metric("val/loss", "nat", "", "Mean cross entropy per target token on held-out data.", "ln(vocabulary)"),
    Metric("val/perplexity", "", "", "exp(val/loss).", "vocabulary size"),
    Metric("val/token_accuracy", "share", "", "Held-out target tokens whose most likely prediction is right.",
           "1 / vocabulary"),
    Metric("val/exact_match", "share", "", "Held-out tasks answered exactly, greedy decoding.", "0"),
    Metric("val/exact_match_ci_low", "share", "", "Lower end of the Wilson 95 % interval of val/exact_match."),
    Metric("val/exact_match_ci_high", "share", "", "Upper end of the Wilson 95 % interval of val/exact_match."),
    Metric("val/exact_match/<k steps>", "share", "", "Exact match on tasks that need k reduction steps.", "0"),
    Metric("loss/task", "nat", "", "Cross entropy per target token.", "ln(vocabulary)"),
    Metric("loss/orthogonality", "", "", "Normalised overlap of the experts' outputs, before its weight.", "0"),
    Metric("loss/rotation_efficiency", "", "", "Mean size of the rotations, (D - tr R) / 2D, before its weight.", "0"),
    Metric("loss/specialization", "", "", "1 - normalised mutual information of token and expert, before its weight.",
           "1"),
    Metric("loss/load_balance", "", "", "Load-balance loss of the sparse router, before its weight.", "1"),
    Metric("loss/router_z", "", "", "Mean squared log-sum-exp of the router's logits, before its weight.",
           "ln(experts) squared"),
    Metric("loss/total", "", "", "What the optimizer minimises: the task loss plus the weighted terms."),
    Metric("optim/lr/<group>", "", "", "Learning rate of a parameter group."),
    Metric("optim/grad_norm/<group>", "", "", "Gradient norm of a parameter group, before clipping."),
    Metric("optim/grad_norm_total", "", "", "Gradient norm of all parameters, before clipping."),
    Metric("time/tokens_per_s", "tokens/s", "", "Training tokens per second since the last row."),
    Metric("time/step_s", "s", "", "Seconds per optimizer step since the last row."),
    Metric("time/active_s", "s", "", "Seconds spent training so far, without pauses."),
    Metric("time/cpu_s", "s", "", "CPU seconds of all threads spent training so far, without evaluation."),
    Metric("system/cpu_percent", "%", "", "CPU use of the trainer; 100 is one full core."),
    Metric("system/memory_mb", "MB", "", "Resident memory of the trainer."),
    Metric("expert/load", "share", "(layers, experts)",
           "Share of each expert in its layer's output, by length; ghosts stand after the others.", "1 / experts"),
    Metric("expert/utilization", "share", "(layers, experts)",
           "Share of tokens to which the expert gives at least half of an even share; under 0.01 it is dead.",
           "1; topk: top_k / experts"),
    Metric("expert/similarity", "cosine", "(layers, experts, experts)", "Mean cosine between experts' outputs.",
           "0 off the diagonal"),
    Metric("expert/cka", "", "(layers, experts, experts)",
           "Linear centred kernel alignment of experts' outputs, estimated without bias: 1 where they differ by a "
           "rotation and a scale alone.",
           "0 off the diagonal"),
    Metric("expert/orthogonality", "", "(layers)",
           "Normalised overlap of the experts' outputs: 0 independent, 1 collapsed.", "0"),
    Metric("expert/specialization", "", "(layers)", "Normalised mutual information of token and expert.", "0"),
    Metric("expert/effective_rank", "", "(layers)",
           "Effective number of different directions among the experts' outputs, 1 to experts.", "experts"),
    Metric("expert/weight_overlap", "", "(layers)",
           "Mean squared cosine between the rows of the experts' weights, normalised as expert/orthogonality.", "0"),
    Metric("router/entropy", "share", "(layers)",
           "Mean entropy of the gate or router over the tokens, as a share of ln(experts).", "1"),
    Metric("rotation/theta_rad", "rad", "(layers, experts, dims)",
           "Rotation angles of each expert; householder and cayley: the principal angles.", "0"),
    Metric("rotation/efficiency", "", "(layers, experts)",
           "Size of each expert's learned rotation, (D - tr R) / 2D: 0 none, 1 half a turn in every plane.", "0"),
    Metric("rotation/orthogonality_error", "", "(layers)", "Largest entry of |R^T R - I|: rounding only.", "0"),
    Metric("coupling/adjacency", "", "(layers, experts, experts)",
           "Weights with which experts (rows) read others (columns), mean over tokens; ghosts stand after the others.",
           "uniform over the hyperedges; gnn: 1 / (4 (experts - 1)) off the diagonal"),
    Metric("coupling/hyperedge_weight", "", "(layers, hyperedges)",
           "Weight of each hyperedge in the order of `architectures.logged_hyperedges`; 0 while one of its ghosts "
           "sleeps.", "1"),
    Metric("coupling/edge_weight", "", "(layers, edges)",
           "Learned factor of each directed edge, row by row without the diagonal (gnn).", "0.5"),
    Metric("orthogonal/weight", "", "(layers)", "Present weight of each layer's diversity loss."),
    Metric("orthogonal/overlap", "", "(layers)",
           "Running mean of what the diversity loss measures and the controller holds at its target: squared cosine, "
           "or with gram_identity distance of the mean cosines from the identity.",
           "1 / model width; gram_identity: 0"),
    Metric("ghost/activation", "", "(layers, ghosts)", "How far each ghost expert is switched on, 0 to 1.", "0"),
    Metric("ghost/state", "", "(layers, ghosts)", "0 dormant, 1 activating, 2 active.", "0"),
    Metric("ghost/contribution", "share", "(layers, ghosts)", "Share of each ghost in its layer's output.", "0"),
    Metric("ghost/saturation", "", "(layers)",
           "Saturation of the primary experts, diversity x what the saturation measure finds unexplained; above the "
           "threshold, on a plateau of the loss, a ghost wakes.",
           "1; fvu_grad: 1 - experts / model width; legacy: 0"),
    Metric("ghost/diversity", "", "(layers)",
           "(effective rank - 1) / (experts - 1) of the primary experts; legacy: 1 - mean squared entry of (cosines of "
           "mean outputs - identity).", "1"),
    Metric("ghost/unexplained", "", "", "Running mean of the task loss over the unigram entropy.",
           "ln(vocabulary) / unigram entropy"),
    Metric("ghost/gradient_fvu", "share", "(layers)",
           "Running mean of the share of the gradient at the layer's output, squared, outside the span of the experts' "
           "outputs (saturation measure fvu_grad).", "1 - experts / model width"),
    Metric("ghost/residual_variance", "", "(layers)",
           "Running mean of the variance of layer input - mean expert output (saturation measure legacy).",
           "0: experts that add nothing"),
    Metric("ghost/loss_improvement", "", "",
           "Relative gain of the mean task loss from one window to the next; 1 until there are two.", "0"),
    Metric("ghost/threshold", "", "", "Saturation above which ghosts may wake."),
    Metric("lambda/phase_weight", "", "(phases)", "Weight of each phase in the curriculum, 0 to 1."),
    Metric("lambda/phase_offset_rad", "rad", "(phases)", "Angle by which the tokens of each phase are turned."),
    Metric("lambda/loss/<phase>", "nat", "", "Cross entropy of the tokens of a phase.", "ln(vocabulary)"),
    Metric("lambda/exact_match/<phase>", "share", "", "Held-out tasks of a phase answered exactly.", "0"),
    Metric("probe/rotated", "", "(experts, dims 3)",
           "First coordinates of the probe (1, 0, 1, 0, 0, ...) / sqrt 2 under each expert's rotation of layer 0.",
           "the same for all experts"),
    Metric("event/ghost_woken", "", "(layers, ghosts)", "1 for each ghost that was woken after this step."),
    Metric("event/checkpoint", "", "", "1 in the row where a checkpoint was written."),
    Metric("event/nonfinite", "", "", "1 in the row of a step whose loss or gradient was not finite; not applied."),
    Metric("event/pause", "", "", "1 in the row where the run was paused."),
    Metric("event/resume", "", "", "1 in the row where the run went on after a pause or a restart."),
)  # fmt: skip

METRICS: dict[str, Metric] = {metric.name: metric for metric in _TABLE}


@cache
def find_metric(name: str) -> Metric | None:
    """The row of a logged name, by itself or by its pattern; None where the table has none."""
    if name in METRICS:
        return METRICS[name]
    for pattern, metric in METRICS.items():
        if "<" in pattern and re.fullmatch(_expression(pattern), name):
            return metric
    return None


def _expression(pattern: str) -> str:
    return "".join("[^/<>]+" if part.startswith("<") else re.escape(part) for part in re.split(r"(<[^>]*>)", pattern))
