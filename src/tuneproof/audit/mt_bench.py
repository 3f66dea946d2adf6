"""The rules of MT-Bench's pairwise table, as FastChat's ``show_result`` makes it.

N is a model's number of matches: win + loss + tie, or n_matches where one of them is not given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.audit.columns import Benchmark
from tuneproof.audit.numbers import Span
from tuneproof.audit.terms import (
    Cell,
    Check,
    Term,
    counts_sum,
    equal,
    exactly,
    ranges,
    same,
    the,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tuneproof.audit.reading import TableRow


def row_checks(row: TableRow, i: int) -> Iterator[Check]:
    """All rules of one model's row, which is the comparison's ``i``-th."""
    yield from ranges(row, i, Benchmark.MT_BENCH)
    has = {(i, c) for c in row.given}
    counts = [c for c in ((i, "win"), (i, "loss"), (i, "tie")) if c in has]
    if (i, "n_matches") in has and counts:
        yield counts_sum(counts, (i, "n_matches"), complete=len(counts) == 3)
    yield from _rates(i, has)
    yield from _adjusted_from_rates(i, has)


def _rates(i: int, has: set[Cell]) -> Iterator[Check]:
    """``win-rate``: win / N. ``loss-rate``: loss / N. ``win-rate-adjusted``: (win + ½ tie) / N."""
    win, loss, tie, total = ((i, c) for c in ("win", "loss", "tie", "n_matches"))
    if {win, loss, tie} <= has:
        parts: tuple[Cell, ...] = (win, loss, tie)
        n = "(win + loss + tie)"
    elif total in has:
        parts, n = (total,), "n_matches"
    else:
        return

    def rate(rule: str, cells: tuple[Cell, ...], top: Callable[..., float], text: str) -> Check:
        k = len(cells)
        term = exactly((*cells, *parts), lambda *v: top(*v[:k]) / sum(v[k:]), f"{text} / {n}")
        return equal(rule, (i, rule.replace("-", "_")), term)

    if {win, (i, "win_rate")} <= has:
        yield rate("win-rate", (win,), lambda w: w, "win")
    if {loss, (i, "loss_rate")} <= has:
        yield rate("loss-rate", (loss,), lambda s: s, "loss")
    if (i, "win_rate_adjusted") not in has:
        return
    if {win, tie} <= has:
        yield rate("win-rate-adjusted", (win, tie), lambda w, t: w + t / 2, "(win + tie/2)")
    elif {win, loss} <= has:  # then tie = n_matches − win − loss
        half = "(n_matches + win − loss)/2"
        yield rate("win-rate-adjusted", (total, win, loss), lambda n, w, s: (n + w - s) / 2, half)


def _adjusted_from_rates(i: int, has: set[Cell]) -> Iterator[Check]:
    """``adjusted-from-rates``: win_rate_adjusted = ½ + ½ (win_rate − loss_rate).

    This is (W + ½T)/N with T = N − W − L, so that rates without counts can be checked too.
    """
    win, loss, adjusted = ((i, c) for c in ("win_rate", "loss_rate", "win_rate_adjusted"))
    if not {win, loss, adjusted} <= has:
        return
    term = _linear(0.5, {win: 0.5, loss: -0.5}, "1/2 + (win_rate − loss_rate)/2")
    solve = {
        adjusted: term,
        win: _linear(-1, {adjusted: 2, loss: 1}, "2 win_rate_adjusted − 1 + loss_rate"),
        loss: _linear(1, {adjusted: -2, win: 1}, "1 − 2 win_rate_adjusted + win_rate"),
    }
    yield Check(rule="adjusted-from-rates", left=the(adjusted), right=term, solve=solve)


def _linear(constant: float, factors: dict[Cell, float], text: str) -> Term:
    """A weighted sum of rates, each with its slack."""

    def value(v: dict[Cell, Span]) -> Span:
        ends = [sorted((f * v[c].low, f * v[c].high)) for c, f in factors.items()]
        return Span(constant + sum(e[0] for e in ends), constant + sum(e[1] for e in ends))

    return Term(cells=tuple(factors), value=value, text=text)


def same_matches(first: TableRow, second: TableRow) -> Iterator[Check]:
    """``counts-sum`` across rows: both models of one comparison played the same matches."""
    counts = ("win", "loss", "tie")
    if all(c in row.given for row in (first, second) for c in counts):
        sums = [
            exactly(
                [(i, c) for c in counts],
                lambda *v: sum(v),
                f"win + loss + tie of {row.model}",
            )
            for i, row in enumerate((first, second))
        ]
        yield Check(rule="counts-sum", left=sums[0], right=sums[1])
    if "n_matches" in first.given and "n_matches" in second.given:
        yield _pair("counts-sum", "n_matches", "n_matches", first, second)


def mirrors(first: TableRow, second: TableRow) -> Iterator[Check]:
    """``mirror``: what one model won the other lost, ties are the same, adjusted rates sum to 1."""
    for mine, yours in (
        ("win", "loss"),
        ("loss", "win"),
        ("tie", "tie"),
        ("win_rate", "loss_rate"),
        ("loss_rate", "win_rate"),
    ):
        if mine in first.given and yours in second.given:
            yield _pair("mirror", mine, yours, first, second)
    adjusted = "win_rate_adjusted"
    if adjusted in first.given and adjusted in second.given:
        a, b = (0, adjusted), (1, adjusted)
        rest_of_a = _linear(1, {a: -1}, f"1 − {adjusted} of {first.model}")
        rest_of_b = _linear(1, {b: -1}, f"1 − {adjusted} of {second.model}")
        yield Check(
            rule="mirror",
            left=the(a, f"{adjusted} of {first.model}"),
            right=rest_of_b,
            solve={a: rest_of_b, b: rest_of_a},
        )


def _pair(rule: str, mine: str, yours: str, first: TableRow, second: TableRow) -> Check:
    return same(
        rule,
        the((0, mine), f"{mine} of {first.model}"),
        the((1, yours), f"{yours} of {second.model}"),
    )
