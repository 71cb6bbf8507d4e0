"""The replay of ghost waking against a state machine that walks through every step."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from moe_hub.figures import registry
from moe_hub.figures.ghost_replay import Rules, Wake, read_rules, replay
from moe_hub.figures.registry import View
from moe_hub.runs.history import RunHistory

LAYERS = 3


def run(saturation: np.ndarray, improvement: np.ndarray, every: int = 1, threshold: float = 0.5) -> RunHistory:
    """Rows after steps 1, 2, ...; only every `every`-th is logged."""
    rows = [
        {"step": step, "ghost/saturation": saturation[step - 1], "ghost/loss_improvement": float(improvement[step - 1])}
        for step in range(1, len(saturation) + 1) if step % every == 0
    ]  # fmt: skip
    return RunHistory("run", {"model": {"ghost": {"activation_threshold": threshold}}}, None, rows)


def walk(saturation: np.ndarray, improvement: np.ndarray, rules: Rules, threshold: float) -> list[Wake]:
    """One step at a time: ramps count up, windows end, layers ripen, at most one ghost of a layer wakes."""
    ramps: list[list[int]] = [[0] * rules.ghosts for _ in range(saturation.shape[1])]
    ripe_windows = [0] * saturation.shape[1]
    events = []
    for step in range(1, len(saturation) + 1):
        for ramp in ramps:
            ramp[:] = [count + 1 if 0 < count < rules.ramp_steps else count for count in ramp]
        if step % rules.window:
            continue
        ready = []
        for layer, ramp in enumerate(ramps):
            good = saturation[step - 1, layer] > threshold and improvement[step - 1] < rules.plateau
            ripe_windows[layer] = ripe_windows[layer] + 1 if good else 0
            busy = any(0 < count < rules.ramp_steps for count in ramp)
            if ripe_windows[layer] >= rules.patience and step >= rules.min_step and 0 in ramp and not busy:
                ready.append(layer)
        if rules.schedule == "selective":
            on_way = any(0 < count < rules.ramp_steps for ramp in ramps for count in ramp)
            ready = [] if on_way or not ready else [max(ready, key=lambda layer: saturation[step - 1, layer])]
        for layer in ready:
            ramps[layer][ramps[layer].index(0)] = 1 if rules.schedule != "binary" else rules.ramp_steps
            ripe_windows[layer] = 0
            events.append(Wake(step, layer))
    return events


@pytest.mark.parametrize("schedule", ["gradual", "binary", "selective"])
@pytest.mark.parametrize("every", [1, 5])
def test_the_replay_is_the_walk(schedule: str, every: int) -> None:
    rng = np.random.default_rng(4)
    woken = 0
    for window, patience, ramp, ghosts in itertools.product((5, 10), (1, 3), (1, 12, 40), (1, 3)):
        saturation = rng.random((150, LAYERS))
        improvement = np.repeat(rng.normal(0, 0.02, 150 // window), window)
        improvement = np.append(np.full(window - 1, np.nan), improvement)[:150]  # known from the end of a window on
        rules = Rules(0.5, window, patience, 0.01, 30, 1 if schedule == "binary" else ramp, ghosts, schedule)
        for threshold in (0.0, 0.3, 0.6, 2.0):
            expected = walk(saturation, improvement, rules, threshold)
            assert replay(run(saturation, improvement, every), rules, threshold) == expected
            woken += len(expected)
    assert woken > 50, "the cases must wake some"


def test_rules_are_those_of_the_config_or_the_defaults(history: RunHistory) -> None:
    assert read_rules(history) == Rules(0.4, 50, 1, 0.5, 100, 50, 2, "gradual")
    assert read_rules(RunHistory("bare")).window == 100
    assert read_rules(RunHistory("odd", {"model": {"ghost": {"patience": -3}}})).patience == 1


def test_values_that_are_not_finite_wake_nothing() -> None:
    rules = replace(read_rules(RunHistory("bare")), window=5, min_step=0)
    assert replay(run(np.full((50, 2), np.nan), np.zeros(50)), rules, 0.1) == []
    assert replay(run(np.ones((50, 2)), np.full(50, np.nan)), rules, 0.1) == []
    assert replay(RunHistory("bare"), rules, 0.1) == []


def test_the_figure_counts_what_the_replay_finds(history: RunHistory) -> None:
    figure = registry.compose("activation-threshold-tuning", [history], View(threshold=0.6))
    rules = read_rules(history)
    curve = figure["data"][0]
    for place in (0, 40, 80, 120):
        assert curve["y"][place] == len(replay(history, rules, float(curve["x"][place])))
    assert any(note.startswith("threshold tried 0.6: layer") for note in figure["layout"]["meta"]["notes"])
    assert any(note.startswith("threshold in use 0.4") for note in figure["layout"]["meta"]["notes"])
