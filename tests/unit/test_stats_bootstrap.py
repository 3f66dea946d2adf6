"""The cluster bootstrap: by hand, by equivalence, and beside the t interval."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tuneproof.stats import bootstrap
from tuneproof.stats.bootstrap import Column, bootstrap_mean, bootstrap_means
from tuneproof.stats.estimates import SHARE, SHARE_DIFFERENCE, mean

if TYPE_CHECKING:
    from tuneproof.results import Estimate


def interval(estimate: Estimate) -> tuple[float, float]:
    assert estimate.low is not None
    assert estimate.high is not None
    return estimate.low, estimate.high


def names(n: int) -> list[str]:
    return [f"q{i}" for i in range(n)]


def column(values: list[float], clusters: list[str] | None = None) -> Column:
    return Column(values=values, clusters=clusters or names(len(values)))


def test_the_levels_by_hand() -> None:
    # Resampled means that are uniform over −1 … 1, so that the quantile of p is 2p − 1. At the 80 %
    # level t(4) = 1.533206, times √(5/4): z = 1.714176; Φ(−z) = 0.043249.
    shifts = np.linspace(-1, 1, 20_001)
    even = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    low, high = bootstrap._bca(shifts, even, level=0.8)
    assert (low, high) == pytest.approx((-0.913502, 0.913502), abs=1e-5)
    # Skewed: Σu³ = 24, Σu² = 12, a = 24/(6·12^1.5) = 0.096225. t(3) = 1.637744, z = 1.891104.
    # Φ(−z/(1 + az)) = Φ(−1.599957) = 0.054804; Φ(z/(1 − az)) = Φ(2.311784) = 0.989606.
    low, high = bootstrap._bca(shifts, np.array([-1.0, -1.0, -1.0, 3.0]), level=0.8)
    assert (low, high) == pytest.approx((-0.890392, 0.979211), abs=2e-5)
    # A quarter below the mean: z₀ = −0.674490; the levels are Φ(2·z₀ ∓ 1.714176), that is
    # Φ(−3.063156) = 0.001095 and Φ(0.365196) = 0.642517, of a range from −0.5 to 1.5.
    shifted = np.linspace(-0.5, 1.5, 20_001)
    low, high = bootstrap._bca(shifted, even, level=0.8)
    assert (low, high) == pytest.approx((-0.497810, 0.785034), abs=1e-4)


def test_a_handful_of_questions_has_students_interval() -> None:
    """Two even ones would be covered in 75 to 80 % of cases: no resample leaves their range."""
    for n in (2, bootstrap.LEAST_QUESTIONS - 1):
        few = [float(i % 2) for i in range(n)]
        found = bootstrap_mean(column(few), level=0.95, seed=1, n_draws=200)
        assert found == mean(few, names(n), level=0.95)
    enough = column([float(i % 2) for i in range(bootstrap.LEAST_QUESTIONS)])
    found = bootstrap_mean(enough, level=0.95, seed=1, n_draws=200)
    assert found.method == "BCa bootstrap of 200, clustered by question"


def test_it_is_near_t_where_t_is_right() -> None:
    draw = random.Random(0)
    values = [draw.gauss(3, 1) for _ in range(400)]
    found = bootstrap_mean(column(values), level=0.95, seed=1)
    plain = mean(values, names(400), level=0.95)
    assert found.value == plain.value
    assert interval(found) == pytest.approx(interval(plain), abs=0.1 * plain.width)


def test_a_high_win_rate_reaches_further_down_than_up() -> None:
    # 19 of 20 at 0.95: t goes past 1 and stays above 0.84; Wilson's interval is 0.764 to 0.991.
    found = bootstrap_mean(
        Column(values=[1.0] * 19 + [0.0], clusters=names(20), bounds=SHARE), level=0.95, seed=1
    )
    low, high = interval(found)
    assert 0.65 < low < 0.82
    assert high == 1.0


def test_whole_questions_are_drawn() -> None:
    once = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]
    single = bootstrap_mean(column(once), level=0.9, seed=5)
    thrice = bootstrap_mean(column(once * 3, names(8) * 3), level=0.9, seed=5)
    assert interval(thrice) == pytest.approx(interval(single))
    assert thrice.n_scored == 8


def test_questions_of_unequal_weight() -> None:
    """The mean of all values, not of questions: what a resample weighs is drawn with it."""
    values, clusters = [1.0] * 5 + [0.0] * 7, ["a"] * 5 + list("bcdefgh")
    found = bootstrap_mean(column(values, clusters), level=0.95, seed=1, n_draws=500)
    assert found.value == pytest.approx(5 / 12)
    low, high = interval(found)
    assert low == pytest.approx(0)  # a third of the resamples is without a
    # With a drawn k times, 5k of 5k + (8 − k) values are 1: 15/20 for 3, where questions that
    # weigh alike would have 3/8.
    assert high > 15 / 20


def test_columns_are_resampled_together() -> None:
    draw = random.Random(3)
    one = [draw.random() for _ in range(60)]
    other = [v / 2 + 0.1 * draw.random() for v in one]
    found = bootstrap_means(
        {
            "one": column(one),
            "shifted": column([v + 7 for v in one]),
            "other": column(other),
            "difference": Column(
                values=[a - b for a, b in zip(one, other, strict=True)],
                clusters=names(60),
                bounds=SHARE_DIFFERENCE,
            ),
        },
        level=0.95,
        seed=1,
    )
    low, high = interval(found["one"])
    assert interval(found["shifted"]) == pytest.approx((low + 7, high + 7))
    assert found["difference"].width < 0.7 * found["one"].width
    # Alone it is what it is among others, as long as all have the same questions.
    assert bootstrap_mean(column(one), level=0.95, seed=1) == found["one"]


def test_a_column_may_lack_questions() -> None:
    found = bootstrap_means(
        {
            "all": column([float(i) for i in range(16)]),
            "half": Column(values=[5.0, 6.0] * 4, clusters=names(16)[::2], n_unscored=8),
        },
        level=0.95,
        seed=1,
        n_draws=300,
    )
    assert found["half"].value == 5.5
    assert found["half"].method.startswith("BCa")
    low, high = interval(found["half"])
    assert 5 <= low < 5.3 < 5.7 < high <= 6
    assert (found["half"].n_scored, found["half"].n_unscored) == (8, 8)


def test_the_seed_is_named_and_is_all_the_chance_there_is() -> None:
    draw = random.Random(4)
    values = [draw.random() for _ in range(30)]
    first = bootstrap_mean(column(values), level=0.95, seed=42)
    random.seed(0)
    np.random.seed(0)
    assert bootstrap_mean(column(values), level=0.95, seed=42) == first
    assert bootstrap_mean(column(values), level=0.95, seed=43) != first


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(4)
    values = [draw.random() for _ in range(30)]
    whole = bootstrap_mean(column(values), level=0.95, seed=1, n_draws=1000)
    monkeypatch.setattr(bootstrap, "CHUNK", 30 * 64)
    assert interval(bootstrap_mean(column(values), level=0.95, seed=1, n_draws=1000)) == (
        pytest.approx(interval(whole))
    )


def test_what_cannot_be_resampled_is_as_elsewhere() -> None:
    for values in ([], [0.5], [1.0] * 20):
        given = Column(values=values, clusters=names(len(values)), n_unscored=3, bounds=SHARE)
        plain = mean(values, names(len(values)), level=0.95, n_unscored=3, bounds=SHARE)
        assert bootstrap_mean(given, level=0.95, seed=1) == plain
