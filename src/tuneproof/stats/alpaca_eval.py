"""AlpacaEval 2's leaderboard numbers, from preferences.

A stored preference of AlpacaEval lies between 1 (the reference's answer is better) and 2 (the
model's is); q = preference − 1 is P(the model's answer is better). The formulas are those of
alpaca_eval's ``metrics`` (https://github.com/tatsu-lab/alpaca_eval), and so are the numbers, to
rounding. Rates are percentages, as on its leaderboard. Length control is in ``length_control``;
reading files is left to ``score``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from tuneproof.stats.estimates import SHARE, mean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.results import Estimate

TIE = 0.5


@dataclass(frozen=True, kw_only=True)
class LeaderboardNumbers:
    """The columns of the leaderboard that follow from preferences alone; None for want of rows.

    ``n_total`` counts scored rows only.
    """

    win_rate: float | None
    standard_error: float | None
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int
    discrete_win_rate: float | None


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An interval and how it was made; in the unit of its value."""

    low: float
    high: float
    method: str


def share_of(stored: float) -> float | None:
    """q of a stored preference; None for a number that is no preference.

    A stored 0 is an old way of writing a tie (1.5).
    """
    if stored == 0:
        return TIE
    return stored - 1 if 1 <= stored <= 2 else None


def leaderboard_numbers(preferences: Sequence[float]) -> LeaderboardNumbers:
    """All columns from the scored q, each a number in [0, 1].

    win_rate = 100·mean(q); standard_error = 100·sd(q)/√n with n − 1 under the sum of squares;
    n_wins, n_wins_base and n_draws count q > ½, q < ½ and q = ½; discrete_win_rate =
    100·(n_wins + n_draws/2)/n.
    """
    n = len(preferences)
    wins = sum(q > TIE for q in preferences)
    losses = sum(q < TIE for q in preferences)
    draws = n - wins - losses
    centre = math.fsum(preferences) / n if n else None
    error = None
    if centre is not None and n > 1:
        squares = math.fsum((q - centre) ** 2 for q in preferences)
        error = 100 * math.sqrt(squares / (n - 1)) / math.sqrt(n)
    return LeaderboardNumbers(
        win_rate=None if centre is None else 100 * centre,
        standard_error=error,
        n_wins=wins,
        n_wins_base=losses,
        n_draws=draws,
        n_total=n,
        discrete_win_rate=100 * (wins + draws / 2) / n if n else None,
    )


def average_length(lengths: Sequence[int]) -> int | None:
    """The mean length of the model's answers in characters, cut to a whole number."""
    return int(sum(lengths) / len(lengths)) if lengths else None


def win_rate(
    preferences: Sequence[float], questions: Sequence[str], *, level: float, n_unscored: int = 0
) -> Estimate:
    """The win rate as a share, with a t interval clustered by question.

    With one row a question this is the plain t interval of the mean. See ``estimates.mean``.
    """
    return mean(preferences, questions, level=level, n_unscored=n_unscored, bounds=SHARE)


def is_binary(preferences: Sequence[float]) -> bool:
    """Whether every q is 0 or 1, so that the rate is a share of successes."""
    return bool(preferences) and all(q in (0.0, 1.0) for q in preferences)


def wilson(successes: int, n: int, *, level: float) -> Interval:
    """Wilson's score interval of a share (E. B. Wilson, JASA 22, 1927).

    (p + z²/2n ± z·√(p(1 − p)/n + z²/4n²)) / (1 + z²/n) with p = successes/n; independent trials
    are assumed.
    """
    assert 0 <= successes <= n, (successes, n)
    assert n > 0
    z = NormalDist().inv_cdf((1 + level) / 2)
    p = successes / n
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return Interval(
        low=max(0.0, (centre - half) / scale),
        high=min(1.0, (centre + half) / scale),
        method="Wilson",
    )
