"""The verdict: outcomes, guards and sentences."""

from __future__ import annotations

from typing import Any

import pytest

from tuneproof.recipe import VerdictRule
from tuneproof.records import Arm
from tuneproof.results import (
    ArmPair,
    BenchmarkResult,
    Estimate,
    HeldoutLoss,
    JudgeCheck,
    Outcome,
    PairwiseResult,
    Tally,
)
from tuneproof.stats.verdict import decide

NONE = Tally(wins=0, losses=0, ties=0, unscored=0)


def estimate(
    value: float | None, low: float | None, high: float | None, n: int = 128, unscored: int = 0
) -> Estimate:
    """The interval is that of a normal standard error; (1.960 + 0.842) of it can be detected."""
    detectable = None if low is None or high is None else (high - low) / 2 * 2.801585 / 1.959964
    return Estimate(
        value=value, low=low, high=high, n_scored=n, n_unscored=unscored, detectable=detectable
    )


def pair(difference: Estimate) -> ArmPair:
    return ArmPair(base=difference, tuned=difference, difference=difference)


def heldout(*difference: Any, **more: Any) -> HeldoutLoss:
    found = pair(estimate(*difference, **more))
    return HeldoutLoss(**dict(found), eos=found, by_category={})


def benchmark(
    *,
    exact: Estimate | None = None,
    chrf: Estimate | None = None,
    win_rate: Estimate | None = None,
    agreement: float | None = 0.9,
    orders: int = 2,
    opponent: Arm = Arm.BASE,
    pairs: Tally | None = None,
    others: dict[str, PairwiseResult] | None = None,
) -> BenchmarkResult:
    some = pair(estimate(0.0, -1.0, 1.0))
    return BenchmarkResult(
        n_questions=128,
        n_turns=1,
        n_adapters=1,
        stopped=some,
        answer_tokens=some,
        chrf=pair(chrf) if chrf else None,
        exact_match=pair(exact) if exact else None,
        pairwise=PairwiseResult(
            judge="judge-1", protocol="p", opponent=opponent, orders=orders, win_rate=win_rate,
            questions=NONE, pairs=pairs or NONE, n_judgments=256, n_unparsed=0,
            order_agreement=estimate(agreement, None, None),
            first_preferred=estimate(0.5, 0.4, 0.6),
        )
        if win_rate
        else None,
        others=others or {},
    )  # fmt: skip


def exact(*values: Any, **rule: Any) -> Any:
    return decide(
        VerdictRule(metric="exact_match", **rule),
        None,
        {"heldout": benchmark(exact=estimate(*values))},
    )


# --- outcomes --------------------------------------------------------------------------------


def test_the_sentence() -> None:
    found = exact(0.42, 0.331, 0.509)
    assert found.outcome is Outcome.BETTER
    assert found.sentence == (
        "Better, for this adapter: exact match rose by 42.0 points "
        "(95 % interval 33.1 to 50.9) on 128 questions."
    )
    assert found.metric == "exact_match"
    assert found.estimate.value == 0.42


def test_worse() -> None:
    found = exact(-0.42, -0.509, -0.331)
    assert found.outcome is Outcome.WORSE
    assert "exact match fell by 42.0 points (95 % interval 33.1 to 50.9)" in found.sentence


def test_lower_loss_is_better() -> None:
    rule = VerdictRule(metric="heldout_loss")
    better = decide(rule, heldout(-0.1234, -0.15, -0.1), {})
    assert better.sentence == (
        "Better, for this adapter: held-out loss fell by 0.123 nats a token "
        "(95 % interval 0.100 to 0.150) on 128 questions."
    )
    assert decide(rule, heldout(0.12, 0.1, 0.15), {}).outcome is Outcome.WORSE
    assert decide(rule, heldout(-0.1, -0.25, 0.05), {}).outcome is Outcome.INCONCLUSIVE


def test_win_rates_are_compared_with_one_half() -> None:
    rule = VerdictRule(metric="win_rate")

    def of(*values: Any) -> Any:
        return decide(rule, None, {"heldout": benchmark(win_rate=estimate(*values))})

    assert of(0.83, 0.783, 0.868).sentence == (
        "Better, for this adapter: judge-1 preferred the tuned model's answers at a rate of "
        "83.0 %, ties counted as half (95 % interval 78.3 to 86.8 %), on 128 questions."
    )
    assert of(0.3, 0.2, 0.4).outcome is Outcome.WORSE
    assert of(0.55, 0.48, 0.62).outcome is Outcome.INCONCLUSIVE


def test_similarity_is_never_called_a_win_rate() -> None:
    found = decide(
        VerdictRule(metric="similarity"),
        None,
        {"heldout": benchmark(chrf=estimate(0.05, 0.03, 0.07))},
    )
    assert found.outcome is Outcome.BETTER
    assert "similarity to the reference responses (chrF) rose by 5.0 points" in found.sentence
    assert "win" not in found.sentence


@pytest.mark.parametrize(
    ("low", "high", "delta", "outcome"),
    [
        (0.001, 0.2, 0.0, Outcome.BETTER),
        (0.0, 0.2, 0.0, Outcome.INCONCLUSIVE),
        (0.05, 0.2, 0.05, Outcome.INCONCLUSIVE),
        (0.051, 0.2, 0.05, Outcome.BETTER),
        (-0.2, -0.04, 0.05, Outcome.INCONCLUSIVE),
        (-0.2, -0.06, 0.05, Outcome.WORSE),
        (-0.2, 0.0, 0.0, Outcome.INCONCLUSIVE),
    ],
)
def test_the_whole_interval_must_lie_beyond_the_smallest_effect(
    low: float, high: float, delta: float, outcome: Outcome
) -> None:
    middle = (low + high) / 2
    assert exact(middle, low, high, smallest_effect=delta).outcome is outcome
    mirrored = decide(
        VerdictRule(metric="heldout_loss", smallest_effect=delta),
        heldout(-middle, -high, -low),
        {},
    )
    assert mirrored.outcome is outcome
    shifted = decide(
        VerdictRule(metric="win_rate", smallest_effect=delta),
        None,
        {"heldout": benchmark(win_rate=estimate(0.5 + middle, 0.5 + low, 0.5 + high))},
    )
    # A half more or less may round the last digit away where the two are equal.
    if low not in (delta, 0.0) and high not in (-delta, 0.0):
        assert shifted.outcome is outcome


# --- inconclusive, and what it would take ----------------------------------------------------


def test_how_many_questions_it_would_take() -> None:
    # What can be detected must shrink from 0.2 · 2.8016/1.9600 to 0.1: 8.17 times 128 questions.
    found = exact(0.1, -0.1, 0.3)
    assert found.sentence == (
        "Inconclusive, for this adapter: exact match changed by +10.0 points "
        "(95 % interval −10.0 to +30.0) on 128 questions, and the interval does not rule out "
        "that there is no effect."
    )
    assert (
        "At the observed effect, about 1,100 questions would settle it in four cases of five "
        "(128 were scored)."
    ) in found.reasons
    # Beyond 5 points: half the distance, four times as many.
    more = exact(0.1, -0.1, 0.3, smallest_effect=0.05)
    assert any("about 4,200 questions" in r for r in more.reasons)
    fewer = exact(-0.1, -0.3, 0.1)
    assert any("about 1,100 questions" in r for r in fewer.reasons)
    won = decide(
        VerdictRule(metric="win_rate"),
        None,
        {"heldout": benchmark(win_rate=estimate(0.6, 0.4, 0.8))},
    )
    assert any("about 1,100 questions" in r for r in won.reasons)


def test_an_effect_close_to_none_is_not_given_a_number() -> None:
    for value in (0.0, 0.0001):
        found = exact(value, value - 0.1, value + 0.1)
        assert any("more than 100,000 questions" in r for r in found.reasons)


def test_an_effect_below_the_smallest_that_counts() -> None:
    wide = exact(0.03, -0.1, 0.16, smallest_effect=0.05)
    assert any("no number of questions would do" in r for r in wide.reasons)
    narrow = exact(0.01, -0.01, 0.03, smallest_effect=0.05)
    assert "the whole interval lies within ±5 points" in narrow.sentence
    assert "More questions would not change that." in narrow.reasons


# --- guards ----------------------------------------------------------------------------------


def test_not_measured() -> None:
    for metric in ("heldout_loss", "exact_match", "similarity", "win_rate"):
        found = decide(VerdictRule(metric=metric), None, {"heldout": benchmark()})
        assert found.outcome is Outcome.INCONCLUSIVE
        assert "was not measured" in found.sentence
        assert found.estimate.value is None


def test_too_many_unscored() -> None:
    found = decide(
        VerdictRule(metric="exact_match", max_unscored=0.02),
        None,
        {"heldout": benchmark(exact=estimate(0.4, 0.3, 0.5, n=97, unscored=3))},
    )
    assert found.sentence == (
        "Inconclusive, for this adapter: 3 of 100 questions are unscored (3 %), and the recipe "
        "allows 2 %."
    )
    # What was seen is told all the same.
    assert any("exact match rose by 40.0 points" in reason for reason in found.reasons)
    allowed = decide(
        VerdictRule(metric="exact_match", max_unscored=0.03),
        None,
        {"heldout": benchmark(exact=estimate(0.4, 0.3, 0.5, n=97, unscored=3))},
    )
    assert allowed.outcome is Outcome.BETTER


def test_too_few_questions() -> None:
    one = decide(VerdictRule(metric="heldout_loss"), heldout(-1.0, None, None, n=1), {})
    assert "only one question was scored" in one.sentence
    none = decide(
        VerdictRule(metric="heldout_loss"), heldout(None, None, None, n=0, unscored=5), {}
    )
    assert none.outcome is Outcome.INCONCLUSIVE
    assert "no question was scored" in none.sentence
    assert any("5 of 5 questions are unscored" in reason for reason in none.reasons)


def test_a_judge_that_follows_the_order() -> None:
    rule = VerdictRule(metric="win_rate", min_order_agreement=0.6)

    def of(agreement: float | None, orders: int = 2) -> Any:
        result = benchmark(win_rate=estimate(0.8, 0.7, 0.9), agreement=agreement, orders=orders)
        return decide(rule, None, {"heldout": result})

    found = of(0.55)
    assert found.outcome is Outcome.INCONCLUSIVE
    assert (
        "the judge's preference follows the order in which answers are shown, not the answers"
        in found.sentence
    )
    assert "55 %" in found.sentence
    assert of(0.6).outcome is Outcome.BETTER
    once = of(None, orders=1)
    assert once.outcome is Outcome.BETTER
    assert any("one order only" in reason for reason in once.reasons)


def test_the_sentence_has_a_refused_judges_score_and_the_reasons_its_whole_record() -> None:
    result = benchmark(win_rate=estimate(0.8, 0.7, 0.9))
    assert result.pairwise is not None
    record = "The judge is refused: it named 48 of 90 (lower bound 0.431, under 0.8; 23 ties)."
    check = JudgeCheck(protocol="p", passes=False, sentence=record)
    pairwise = result.pairwise.model_copy(update={"check": check})
    results = {"heldout": result.model_copy(update={"pairwise": pairwise})}
    found = decide(VerdictRule(metric="win_rate"), None, results)
    assert (
        found.sentence == "Inconclusive, for this adapter: the judge is refused: it named 48 of 90."
    )
    assert found.reasons[0] == record


def test_order_agreement_does_not_matter_to_other_metrics() -> None:
    result = benchmark(
        exact=estimate(0.4, 0.3, 0.5), win_rate=estimate(0.5, 0.4, 0.6), agreement=0.1
    )
    found = decide(VerdictRule(metric="exact_match"), None, {"heldout": result})
    assert found.outcome is Outcome.BETTER


# --- whose verdict it is ---------------------------------------------------------------------


def test_one_seed_speaks_for_an_adapter_and_several_for_a_recipe() -> None:
    one = exact(0.4, 0.3, 0.5)
    assert any("One training seed" in reason for reason in one.reasons)
    many = decide(
        VerdictRule(metric="exact_match"),
        None,
        {"heldout": benchmark(exact=estimate(0.4, 0.3, 0.5))},
        seeds=3,
    )
    assert many.sentence.startswith("Better, for this recipe, over 3 training seeds: ")
    assert not any("One training seed" in reason for reason in many.reasons)


def test_the_first_benchmark_that_has_the_metric_is_named() -> None:
    results = {
        "none": benchmark(),
        "first": benchmark(exact=estimate(0.4, 0.3, 0.5)),
        "second": benchmark(exact=estimate(-0.4, -0.5, -0.3)),
    }
    found = decide(VerdictRule(metric="exact_match"), None, results)
    assert found.outcome is Outcome.BETTER
    assert "on 128 questions of first." in found.sentence
    assert "Measured on first and second; the verdict is that of first, the first." in found.reasons


def test_small_effects_keep_their_digits() -> None:
    found = decide(VerdictRule(metric="heldout_loss"), heldout(-0.00042, -0.00051, -0.00033), {})
    assert "fell by 0.00042 nats a token (95 % interval 0.00033 to 0.00051)" in found.sentence


def test_another_level_is_named_and_must_be_the_rules() -> None:
    at_90 = Estimate(value=0.4, low=0.3, high=0.5, n_scored=9, n_unscored=0, level=0.9)
    found = decide(
        VerdictRule(metric="exact_match", level=0.9), None, {"b": benchmark(exact=at_90)}
    )
    assert "90 % interval" in found.sentence
    with pytest.raises(AssertionError):
        decide(VerdictRule(metric="exact_match"), None, {"b": benchmark(exact=at_90)})


# --- benchmarks and opponents ----------------------------------------------------------------


def two_opponents() -> BenchmarkResult:
    fair = benchmark(win_rate=estimate(0.45, 0.4, 0.49), opponent=Arm.FAIR_BASE).pairwise
    assert fair is not None
    return benchmark(win_rate=estimate(0.83, 0.783, 0.868), others={"fair-base": fair})


def test_the_rule_names_the_opponent() -> None:
    results = {"alpaca_eval": two_opponents()}
    first = decide(VerdictRule(metric="win_rate"), None, results)
    assert (first.outcome, first.against) == (Outcome.BETTER, Arm.BASE)
    assert (
        "Against the base model at its best (fair-base) the rate is 45.0 % (95 % interval 40.0 to "
        "49.0 %)." in first.reasons
    )
    fair = decide(VerdictRule(metric="win_rate", against="fair-base"), None, results)
    assert (fair.outcome, fair.against, fair.benchmark) == (
        Outcome.WORSE,
        Arm.FAIR_BASE,
        "alpaca_eval",
    )
    assert "preferred the tuned model's answers to those of fair-base at a rate of 45.0 %" in (
        fair.sentence
    )
    assert (
        "Against the base model, asked like the tuned one, the rate is 83.0 % (95 % interval 78.3 "
        "to 86.8 %)." in fair.reasons
    )


def test_the_rule_names_the_benchmark() -> None:
    results = {
        "heldout": benchmark(win_rate=estimate(0.3, 0.2, 0.4)),
        "alpaca_eval": two_opponents(),
        "mt_bench": benchmark(win_rate=estimate(0.5, 0.4, 0.6)),
    }
    found = decide(VerdictRule(metric="win_rate", benchmark="alpaca_eval"), None, results)
    assert (found.outcome, found.benchmark) == (Outcome.BETTER, "alpaca_eval")
    assert "on 128 questions of AlpacaEval 2." in found.sentence
    assert not any("the first" in reason for reason in found.reasons)
    # An opponent alone takes the first benchmark that has it.
    fair = decide(VerdictRule(metric="win_rate", against="fair-base"), None, results)
    assert (fair.benchmark, fair.against) == ("alpaca_eval", Arm.FAIR_BASE)
    none = decide(
        VerdictRule(metric="win_rate", benchmark="mt_bench", against="fair-base"), None, results
    )
    assert "was not measured" in none.sentence
    assert (none.benchmark, none.against) == (None, None)


def test_unscored_pairs_cannot_hide_in_scored_questions() -> None:
    """Every question has a value from one turn or the other, and a tenth of the pairs has none."""
    pairs = Tally(wins=200, losses=30, ties=0, unscored=26)
    result = benchmark(win_rate=estimate(0.87, 0.8, 0.94), pairs=pairs)
    found = decide(VerdictRule(metric="win_rate"), None, {"mt_bench": result})
    assert found.outcome is Outcome.INCONCLUSIVE
    assert "26 of 256 pairs of answers are unscored (10.2 %)" in found.sentence
    allowed = decide(VerdictRule(metric="win_rate", max_unscored=0.11), None, {"mt_bench": result})
    assert allowed.outcome is Outcome.BETTER


def test_several_seeds_are_a_caveat_of_their_own() -> None:
    found = decide(
        VerdictRule(metric="exact_match"),
        None,
        {"heldout": benchmark(exact=estimate(0.4, 0.3, 0.5))},
        seeds=3,
    )
    assert any("3 training seeds were run" in reason for reason in found.reasons)
