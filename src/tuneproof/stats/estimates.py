"""Estimates with intervals: clustered means, token-weighted ratios, paired differences.

The unit of resampling is the *question*: everything measured on one question (two orders, two
turns, several samples) is one cluster, whose members' errors go together. All three estimators
share one form: an estimate whose error is, to first order, a sum of influences u_i, one for each
observation. Its standard error is clustered as in E. Miller, "Adding Error Bars to Evals" (2024),
with the factor C/(C − 1) for C clusters::

    SE = √( C/(C − 1) · Σ_c (Σ_{i∈c} u_i)² )

and its interval is value ± t(C − 1) · SE; what could be detected with this SE is ``power``'s.
Where several adapters were measured, ``adapters`` says what their choice adds to it. Which records
go in is left to ``summary``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tuneproof.results import ArmPair, Estimate
from tuneproof.stats.adapters import between_adapters
from tuneproof.stats.distributions import normal_quantile, t_quantile
from tuneproof.stats.power import detectable_with

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tuneproof.stats.adapters import BetweenAdapters

Bounds = tuple[float, float]

SHARE: Bounds = (0.0, 1.0)
SHARE_DIFFERENCE: Bounds = (-1.0, 1.0)
NOT_NEGATIVE: Bounds = (0.0, math.inf)
"""Of a loss, or of a length."""

_NOTHING = "nothing was scored"
_TOO_FEW = "one question gives no interval"
_KNOWN = "known, not estimated: no question could have another value"


def mean(
    values: Sequence[float],
    clusters: Sequence[str],
    *,
    level: float,
    n_unscored: int = 0,
    bounds: Bounds | None = None,
    unit: str = "",
    adapters: Sequence[Mapping[str, float]] = (),
    known: Collection[str] = (),
) -> Estimate:
    """The mean of ``values``, with a clustered interval.

    The influence of value s_i is (s_i − s̄)/n, so that
    SE = √(Σ_c(Σ_{i∈c}(s_i − s̄))² · C/(C − 1))/n.

    Args:
        values: the scored values.
        clusters: the question of each value.
        level: the interval's confidence level, such as 0.95.
        n_unscored: how many questions have no value.
        bounds: the smallest and the largest value possible; the interval is cut to them. Without
            spread in the data, they also make an interval possible: see ``_without_spread``.
        unit: the unit of the values.
        adapters: where ``values`` are averages over adapters, each adapter's value by question.
        known: questions whose value could be no other: see ``_without_spread``.
    """
    assert len(values) == len(clusters), (len(values), len(clusters))
    n = len(values)
    value = math.fsum(values) / n if n else 0.0
    return _estimate(
        value,
        [(v - value) / n for v in values],
        clusters,
        level=level,
        n_unscored=n_unscored,
        bounds=bounds,
        unit=unit,
        between=_between_means(adapters),
        known=known,
    )


def ratio(
    numerators: Sequence[float],
    denominators: Sequence[float],
    clusters: Sequence[str],
    *,
    level: float,
    n_unscored: int = 0,
    unit: str = "",
) -> Estimate:
    """The ratio of sums r = Σx/Σn, such as nats a token, with a linearised clustered interval.

    The influence of (x_i, n_i) is (x_i − r·n_i)/Σn (the delta method; W. G. Cochran, "Sampling
    Techniques", 3rd ed., 1977, chapter 6). Rows with a denominator of 0 add nothing to either sum
    but their numerator; where all denominators are 0 there is no value.
    """
    assert len(numerators) == len(denominators) == len(clusters)
    total = math.fsum(denominators)
    if total <= 0:
        return _no_value(level=level, n_unscored=n_unscored + len(set(clusters)), unit=unit)
    value, influences = ratio_influences(numerators, denominators)
    return _estimate(
        value, influences, clusters, level=level, n_unscored=n_unscored, bounds=None, unit=unit
    )


def paired(
    base: Mapping[str, float],
    tuned: Mapping[str, float],
    *,
    questions: Collection[str],
    level: float,
    bounds: Bounds | None = None,
    unit: str = "",
    adapters: Sequence[Mapping[str, float]] = (),
    known: Collection[str] = (),
) -> ArmPair:
    """One measure of both arms on the questions that both have, and the difference tuned − base.

    The interval of the difference is that of the mean of the differences question by question, so
    what makes a question hard for both arms does not widen it.

    Args:
        base: the base arm's value by question.
        tuned: the tuned arm's value by question.
        questions: all questions asked; those that lack a value on either side are unscored.
        level: the confidence level of the three intervals.
        bounds: the smallest and largest value of the measure.
        unit: the unit of the measure.
        adapters: where ``tuned`` is an average over adapters, each adapter's value by question.
        known: questions on which the two arms could not differ, their answers being the same.
    """
    shared, n_unscored = _shared(base, tuned, questions)

    def of(
        values: Sequence[float],
        limits: Bounds | None,
        several: Sequence[Mapping[str, float]] = (),
        sure: Collection[str] = (),
    ) -> Estimate:
        return mean(
            values,
            shared,
            level=level,
            n_unscored=n_unscored,
            bounds=limits,
            unit=unit,
            adapters=several,
            known=sure,
        )

    span = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    each = [{q: values[q] for q in shared if q in values} for values in adapters]
    gains = [{q: v - base[q] for q, v in values.items()} for values in each]
    return ArmPair(
        base=of([base[q] for q in shared], bounds),
        tuned=of([tuned[q] for q in shared], bounds, each),
        difference=of([tuned[q] - base[q] for q in shared], span, gains, known),
    )


def paired_ratio(
    base: Mapping[str, tuple[float, float]],
    tuned: Mapping[str, tuple[float, float]],
    *,
    questions: Collection[str],
    level: float,
    bounds: Bounds | None = None,
    unit: str = "",
    adapters: Sequence[Mapping[str, tuple[float, float]]] = (),
) -> ArmPair:
    """``paired`` for a ratio of sums: (numerator, denominator) by question.

    The influence of a question on the difference of the two ratios is the difference of its
    influences on each. ``bounds`` are of either ratio, such as ``NOT_NEGATIVE`` for a loss.
    """
    shared, n_unscored = _shared(base, tuned, questions)
    columns = [([arm[q][0] for q in shared], [arm[q][1] for q in shared]) for arm in (base, tuned)]
    if any(math.fsum(denominators) <= 0 for _, denominators in columns):
        none = _no_value(level=level, n_unscored=n_unscored + len(shared), unit=unit)
        return ArmPair(base=none, tuned=none, difference=none)
    (base_value, base_parts), (tuned_value, tuned_parts) = (
        ratio_influences(*column) for column in columns
    )
    # The base arm is the same for all adapters: what they differ by is theirs alone.
    between = _between_ratios([{q: v[q] for q in shared if q in v} for v in adapters])

    span = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])

    def of(
        value: float,
        influences: Sequence[float],
        limits: Bounds | None,
        several: BetweenAdapters | None = None,
    ) -> Estimate:
        return _estimate(
            value,
            influences,
            shared,
            level=level,
            n_unscored=n_unscored,
            bounds=limits,
            unit=unit,
            between=several,
        )

    return ArmPair(
        base=of(base_value, base_parts, bounds),
        tuned=of(tuned_value, tuned_parts, bounds, between),
        difference=of(
            tuned_value - base_value,
            [t - b for t, b in zip(tuned_parts, base_parts, strict=True)],
            span,
            between,
        ),
    )


def unmeasured(note: str, *, level: float, n_unscored: int = 0, unit: str = "") -> Estimate:
    """An estimate without a value, which says why."""
    return _no_value(level=level, n_unscored=n_unscored, unit=unit, note=note)


# --- the parts -------------------------------------------------------------------------------


def _shared(
    base: Mapping[str, object], tuned: Mapping[str, object], questions: Collection[str]
) -> tuple[list[str], int]:
    """The questions that both sides have, and how many of all there are they leave out."""
    asked = list(dict.fromkeys([*questions, *base, *tuned]))
    shared = [q for q in asked if q in base and q in tuned]
    return shared, len(asked) - len(shared)


def ratio_influences(
    numerators: Sequence[float], denominators: Sequence[float]
) -> tuple[float, list[float]]:
    """The ratio of sums, and the influence of each row on it; see ``ratio``."""
    total = math.fsum(denominators)
    value = math.fsum(numerators) / total
    return value, [(x - value * n) / total for x, n in zip(numerators, denominators, strict=True)]


def _between_means(adapters: Sequence[Mapping[str, float]]) -> BetweenAdapters | None:
    measured = [values for values in adapters if values]
    centres = [math.fsum(values.values()) / len(values) for values in measured]
    return between_adapters(
        centres,
        [
            {q: (v - centre) / len(values) for q, v in values.items()}
            for values, centre in zip(measured, centres, strict=True)
        ],
    )


def _between_ratios(
    adapters: Sequence[Mapping[str, tuple[float, float]]],
) -> BetweenAdapters | None:
    measured = [v for v in adapters if math.fsum(n for _, n in v.values()) > 0]
    ratios = [
        ratio_influences([x for x, _ in v.values()], [n for _, n in v.values()]) for v in measured
    ]
    return between_adapters(
        [value for value, _ in ratios],
        [dict(zip(v, parts, strict=True)) for v, (_, parts) in zip(measured, ratios, strict=True)],
    )


def _estimate(
    value: float,
    influences: Sequence[float],
    clusters: Sequence[str],
    *,
    level: float,
    n_unscored: int,
    bounds: Bounds | None,
    unit: str,
    between: BetweenAdapters | None = None,
    known: Collection[str] = (),
) -> Estimate:
    """Value and interval from the influences; see the module's docstring."""
    by_cluster: dict[str, list[float]] = {}
    for cluster, influence in zip(clusters, influences, strict=True):
        by_cluster.setdefault(cluster, []).append(influence)
    n_clusters = len(by_cluster)
    if n_clusters == 0:
        return _no_value(level=level, n_unscored=n_unscored, unit=unit)
    note = detectable = None
    if n_clusters == 1:
        low = high = None
        method, note = "none", _TOO_FEW
    else:
        squares = math.fsum(math.fsum(part) ** 2 for part in by_cluster.values())
        error = math.sqrt(squares * n_clusters / (n_clusters - 1))
        # What the rounding of a few thousand additions leaves of a spread of nought.
        flat = error <= 1e-13 * max(1.0, abs(value)) and not (between and between.variance)
        n_open = len(by_cluster.keys() - set(known))
        if flat and not n_open:
            low = high = value
            method = _KNOWN
        elif flat and bounds is not None and all(math.isfinite(bound) for bound in bounds):
            low, high = _without_spread(value, n_open / n_clusters, n_open, bounds, level)
            method = "Wilson bound, all questions alike"
        else:
            half = 0.0 if flat else t_quantile((1 + level) / 2, n_clusters - 1) * error
            method = f"t({n_clusters - 1}), clustered by question"
            if between is not None:
                t = t_quantile((1 + level) / 2, between.n_adapters - 1)
                half = math.hypot(half, t * math.sqrt(between.variance))
                method += f", and t({between.n_adapters - 1}) between adapters"
            low, high = value - half, value + half
            detectable = None if flat else detectable_with(error, df=n_clusters - 1, level=level)
            if detectable is not None and between is not None:
                # The parts of the half-width, each at its own degrees of freedom, add likewise.
                chosen = math.sqrt(between.variance)
                detectable = math.hypot(
                    detectable,
                    detectable_with(chosen, df=between.n_adapters - 1, level=level),
                )
        if flat:
            note = "all questions have the same value" if n_open else _KNOWN
        if bounds is not None:
            low, high = max(low, bounds[0]), min(high, bounds[1])
            # Rounding may carry the mean of equal values past a bound by the last digit.
            value = min(max(value, bounds[0]), bounds[1])
    return Estimate(
        value=value,
        low=low,
        high=high,
        n_scored=n_clusters,
        n_unscored=n_unscored,
        detectable=detectable,
        level=level,
        unit=unit,
        method=method,
        note=note,
    )


def _without_spread(
    value: float, share: float, n: int, bounds: Bounds, level: float
) -> tuple[float, float]:
    """The interval of a bounded mean where all questions have one and the same value.

    A t interval would have no width, as if a hundred hits out of a hundred proved that there is
    never a miss. Wilson's score interval (E. B. Wilson, JASA 22, 1927) for 0 of n bounds the share
    of questions that could have another value by q = z²/(n + z²); at worst they lie at a bound.
    For a share of 0 or 1 this is Wilson's interval itself. Questions whose value is known (two
    answers that are the same text do not differ) leave no such doubt: n counts the others, and
    only their ``share`` of the mean can be another.
    """
    z = normal_quantile((1 + level) / 2)
    q = share * z * z / (n + z * z)
    return value - q * (value - bounds[0]), value + q * (bounds[1] - value)


def _no_value(*, level: float, n_unscored: int, unit: str, note: str = _NOTHING) -> Estimate:
    return Estimate(
        value=None,
        low=None,
        high=None,
        n_scored=0,
        n_unscored=n_unscored,
        level=level,
        unit=unit,
        method="none",
        note=note,
    )
