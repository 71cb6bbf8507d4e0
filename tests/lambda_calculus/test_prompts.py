"""Prompts for typed terms are those of the tasks."""

from __future__ import annotations

import pytest

from moe_hub.errors import DataError
from moe_hub.lambda_calculus.judge import read_prompt
from moe_hub.lambda_calculus.prompts import prompt_for
from moe_hub.lambda_calculus.tasks import TaskSettings, make_sample


@pytest.mark.parametrize(
    ("text", "asked", "prompt"),
    [
        (r"(\x.x) (\y.y)", "normal form", "<sem> @ lam 0 lam 0 ="),
        ("(λx.x) λy.y", "step", "<red> @ lam 0 lam 0 ="),
        ("(λx.x) λy.y", "trace", "<red> @ lam 0 lam 0 ;"),
        ("(λp.p) λq.q", "segments", "<syn> ( λ p . p ) λ q . q ="),
        ("(λp.p) a", "named step", "<red> ( λ p . p ) a ="),
        ("(λp.p) a", "normal form", "<sem> @ lam 0 a ="),
        ("@ lam 0 lam 0", "parse", "<syn> ( λ x . x ) λ x . x ="),
        ("λfirst.λy.first", "parse", "<syn> λ x . λ y . x ="),
        ("<red> @ lam 0 lam 0 =", "normal form", "<sem> @ lam 0 lam 0 ="),
    ],
)
def test_prompts(text, asked, prompt):
    assert prompt_for(text, asked) == prompt


@pytest.mark.parametrize("layout", ["segments", "direct"])
def test_a_sample_s_prompt_stays_itself(layout):
    settings = TaskSettings(levels=(0, 1, 2, 3, 6, 7, 8), max_size=12, layout=layout, max_tokens=190)
    for index in range(21):
        sample = make_sample(settings, "train", 0, index)
        asked, _ = read_prompt(sample.prompt, sample.answer)
        assert prompt_for(sample.prompt, asked) == sample.prompt


@pytest.mark.parametrize("text", ["(λx.x) first", "λx.(", "@ lam 0 alpha"])
def test_terms_that_cannot_be_asked_about(text):
    with pytest.raises(DataError, match="term"):
        prompt_for(text, "normal form")
