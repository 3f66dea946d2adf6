"""Length control: the formula by hand, and the fitted rate by simulated matches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tuneproof.stats.length_control import (
    BOOTSTRAP_ROWS,
    FittedRate,
    LengthRow,
    Weights,
    fitted_rate,
    official_rate,
    rate_of_predictions,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def test_the_formula_by_hand() -> None:
    """θ = −ln 3, γ = ln 3: difficulties 0, 1 and 2 give 1/4, 1/2 and 3/4."""
    rate = official_rate(
        Weights(length=-1.5, difficulty=math.log(3), model=-math.log(3)), [0.0, 1.0, 2.0]
    )
    assert rate.value == pytest.approx(50)
    assert rate.standard_error == pytest.approx(100 * 0.25 / math.sqrt(3))


def test_far_difficulties_do_not_overflow() -> None:
    far = official_rate(Weights(length=0, difficulty=1, model=0), [-2000.0, 2000.0])
    assert far.value == pytest.approx(50)


def test_one_prediction_has_no_standard_error() -> None:
    assert rate_of_predictions([0.25]).standard_error is None


def rows_of(
    differences: Iterable[float], preferences: Iterable[float], *, per_question: int = 1
) -> list[LengthRow]:
    return [
        LengthRow(question=f"q{i // per_question}", preference=float(q), difference=float(d))
        for i, (d, q) in enumerate(zip(differences, preferences, strict=True))
    ]


def fit(rows: Sequence[LengthRow]) -> FittedRate:
    return fitted_rate(rows, level=0.95, seed=1)


def test_without_a_length_bias_it_is_the_win_rate() -> None:
    """Lengths balanced in wins and losses alike: φ = 0, and the rate is 3 of 4."""
    rows = rows_of([-100.0, 100.0] * 40, [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0] * 10)
    found = fit(rows)
    assert found.rate.value == pytest.approx(0.75, abs=1e-6)
    assert found.length_effect == pytest.approx(0, abs=1e-6)
    assert (found.n_longer, found.n_shorter) == (40, 40)


def test_the_fit_by_hand() -> None:
    """Two lengths only: at −1 (longer) 30 of 40 are won, at +1 10 of 40.

    Without the weak prior the fitted logits at tanh(±1/sd) would be ±ln 3, so σ(θ) = 1/2 and
    φ = −ln 3/tanh(1/sd), sd² = 80/79; the prior moves φ towards 0 by less than two parts in 100.
    """
    rows = rows_of([-1.0] * 40 + [1.0] * 40, [1.0] * 30 + [0.0] * 10 + [1.0] * 10 + [0.0] * 30)
    found = fit(rows)
    exact = -math.log(3) / math.tanh(1 / math.sqrt(80 / 79))
    assert found.rate.value == pytest.approx(0.5, abs=1e-6)
    assert found.length_effect is not None
    assert 0 < found.length_effect - exact < 0.02 * abs(exact)


def test_swapping_the_two_sides_mirrors_the_rate() -> None:
    draw = np.random.default_rng(2)
    differences = draw.normal(-300, 600, 200)
    preferences = draw.beta(0.4, 0.8, 200)
    mine = fit(rows_of(differences, preferences))
    theirs = fit(rows_of(-differences, 1 - preferences))
    assert mine.rate.value == pytest.approx(1 - (theirs.rate.value or 0), abs=1e-6)
    assert mine.length_effect == pytest.approx(theirs.length_effect, abs=1e-6)


def test_where_length_alone_decides_the_prior_keeps_the_effect_finite() -> None:
    found = fit(rows_of([-50.0] * 30 + [50.0] * 30, [1.0] * 30 + [0.0] * 30))
    assert found.length_effect is not None
    assert -12 < found.length_effect < -3
    assert found.rate.value == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(
    ("differences", "preferences", "note"),
    [
        ([1.0] * 5, [0.0, 1.0] * 2 + [0.5], "fewer than ten questions"),
        ([7.0] * 20, [0.0, 1.0] * 10, "by the same length"),
        ([-5.0, 5.0] * 10, [1.0] * 20, "the same preference"),
        ([], [], "fewer than ten questions"),
    ],
)
def test_what_cannot_be_fitted_says_why(
    differences: list[float], preferences: list[float], note: str
) -> None:
    found = fit(rows_of(differences, preferences))
    assert found.rate.value is None
    assert note in (found.rate.note or "")


def test_where_equal_length_was_hardly_seen_there_is_no_rate() -> None:
    draw = np.random.default_rng(5)
    preferences = draw.integers(0, 2, 100)
    one_side = draw.uniform(10, 900, 100)
    one_side[:3] = -20
    found = fit(rows_of(one_side, preferences))
    assert found.rate.value is None
    assert "only 3 of 100 answers are longer" in (found.rate.note or "")
    assert (found.n_longer, found.n_shorter, found.extrapolated) == (3, 97, True)
    assert "are shorter" in (fit(rows_of(-one_side, preferences)).rate.note or "")
    one_side[:4] = -20
    assert fit(rows_of(one_side, preferences)).rate.value is not None


def test_the_same_seed_gives_the_same_interval() -> None:
    draw = np.random.default_rng(6)
    rows = rows_of(draw.normal(0, 300, 80), draw.integers(0, 2, 80).astype(float))
    assert fit(rows) == fit(rows)
    assert fitted_rate(rows, level=0.95, seed=2).rate.low != fit(rows).rate.low


def test_several_rows_of_a_question_are_one_cluster() -> None:
    """Every row four times: the same rate, and no narrower interval."""
    draw = np.random.default_rng(7)
    differences, preferences = draw.normal(0, 300, 100), draw.integers(0, 2, 100).astype(float)
    once = fit(rows_of(differences, preferences)).rate
    again = fit(rows_of(np.repeat(differences, 4), np.repeat(preferences, 4), per_question=4)).rate
    assert again.n_scored == once.n_scored == 100
    assert again.value == pytest.approx(once.value, abs=0.005)
    assert again.width == pytest.approx(once.width, rel=0.1)


def test_beyond_some_rows_the_sandwich_takes_over_and_agrees() -> None:
    draw = np.random.default_rng(8)
    n = BOOTSTRAP_ROWS + 1
    differences = draw.normal(200, 300, n)
    won = (draw.random(n) < 1 / (1 + np.exp(np.tanh(differences / 300)))).astype(float)
    rows = rows_of(differences, won)
    sandwich, bootstrap = fit(rows).rate, fit(rows[:-1]).rate
    assert "sandwich" in sandwich.method
    assert "bootstrap" in bootstrap.method
    assert sandwich.width == pytest.approx(bootstrap.width, rel=0.1)


def match(
    draw: np.random.Generator, *, rate: float, effect: float, shift: float
) -> list[LengthRow]:
    """300 questions; lengths like real ones; the rate at equal length is ``rate``."""
    differences = draw.normal(shift, 1.0, 300)
    logit = math.log(rate / (1 - rate)) + effect * np.tanh(differences)
    return rows_of(differences, (draw.random(300) < 1 / (1 + np.exp(-logit))).astype(float))


@pytest.mark.parametrize(
    ("rate", "effect", "shift"),
    [(0.5, -1.2, 0.0), (0.65, -1.5, -1.0), (0.1, -1.5, 0.7)],
    ids=["even", "longer", "rarely-wins"],
)
def test_intervals_cover_and_the_estimate_is_hardly_biased(
    rate: float, effect: float, shift: float
) -> None:
    """150 simulated matches each; bench/score.py runs more of them, and other kinds."""
    draw = np.random.default_rng(11)
    found = [fit(match(draw, rate=rate, effect=effect, shift=shift)).rate for _ in range(150)]
    values = [f.value for f in found if f.value is not None]
    covered = sum((f.low or 0) <= rate <= (f.high or 0) for f in found) / len(found)
    assert len(values) == 150
    assert abs(np.mean(values) - rate) < 3 * np.std(values) / math.sqrt(150) + 0.01
    assert 0.91 <= covered <= 0.99
