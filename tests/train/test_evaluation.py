"""Shares of right answers, by steps and by phase."""

from __future__ import annotations

from moe_hub.train.evaluation import _match_metrics, wilson_interval


def test_names_of_the_shares_and_no_number_for_what_was_never_asked() -> None:
    hits = {"all": 3, "k2": 2, "k11": 1, "reduction": 3, "semantic": 0}
    trials = {"all": 4, "k2": 2, "k11": 2, "reduction": 4, "semantic": 0}
    low, high = wilson_interval(3, 4)
    assert _match_metrics(hits, trials) == {
        "val/exact_match": 0.75, "val/exact_match_ci_low": low, "val/exact_match_ci_high": high,
        "val/exact_match/2": 1.0, "val/exact_match/11": 0.5, "lambda/exact_match/reduction": 0.75,
    }  # fmt: skip
    assert _match_metrics({"all": 0}, {"all": 0}) == {}


def test_wilson_interval_of_published_counts() -> None:
    """Newcombe (1998), table I: 81 of 263, 15 of 148 and 0 of 20."""
    for hits, trials, expected in ((81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611))):
        assert tuple(round(end, 4) for end in wilson_interval(hits, trials)) == expected
