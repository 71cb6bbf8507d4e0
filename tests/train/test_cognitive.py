"""Schedules of the phases against hand-computed values."""

from __future__ import annotations

import pytest

from moe_hub.train.cognitive import CognitiveSchedule


def test_curriculum_begins_a_phase_each_quarter_and_ramps_over_an_eighth() -> None:
    schedule = CognitiveSchedule("curriculum", 80)
    assert schedule.weights(0) == [1, 0, 0, 0]
    assert schedule.weights(25) == [1, 0.5, 0, 0]
    assert schedule.weights(30) == [1, 1, 0, 0]
    assert schedule.weights(79) == [1, 1, 1, 1]
    assert CognitiveSchedule("fixed", 80).weights(0) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("levels", "opened"),
    [((1, 2, 3), [1, 2, 3, None]), ((2,), [2, 2, 2, None]), ((0, 1, 2, 3, 4, 5, 6), [0, 1, 2, None])],
)
def test_curriculum_opens_a_level_with_each_phase_and_in_the_end_all(
    levels: tuple[int, ...], opened: list[int | None]
) -> None:
    schedule = CognitiveSchedule("curriculum", 80)
    assert [schedule.unlocked_level(step, levels) for step in (10, 30, 50, 70)] == opened
    assert CognitiveSchedule("adaptive", 80).unlocked_level(10, levels) is None


def test_adaptive_goes_on_when_a_phase_is_learned_or_stands_still() -> None:
    schedule = CognitiveSchedule("adaptive", 80)
    schedule.observe(10, {"syntax": 0.5}, {"syntax": 1.0})
    assert schedule.weights(20) == [1, 0, 0, 0]
    schedule.observe(20, {"syntax": 0.95}, {"syntax": 0.5})
    assert schedule.weights(25) == [1, 0.5, 0, 0]
    schedule.observe(30, {"reduction": 0.1}, {"reduction": 2.0})
    schedule.observe(40, {"reduction": 0.1}, {"reduction": 1.999})
    assert schedule.weights(50) == [1, 1, 1, 0]
    again = CognitiveSchedule("adaptive", 80)
    again.load_state_dict(schedule.state_dict())
    assert again.weights(50) == schedule.weights(50)
