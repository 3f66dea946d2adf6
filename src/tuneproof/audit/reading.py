"""From a text to the comparisons in it: tables found, cells read, bands of one table joined.

A table is a header (see ``columns``) and the lines after it with the same mark between cells: pipes
(Markdown), tabs, commas, semicolons, or runs of blanks (what pandas prints). Anything may stand
around tables; in a Markdown file, what stands in a fenced block is read only where no table stands
outside of one, because a report quotes answers, and an answer can hold a table.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.audit.columns import (
    COLUMNS,
    MODEL,
    Benchmark,
    Header,
    column,
    parse_header,
    plain,
)
from tuneproof.audit.numbers import parse_number
from tuneproof.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuneproof.audit.numbers import Given

_FENCE = re.compile(r"^\s{0,3}(`{3,}|~{3,})")
_RULER = re.compile(r"[\s|:\-+=]+")


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One model's numbers, by column; columns that give none are absent."""

    model: str
    line: int
    given: dict[str, Given]


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table, all of its bands. ``line`` is that of its first header, from 1."""

    benchmark: Benchmark
    line: int
    columns: tuple[str, ...]
    unknown: tuple[str, ...]
    rows: tuple[TableRow, ...]


def read_tables(text: str, *, name: str) -> list[Table]:
    """The tables of a text, in order.

    Args:
        text: the whole file.
        name: what errors call it.

    Raises:
        DataError: there is no such table, or a cell that should hold a number holds something else.
    """
    lines = re.split(r"\r\n|\n|\r", text.removeprefix("\ufeff"))
    fenced = _fenced(lines)
    for blocks in (False, True):
        visible = [
            line if inside is blocks else "" for line, inside in zip(lines, fenced, strict=True)
        ]
        found = _join(list(_tables(visible, name)))
        if found:
            return found
    wanted = "; ".join(
        f"{b.label}: {', '.join(c.name for c in COLUMNS[b] if c.kind != 'text')}" for b in Benchmark
    )
    raise DataError(
        "holds no table of AlpacaEval or MT-Bench results",
        place=name,
        remedy="A header line with two or more of these columns, and a row for each model under "
        f"it, as CSV, tab-separated text or Markdown, were looked for. {wanted}.",
    )


def _fenced(lines: list[str]) -> list[bool]:
    """For each line, whether it stands in a fenced block."""
    inside: list[bool] = []
    fence = ""
    for line in lines:
        match = _FENCE.match(line)
        if match and not fence:
            fence = match[1]
            inside.append(True)
        else:
            inside.append(bool(fence))
            closes = match and match[1].startswith(fence) and line.strip() == match[1]
            fence = "" if closes else fence
    return inside


def _tables(lines: list[str], name: str) -> Iterator[Table]:
    """One table a header; bands are not yet joined, and a header without rows is none."""
    at = 0
    while at < len(lines):
        found = _header_of(lines[at])
        at += 1
        if found is None:
            continue
        mark, header = found
        first, rows = at, []
        while at < len(lines) and _header_of(lines[at]) is None:
            cells = _cells(lines[at], mark)
            if mark == " " and len(cells) == len(header.names) + 1:
                del cells[0]  # the number that pandas gives each row
            is_skipped = _RULER.fullmatch(lines[at]) or (mark == " " and cells == [MODEL])
            if not is_skipped:
                row = _row(header, cells, place=f"{name}:{at + 1}", line=at + 1)
                if row is None:
                    break
                rows.append(row)
            at += 1
        if rows:
            yield Table(
                benchmark=header.benchmark,
                line=first,
                columns=header.columns,
                unknown=header.unknown,
                rows=_told_apart(rows),
            )


def _header_of(line: str) -> tuple[str, Header] | None:
    for mark in ("|", "\t", ",", ";", " "):
        if mark not in line:
            continue
        header = parse_header(_cells(line, mark))
        if mark == " " and (header is None or MODEL not in header.names):
            # Pandas heads its first column, which names the rows, with nothing.
            header = parse_header(["", *_cells(line, mark)])
        if header is not None:
            return mark, header
    return None


def _cells(line: str, mark: str) -> list[str]:
    if mark == "|":
        inner = line.strip().removeprefix("|")
        cells = re.split(r"(?<!\\)\|", inner)
    elif mark == " ":
        cells = re.split(r"\s{2,}|\t", line.strip())
    elif mark == "\t":
        cells = line.split("\t")
    else:
        try:
            cells = next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])
        except csv.Error:  # a line that no CSV has
            return []
    while cells and not cells[-1].strip():
        cells.pop()
    return [c.strip() for c in cells]


def _row(header: Header, cells: list[str], *, place: str, line: int) -> TableRow | None:
    """The row of a line, or None where the table has ended."""
    model = ""
    given: dict[str, Given] = {}
    wrong: list[tuple[str, str]] = []
    for i, (name, cell) in enumerate(zip(header.names, cells, strict=False)):
        if name == MODEL:
            model = plain(cell)
        elif name is not None and (known := column(header.benchmark, name)).kind != "text":
            try:
                number = parse_number(
                    plain(cell),
                    kind=known.kind,
                    scale=header.benchmark.scale,
                    in_percent=i in header.in_percent,
                )
            except ValueError:
                wrong.append((name, cell))
                continue
            if number is not None:
                given[name] = number
    if not given:
        return None
    if wrong:
        raise DataError(
            "expected a number",
            place=f"{place}: {wrong[0][0]}",
            value=wrong[0][1],
            remedy="Write it with a decimal point; leave the cell empty where nothing is given.",
        )
    if len(cells) > len(header.names):
        raise DataError(
            f"has {len(cells)} cells under a header of {len(header.names)}",
            place=place,
            remedy='In a CSV, a number with a comma in it stands in quotes: "1,884".',
        )
    return TableRow(model=model, line=line, given=given)


def _told_apart(rows: list[TableRow]) -> tuple[TableRow, ...]:
    """The rows, each with a name that no other row of the table has."""
    times = Counter(r.model for r in rows)
    return tuple(
        TableRow(
            model=row.model
            if row.model and times[row.model] == 1
            else f"{row.model} (row {number})".strip(),
            line=row.line,
            given=row.given,
        )
        for number, row in enumerate(rows, start=1)
    )


def _join(bands: list[Table]) -> list[Table]:
    """Tables of the same models and with no column in common are bands of one table."""
    tables: list[Table] = []
    for band in bands:
        for i in reversed(range(len(tables))):
            first = tables[i]
            if (
                first.benchmark is band.benchmark
                and [r.model for r in first.rows] == [r.model for r in band.rows]
                and not set(first.columns) & set(band.columns)
            ):
                tables[i] = _joined(first, band)
                break
        else:
            tables.append(band)
    return tables


def _joined(first: Table, second: Table) -> Table:
    return Table(
        benchmark=first.benchmark,
        line=first.line,
        columns=(*first.columns, *second.columns),
        unknown=(*first.unknown, *(u for u in second.unknown if u not in first.unknown)),
        rows=tuple(
            TableRow(model=a.model, line=a.line, given=a.given | b.given)
            for a, b in zip(first.rows, second.rows, strict=True)
        ),
    )
