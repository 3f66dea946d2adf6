"""Two tuned models on the same questions: difference, interval and p value; many comparisons.

The estimates are those of ``estimates``: the unit is the question, whose turns and adapters are
averaged first. A mean is a ratio whose denominators are one. Which values can be compared at all is
left to ``compare``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.stats.adapters import between_adapters
from tuneproof.stats.bootstrap import Column, bootstrap_mean
from tuneproof.stats.distributions import t_quantile
from tuneproof.stats.estimates import Bounds, paired, paired_ratio, ratio_influences

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from tuneproof.results import ArmPair, Estimate

Place = tuple[str, int]
"""A question and a turn of it."""

Weighed = tuple[float, float]
"""A numerator and its denominator: nats and tokens, or a value and 1."""


@dataclass(frozen=True, kw_only=True)
class Across:
    """``first`` and ``second`` on the questions that both have, second − first, and the p value of
    "they do not differ"; None where there is no interval. ``n_dropped`` places of these questions
    have a value on one side alone, and count for neither."""

    first: Estimate
    second: Estimate
    difference: Estimate
    p: float | None
    n_dropped: int = 0


def across(
    first: Sequence[Mapping[Place, Weighed]],
    second: Sequence[Mapping[Place, Weighed]],
    *,
    questions: Sequence[str],
    level: float,
    bounds: Bounds | None = None,
    unit: str = "",
    seeds: tuple[int, int] | None = None,
    known: Collection[str] = (),
) -> Across:
    """Compare two tuned models.

    Only places that some adapter of both has are taken, so that no turn is on one side alone. Where
    a model is several adapters, what their choice adds to the interval is that of ``adapters``, for
    each model by itself; the squares add up.

    Args:
        first: one model: for each of its adapters, the values.
        second: the other one.
        questions: all that could be compared; those without a value on both sides are unscored.
        level: the confidence level.
        bounds: smallest and largest value of the measure, where it has any.
        unit: of the measure.
        seeds: of the two runs, where each model's own interval is the bootstrap's, as its report's
            is; see ``pairwise.win_rate``. The difference has Student's, and p belongs to that.
        known: questions on which the two could not differ, their answers being the same.
    """
    shared = _places(first) & _places(second)
    one, other = (_pooled(side, shared) for side in (first, second))
    plain = all(weight == 1 for side in (one, other) for _, weight in side.values())
    pair = _pair(
        one, other, questions, level=level, bounds=bounds, unit=unit, plain=plain, known=known
    )
    extra = [_between(side, shared) for side in (first, second)]
    if any(extra):
        # Cut to the bounds once, when all that widens it is in.
        pair = _pair(
            one, other, questions, level=level, bounds=None, unit=unit, plain=plain, known=known
        )
    span = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    parts = [*extra[0], *extra[1]]
    difference = _widened(pair.difference, parts, bounds=span)
    each = [
        _widened(e, v, bounds=bounds) for e, v in zip((pair.base, pair.tuned), extra, strict=True)
    ]
    if seeds is not None:
        each = [
            _resampled(e, values, side, seed=seed, bounds=bounds) if len(side) == 1 else e
            for e, values, side, seed in zip(
                each, (one, other), (first, second), seeds, strict=True
            )
        ]
    alone = _places(first) ^ _places(second)
    return Across(
        first=each[0],
        second=each[1],
        difference=difference,
        p=_p_of(one, other, difference, parts),
        n_dropped=sum(question in one for question, _ in alone),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values that hold for all comparisons together, whatever depends on what.

    S. Holm, "A Simple Sequentially Rejective Multiple Test Procedure", Scandinavian Journal of
    Statistics 6, 1979: of m values in rising order the i-th (from 0) is multiplied by m − i, no
    adjusted value is below one before it, and none above 1.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = highest
    return adjusted


def p_value(value: float, parts: Iterable[tuple[float, int]]) -> float:
    """The p at which the interval of level 1 − p just touches 0.

    Each part is a variance and its degrees of freedom; the half-width is √(Σ t(1 − p/2)²·V), as in
    ``adapters``. With one part this is the two-sided t test.
    """
    from scipy.special import stdtrit

    known = list(parts)
    if not math.fsum(v for v, _ in known):
        return 1.0 if value == 0 else 0.0
    low, high = math.log(1e-300), 0.0
    for _ in range(80):
        middle = (low + high) / 2
        tail = math.exp(middle) / 2
        half = math.fsum(float(stdtrit(df, tail)) ** 2 * v for v, df in known)
        if half > value**2:
            low = middle
        else:
            high = middle
    return math.exp(high)


# --- the parts -------------------------------------------------------------------------------


def _places(adapters: Sequence[Mapping[Place, Weighed]]) -> set[Place]:
    return {place for values in adapters for place in values}


def _resampled(
    estimate: Estimate,
    values: Mapping[str, Weighed],
    side: Sequence[Mapping[Place, Weighed]],
    *,
    seed: int,
    bounds: Bounds | None,
) -> Estimate:
    """The same value with the bootstrap's interval, its questions in the run's own order, so that
    the resamples are those of its report."""
    questions = [q for q in dict.fromkeys(q for q, _ in side[0]) if q in values]
    column = Column(
        values=[values[q][0] for q in questions],
        clusters=questions,
        n_unscored=estimate.n_unscored,
        bounds=bounds,
        unit=estimate.unit,
    )
    return bootstrap_mean(column, level=estimate.level, seed=seed)


def _pooled(adapters: Sequence[Mapping[Place, Weighed]], shared: set[Place]) -> dict[str, Weighed]:
    """Adapters averaged at each place, then the places of each question."""
    at = {
        place: _mean([values[place] for values in adapters if place in values])
        for place in sorted(shared)
    }
    by_question: dict[str, list[Weighed]] = {}
    for (question, _), value in at.items():
        by_question.setdefault(question, []).append(value)
    return {question: _mean(values) for question, values in by_question.items()}


def _mean(values: Sequence[Weighed]) -> Weighed:
    n = len(values)
    return math.fsum(v for v, _ in values) / n, math.fsum(w for _, w in values) / n


def _pair(
    one: Mapping[str, Weighed],
    other: Mapping[str, Weighed],
    questions: Sequence[str],
    *,
    level: float,
    bounds: Bounds | None,
    unit: str,
    plain: bool,
    known: Collection[str],
) -> ArmPair:
    if plain:
        return paired(
            {q: v for q, (v, _) in one.items()},
            {q: v for q, (v, _) in other.items()},
            questions=questions,
            level=level,
            bounds=bounds,
            unit=unit,
            known=known,
        )
    return paired_ratio(one, other, questions=questions, level=level, bounds=bounds, unit=unit)


def _influences(values: Mapping[str, Weighed]) -> tuple[float, dict[str, float]]:
    found, parts = ratio_influences(
        [v for v, _ in values.values()], [w for _, w in values.values()]
    )
    return found, dict(zip(values, parts, strict=True))


def _between(
    adapters: Sequence[Mapping[Place, Weighed]], shared: set[Place]
) -> list[tuple[float, int]]:
    """What the choice of adapters adds to a model's value: a variance and its degrees of freedom;
    empty where it adds nothing."""
    sides = [_pooled([values], shared & values.keys()) for values in adapters]
    measured = [_influences(side) for side in sides if math.fsum(w for _, w in side.values())]
    found = between_adapters([v for v, _ in measured], [u for _, u in measured])
    if found is None or not found.variance:
        return []
    return [(found.variance, found.n_adapters - 1)]


def _widened(
    estimate: Estimate, parts: Sequence[tuple[float, int]], *, bounds: Bounds | None
) -> Estimate:
    if not parts or estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate
    halves = [t_quantile((1 + estimate.level) / 2, df) * math.sqrt(v) for v, df in parts]
    half = math.hypot((estimate.high - estimate.low) / 2, *halves)
    low, high = estimate.value - half, estimate.value + half
    if bounds is not None:
        low, high = max(low, bounds[0]), min(high, bounds[1])
    method = f"{estimate.method}, and between adapters"
    return estimate.model_copy(update={"low": low, "high": high, "method": method})


def _p_of(
    one: Mapping[str, Weighed],
    other: Mapping[str, Weighed],
    difference: Estimate,
    parts: Sequence[tuple[float, int]],
) -> float | None:
    if difference.value is None or difference.low is None:
        return None
    n = len(one)
    if difference.detectable is None and not parts:
        # All questions differ by the same: only their number tells anything (a sign test).
        return 1.0 if difference.value == 0 else min(1.0, 2.0 * 0.5**n)
    ours, theirs = _influences(one)[1], _influences(other)[1]
    squares = math.fsum((theirs[q] - ours[q]) ** 2 for q in one)
    return p_value(difference.value, [(squares * n / (n - 1), n - 1), *parts])
