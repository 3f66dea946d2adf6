"""A number as it is printed: its value, and how far off its rounding can have put it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tuneproof.audit.columns import Kind

_ABSENT = {"", "-", "–", "—", "n/a", "na", "nan", "none", "null", "?", "not measured", "not given"}
_SPACES = str.maketrans("", "", "\u00a0\u2009\u202f_")
_NUMBER = re.compile(
    r"(?P<number>[+\-−]?(?:(?:[1-9]\d{0,2}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:[eE][+\-]?\d+)?)"
    r"\s*(?P<percent>%?)\s*"
    r"(?:(?:±|\+/-|\().*)?"  # an interval or an error behind it
)


@dataclass(frozen=True, slots=True)
class Span:
    """All values that a number may have: from ``low`` to ``high``, both included."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """Half way."""
        return (self.low + self.high) / 2

    @property
    def width(self) -> float:
        """High minus low."""
        return self.high - self.low

    def meets(self, other: Span) -> bool:
        """Whether both can be the same number; floating point may be off by 1e-11."""
        return min(self.high, other.high) - max(self.low, other.low) >= -1e-11

    def is_as(self, other: Span) -> bool:
        """Whether both can be one number, rounded in both places.

        Spans that only touch, as of 0.350 and 0.351, meet in a number that would be rounded one
        way; floating point may be off by 1e-11.
        """
        narrower = min(self.width, other.width)
        overlap = min(self.high, other.high) - max(self.low, other.low)
        near = abs(self.middle - other.middle) <= 1e-11
        return near or (overlap > 1e-6 * narrower if narrower > 0 else self.meets(other))


@dataclass(frozen=True, kw_only=True)
class Given:
    """A printed number. ``decimals`` counts the printed ones; a count has no slack."""

    value: float
    decimals: int
    exact: bool

    @property
    def span(self) -> Span:
        """What it may stand for: half a unit of its last printed place to either side."""
        return self.around(self.value)

    def around(self, value: float) -> Span:
        """What ``value`` would stand for if it were printed in this number's place."""
        slack = 0.0 if self.exact else 0.5 * 10.0**-self.decimals
        return Span(value - slack, value + slack)

    def rounded(self, value: float) -> float:
        """A value as it would be printed in this number's place."""
        return round(value, self.decimals)


def parse_number(text: str, *, kind: Kind, scale: int, in_percent: bool = False) -> Given | None:
    """The number in a cell, or None where nothing is given.

    Thousands may be apart (``1,884``); a percent sign, here or in the heading, makes a percentage
    of a rate whose ``scale`` is 1; an interval after the number is passed over.

    Raises:
        ValueError: there is something else in the cell.
    """
    text = text.strip().translate(_SPACES)
    if text.lower() in _ABSENT:
        return None
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise ValueError("expected a number")
    number = Decimal(match["number"].replace(",", "").replace("−", "-"))
    if kind == "rate" and scale == 1 and (match["percent"] or in_percent):
        number = number.scaleb(-2)  # keeps the zeros that were printed
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    return Given(value=float(number), decimals=max(0, -exponent), exact=kind == "count")
