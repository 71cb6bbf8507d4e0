"""Verdicts on answers of every kind."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moe_hub.errors import DataError
from moe_hub.lambda_calculus.judge import KINDS, judge
from moe_hub.lambda_calculus.tasks import TaskSettings, make_sample
from moe_hub.lambda_calculus.vocabulary import TOKENS

OMEGA = "(λx.x x) (λx.x x)"


@pytest.mark.parametrize(
    ("prompt", "answer", "kind"),
    [
        ("(λx.x) a", "a", "right"),
        ("(λx.x) a", "b", "wrong"),
        ("(λx.x) a", "(λy.y) a", "beta-equal"),
        ("(λx.x) a", "(λx.x) ((λx.x) a)", "beta-equal"),
        ("(λx.x) a", "", "not a term"),
        ("(λx.x) a", "(a", "not a term"),
        ("(λx.λy.x) y", "λz.y", "right"),
        ("(λx.λy.x) y", "λy.y", "wrong"),
        ("(λx.λy.x) y", "lam y", "right"),
        ("λx.x", "λq.q", "right"),
        (OMEGA, OMEGA, "divergent"),
        (OMEGA, "a", "divergent"),
        (OMEGA, "(", "not a term"),
        ("<sem> @ lam 0 lam 0 =", "lam 0", "right"),
        ("<sem> @ lam 0 lam 0 =", "lam 0 <eos> @ @", "right"),
        ("<sem> @ lam 0 lam 0 =", "@ lam 0 lam 0", "beta-equal"),
        ("<bos> <sem> @ lam 0 lam 0 =", "lam lam 0", "wrong"),
        ("<red> @ lam 0 @ lam 0 lam 0 =", "@ lam 0 lam 0", "right"),
        ("<red> @ lam 0 @ lam 0 lam 0 =", "lam 0", "beta-equal"),
        ("<red> lam 0 =", "lam 0", "right"),
        ("<red> @ lam @ 0 0 lam @ 0 0 =", "@ lam @ 0 0 lam @ 0 0", "right"),
        ("<red> λ y . ( λ x . λ y . x ) y =", "λ a . λ b . a", "right"),
        ("<red> λ y . ( λ x . λ y . x ) y =", "λ y . λ y . y", "wrong"),
        ("<red> λ y . ( λ x . λ y . x ) y =", "lam lam 1", "not a term"),
        ("<syn> λ x . λ y . x =", "lam lam 1", "right"),
        ("<syn> λ x . λ y . x =", "lam lam 0", "wrong"),
        ("<syn> λ x . λ y . x =", "λ x . λ y . x", "not a term"),
        ("<syn> ( λ x . x ) λ y . y =", "lam 0", "beta-equal"),
        ("<red> @ lam 0 @ lam 0 lam 0 ;", "@ lam 0 lam 0 ; lam 0", "right"),
        ("<red> @ lam 0 @ lam 0 lam 0 ;", "lam 0", "beta-equal"),
        ("<red> @ lam 0 @ lam 0 lam 0 ;", "@ lam 0 lam 0 ; lam lam 0", "wrong"),
        ("<red> @ lam 0 @ lam 0 lam 0 ;", "@ lam 0 ; lam 0", "not a term"),
        ("<red> @ lam 0 @ lam 0 lam 0 ;", "", "wrong"),
    ],
)
def test_kinds(prompt, answer, kind):
    verdict = judge(prompt, answer)
    assert verdict.kind == kind
    assert verdict.kind in KINDS
    assert bool(verdict.problem) == (kind == "not a term")
    assert verdict.right == (kind == "right")
    assert verdict.beta_right == (kind in ("right", "beta-equal"))


def test_expected_is_in_the_rendering_of_the_prompt():
    assert judge("(λx.λy.x) y", "a").expected == "λ x . y"
    assert judge("<sem> @ lam lam 1 lam 0 =", "a").expected == "lam lam 0"
    assert judge("<syn> λ x . x =", "a").expected == "lam 0"
    assert judge("<red> @ lam 0 @ lam 0 lam 0 ;", "").expected == "@ lam 0 lam 0 ; lam 0"
    divergent = judge(OMEGA, "a")
    assert divergent.expected is divergent.normal_form is None


def test_steps_of_a_trace_are_judged_one_by_one():
    prompt = "<red> @ lam 0 @ lam 0 lam 0 ;"
    assert judge(prompt, "@ lam 0 lam 0 ; lam 0").steps_valid == (True, True)
    assert judge(prompt, "lam 0 ; lam 0").steps_valid == (False, False)
    assert judge(prompt, "@ lam 0 lam lam 0 ; lam lam 0").steps_valid == (False, True), (
        "from a wrong term, a right step"
    )
    assert judge(prompt, "@ lam 0 lam 0 ; ) ; lam 0").steps_valid == (True, False)


def test_a_prompt_that_is_no_term():
    with pytest.raises(DataError, match="ends early"):
        judge("<sem> @ lam 0 =", "lam 0")


@pytest.fixture
def sample():
    return make_sample(TaskSettings(levels=(3,)), "train", 0, 0)


def test_segments_right(sample):
    verdict = judge(sample.prompt, sample.answer + " <eos>")
    assert verdict.right
    assert verdict.phases == dict.fromkeys(("syntax", "reduction", "semantic", "pedagogical"), True)
    assert verdict.steps_valid == (True, True)


@pytest.mark.parametrize("phase", ["syntax", "reduction", "semantic", "pedagogical"])
def test_one_wrong_segment_is_seen(sample, phase):
    markers = {"syntax": "", "reduction": "<red> ", "semantic": "<sem> ", "pedagogical": "<ped> "}
    spoiled = sample.answer.replace(markers[phase], markers[phase] + "lam ", 1)
    verdict = judge(sample.prompt, "lam " + sample.answer if phase == "syntax" else spoiled)
    assert not verdict.right
    assert [name for name, right in verdict.phases.items() if not right] == [phase]
    assert (verdict.kind == "right") == (phase != "semantic")


def test_unfinished_segments(sample):
    cut = sample.answer.partition(" <sem>")[0]
    verdict = judge(sample.prompt, cut)
    assert verdict.kind == "not a term"
    assert verdict.phases == {"syntax": True, "reduction": True, "semantic": False, "pedagogical": False}


def test_segments_of_a_prompt_in_prefix_form():
    answer = "@ lam 0 lam 0 <red> lam 0 <sem> lam 0 <ped> at root put lam 0 for x 1 times ; normal after 1 steps"
    assert judge("<syn> @ lam 0 lam 0 =", answer).right


@settings(deadline=None, derandomize=True, max_examples=300)
@given(st.lists(st.sampled_from([*TOKENS, ";", "@", "lam", "<red>", "<sem>"]), max_size=24).map(" ".join))
def test_any_answer_gets_a_verdict(answer):
    for prompt in (
        "<syn> ( λ x . x ) λ y . y =", "<red> @ lam 0 lam 0 =", "<red> @ lam 0 lam 0 ;", "<sem> @ lam 0 lam 0 =",
        "<red> ( λ x . x ) y =", OMEGA,
    ):  # fmt: skip
        assert judge(prompt, answer).kind in KINDS


def test_segments_of_a_divergent_term():
    verdict = judge("<syn> ( λ x . x x ) λ x . x x =", "@ lam @ 0 0 lam @ 0 0 <red> @ lam @ 0 0 lam @ 0 0 <sem> lam 0")
    assert verdict.kind == "divergent"
    assert verdict.steps_valid == (True,)
    assert not verdict.right
