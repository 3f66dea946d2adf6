"""Several adapters: what the luck of a training run adds to an interval.

Each training seed gives another adapter, and with it another value of every measure. With n
questions and k adapters, each measured on all questions, the mean of all varies by

    V = V_Q + V_A,

where V_Q is the variance that comes of having drawn these questions (what a single adapter's
interval has) and V_A that of having drawn these k trainings. The means of the adapters differ by
more than V_A alone, since each also has its own noise on every question; that noise is within V_Q
already. So, from the adapters' values θ_1 … θ_k and the influences u_qa of question q on θ_a::

    V_A = max(0, Σ_a (θ_a − θ̄)²/(k − 1) − n/(n − 1) · Σ_q Σ_a (u_qa − ū_q)²/(k − 1)) / k

(a two-way random-effects analysis of variance). V_Q rests on n − 1 degrees of freedom and V_A on
k − 1, which are few: each gets its own quantile of Student's t, and the two are added as squares
(W. G. Howe, JASA 69, 1974)::

    half-width² = t(n − 1)² · V_Q + t(k − 1)² · V_A

In simulations (tests) 95 % intervals so made cover 95 to 97 % for three adapters or more, and 90 to
97 % for two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean, variance
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class BetweenAdapters:
    """V_A of the module's docstring, and k."""

    variance: float
    n_adapters: int


def between_adapters(
    values: Sequence[float], influences: Sequence[Mapping[str, float]]
) -> BetweenAdapters | None:
    """The variance that the choice of adapters adds; None for fewer than two.

    Args:
        values: each adapter's value of the measure.
        influences: for each adapter, the influence of each question on its value.
    """
    k = len(values)
    assert k == len(influences), (k, len(influences))
    if k < 2:
        return None
    shared = set.intersection(*(set(u) for u in influences))
    n = len(shared)
    own_noise = 0.0
    if n > 1:
        scatter = []
        for question in shared:
            of_question = [u[question] for u in influences]
            centre = fmean(of_question)
            scatter.append(math.fsum((u - centre) ** 2 for u in of_question))
        own_noise = math.fsum(scatter) / (k - 1) * n / (n - 1)
    return BetweenAdapters(variance=max(0.0, variance(values) - own_noise) / k, n_adapters=k)
