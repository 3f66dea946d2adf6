"""The cluster bootstrap: intervals of means from resamples of whole questions.

A second opinion on the t intervals of ``estimates``, for small samples and skewed ones (a win rate
near 0 or 1), where a symmetric interval misses on one side. The interval is BCa (B. Efron, JASA 82,
1987): percentiles of the resampled means, their levels corrected for bias and skewness. The levels
are first widened from the normal distribution to Student's t, as small samples need (T. Hesterberg,
The American Statistician 69, 2015, "expanded percentile").

Chosen by the coverage of 95 % intervals, 2,000 simulated samples each (``bench/coverage.py``): 20,
80 and 300 values, normal, exponential, or wins at rates of 0.5, 0.83 and 0.95. BCa so widened
covers 93 to 99 % (all, for 20 at 0.95); t falls to 88 % and plain percentiles to 87 % (20 at 0.83),
both to 91 % (80 at 0.95). The studentized bootstrap covers as well as BCa, but has no bound where a
resample is without spread: its intervals are up to five times as wide.

A handful of questions has too few resamples for percentiles of any kind: of 2 to 6 questions BCa
covers 70 to 90 % where t covers 93 to 100 % (even matches). Below ``LEAST_QUESTIONS`` the interval
is therefore Student's t, wherever the bootstrap would be taken.

What the choice of training seeds adds is not in it; see ``adapters``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.recipe import named_seed
from tuneproof.stats.distributions import t_quantile
from tuneproof.stats.estimates import Bounds, mean

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tuneproof.results import Estimate

    Floats = NDArray[np.float64]

DRAWS = 10_000
"""Resamples. From seed to seed, the ends of a 95 % interval then have a standard deviation of about
a hundredth of its width."""

LEAST_QUESTIONS = 8
"""With fewer, Student's t: see the module's docstring."""

CHUNK = 1 << 21
"""Questions times resamples at a time: about 100 MB."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One measure: scored values and the question of each; the rest as in ``estimates.mean``.

    ``known`` questions count in the intervals of columns without spread alone.
    """

    values: Sequence[float]
    clusters: Sequence[str]
    n_unscored: int = 0
    bounds: Bounds | None = None
    unit: str = ""
    known: Collection[str] = ()


def bootstrap_mean(column: Column, *, level: float, seed: int, n_draws: int = DRAWS) -> Estimate:
    """The mean of one column; see ``bootstrap_means``."""
    return bootstrap_means({"": column}, level=level, seed=seed, n_draws=n_draws)[""]


def bootstrap_means(
    columns: Mapping[str, Column], *, level: float, seed: int, n_draws: int = DRAWS
) -> dict[str, Estimate]:
    """The mean of each column, with an interval from resamples of whole questions.

    One resample draws as many questions as there are, with replacement, and takes all values of
    each; it is the same for all columns, so that the columns of two judges, and one of their
    differences, go together. A column need not have a value on every question. Without spread, or
    with fewer than ``LEAST_QUESTIONS``, a column gets what ``estimates.mean`` gives it.

    Args:
        columns: at least one.
        level: the confidence level.
        seed: the resamples are those of ``named_seed(seed, "stats", "bootstrap")``, and of the same
            numpy.
        n_draws: how many resamples.
    """
    import numpy as np

    questions = {
        name: place
        for place, name in enumerate(
            dict.fromkeys(cluster for column in columns.values() for cluster in column.clusters)
        )
    }
    plain = {
        name: mean(
            column.values,
            column.clusters,
            level=level,
            n_unscored=column.n_unscored,
            bounds=column.bounds,
            unit=column.unit,
            known=column.known,
        )
        for name, column in columns.items()
    }
    # An estimate with a note has no interval, or one that does not come from a spread.
    spread = [name for name, e in plain.items() if e.note is None and e.n_scored >= LEAST_QUESTIONS]
    if not spread:
        return plain
    # For each column, by question: the sum of deviations from its mean, and the number of values.
    sums = np.zeros((len(questions), 2 * len(spread)))
    for i, name in enumerate(spread):
        column = columns[name]
        places = np.fromiter((questions[c] for c in column.clusters), dtype=np.int64)
        deviations = np.asarray(column.values, dtype=float)
        deviations = deviations - deviations.mean()
        sums[:, 2 * i] = np.bincount(places, deviations, minlength=len(questions))
        sums[:, 2 * i + 1] = np.bincount(places, minlength=len(questions))
    totals = _resampled(sums, n_draws, seed=named_seed(seed, "stats", "bootstrap"))
    found = dict(plain)
    for i, name in enumerate(spread):
        weights = totals[:, 2 * i + 1]
        # A resample without any value of a column says nothing of its mean.
        shifts = np.sort(totals[weights > 0, 2 * i] / weights[weights > 0])
        influences = sums[sums[:, 2 * i + 1] > 0, 2 * i]
        low, high = _bca(shifts, influences, level=level)
        found[name] = _with_interval(plain[name], low, high, columns[name].bounds, n_draws=n_draws)
    return found


def _resampled(sums: Floats, n_draws: int, *, seed: int) -> Floats:
    """The sums over each resample's questions: (draws × columns)."""
    import numpy as np

    draw = np.random.default_rng(seed)
    n = len(sums)
    at_once = max(1, min(n_draws, CHUNK // n))
    found = np.empty((n_draws, sums.shape[1]))
    # The counts of many resamples in one table, a line each, so that their sums are one product.
    lines = np.arange(at_once, dtype=np.int64)[:, None] * n
    for begin in range(0, n_draws, at_once):
        k = min(at_once, n_draws - begin)
        drawn = draw.integers(0, n, size=(k, n), dtype=np.uint32)
        counts = np.bincount((drawn + lines[:k]).ravel(), minlength=k * n).reshape(k, n)
        found[begin : begin + k] = counts.astype(np.float64) @ sums
    return found


def _bca(shifts: Floats, influences: Floats, *, level: float) -> tuple[float, float]:
    """Both ends, as distances from the mean.

    With z₀ = Φ⁻¹(share of resamples below the mean, half of those at it) and the acceleration
    a = Σu³ / (6·(Σu²)^1.5) of the influences u, the percentile for z is
    Φ(z₀ + (z₀ + z)/(1 − a·(z₀ + z))); z = ∓t(n − 1)·√(n/(n − 1)) in the place of ∓1.96.

    Args:
        shifts: the resampled means less the mean, sorted.
        influences: of each question, up to a common factor.
        level: the confidence level.
    """
    import numpy as np
    from scipy.special import ndtr, ndtri

    n, n_draws = len(influences), len(shifts)
    tolerance = 1e-12 * float(np.abs(shifts).max())
    below = int(np.searchsorted(shifts, -tolerance, side="left"))
    upto = int(np.searchsorted(shifts, tolerance, side="right"))
    half = 0.5 / n_draws  # a share of 0 or 1 has no quantile
    bias = float(ndtri(min(max((below + upto) / 2 / n_draws, half), 1 - half)))
    squares = float((influences**2).sum())
    acceleration = float((influences**3).sum()) / (6 * squares**1.5)
    wide = t_quantile((1 + level) / 2, n - 1) * math.sqrt(n / (n - 1))
    ends = []
    for z in (-wide, wide):
        slope = 1 - acceleration * (bias + z)
        # Past its pole the correction means nothing: the sample is too small for it.
        corrected = bias + (bias + z) / slope if slope > 0 else math.copysign(math.inf, z)
        ends.append(float(np.quantile(shifts, float(ndtr(corrected)))))
    return ends[0], ends[1]


def _with_interval(
    estimate: Estimate, low: float, high: float, bounds: Bounds | None, *, n_draws: int
) -> Estimate:
    assert estimate.value is not None
    # The mean is in every interval, though both corrected levels may lie on one side of it.
    ends = [estimate.value + min(low, 0.0), estimate.value + max(high, 0.0)]
    if bounds is not None:
        ends = [max(ends[0], bounds[0]), min(ends[1], bounds[1])]
    method = f"BCa bootstrap of {n_draws:,}, clustered by question"
    return estimate.model_copy(update={"low": ends[0], "high": ends[1], "method": method})
