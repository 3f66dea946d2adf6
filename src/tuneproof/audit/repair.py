"""Which one cell is wrong: the smallest repair of a comparison whose rules do not all hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.audit.alpaca_eval import UNROUNDED, is_unrounded
from tuneproof.audit.numbers import Given, Span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof.audit.terms import Cell, Check, Values

LARGEST_COUNT = 100_000
"""Counts are tried one by one; beyond this the broken rules are listed instead."""

STEPS = 500
"""Values that are tried for a rate of which only bounds are known."""


@dataclass(frozen=True, kw_only=True)
class Repair:
    """A cell whose change alone makes all rules hold.

    ``expected`` is what it would have to be, None where several values would do; ``allowed`` says
    which, in words.
    """

    cell: Cell
    expected: float | None
    allowed: str


def single_repairs(given: Mapping[Cell, Given], checks: Sequence[Check]) -> list[Repair]:
    """Every repair of one cell; none where no rule is broken, or no one cell is to blame.

    Where a row is printed to its last digits, a repair under which its short numbers ("83") would
    have to be rounded ones counts only if there is no other.
    """
    values = {cell: number.span for cell, number in given.items()}
    broken = [c for c in checks if not c.holds(values)]
    if not broken:
        return []
    suspects = frozenset.intersection(*(c.cells for c in broken))
    found = {}
    for cell in (c for c in given if c in suspects):
        mine = [c for c in checks if cell in c.cells]
        repair = (
            _count_repair(cell, values, mine)
            if given[cell].exact
            else _rate_repair(cell, given[cell], values, mine)
        )
        if repair is not None:
            found[cell] = repair
    strict = _unrounded(given)
    likely = [
        repair
        for cell, (repair, span) in found.items()
        if all(c.holds({**strict, cell: span}) for c in checks)
    ]
    return likely or [repair for repair, _ in found.values()]


def _count_repair(
    cell: Cell, values: Values, checks: Sequence[Check]
) -> tuple[Repair, Span] | None:
    largest = max(span.high for span in values.values())
    limit = int(2 * largest) + 10
    if limit > LARGEST_COUNT:
        return None
    tried = dict(values)
    # What fails for most numbers fails first.
    ordered = sorted(checks, key=lambda c: len(c.cells) == 1)
    fitting = []
    for number in range(limit + 1):
        tried[cell] = Span(number, number)
        if all(c.holds(tried) for c in ordered):
            fitting.append(number)
    if not fitting:
        return None
    first, last = fitting[0], fitting[-1]
    if first == last:
        return Repair(cell=cell, expected=first, allowed=str(first)), Span(first, first)
    middle = fitting[len(fitting) // 2]
    return (
        Repair(cell=cell, expected=None, allowed=f"{first} to {last}"),
        Span(middle, middle),
    )


def _rate_repair(
    cell: Cell, given: Given, values: Values, checks: Sequence[Check]
) -> tuple[Repair, Span] | None:
    terms = [c.solve[cell] for c in checks if cell in c.solve]
    spans = [t.value(values) for t in terms]
    if not spans:
        return None
    known = [s for t, s in zip(terms, spans, strict=True) if not t.is_bound]
    if known:
        # Spans that should meet may miss each other by a rounding: the rules decide, not they.
        tried = [given.rounded(min(known, key=lambda s: s.width).middle)]
    else:
        low, high = max(s.low for s in spans), min(s.high for s in spans)
        step = (high - low) / STEPS if math.isfinite(high) else 1.0
        tried = [given.rounded(low + step * k) for k in range(STEPS + 1)]
    fitting = [
        value
        for value in tried
        if all(c.holds({**values, cell: given.around(value)}) for c in checks)
    ]
    if not fitting:
        return None
    if known:
        repair = Repair(cell=cell, expected=fitting[0], allowed=f"{fitting[0]:.10g}")
    else:
        last = f"to {fitting[-1]:.6g}" if math.isfinite(high) else "or more"
        allowed = f"{fitting[0]:.6g} {last}"
        repair = Repair(cell=cell, expected=None, allowed=allowed)
    return repair, given.around(fitting[len(fitting) // 2])


def _unrounded(given: Mapping[Cell, Given]) -> Values:
    """The spans where each row that is printed to its last digits is read so."""
    spans = {}
    for (i, name), number in given.items():
        row = {c: g for (j, c), g in given.items() if j == i}
        span = number.span
        if is_unrounded(row) and not number.exact:
            digits = min(g.decimals for g in row.values() if g.decimals >= UNROUNDED)
            slack = min(span.width / 2, 0.5 * 10.0**-digits)
            span = Span(number.value - slack, number.value + slack)
        spans[i, name] = span
    return spans
