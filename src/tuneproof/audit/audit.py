"""The audit of a text: its tables, the rules that hold, and for the others the cell to blame."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, overload

from tuneproof.audit import alpaca_eval, mt_bench
from tuneproof.audit.columns import Benchmark
from tuneproof.audit.reading import Table, read_tables
from tuneproof.audit.repair import Repair, single_repairs
from tuneproof.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tuneproof.audit.numbers import Given
    from tuneproof.audit.reading import TableRow
    from tuneproof.audit.terms import Cell, Check, Values


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Rows that belong together, the rules that were checked on them, and what they say.

    ``repairs`` has every cell whose change alone would make all rules hold; it is empty where none
    would, and where nothing is broken.
    """

    benchmark: Benchmark
    rows: tuple[TableRow, ...]
    held: tuple[Check, ...]
    broken: tuple[Check, ...]
    repairs: tuple[Repair, ...]

    @property
    def given(self) -> dict[Cell, Given]:
        """Every number."""
        return {(i, c): g for i, row in enumerate(self.rows) for c, g in row.given.items()}

    @property
    def values(self) -> Values:
        """Every number with the slack of its rounding."""
        return {cell: number.span for cell, number in self.given.items()}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One cell that is wrong, or may be.

    ``candidates`` counts the cells each of which alone could be the wrong one: 1 means this one; 0
    that no single cell explains it, and the cell is the one that the broken ``rule`` is about.
    ``expected`` is None where several values would do, and ``allowed`` names them.
    """

    row: str
    column: str
    given: float
    expected: float | None
    rule: str
    allowed: str
    candidates: int
    line: int


@dataclass(frozen=True, kw_only=True)
class AuditedTable:
    """One table and what was found in it."""

    table: Table
    comparisons: tuple[Comparison, ...]

    @property
    def n_held(self) -> int:
        """Checks that held."""
        return sum(len(c.held) for c in self.comparisons)

    @property
    def n_broken(self) -> int:
        """Checks that did not."""
        return sum(len(c.broken) for c in self.comparisons)


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was read and what was found."""

    name: str
    tables: tuple[AuditedTable, ...]

    @property
    def n_rows(self) -> int:
        """Models, counted in each table."""
        return sum(len(t.table.rows) for t in self.tables)

    @property
    def n_held(self) -> int:
        """Checks that held."""
        return sum(t.n_held for t in self.tables)

    @property
    def problems(self) -> list[Problem]:
        """Every cell that is wrong or may be, in the order of the text."""
        return [p for t in self.tables for c in t.comparisons for p in problems(c)]

    def to_json(self) -> dict[str, object]:
        """``rows`` (how many), ``tables``, ``checks`` (how many held) and ``problems``."""
        return {
            "rows": self.n_rows,
            "tables": [
                {
                    "benchmark": t.table.benchmark.value,
                    "line": t.table.line,
                    "models": [r.model for r in t.table.rows],
                    "comparisons": len(t.comparisons),
                    "columns": list(t.table.columns),
                    "unknown_columns": list(t.table.unknown),
                }
                for t in self.tables
            ],
            "checks": self.n_held,
            "problems": [asdict(p) for p in self.problems],
        }


def audit_file(path: Path) -> Audit:
    """The audit of a file.

    Raises:
        DataError: it cannot be read, holds no table, or a cell holds no number.
    """
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"cannot be read: {(error.strerror or 'no such file').lower()}",
            place=str(path),
            remedy="Name a CSV, Markdown or text file with a table of results in it.",
        ) from None
    except UnicodeDecodeError:
        raise DataError(
            "is no UTF-8 text",
            place=str(path),
            remedy="Save the table as CSV or Markdown, in UTF-8.",
        ) from None
    return audit_text(text, name=str(path))


def audit_text(text: str, *, name: str) -> Audit:
    """The audit of a text; ``name`` is what errors call it.

    Raises:
        DataError: it holds no table, or a cell holds no number.
    """
    return Audit(
        name=name,
        tables=tuple(
            AuditedTable(
                table=table,
                comparisons=tuple(
                    _judge(table.benchmark, rows, checks) for rows, checks in _comparisons(table)
                ),
            )
            for table in read_tables(text, name=name)
        ),
    )


def _comparisons(table: Table) -> list[tuple[tuple[TableRow, ...], list[Check]]]:
    """The table's rows, by what they can be checked against.

    In AlpacaEval each row is a match against one baseline: a comparison by itself. Two rows of
    MT-Bench are one comparison if at least half of what should be mirrored is: one wrong cell
    cannot undo that, while two models that each played a third mirror nothing. Any other number of
    rows is as many comparisons.
    """
    rows = table.rows
    if table.benchmark is Benchmark.ALPACA_EVAL:
        return [((row,), list(alpaca_eval.row_checks(row))) for row in rows]
    if len(rows) == 2:
        mirrors = list(mt_bench.mirrors(*rows))
        values = {(i, c): g.span for i, row in enumerate(rows) for c, g in row.given.items()}
        if 2 * sum(m.holds(values) for m in mirrors) >= len(mirrors):
            own = [check for i, row in enumerate(rows) for check in mt_bench.row_checks(row, i)]
            return [(rows, [*own, *mt_bench.same_matches(*rows), *mirrors])]
    return [((row,), list(mt_bench.row_checks(row, 0))) for row in rows]


def _judge(benchmark: Benchmark, rows: tuple[TableRow, ...], checks: Sequence[Check]) -> Comparison:
    given = {(i, c): g for i, row in enumerate(rows) for c, g in row.given.items()}
    values = {cell: number.span for cell, number in given.items()}
    return Comparison(
        benchmark=benchmark,
        rows=rows,
        held=tuple(c for c in checks if c.holds(values)),
        broken=tuple(c for c in checks if not c.holds(values)),
        repairs=tuple(single_repairs(given, checks)),
    )


def problems(comparison: Comparison) -> list[Problem]:
    """The cells to blame; where no single one is, one problem for each broken rule."""
    if not comparison.broken:
        return []
    rules = ", ".join(dict.fromkeys(c.rule for c in comparison.broken))
    if not comparison.repairs:
        return [_unmended(comparison, check) for check in comparison.broken]
    return [_mended(comparison, repair, rules) for repair in comparison.repairs]


def _mended(comparison: Comparison, repair: Repair, rules: str) -> Problem:
    i, column = repair.cell
    given = comparison.given[repair.cell]
    return Problem(
        row=comparison.rows[i].model,
        column=column,
        given=_number(given.value, exact=given.exact),
        expected=_number(repair.expected, exact=given.exact),
        rule=rules,
        allowed=repair.allowed,
        candidates=len(comparison.repairs),
        line=comparison.rows[i].line,
    )


def _unmended(comparison: Comparison, check: Check) -> Problem:
    """What one broken rule says by itself."""
    cells, expected = check.left.cells, check.right.value(comparison.values)
    i, column = cells[0]
    given = comparison.given[cells[0]]
    value, wanted = given.value, given.rounded(expected.middle)
    if len(cells) > 1:
        column, value = check.left.text, check.left.value(comparison.values).middle
    return Problem(
        row=comparison.rows[i].model,
        column=column,
        given=_number(value, exact=given.exact),
        expected=None if check.right.is_bound else _number(wanted, exact=given.exact),
        rule=check.rule,
        allowed=f"{expected.low:.10g} to {expected.high:.10g}",
        candidates=0,
        line=comparison.rows[i].line,
    )


@overload
def _number(value: float, *, exact: bool) -> float: ...
@overload
def _number(value: float | None, *, exact: bool) -> float | None: ...
def _number(value: float | None, *, exact: bool) -> float | None:
    """A count as a whole number; no number where there is none that JSON could hold."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if exact and float(value).is_integer() else value
