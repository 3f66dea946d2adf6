"""A loss curve in a few rows of characters, for a terminal.

The train loss is an area of eighth blocks, the mean of the steps under each column; validation
losses are dots over it, told from it by their form alone. Pure: text in pieces with a role each,
which whoever prints them may colour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final, Literal

Role = Literal["axis", "train", "validation"]
Piece = tuple[str, Role]

BLOCKS: Final = " ▁▂▃▄▅▆▇█"
DOT: Final = "●"
WIDEST: Final = 110
"""Columns: on a wide terminal a curve of a few rows would be too flat to read."""

_LABEL: Final = 8


@dataclass
class Curve:
    """The points of a training so far: loss by step. ``steps`` is where the training will end."""

    steps: int
    train: dict[int, float] = field(default_factory=dict)
    validation: dict[int, float] = field(default_factory=dict)

    def add(
        self, step: int, *, train: float | None = None, validation: float | None = None
    ) -> None:
        """Add what was measured at a step; a loss that is no finite number cannot be drawn."""
        for values, value in ((self.train, train), (self.validation, validation)):
            if value is not None and math.isfinite(value):
                values[step] = value

    @property
    def last_step(self) -> int:
        """The last step that anything was measured at; 0 where nothing was."""
        return max((*self.train, *self.validation), default=0)


def chart(curve: Curve, *, width: int, height: int = 6) -> list[list[Piece]]:
    """The curve as lines of at most ``width`` columns; empty where there is nothing to draw."""
    values = [*curve.train.values(), *curve.validation.values()]
    inner = min(width, WIDEST) - _LABEL - 2
    if not values or inner < 10:
        return []
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    end = max(curve.steps, curve.last_step, 1)
    levels = [_level(v, low, high, height) for v in _columns(curve.train, inner, end)]
    dots = {
        _column(step, inner, end): (_level(v, low, high, height) - 1) // 8
        for step, v in curve.validation.items()
    }
    lines: list[list[Piece]] = []
    for row in range(height - 1, -1, -1):
        label = {height - 1: high, 0: low}.get(row)
        shown = f"{label:>{_LABEL}.3f} ┤" if label is not None else " " * _LABEL + " │"
        pieces: list[Piece] = [(shown, "axis")]
        for column in range(inner):
            if dots.get(column) == row:
                pieces.append((DOT, "validation"))
            else:
                pieces.append((BLOCKS[min(8, max(0, levels[column] - 8 * row))], "train"))
        lines.append(_joined(pieces))
    lines.append([(" " * _LABEL + " └" + "─" * inner, "axis")])
    last = f"step {end:,}"
    if len(last) >= inner:
        last = f"{end:,}"
    lines.append([(" " * (_LABEL + 2) + "0" + last.rjust(inner - 1), "axis")])
    return lines


def told(curve: Curve, *, n_last: int = 3) -> str:
    """The last validation losses in words: ``● validation 3.101 (step 35), 2.233 (70)``."""
    steps = sorted(curve.validation)
    if not steps:
        return ""
    at = [f"{curve.validation[s]:.3f} ({s:,})" for s in steps[-n_last:]]
    at[0] = at[0].replace("(", "(step ")
    best = min(steps, key=lambda s: curve.validation[s])
    lowest = f"; lowest {curve.validation[best]:.3f} ({best:,})" if best != steps[-1] else ""
    return f"{DOT} validation {', '.join(at)}{lowest}"


def _column(step: int, inner: int, end: int) -> int:
    """Where a step stands: steps 1 … end go from the first column to the last."""
    return min(inner - 1, max(0, (step * inner - 1) // end))


def _columns(train: dict[int, float], inner: int, end: int) -> list[float | None]:
    """The mean loss under each column; one without a point has the next one's, as far as the last
    point goes."""
    sums: dict[int, list[float]] = {}
    for step, value in train.items():
        sums.setdefault(_column(step, inner, end), []).append(value)
    found: list[float | None] = [None] * inner
    following: float | None = None
    for column in range(inner - 1, -1, -1):
        if column in sums:
            following = math.fsum(sums[column]) / len(sums[column])
        found[column] = following
    return found


def _level(value: float | None, low: float, high: float, height: int) -> int:
    """Eighths of a row, from 1 at the lowest value to all rows at the highest; 0 for none."""
    if value is None:
        return 0
    return 1 + round((value - low) / (high - low) * (8 * height - 1))


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of one role as one piece, and no blanks at the end."""
    found: list[Piece] = []
    for text, role in pieces:
        if found and found[-1][1] == role:
            found[-1] = (found[-1][0] + text, role)
        else:
            found.append((text, role))
    found[-1] = (found[-1][0].rstrip(), found[-1][1])
    return found
