"""Power: known numbers, hand-computed values, and a simulation that keeps the promise."""

from __future__ import annotations

import math
import random

import pytest
from scipy.special import nctdtr

from tuneproof.stats.distributions import t_quantile
from tuneproof.stats.estimates import SHARE, mean, unmeasured
from tuneproof.stats.power import (
    design_effect,
    effective_questions,
    minimum_detectable_effect,
    questions_for,
)

Z = 1.959964 + 0.841621
"""Of a 95 % interval and 80 % power."""

T_OF_3 = 5.653489
"""The same for three questions: P(t′(2) > 4.302653) = 0.8 where t′ has this noncentrality."""


def names(n: int) -> list[str]:
    return [f"q{i}" for i in range(n)]


@pytest.mark.parametrize(("n", "points"), [(80, 15.7), (300, 8.1), (805, 4.9)])
def test_win_rates(n: int, points: float) -> None:
    assert 100 * minimum_detectable_effect(n) == pytest.approx(points, abs=0.05)


def test_turns_of_a_question_are_less_than_questions() -> None:
    # 160 turns at a correlation of 0.48: 160/1.48 = 108.1, and √1.48 = 1.217 times the error.
    assert design_effect(2, 0.48) == 1.48
    assert effective_questions(80, 2) == pytest.approx(108.108, abs=1e-3)
    assert effective_questions(80, 2, correlation=0) == 160
    assert effective_questions(80, 2, correlation=1) == 80


def test_means_with_a_known_spread() -> None:
    # z·sd/√n = 2.801585 · 1.2/10.
    assert minimum_detectable_effect(100, sd=1.2) == pytest.approx(Z * 0.12, abs=1e-6)
    assert minimum_detectable_effect(100, power=0.5) == pytest.approx(1.959964 * 0.05, abs=1e-6)


def test_from_an_estimate() -> None:
    # 1, 2, 6: SE = √21/3 = 1.527525, sd = √7.
    found = mean([1.0, 2.0, 6.0], names(3), level=0.95)
    assert found.detectable == pytest.approx(T_OF_3 * math.sqrt(21) / 3, abs=1e-5)
    assert questions_for(found, 1.0) == pytest.approx(T_OF_3**2 * 7, rel=1e-5)
    assert questions_for(found, -1.0) == questions_for(found, 1.0)
    assert questions_for(found, 1.0, beyond=1.0) == math.inf
    assert questions_for(found, 2.0, beyond=1.0) == pytest.approx(T_OF_3**2 * 7, rel=1e-5)


@pytest.mark.parametrize("n", [2, 3, 8, 100])
def test_what_can_be_detected_is_more_than_half_the_interval(n: int) -> None:
    found = mean([float(i % 2) for i in range(n)], names(n), level=0.95)
    assert found.detectable is not None
    assert found.detectable > found.width / 2
    # A t of that noncentrality is beyond the quantile in four cases of five.
    error = found.width / 2 / t_quantile(0.975, n - 1)
    power = 1 - nctdtr(n - 1, found.detectable / error, t_quantile(0.975, n - 1))
    assert power == pytest.approx(0.8, abs=1e-6)


def test_a_bound_that_was_cut_off_does_not_count() -> None:
    values = [1.0] * 19 + [0.0]
    cut = mean(values, names(20), level=0.95, bounds=SHARE)
    assert cut.high == 1.0
    assert cut.detectable == mean(values, names(20), level=0.95).detectable


def test_no_interval_no_power() -> None:
    for estimate in (
        unmeasured("not", level=0.95),
        mean([1.0], ["q"], level=0.95),
        mean([1.0, 1.0], names(2), level=0.95),
    ):
        assert estimate.detectable is None
        assert questions_for(estimate, 1.0) is None


def test_the_power_is_as_promised() -> None:
    """196 wins or losses at a true 60 %: the interval leaves one half out four times in five."""
    draw = random.Random(1)
    n, found = 196, 0  # (2.801585 · 0.5/0.1)²
    for _ in range(1000):
        values = [float(draw.random() < 0.6) for _ in range(n)]
        low = mean(values, names(n), level=0.95).low
        found += low is not None and low > 0.5
    assert 0.77 <= found / 1000 <= 0.85
