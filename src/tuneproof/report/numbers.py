"""How a number is written: value, interval and n together, and never a value alone.

Only wording lives here. What is measured in which unit is known to ``content``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tuneproof.results import Estimate

NOT_MEASURED = "not measured"
_INSIDE = re.compile(r"(?<=\d) (?=%(?![\w>])|points?\b)|\bn = (?=\d)")
_NUMBER = re.compile(r"[−+]?\d[\d,]*(\.\d+)?( %)?")
_USUAL_LEVEL = 0.95
_MOST_DIGITS, _MOST_DIGITS_PERCENT = 5, 3


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An estimate in words, in parts, so that a page can set them apart.

    ``value`` is the number with its unit sign, or the reason why there is none; ``measured`` tells
    the two apart. ``interval`` is empty where there is no value. ``detectable`` is the minimum
    detectable effect of a difference or a win rate, with its unit; empty where it is not known.
    """

    value: str
    interval: str
    n: str
    measured: bool
    detectable: str = ""

    @property
    def text(self) -> str:
        """All parts in one line: ``63.2 % (57.1 to 69.0, n = 96)``."""
        inside = ", ".join(part for part in (self.interval, self.n) if part)
        return f"{self.value} ({inside})" if inside else self.value

    @property
    def full(self) -> str:
        """``text`` with the effect that could be detected: ``…); detectable: 8.1 points``."""
        return f"{self.text}; detectable: {self.detectable}" if self.detectable else self.text


def parts(
    estimate: Estimate | None,
    *,
    percent: bool = False,
    signed: bool = False,
    digits: int | None = None,
    rest: str = "unscored",
) -> Shown:
    """An estimate in words, part by part.

    ``percent`` writes a share as a percentage. ``signed`` marks a difference: it carries its sign,
    and a difference of percentages is in points. ``digits`` (by default 1 for percentages, else 3)
    grows a little where a bound that is not zero would be rounded to zero. A level other than 95 %
    is named. ``rest`` is what the questions are that it does not rest on.
    """
    if estimate is None:
        return Shown(value=NOT_MEASURED, interval="", n="", measured=False)
    n = f"n = {count(estimate.n_scored)}"
    if estimate.n_unscored:
        n += f", {count(estimate.n_unscored)} {rest}"
    if estimate.value is None:
        return Shown(value=estimate.note or NOT_MEASURED, interval="", n=n, measured=False)
    scale = 100.0 if percent else 1.0
    unit = "" if not percent else " points" if signed else " %"
    bounds = [b * scale for b in (estimate.low, estimate.high) if b is not None]
    if digits is None:
        digits = 1 if percent else 3
    most = max(digits, _MOST_DIGITS_PERCENT if percent else _MOST_DIGITS)
    # What is zero with all of them is written as zero with few.
    seen = [b for b in bounds if float(f"{b:.{most}f}")]
    while any(not float(f"{b:.{digits}f}") for b in seen):
        digits += 1
    if len(bounds) == 2:
        low, high = (number(b, digits=digits, signed=signed) for b in bounds)
        interval = f"{low} to {high}"
        if abs(estimate.level - _USUAL_LEVEL) > 1e-9:
            interval = f"{estimate.level * 100:g} % interval {interval}"
    else:
        # That one question gives none, its n says beside it.
        told = estimate.note if estimate.n_scored > 1 else ""
        interval = f"no interval: {told}" if told else "no interval"
    value = number(estimate.value * scale, digits=digits, signed=signed) + unit
    return Shown(
        value=value,
        interval=interval,
        n=n,
        measured=True,
        detectable=_detectable(estimate, scale=scale, digits=digits, percent=percent),
    )


def _detectable(estimate: Estimate, *, scale: float, digits: int, percent: bool) -> str:
    if estimate.detectable is None:
        return ""
    effect = estimate.detectable * scale
    while digits < _MOST_DIGITS and effect and not float(f"{effect:.{digits}f}"):
        digits += 1
    return number(effect, digits=digits) + (" points" if percent else "")


def number(value: float, *, digits: int = 3, signed: bool = False) -> str:
    """A number with a true minus sign, and no minus before zero."""
    text = f"{abs(value):,.{digits}f}"
    if not float(text.replace(",", "")):
        return text
    return f"−{text}" if value < 0 else f"+{text}" if signed else text


def unbroken(text: str) -> str:
    """The text with no line ending inside ``55.9 %``, ``3.6 points`` or ``n = 17``: their spaces
    are no-break spaces."""
    return _INSIDE.sub(lambda m: m[0].replace(" ", "\u00a0"), text)


def are_numbers(texts: Iterable[str]) -> bool:
    """Whether all are bare numbers, which are read in a column aligned to the right."""
    return all(_NUMBER.fullmatch(text) for text in texts)


def count(value: int) -> str:
    """A whole number with its thousands apart: ``4,194,304``."""
    return f"{value:,}"


def share_of(part: int, whole: int) -> str:
    """A share of counts as a percentage, to three significant digits; a dash where whole is 0."""
    if whole == 0:
        return "–"
    return f"{float(f'{100 * part / whole:.3g}'):g} %"


def duration(seconds: float) -> str:
    """``0.8 s``, ``42 s``, ``4 min 12 s``, ``1 h 1 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min"


def moment(started: str) -> str:
    """A time as manifests hold it, ISO 8601 with its zone, to the minute: ``2025-11-03 14:02 UTC``.

    What is no such time is shown as it is: a manifest is read, not made.
    """
    try:
        at = datetime.fromisoformat(started)
    except ValueError:
        return started
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC" if at.tzinfo else f"{at:%Y-%m-%d %H:%M}"


def size(n_bytes: int) -> str:
    """A file's size: ``812 B``, ``4.1 KiB``, ``16.0 MiB``."""
    if n_bytes < 1024:
        return f"{n_bytes} B"
    amount = float(n_bytes)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= 1024
        if amount < 1024:
            return f"{amount:.1f} {unit}"
    return f"{amount / 1024:.1f} TiB"
