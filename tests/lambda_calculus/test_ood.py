"""Out-of-distribution sets lie outside the training range in the way they say, and nowhere else."""

from __future__ import annotations

from random import Random

import pytest

from moe_hub.errors import ConfigError
from moe_hub.lambda_calculus.expressions import random_expression
from moe_hub.lambda_calculus.judge import judge
from moe_hub.lambda_calculus.ood import OOD_SETS, make_ood_sample, ood_settings
from moe_hub.lambda_calculus.parser import parse_prefix
from moe_hub.lambda_calculus.tasks import TaskSettings
from moe_hub.lambda_calculus.terms import binder_depth, size

TRAINING = TaskSettings(levels=(3, 4), min_size=7, max_size=19, layout="direct", max_binder_depth=7)
CHURCH = TaskSettings(levels=(6,), layout="direct")


def draw(name, training=TRAINING, number=12, max_tokens=250):
    return [make_ood_sample(name, training, 0, index, max_tokens) for index in range(number)]


def test_larger():
    settings = ood_settings("size", TRAINING)
    assert (settings.min_size, settings.max_size, settings.levels) == (20, 30, TRAINING.levels)
    terms = [parse_prefix(sample.term) for sample in draw("size")]
    assert all(20 <= size(term) <= 30 and binder_depth(term) <= 7 for term in terms)


def test_longer():
    found = draw("steps", number=4)
    assert all(5 <= sample.steps <= 8 and size(parse_prefix(sample.term)) <= 19 for sample in found)


def test_deeper():
    terms = [parse_prefix(sample.term) for sample in draw("binder_depth")]
    assert all(8 <= binder_depth(term) <= 13 and size(term) <= 19 for term in terms)


def test_compositions_are_no_training_expressions():
    rng = Random(0)
    pure = {random_expression(rng) for _ in range(3000)}
    mixed = [parse_prefix(sample.term) for sample in draw("compositions", CHURCH, 40)]
    assert not pure & set(mixed)


def test_samples_are_right_and_reproducible():
    for name, training in (("size", TRAINING), ("binder_depth", TRAINING), ("compositions", CHURCH)):
        for sample in draw(name, training, 6):
            assert judge(sample.prompt, sample.answer).right
            assert make_ood_sample(name, training, 0, sample.index, 250) == sample


@pytest.mark.parametrize(
    ("name", "training", "part"),
    [
        ("colour", TRAINING, "there are size, steps, binder_depth, compositions"),
        ("size", TaskSettings(max_size=30), "lower max_size"),
        ("steps", TaskSettings(levels=(1, 3), layout="direct"), "levels [1]"),
        ("steps", TaskSettings(levels=(5,), max_size=19), "levels [5]"),
        ("binder_depth", TaskSettings(), "train with 6 or less"),
        ("compositions", TRAINING, "level 6"),
    ],
)
def test_no_room_outside_the_training_range(name, training, part):
    with pytest.raises(ConfigError) as caught:
        ood_settings(name, training)
    assert part in str(caught.value)


def test_segments_of_one_step_leave_room_for_more_steps():
    settings = ood_settings("steps", TaskSettings(levels=(1, 2, 3, 4), max_size=13))
    assert settings.levels == (5,)
    assert settings.max_size >= 16


def test_table():
    assert list(OOD_SETS) == ["size", "steps", "binder_depth", "compositions"]
    assert all(row.name == name and row.title for name, row in OOD_SETS.items())
