"""The benchmarks' own tables, as the reference experiment prints them: CSV, Markdown and HTML.

AlpacaEval's columns are those of its leaderboard files, MT-Bench's those of FastChat's
``show_result``, pairwise and single; printed on a page, AlpacaEval's table stands in two bands.
Rows come in as plain numbers: where they come from, and with what intervals, is left to the rest of
the report. What is printed here passes ``tuneproof audit``.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from tuneproof.report.untrusted import cell as escaped
from tuneproof.report.untrusted import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

NOT_GIVEN = "—"
"""On a page; in a CSV the cell is empty."""

_FEWEST, _MOST = 3, 6
"""Decimals of MT-Bench's rates."""


@dataclass(frozen=True, kw_only=True)
class AlpacaEvalRow:
    """One model's line of AlpacaEval. Rates and their errors are percentages.

    None means not known. ``avg_length`` is the mean number of characters of all its answers;
    ``mode`` is the leaderboard's word for who submitted them.
    """

    model: str
    win_rate: float | None
    standard_error: float | None
    mode: str | None
    avg_length: int | None
    n_wins_base: int | None
    n_draws: int | None
    n_total: int | None
    discrete_win_rate: float | None
    length_controlled_winrate: float | None
    n_wins: int | None = None


@dataclass(frozen=True, kw_only=True)
class MtBenchRow:
    """One model's line of MT-Bench's pairwise table. Rates are shares of its matches."""

    model: str
    win: int
    loss: int
    tie: int
    win_rate: float
    loss_rate: float
    win_rate_adjusted: float


@dataclass(frozen=True, kw_only=True)
class MtBenchSingleRow:
    """One model's line of MT-Bench's single-answer table, in points from 1 to 10."""

    model: str
    first_turn: float | None
    second_turn: float | None
    average: float | None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of text; the first column names the rows. An empty cell is not given."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def alpaca_eval_table(rows: Sequence[AlpacaEvalRow]) -> Table:
    """All columns beside each other. ``n_wins`` has one where any row knows it."""
    bands = alpaca_eval_bands(rows)
    return Table(
        caption="AlpacaEval 2",
        columns=(*bands[0].columns, *bands[1].columns[1:]),
        rows=tuple((*a, *b[1:]) for a, b in zip(bands[0].rows, bands[1].rows, strict=True)),
    )


def alpaca_eval_bands(rows: Sequence[AlpacaEvalRow]) -> tuple[Table, Table]:
    """The two bands: rates and length; counts, discrete and length-controlled rate."""
    with_wins = any(row.n_wins is not None for row in rows)
    wins = ("n_wins",) if with_wins else ()
    first = Table(
        caption="AlpacaEval 2: win rate (%) and length",
        columns=("Model", "win_rate", "standard_error", "mode", "avg_length"),
        rows=tuple(
            (
                row.model,
                percentage(row.win_rate),
                percentage(row.standard_error),
                row.mode or "",
                _count(row.avg_length),
            )
            for row in rows
        ),
    )
    second = Table(
        caption="AlpacaEval 2: counts, discrete and length-controlled win rate (%)",
        columns=(
            *("Model", *wins, "n_wins_base", "n_draws", "n_total"),
            *("discrete_win_rate", "length_controlled_winrate"),
        ),
        rows=tuple(
            (
                row.model,
                *([_count(row.n_wins)] if with_wins else []),
                _count(row.n_wins_base),
                _count(row.n_draws),
                _count(row.n_total),
                percentage(row.discrete_win_rate),
                percentage(row.length_controlled_winrate),
            )
            for row in rows
        ),
    )
    return first, second


def mt_bench_table(rows: Sequence[MtBenchRow]) -> Table:
    """Wins, losses, ties and the three rates."""
    return Table(
        caption="MT-Bench, pairwise",
        columns=("Model", "win", "loss", "tie", "win_rate", "loss_rate", "win_rate_adjusted"),
        rows=tuple(
            (
                row.model,
                *(_count(n) for n in (row.win, row.loss, row.tie)),
                *(share(r) for r in (row.win_rate, row.loss_rate, row.win_rate_adjusted)),
            )
            for row in rows
        ),
    )


def mt_bench_single_table(rows: Sequence[MtBenchSingleRow]) -> Table:
    """The mean scores of both turns, and of all answers."""
    return Table(
        caption="MT-Bench, single answers, from 1 to 10",
        columns=("Model", "first_turn", "second_turn", "average"),
        rows=tuple(
            (
                row.model,
                *("" if v is None else share(v) for v in (row.first_turn, row.second_turn)),
                "" if row.average is None else share(row.average),
            )
            for row in rows
        ),
    )


# --- numbers ---------------------------------------------------------------------------------


def percentage(value: float | None) -> str:
    """Ten significant digits, without zeros at the end: ``83``, ``2.172340568``."""
    if value is None:
        return ""
    text = f"{value:.10g}"
    return f"{value:.9f}".rstrip("0").rstrip(".") if "e" in text else text


def share(value: float) -> str:
    """Three decimals, and as many more, up to six, as the number has: ``0.350``, ``0.5625``."""
    text = f"{value:.{_MOST}f}"
    return text[: len(text) - _MOST + _FEWEST] + text[len(text) - _MOST + _FEWEST :].rstrip("0")


def _count(value: int | None) -> str:
    # No thousands apart: a comma would end the cell of a CSV.
    return "" if value is None else str(value)


# --- the three forms -------------------------------------------------------------------------


def to_csv(table: Table) -> str:
    """The header and the rows as CSV, a line feed after each line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows([visible(cell) for cell in row] for row in table.rows)
    return out.getvalue()


def to_markdown(table: Table) -> str:
    """A pipe table: names to the left, numbers to the right; the caption is left to the page."""
    ruler = ("---", *("---:" for _ in table.columns[1:]))
    lines = [table.columns, ruler, *([escaped(c) or NOT_GIVEN for c in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def to_html(table: Table) -> str:
    """A ``<table>`` with caption, column and row headers; every cell is escaped."""
    head = "".join(f'<th scope="col">{_html(c)}</th>' for c in table.columns)
    body = "\n".join(
        f'<tr><th scope="row">{_html(row[0])}</th>'
        + "".join(f"<td>{_html(cell) or NOT_GIVEN}</td>" for cell in row[1:])
        + "</tr>"
        for row in table.rows
    )
    return (
        f"<table>\n<caption>{_html(table.caption)}</caption>\n"
        f"<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n{body}\n</tbody>\n</table>\n"
    )


def _html(text: str) -> str:
    return escape(visible(text))
