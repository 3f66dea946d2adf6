"""The estimators: by hand, by equivalence, and by the coverage of their intervals."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest

from tuneproof.stats.distributions import t_quantile
from tuneproof.stats.estimates import (
    NOT_NEGATIVE,
    SHARE,
    mean,
    paired,
    paired_ratio,
    ratio,
    unmeasured,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuneproof.results import Estimate


def names(n: int) -> list[str]:
    return [f"q{i}" for i in range(n)]


def interval(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


# --- by hand ---------------------------------------------------------------------------------


def test_t_quantiles_from_the_table() -> None:
    assert t_quantile(0.975, 2) == pytest.approx(4.302653, abs=1e-6)
    assert t_quantile(0.975, 10) == pytest.approx(2.228139, abs=1e-6)
    assert t_quantile(0.95, 29) == pytest.approx(1.699127, abs=1e-6)


def test_mean_of_single_values() -> None:
    # 1, 2, 6: mean 3, deviations -2, -1, 3, sum of squares 14.
    # SE = sqrt(14 · 3/2) / 3 = sqrt(21)/3 = 1.527525: the usual sd/sqrt(n).
    found = mean([1.0, 2.0, 6.0], names(3), level=0.95)
    half = 4.302653 * math.sqrt(21) / 3
    assert found.value == 3.0
    assert interval(found) == pytest.approx((3 - half, 3 + half), abs=1e-5)
    assert (found.n_scored, found.n_unscored, found.note) == (3, 0, None)


def test_mean_of_clusters() -> None:
    # Two questions: (0, 1) and (1, 1, 0, 1): n = 6, mean 4/6. Deviations sum to 1 - 8/6 = -1/3 in
    # the first and 3 - 16/6 = 1/3 in the second. SE = sqrt(2/9 · 2/1)/6 = (2/3)/6 = 1/9.
    found = mean([0, 1, 1, 1, 0, 1], ["a", "a", "b", "b", "b", "b"], level=0.95)
    half = 12.706205 / 9
    assert found.value == pytest.approx(2 / 3)
    assert interval(found) == pytest.approx((2 / 3 - half, 2 / 3 + half), abs=1e-5)
    assert found.n_scored == 2


def test_repeating_every_value_within_its_question_adds_no_information() -> None:
    once = mean([0, 1, 1, 0, 1], names(5), level=0.9)
    thrice = mean([0, 1, 1, 0, 1] * 3, names(5) * 3, level=0.9)
    assert interval(thrice) == pytest.approx(interval(once))
    # As fifteen questions of their own they would seem to.
    assert mean([0, 1, 1, 0, 1] * 3, names(15), level=0.9).width < 0.6 * once.width


def test_ratio_by_hand() -> None:
    # x = 2, 9; n = 1, 3: r = 11/4. Residuals 2 - 11/4 = -3/4 and 9 - 33/4 = 3/4.
    # SE = sqrt(2 · 9/16 · 2)/4 = 1.5/4 = 0.375.
    found = ratio([2, 9], [1, 3], names(2), level=0.95)
    assert found.value == 2.75
    assert interval(found) == pytest.approx(
        (2.75 - 12.706205 * 0.375, 2.75 + 12.706205 * 0.375), abs=1e-5
    )


def test_ratio_with_equal_weights_is_the_mean() -> None:
    values = [0.3, 1.7, 0.9, 2.2]
    weighted = ratio([5 * v for v in values], [5] * 4, names(4), level=0.95)
    plain = mean(values, names(4), level=0.95)
    assert weighted.value == pytest.approx(plain.value)
    assert interval(weighted) == pytest.approx(interval(plain))


def test_paired_by_hand() -> None:
    base = {"a": 1.0, "b": 2.0, "c": 6.0, "only base": 9.0}
    tuned = {"c": 7.0, "b": 4.0, "a": 4.0, "only tuned": 0.0}
    # Shared a, b, c: differences 3, 2, 1; mean 2, sd 1, SE 1/sqrt(3).
    found = paired(base, tuned, questions=[*base, *tuned, "neither"], level=0.95, unit="points")
    assert (found.base.value, found.tuned.value) == (3.0, 5.0)
    assert found.difference.value == 2.0
    half = 4.302653 / math.sqrt(3)
    assert interval(found.difference) == pytest.approx((2 - half, 2 + half), abs=1e-5)
    for estimate in (found.base, found.tuned, found.difference):
        assert (estimate.n_scored, estimate.n_unscored, estimate.unit) == (3, 3, "points")


def test_pairing_takes_the_difficulty_of_questions_out() -> None:
    draw = random.Random(1)
    base = {q: draw.gauss(0, 10) for q in names(50)}
    tuned = {q: v + 1 + draw.gauss(0, 0.1) for q, v in base.items()}
    found = paired(base, tuned, questions=list(base), level=0.95)
    assert found.difference.width < 0.02 * found.base.width


def test_paired_ratio_by_hand() -> None:
    # Tokens 1 and 3. Base nll 2, 9: r = 11/4; tuned nll 1, 3: r = 1. Residuals of the difference:
    # (1 - 1) - (2 - 11/4) = 3/4 and (3 - 3) - (9 - 33/4) = -3/4. SE = 0.375, as above.
    found = paired_ratio(
        {"a": (2, 1), "b": (9, 3)}, {"a": (1, 1), "b": (3, 3)}, questions=["a", "b", "c"],
        level=0.95,
    )  # fmt: skip
    assert (found.base.value, found.tuned.value, found.difference.value) == (2.75, 1.0, -1.75)
    assert found.difference.width == pytest.approx(2 * 12.706205 * 0.375, abs=1e-5)
    assert found.tuned.width == 0.0
    assert found.difference.n_unscored == 1


def test_an_arms_loss_is_not_below_nought() -> None:
    base, tuned = {"a": (0.1, 1), "b": (9, 3)}, {"a": (1, 1), "b": (0.5, 9)}
    found = paired_ratio(base, tuned, questions=["a", "b"], level=0.95, bounds=NOT_NEGATIVE)
    assert (found.base.low, found.tuned.low) == (0.0, 0.0)
    assert found.difference.low is not None
    assert found.difference.low < -1
    # No bound above, so that there is nothing to make an interval of where all are alike.
    alike = mean([48.0] * 5, names(5), level=0.95, bounds=NOT_NEGATIVE)
    assert (alike.low, alike.high) == (48.0, 48.0)


# --- the edges -------------------------------------------------------------------------------


def test_nothing_and_one_question() -> None:
    nothing = mean([], [], level=0.95, n_unscored=4)
    assert (nothing.value, nothing.low, nothing.n_scored, nothing.n_unscored) == (None, None, 0, 4)
    assert nothing.note == "nothing was scored"
    one = mean([1.0, 0.0], ["a", "a"], level=0.95, bounds=SHARE)
    assert (one.value, one.low, one.high, one.n_scored) == (0.5, None, None, 1)
    assert one.note == "one question gives no interval"
    assert unmeasured("because", level=0.9).note == "because"


def test_no_tokens_no_value() -> None:
    found = ratio([0, 0], [0, 0], names(2), level=0.95)
    assert (found.value, found.n_scored, found.n_unscored) == (None, 0, 2)
    pair = paired_ratio({"a": (0, 0)}, {"a": (0, 0)}, questions=["a"], level=0.95)
    assert (pair.difference.value, pair.difference.n_unscored) == (None, 1)


def test_a_share_without_spread_has_wilsons_interval() -> None:
    # Wilson for 20 of 20 at 95 %: 20/(20 + 1.959964²) = 0.838875.
    found = mean([1.0] * 20, names(20), level=0.95, bounds=SHARE)
    assert interval(found) == pytest.approx((0.838875, 1.0), abs=1e-6)
    assert interval(mean([0.0] * 20, names(20), level=0.95, bounds=SHARE)) == pytest.approx(
        (0.0, 0.161125), abs=1e-6
    )
    # A hundred rows of twenty questions are twenty questions.
    many = mean([1.0] * 100, names(20) * 5, level=0.95, bounds=SHARE)
    assert interval(many) == pytest.approx(interval(found))
    assert found.note == "all questions have the same value"
    # All ties, as a judge that only sees the order makes them.
    ties = mean([0.5] * 20, names(20), level=0.95, bounds=SHARE)
    assert interval(ties) == pytest.approx((0.5 - 0.161125 / 2, 0.5 + 0.161125 / 2), abs=1e-6)


def test_differences_without_spread() -> None:
    base, tuned = dict.fromkeys(names(20), 0.0), dict.fromkeys(names(20), 1.0)
    found = paired(base, tuned, questions=names(20), level=0.95, bounds=SHARE)
    # At worst a share q of questions has the difference -1 in place of 1.
    assert interval(found.difference) == pytest.approx((1 - 2 * 0.161125, 1.0), abs=1e-6)
    same = paired(base, base, questions=names(20), level=0.95, bounds=SHARE)
    assert interval(same.difference) == pytest.approx((-0.161125, 0.161125), abs=1e-6)
    # Without bounds there is nothing to go by.
    assert paired(base, base, questions=names(20), level=0.95).difference.width == 0


@pytest.mark.parametrize("value", [0.1, 0.3, 1 / 3, 0.7])
def test_rounding_is_not_spread(value: float) -> None:
    found = mean([value] * 999, names(999), level=0.95, bounds=SHARE)
    assert found.note == "all questions have the same value"
    assert found.width > 0.001


def test_intervals_stay_within_bounds() -> None:
    found = mean([1.0] * 19 + [0.0], names(20), level=0.95, bounds=SHARE)
    assert found.high == 1.0
    assert found.low is not None
    assert found.low < 0.9
    assert mean([1.0] * 19 + [0.0], names(20), level=0.95).high == pytest.approx(1.0546, abs=1e-3)


def test_a_higher_level_is_wider() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    widths = [mean(values, names(6), level=level).width for level in (0.8, 0.95, 0.99)]
    assert widths == sorted(widths)
    assert widths[0] < widths[1] < widths[2]


# --- coverage --------------------------------------------------------------------------------

SIMULATIONS = 2000


def coverage(truth: float, simulate: Callable[[random.Random], Estimate]) -> float:
    draw = random.Random(0)
    hits = 0
    for _ in range(SIMULATIONS):
        low, high = interval(simulate(draw))
        hits += low <= truth <= high
    return hits / SIMULATIONS


def clustered_scores(draw: random.Random, n: int = 60) -> tuple[list[float], list[str]]:
    """Wins of n questions of 1 to 4 games each, whose chances go together; the mean is 0.6."""
    values, clusters = [], []
    for i in range(n):
        chance = draw.betavariate(1.2, 0.8)
        for _ in range(draw.randint(1, 4)):
            values.append(float(draw.random() < chance))
            clusters.append(f"q{i}")
    return values, clusters


def test_clustered_mean_covers() -> None:
    def simulate(draw: random.Random) -> Estimate:
        return mean(*clustered_scores(draw), level=0.95, bounds=SHARE)

    assert 0.93 <= coverage(0.6, simulate) <= 0.97


def test_without_clusters_the_same_data_would_not_be_covered() -> None:
    def simulate(draw: random.Random) -> Estimate:
        values, _ = clustered_scores(draw)
        return mean(values, names(len(values)), level=0.95, bounds=SHARE)

    assert coverage(0.6, simulate) < 0.92


def test_ratio_covers() -> None:
    # Tokens 20 to 300; nats a token grow as responses get shorter: the ratio's truth is
    # E[rate · tokens]/E[tokens] with rate = 1 + 40/tokens + noise, that is 1 + 40/E[tokens].
    def simulate(draw: random.Random) -> Estimate:
        tokens = [draw.randint(20, 300) for _ in range(60)]
        nats = [n * (1 + 40 / n + draw.gauss(0, 0.5)) for n in tokens]
        return ratio(nats, [float(n) for n in tokens], names(60), level=0.95)

    assert 0.93 <= coverage(1 + 40 / 160, simulate) <= 0.97


def test_paired_difference_covers() -> None:
    def simulate(draw: random.Random) -> Estimate:
        base, tuned = {}, {}
        for q in names(60):
            ease = draw.betavariate(1, 1)
            base[q] = float(draw.random() < ease * 0.6)
            tuned[q] = float(draw.random() < ease * 0.6 + 0.3)
        return paired(base, tuned, questions=names(60), level=0.95, bounds=SHARE).difference

    assert 0.93 <= coverage(0.3, simulate) <= 0.97


def test_paired_ratio_covers() -> None:
    def simulate(draw: random.Random) -> Estimate:
        base, tuned = {}, {}
        for q in names(60):
            n = draw.randint(20, 300)
            hard = draw.gauss(2, 0.5)
            base[q] = (n * hard, float(n))
            tuned[q] = (n * (hard - 0.2 + draw.gauss(0, 0.3)), float(n))
        return paired_ratio(base, tuned, questions=names(60), level=0.95).difference

    assert 0.93 <= coverage(-0.2, simulate) <= 0.97


def test_other_levels_cover_too() -> None:
    def simulate(draw: random.Random) -> Estimate:
        return mean([draw.gauss(1, 2) for _ in range(8)], names(8), level=0.8)

    assert 0.775 <= coverage(1.0, simulate) <= 0.825
