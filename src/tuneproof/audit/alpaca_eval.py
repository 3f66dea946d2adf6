"""The rules of one row of AlpacaEval's table. Rates are percentages.

W, B and D are n_wins, n_wins_base and n_draws, n is n_total; any one of the four follows from the
others. A preference q is P(the model is better): W counts q > ½, B counts q < ½, D counts q = ½,
win_rate is 100 times the mean of q and discrete_win_rate that of q rounded to 0, ½ or 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.audit.columns import Benchmark
from tuneproof.audit.numbers import Span
from tuneproof.audit.terms import (
    Cell,
    Check,
    Term,
    between,
    counts_sum,
    equal,
    exactly,
    ranges,
    same,
    the,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from tuneproof.audit.numbers import Given
    from tuneproof.audit.reading import TableRow

_WIN_RATE: Cell = (0, "win_rate")
_ERROR: Cell = (0, "standard_error")
_DISCRETE: Cell = (0, "discrete_win_rate")
_WINS: Cell = (0, "n_wins")
_BASE: Cell = (0, "n_wins_base")
_DRAWS: Cell = (0, "n_draws")
_TOTAL: Cell = (0, "n_total")

UNROUNDED = 6
"""Decimals from which on a number was not rounded for people: the row's other numbers then were not
either, and a short one is short because its last digits are zeros."""


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """Which three counts are used, and how W, D and n follow from them."""

    cells: tuple[Cell, Cell, Cell]
    wdn: Callable[[float, float, float], tuple[float, float, float]]
    wins: str
    draws: str = "n_draws"
    total: str = "n_total"

    def term(self, formula: Callable[[float, float, float], float], text: str) -> Term:
        """A number from W, D and n."""
        return exactly(self.cells, lambda *v: formula(*self.wdn(*v)), text)


def row_checks(row: TableRow) -> Iterator[Check]:
    """All rules of one row."""
    yield from ranges(row, 0, Benchmark.ALPACA_EVAL)
    has = {(0, c) for c in row.given}
    parts = [c for c in (_WINS, _BASE, _DRAWS) if c in has]
    if _TOTAL in has and parts:
        yield counts_sum(parts, _TOTAL, complete=len(parts) == 3)
    counts = _counts(has)
    if counts is not None:
        yield from _from_counts(counts, has)
    discrete = has_discrete_preferences(row)
    if discrete:
        yield from _of_discrete_preferences(counts, has)
    # Draws spread less than wins and losses: without all counts, how many there were is not known.
    if {_ERROR, _WIN_RATE, _TOTAL} <= has and not (discrete and counts is not None):
        yield _error_bound()


def _counts(has: set[Cell]) -> _Counts | None:
    if {_WINS, _DRAWS, _TOTAL} <= has:
        return _Counts(cells=(_WINS, _DRAWS, _TOTAL), wdn=lambda w, d, n: (w, d, n), wins="n_wins")
    if {_BASE, _DRAWS, _TOTAL} <= has:
        return _Counts(
            cells=(_BASE, _DRAWS, _TOTAL),
            wdn=lambda b, d, n: (n - b - d, d, n),
            wins="(n_total − n_wins_base − n_draws)",
        )
    if {_WINS, _BASE, _DRAWS} <= has:
        return _Counts(
            cells=(_WINS, _BASE, _DRAWS),
            wdn=lambda w, b, d: (w, d, w + b + d),
            wins="n_wins",
            total="(n_wins + n_wins_base + n_draws)",
        )
    if {_WINS, _BASE, _TOTAL} <= has:
        return _Counts(
            cells=(_WINS, _BASE, _TOTAL),
            wdn=lambda w, b, n: (w, n - w - b, n),
            wins="n_wins",
            draws="(n_total − n_wins − n_wins_base)",
        )
    return None


def _mean(w: float, d: float, n: float) -> float:
    return 100 * (w + d / 2) / n


def _standard_error(w: float, d: float, n: float) -> float:
    """100·sd(q, ddof=1)/√n of W ones, D halves and zeros: √((W + D/4 − n p²) / (n (n − 1))).

    Without draws this is 100·√(p (1 − p)/(n − 1)).
    """
    p = (w + d / 2) / n
    return 100 * math.sqrt(max(0.0, w + d / 4 - n * p * p) / (n * (n - 1)))


def _binary_error(rate: Span, n: float) -> Span:
    """100·√(p (1 − p)/(n − 1)) for every p of a rate in percent; largest at one half."""

    def at(percent: float) -> float:
        p = min(100.0, max(0.0, percent)) / 100
        return 100 * math.sqrt(p * (1 - p) / (n - 1))

    ends = (at(rate.low), at(rate.high))
    return Span(min(ends), at(50) if rate.low < 50 < rate.high else max(ends))


def _from_counts(counts: _Counts, has: set[Cell]) -> Iterator[Check]:
    """What follows from the counts, whatever the preferences.

    ``discrete-win-rate``: 100 (W + ½D)/n. ``win-rate-within-counts``: since q > ½ where the model
    won and q < ½ where it lost, 50 (W + D)/n ≤ win_rate ≤ 100 (W + ½D + ½B)/n.
    """
    if _DISCRETE in has:
        yield equal("discrete-win-rate", _DISCRETE, counts.term(_mean, _mean_text(counts)))
    if _WIN_RATE in has:

        def allowed(*v: Span) -> Span:
            w, d, n = counts.wdn(*(s.low for s in v))
            return Span(50 * (w + d) / n, 50 * (n + w) / n)  # W + ½D + ½B = ½(n + W)

        text = "between 50 (wins + draws)/n_total and 50 (n_total + wins)/n_total"
        yield equal("win-rate-within-counts", _WIN_RATE, between(counts.cells, allowed, text))


def _mean_text(counts: _Counts) -> str:
    return f"100 ({counts.wins} + {counts.draws}/2) / {counts.total}"


def has_discrete_preferences(row: TableRow) -> bool:
    """Whether every preference was 0, ½ or 1, as far as the row tells.

    Then win_rate is discrete_win_rate and the standard error follows from the counts. Either of the
    two, where it holds to more digits than chance gives, says so (and if the other does not hold, a
    cell is wrong); or both, where the numbers are rounded. Otherwise preferences were weighted.
    """
    given = row.given
    win_rate, error = given.get("win_rate"), given.get("standard_error")
    discrete, n = given.get("discrete_win_rate"), given.get("n_total")
    counts = _counts({(0, c) for c in given})
    unrounded = is_unrounded(given)
    values = {(0, c): g.span for c, g in given.items()}
    if win_rate and discrete:
        digits = min(win_rate.decimals, discrete.decimals)
        near = abs(win_rate.value - discrete.value) <= 1e-6
        if near and (unrounded or digits >= UNROUNDED):
            return True
    expected = [
        _binary_error(Span(g.value, g.value), n.value)
        for g in (win_rate, discrete)
        if g and n and n.value > 1 and unrounded
    ]
    if counts is not None:
        expected.append(counts.term(_standard_error, "").value(values))
    if error and error.decimals >= 4 and any(_near(error.value, e.low) for e in expected):
        return True
    if not (win_rate and error and counts):
        return False
    means = [counts.term(_mean, "").value(values), *([discrete.span] if discrete else [])]
    return all(m.meets(win_rate.span) for m in means) and error.span.meets(expected[-1])


def _near(value: float, expected: float) -> bool:
    return math.isclose(value, expected, rel_tol=1e-5, abs_tol=1e-9)


def is_unrounded(given: Mapping[str, Given]) -> bool:
    """Whether the row's rates are printed to their last digits, trailing zeros dropped."""
    return any(not g.exact and g.decimals >= UNROUNDED for g in given.values())


def _of_discrete_preferences(counts: _Counts | None, has: set[Cell]) -> Iterator[Check]:
    """What also holds when every preference is 0, ½ or 1.

    ``win-rate-discrete``: win_rate = discrete_win_rate = 100 (W + ½D)/n. ``standard-error``: see
    ``_standard_error``.
    """
    if {_WIN_RATE, _DISCRETE} <= has:
        yield same("win-rate-discrete", the(_WIN_RATE), the(_DISCRETE))
    if counts is not None and _WIN_RATE in has:
        yield equal("win-rate-discrete", _WIN_RATE, counts.term(_mean, _mean_text(counts)))
    if counts is not None and _ERROR in has:
        text = "100 √(p (1 − p)/(n_total − 1)), less for draws, with p from the counts"
        yield equal("standard-error", _ERROR, counts.term(_standard_error, text))


def _error_bound() -> Check:
    """``standard-error-bound``: weighted preferences spread less than binary ones of their mean.

    For q in [0, 1] with mean p, Σ(q − p)² ≤ n p (1 − p): 0 ≤ standard_error ≤ 100·√(p (1 − p)/(n −
    1)).
    """
    return equal(
        "standard-error-bound",
        _ERROR,
        between(
            [_WIN_RATE, _TOTAL],
            lambda rate, n: Span(0.0, _error_span(rate, n).high),
            "at most 100 √(p (1 − p)/(n_total − 1)) with p = win_rate/100",
        ),
    )


def _error_span(rate: Span, n: Span) -> Span:
    if n.low <= 1:
        return Span(math.nan, math.nan)
    return _binary_error(rate, n.low)
