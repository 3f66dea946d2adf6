"""Several adapters: what their choice adds to an interval, by hand and by coverage."""

from __future__ import annotations

import math
import random
from statistics import fmean

import pytest

from tuneproof.stats.adapters import BetweenAdapters, between_adapters
from tuneproof.stats.distributions import t_quantile
from tuneproof.stats.estimates import SHARE, mean, paired, paired_ratio


def half_width(low: float | None, high: float | None) -> float:
    assert low is not None
    assert high is not None
    return (high - low) / 2


def test_one_adapter_adds_nothing() -> None:
    assert between_adapters([], []) is None
    assert between_adapters([1.0], [{"q": 0.0}]) is None


def test_by_hand() -> None:
    # Two adapters on three questions: (1, 2, 6) and (3, 4, 8): means 3 and 5, variance 2. They
    # differ by 2 on every question: no noise of their own, so V_A = 2/2 = 1.
    even = [{"a": -2 / 3, "b": -1 / 3, "c": 1.0}] * 2
    assert between_adapters([3.0, 5.0], even) == BetweenAdapters(variance=1.0, n_adapters=2)
    # (1, 2, 6) and (5, 4, 6): means 3 and 5. Influences (v − mean)/3: −2/3, −1/3, 1 and
    # 0, −1/3, 1/3; their squares about the question's mean sum to 2/9 + 0 + 2/9 = 4/9.
    # V_A = (2 − 3/2 · 4/9)/2 = 2/3.
    mixed = [{"a": -2 / 3, "b": -1 / 3, "c": 1.0}, {"a": 0.0, "b": -1 / 3, "c": 1 / 3}]
    found = between_adapters([3.0, 5.0], mixed)
    assert found is not None
    assert found.variance == pytest.approx(2 / 3)


def test_adapters_that_differ_by_their_noise_alone_add_nothing() -> None:
    values = [{"a": 0.0, "b": 1.0}, {"a": 1.0, "b": 0.0}]
    plain = mean([0.5, 0.5, 0.0], ["a", "b", "c"], level=0.95)
    several = [{**v, "c": 0.0} for v in values]
    found = mean([0.5, 0.5, 0.0], ["a", "b", "c"], level=0.95, adapters=several)
    assert (found.low, found.high) == (plain.low, plain.high)
    assert found.method == "t(2), clustered by question, and t(1) between adapters"


def test_the_mean_of_several_adapters() -> None:
    # The adapters of the first example above: question means 2, 3, 7 have mean 4 and V_Q = 7/3.
    adapters = [{"a": 1.0, "b": 2.0, "c": 6.0}, {"a": 3.0, "b": 4.0, "c": 8.0}]
    found = mean([2.0, 3.0, 7.0], ["a", "b", "c"], level=0.95, adapters=adapters)
    expected = math.hypot(t_quantile(0.975, 2) * math.sqrt(7 / 3), t_quantile(0.975, 1))
    assert found.value == 4.0
    assert half_width(found.low, found.high) == pytest.approx(expected)
    assert found.n_scored == 3


def test_a_difference_has_it_too_and_base_has_not() -> None:
    base = {"a": 0.0, "b": 1.0, "c": 2.0}
    adapters = [{"a": 1.0, "b": 2.0, "c": 6.0}, {"a": 3.0, "b": 4.0, "c": 8.0}]
    tuned = {"a": 2.0, "b": 3.0, "c": 7.0}
    found = paired(base, tuned, questions=base, level=0.95, adapters=adapters)
    alone = paired(base, tuned, questions=base, level=0.95)
    t = t_quantile(0.975, 1)
    assert found.base == alone.base
    for with_, without in ((found.tuned, alone.tuned), (found.difference, alone.difference)):
        expected = math.hypot(half_width(without.low, without.high), t)
        assert half_width(with_.low, with_.high) == pytest.approx(expected)


def test_a_ratio_has_it_by_its_own_influences() -> None:
    # One token a question: the ratio is the mean, and so is its interval.
    def single(values: dict[str, float]) -> dict[str, tuple[float, float]]:
        return {q: (v, 1.0) for q, v in values.items()}

    base = {"a": 0.0, "b": 1.0, "c": 2.0}
    adapters = [{"a": 1.0, "b": 2.0, "c": 6.0}, {"a": 5.0, "b": 4.0, "c": 6.0}]
    tuned = {"a": 3.0, "b": 3.0, "c": 6.0}
    plain = paired(base, tuned, questions=base, level=0.9, adapters=adapters)
    found = paired_ratio(
        single(base), single(tuned), questions=base, level=0.9, adapters=[*map(single, adapters)]
    )
    for ours, theirs in ((found.tuned, plain.tuned), (found.difference, plain.difference)):
        assert half_width(ours.low, ours.high) == pytest.approx(half_width(theirs.low, theirs.high))


def test_alike_on_all_questions_but_not_between_adapters() -> None:
    """No spread over questions is no proof where the adapters differ."""
    adapters = [{"a": 1.0, "b": 1.0}, {"a": 0.0, "b": 0.0}]
    found = mean([0.5, 0.5], ["a", "b"], level=0.95, bounds=SHARE, adapters=adapters)
    assert (found.low, found.high) == (0.0, 1.0)
    assert found.note is None


@pytest.mark.parametrize(
    ("k", "share", "least", "most"),
    [(3, 0.0, 0.94, 0.985), (3, 1.0, 0.93, 0.975), (3, 4.0, 0.93, 0.97), (5, 0.5, 0.93, 0.975),
     (2, 0.0, 0.94, 0.985), (2, 1.0, 0.9, 0.97)],
)  # fmt: skip
def test_coverage(k: int, share: float, least: float, most: float) -> None:
    """95 % intervals over 60 questions; ``share`` is the variance of k adapters against that of the
    questions."""
    n, repeats = 60, 1000
    draw = random.Random(k * 100 + int(share * 10))
    spread = math.sqrt(share * (1 + 1 / k) / n * k)
    names = [f"q{i}" for i in range(n)]
    covered = 0
    for _ in range(repeats):
        hard = [draw.gauss(0, 1) for _ in names]
        adapters = []
        for _ in range(k):
            luck = draw.gauss(0, spread)
            adapters.append(
                {q: h + luck + draw.gauss(0, 1) for q, h in zip(names, hard, strict=True)}
            )
        values = [fmean(a[q] for a in adapters) for q in names]
        found = mean(values, names, level=0.95, adapters=adapters)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0 <= found.high
    assert least <= covered / repeats <= most
