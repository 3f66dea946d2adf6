"""What a rule is made of: two terms over the cells of one comparison, and what makes them equal.

A term is a span of values, since a printed rate stands for all values that round to it; counts are
exact. A rule holds when its two spans meet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tuneproof.audit.columns import Benchmark, column
from tuneproof.audit.numbers import Span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tuneproof.audit.reading import TableRow

Cell = tuple[int, str]
"""Row of the comparison, from 0, and column."""

Values = dict[Cell, Span]


@dataclass(frozen=True, kw_only=True)
class Term:
    """One side of a rule: the cells it is made of, its value, and how it is written.

    ``is_bound`` marks a span that is allowed, as opposed to one number known with some slack.
    """

    cells: tuple[Cell, ...]
    value: Callable[[Values], Span]
    text: str
    is_bound: bool = False


@dataclass(frozen=True, kw_only=True)
class Check:
    """One rule on certain cells. ``solve`` has, for a cell, what the other cells say it must be.

    ``one_number`` where both sides are the very same number, printed twice.
    """

    rule: str
    left: Term
    right: Term
    solve: Mapping[Cell, Term] = field(default_factory=dict)
    one_number: bool = False

    @property
    def cells(self) -> frozenset[Cell]:
        """Every cell that the rule rests on."""
        return frozenset((*self.left.cells, *self.right.cells))

    def holds(self, values: Values) -> bool:
        """Whether both sides can be the same."""
        left, right = self.left.value(values), self.right.value(values)
        return left.is_as(right) if self.one_number else left.meets(right)


def the(cell: Cell, text: str = "") -> Term:
    """The term that is one cell."""
    return Term(cells=(cell,), value=lambda v: v[cell], text=text or cell[1])


def exactly(cells: Sequence[Cell], formula: Callable[..., float], text: str) -> Term:
    """A number that follows from counts; not a number where the formula has none (N = 0)."""

    def value(v: Values) -> Span:
        try:
            number = formula(*(v[c].low for c in cells))
        except (ZeroDivisionError, ValueError):
            number = math.nan
        return Span(number, number)

    return Term(cells=tuple(cells), value=value, text=text)


def between(cells: Sequence[Cell], formula: Callable[..., Span], text: str) -> Term:
    """A span that is allowed, from the spans of the cells."""

    def value(v: Values) -> Span:
        try:
            return formula(*(v[c] for c in cells))
        except (ZeroDivisionError, ValueError):
            return Span(math.nan, math.nan)

    return Term(cells=tuple(cells), value=value, text=text, is_bound=True)


def equal(rule: str, cell: Cell, term: Term) -> Check:
    """A rule that says what one cell must be."""
    return Check(rule=rule, left=the(cell), right=term, solve={cell: term})


def same(rule: str, first: Term, second: Term) -> Check:
    """A rule that says that two cells are the same number."""
    (a,), (b,) = first.cells, second.cells
    return Check(rule=rule, left=first, right=second, solve={a: second, b: first}, one_number=True)


def ranges(row: TableRow, i: int, benchmark: Benchmark) -> Iterator[Check]:
    """``range``: counts are whole and not negative; rates lie in 0–100 (AlpacaEval) or 0–1."""
    for name in row.given:
        kind = column(benchmark, name).kind
        cell = (i, name)
        if kind == "count":
            whole = between([cell], _nearest_count, "a whole number, 0 or more")
            yield Check(rule="range", left=the(cell), right=whole)
        else:
            top = float(benchmark.scale) if kind == "rate" else math.inf
            text = f"between 0 and {top:g}" if kind == "rate" else "0 or more"
            yield equal("range", cell, between([], lambda top=top: Span(0.0, top), text))


def _nearest_count(given: Span) -> Span:
    number = float(max(0, round(given.low)))
    return Span(number, number)


def counts_sum(counts: Sequence[Cell], total: Cell, *, complete: bool) -> Check:
    """``counts-sum``: the counts of a row sum to its total.

    MT-Bench: win + loss + tie = n_matches. AlpacaEval: n_wins + n_wins_base + n_draws = n_total.
    Where one of the three is not given, the others must leave room for it.
    """
    text = " + ".join(c[1] for c in counts)
    summed = exactly(counts, lambda *v: sum(v), text)
    if complete:
        return equal("counts-sum", total, summed)
    room = between([total], lambda n: Span(0.0, n.high), f"at most {total[1]}")
    return Check(rule="counts-sum", left=summed, right=room)
