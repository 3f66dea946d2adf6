"""Quantiles that intervals and power are made of."""

from __future__ import annotations

import functools
from statistics import NormalDist


def normal_quantile(p: float) -> float:
    """The quantile of the standard normal distribution."""
    return NormalDist().inv_cdf(p)


@functools.lru_cache(maxsize=256)
def t_quantile(p: float, degrees_of_freedom: int) -> float:
    """The quantile of Student's t distribution."""
    # scipy.special alone: scipy.stats takes more than twice as long to import.
    from scipy.special import stdtrit

    return float(stdtrit(degrees_of_freedom, p))
