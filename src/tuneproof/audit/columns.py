"""The columns of the two tables, by the names that the original tools give them.

AlpacaEval's are those of its leaderboard files, MT-Bench's those of FastChat's ``show_result``.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Kind = Literal["count", "rate", "length", "text"]
"""``count``: whole, exact as printed. ``rate``: rounded to its printed decimals, bounded by the
benchmark's scale, as are standard errors. ``length``: a mean, not negative. ``text``: no number."""


class Benchmark(StrEnum):
    """Which of the two tables."""

    ALPACA_EVAL = "alpaca_eval"
    MT_BENCH = "mt_bench"

    @property
    def scale(self) -> int:
        """What a rate of one is written as: 100 or 1."""
        return 100 if self is Benchmark.ALPACA_EVAL else 1

    @property
    def label(self) -> str:
        """Its name for people."""
        return "AlpacaEval" if self is Benchmark.ALPACA_EVAL else "MT-Bench"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: its name, what it holds, and other names that are in use for it."""

    name: str
    kind: Kind
    aliases: tuple[str, ...] = ()


MODEL = "model"
_MODEL_NAMES = {"model", "models", "name", "generator", "model_name", "model_id", "system"}

COLUMNS: dict[Benchmark, tuple[Column, ...]] = {
    Benchmark.ALPACA_EVAL: (
        Column(name="win_rate", kind="rate"),
        Column(name="standard_error", kind="rate", aliases=("se", "std_error", "stderr")),
        Column(name="mode", kind="text"),
        Column(name="avg_length", kind="length", aliases=("avg_length_wins", "average_length")),
        Column(name="n_wins", kind="count"),
        Column(name="n_wins_base", kind="count"),
        Column(name="n_draws", kind="count"),
        Column(name="n_total", kind="count"),
        Column(name="discrete_win_rate", kind="rate"),
        Column(
            name="length_controlled_winrate",
            kind="rate",
            aliases=(
                "length_controlled_win_rate",
                "lc_win_rate",
                "lc_winrate",
                "discrete_length_controlled_winrate",
            ),
        ),
        Column(name="lc_standard_error", kind="rate"),
    ),
    Benchmark.MT_BENCH: (
        Column(name="win", kind="count", aliases=("wins",)),
        Column(name="loss", kind="count", aliases=("losses",)),
        Column(name="tie", kind="count", aliases=("ties",)),
        Column(name="n_matches", kind="count", aliases=("matches",)),
        Column(name="win_rate", kind="rate"),
        Column(name="loss_rate", kind="rate"),
        Column(name="win_rate_adjusted", kind="rate", aliases=("adjusted_win_rate",)),
    ),
}

_SHARED = {"win_rate", "mode"}
"""Columns that tables of other things have too: a header needs one more to be one of these two."""


def column(benchmark: Benchmark, name: str) -> Column:
    """A column by its name."""
    return next(c for c in COLUMNS[benchmark] if c.name == name)


@dataclass(frozen=True, kw_only=True)
class Header:
    """A header that was understood.

    ``names`` has the column's name at each place, ``MODEL`` for the models, None for a column that
    no rule knows. ``in_percent`` are places whose heading says "%".
    """

    benchmark: Benchmark
    names: tuple[str | None, ...]
    unknown: tuple[str, ...]
    in_percent: frozenset[int]

    @property
    def columns(self) -> tuple[str, ...]:
        """The known columns, without the models'."""
        return tuple(n for n in self.names if n is not None and n != MODEL)


def parse_header(cells: list[str]) -> Header | None:
    """The cells of a line as a header of one of the two tables; None if they are not one.

    It must have two known columns, one of them other than ``win_rate`` and ``mode``.
    """
    headers = [h for b in Benchmark if (h := _as_header(b, cells)) is not None]
    return max(headers, key=lambda h: len(h.columns), default=None)


def _as_header(benchmark: Benchmark, cells: list[str]) -> Header | None:
    known = {n: c.name for c in COLUMNS[benchmark] for n in (c.name, *c.aliases)}
    words = [_normal(cell) for cell in cells]
    # Whatever stands first and is no number's name says what the rows are.
    models = next((i for i, word in enumerate(words) if word in _MODEL_NAMES), 0)
    found: list[str | None] = []
    for place, word in enumerate(words):
        name = known.get(word)
        if place == models and name is None:
            name = MODEL
        found.append(None if name in found else name)
    header = Header(
        benchmark=benchmark,
        names=tuple(found),
        unknown=tuple(plain(c) for c, n in zip(cells, found, strict=True) if n is None and c),
        in_percent=frozenset(i for i, c in enumerate(cells) if "%" in c),
    )
    enough = len(header.columns) >= 2 and set(header.columns) - _SHARED
    return header if enough else None


def _normal(cell: str) -> str:
    word = re.sub(r"\(?%\)?", "", plain(cell)).strip().lower()
    return re.sub(r"[\s\-]+", "_", word)


def plain(cell: str) -> str:
    """A cell without Markdown's emphasis, code marks, escapes and entities."""
    text = re.sub(r"\\([^A-Za-z0-9\s])", r"\1", cell.strip().strip("*`").strip())
    return html.unescape(text)
