"""What an audit found, in lines for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.audit.audit import problems

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuneproof.audit.audit import Audit, AuditedTable, Comparison, Problem
    from tuneproof.audit.terms import Check, Term


def audit_lines(audit: Audit) -> list[str]:
    """A summary, a line for each table, and under it what is wrong in it."""
    n_broken = sum(t.n_broken for t in audit.tables)
    lines = [
        f"{audit.name}: {_count(len(audit.tables), 'table')}, {_count(audit.n_rows, 'row')}; "
        f"{_held(audit.n_held, n_broken)}"
    ]
    for table in audit.tables:
        lines += ["", *_table(table)]
    return lines


def _table(audited: AuditedTable) -> Iterator[str]:
    table = audited.table
    models = [r.model for r in table.rows]
    who = " and ".join(models) if len(models) <= 2 else f"{len(models)} rows"
    yield (
        f"{table.benchmark.label} (line {table.line}), {who}: "
        f"{_held(audited.n_held, audited.n_broken)}"
    )
    if table.unknown:
        yield f"  not checked, since no rule knows them: {', '.join(table.unknown)}"
    if table.benchmark.scale == 1 and len(audited.comparisons) == len(models) == 2:
        yield "  the two rows do not mirror each other: read as matches against someone else"
    for comparison in audited.comparisons:
        if comparison.broken:
            yield from _broken(comparison)


def _broken(comparison: Comparison) -> Iterator[str]:
    found = problems(comparison)
    n_checks = len(comparison.held) + len(comparison.broken)
    if len(comparison.repairs) == 1:
        yield f"  {_cell(found[0])}; with it all {n_checks} checks hold"
    elif comparison.repairs:
        yield f"  one of these {len(found)} cells is wrong; each alone would mend everything:"
        yield from (f"    {_cell(p)}" for p in found)
    else:
        yield "  no change of a single cell mends this:"
    for check in comparison.broken:
        yield f"    {check.rule:<20} {_said(comparison, check)}"


def _cell(p: Problem) -> str:
    expected = p.allowed if p.expected is None else f"{p.expected:.10g}"
    return f"{p.row}, {p.column} (line {p.line}): given {p.given:.10g}, expected {expected}"


def _said(comparison: Comparison, check: Check) -> str:
    values = comparison.values
    left = _value(comparison, check.left)
    rows = {cell[0] for cell in check.cells}
    of = f"{comparison.rows[rows.pop()].model}: " if len(rows) == 1 else ""
    if check.right.is_bound:
        span = check.right.value(values)
        asks_others = check.right.cells and check.right.cells != check.left.cells
        bounds = f", that is {span.low:.10g} to {span.high:.10g}" if asks_others else ""
        return f"{of}{check.left.text} = {left}, expected {check.right.text}{bounds}"
    right = f"{check.right.text} = {_value(comparison, check.right)}"
    return f"{of}{check.left.text} = {left}, but {right}"


def _value(comparison: Comparison, term: Term) -> str:
    given = comparison.given
    if len(term.cells) == 1 and term.text.startswith(term.cells[0][1]):
        number = given[term.cells[0]]
        return f"{number.value:.{number.decimals}f}"
    return f"{term.value(comparison.values).middle:.10g}"


def _held(held: int, broken: int) -> str:
    text = f"{_count(held, 'check')} held"
    return f"{text}, {broken} did not" if broken else f"{text}, none failed"


def _count(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' if n != 1 else ''}"
