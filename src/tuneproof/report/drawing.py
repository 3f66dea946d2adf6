"""Where the lines of the page's own drawings lie: the verdict's interval, the parts of a win rate,
the categories, the loss.

Pure geometry in CSS pixels; the template draws it, so that text is escaped there and colours follow
the reader's light or dark. The figure for a paper is in ``figures``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from tuneproof.report.numbers import count, number, parts
from tuneproof.report.pairwise import part_shown, uncut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.records import LossPoint
    from tuneproof.results import Decomposition, Estimate

MOST_ROWS = 600
"""Of the table beside a loss curve; of more, every so manyth train loss is left out."""


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A place on an axis and what is written there."""

    at: float
    label: str


LABEL = 20
"""Half the width of a tick's label: nearer to an edge it would be cut, and the tick is left out."""


LEGEND = 30
"""Height of the legend above a loss curve, where no line can run through it."""


@dataclass(frozen=True, kw_only=True)
class IntervalBar:
    """An estimate's interval against "no difference", and against the smallest effect that counts.

    ``better_from`` and ``better_to`` bound the region in which the whole interval must lie for the
    verdict "better". ``null_anchor`` and ``value_anchor`` are SVG text anchors that keep labels
    inside the drawing.
    """

    width: int
    low: float
    high: float
    value: float
    null: float
    better_from: float
    better_to: float
    ticks: tuple[Tick, ...]
    value_label: str
    value_anchor: str
    null_anchor: str
    left_label: str
    right_label: str


@dataclass(frozen=True, kw_only=True)
class ForestRow:
    """One estimate on the scale that all rows of a table share; ``low`` and ``high`` are None where
    it has no interval."""

    width: int
    low: float | None
    high: float | None
    value: float
    null: float


@dataclass(frozen=True, kw_only=True)
class Step:
    """One bar of a waterfall: it goes from ``foot`` to ``tip``, to the left where it takes away.

    ``low`` and ``high`` are the ends of the tip's interval, None where there is none. ``role`` is
    ``whole``, ``part`` or ``rest``; ``y`` the middle of the bar.
    """

    role: str
    label: str
    y: int
    foot: float
    tip: float
    low: float | None
    high: float | None

    @property
    def left(self) -> float:
        """Where the bar begins on the page."""
        return min(self.foot, self.tip)

    @property
    def length(self) -> float:
        """How long the bar is, whichever way it goes."""
        return abs(self.tip - self.foot)

    @property
    def takes(self) -> bool:
        """Whether it takes from tuned's win rate."""
        return self.tip < self.foot


@dataclass(frozen=True, kw_only=True)
class Waterfall:
    """A win rate's distance from one half, and the three steps that lead back to it.

    Each step's foot is the win rate without it: the tip of the next one, and one half at last.
    """

    width: int
    height: int
    null: float
    null_anchor: str
    axis: int
    steps: tuple[Step, ...]
    ticks: tuple[Tick, ...]
    title: str


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A point of the curve that answers to the pointer."""

    x: float
    y: float
    title: str


@dataclass(frozen=True, kw_only=True)
class LossChart:
    """The loss curve: train and validation against the step.

    ``train`` and ``validation`` are SVG ``points``; ``marks`` are the validation points; ``best``
    is the one with the lowest validation loss, where it is known. The steps go from 0 at ``left``
    to ``last`` at ``right``, the losses from ``low`` at ``bottom`` to ``high`` at ``top``.
    """

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    train: str
    validation: str
    marks: tuple[Hit, ...]
    best: Hit | None
    last: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """A straight map from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def interval_bar(
    estimate: Estimate,
    *,
    width: int,
    null: float,
    smallest_effect: float,
    lower_is_better: bool,
    percent: bool,
) -> IntervalBar | None:
    """The drawing of one estimate; None where it has no interval."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return None
    edge = null - smallest_effect if lower_is_better else null + smallest_effect
    low, high = _padded([estimate.low, estimate.high, null, edge], share=0.14)
    inset = 8
    at = _Scale(low=low, high=high, start=inset, end=width - inset)
    unit = 100.0 if percent else 1.0
    ticks = [
        Tick(at=at(t / unit), label=_tick_label(t, step) + (" %" if percent else ""))
        for t, step in _nice(low * unit, high * unit, most=7 if width > 500 else 4)
        if LABEL <= at(t / unit) <= width - LABEL
    ]
    better, worse = "tuned is better", "tuned is worse"
    left, right = (better, worse) if lower_is_better else (worse, better)
    return IntervalBar(
        width=width,
        low=at(estimate.low),
        high=at(estimate.high),
        value=at(estimate.value),
        null=at(null),
        better_from=0 if lower_is_better else at(edge),
        better_to=at(edge) if lower_is_better else width,
        ticks=tuple(ticks),
        value_label=parts(estimate, percent=percent, signed=null == 0).value,
        value_anchor=_anchor(at(estimate.value), width),
        null_anchor=_anchor(at(null), width),
        left_label=f"← {left}",
        right_label=f"{right} →",
    )


_ROW, _TOP = 46, 22


def waterfall(found: Decomposition, *, width: int) -> Waterfall | None:
    """The drawing of where a win rate comes from; None where the parts are not known."""
    rows: list[tuple[str, str, Estimate, float]] = []
    foot = 0.5
    for name, role, part in (
        ("What remains", "rest", found.remaining),
        ("Length", "part", found.length),
        ("Stopping", "part", found.stopping),
    ):
        if part.value is None:
            return None
        rows.insert(0, (name, role, part, foot))
        foot += part.value
    if found.whole.value is None:
        return None
    rows.insert(0, ("As answered", "whole", found.whole, 0.5))
    ends = [
        foot + end
        for _, _, part, foot in rows
        for end in (0.0, *((part.value, part.low, part.high) if not uncut(found, part) else ()))
        if end is not None
    ]
    low, high = _padded(ends, share=0.05)
    at = _Scale(low=low, high=high, start=6, end=width - 6)
    steps = []
    for row, (name, role, part, foot) in enumerate(rows):
        shown, known = part_shown(found, part), uncut(found, part)
        assert part.value is not None
        # There is no room to name another level; the table beside the drawing does.
        told = part.low is not None or known
        interval = shown.interval.rpartition(" interval ")[2] if told else ""
        steps.append(
            Step(
                role=role,
                label=f"{name}: {shown.value}" + (f" ({interval})" if interval else ""),
                y=_TOP + _ROW * row + 30,
                foot=at(foot),
                tip=at(foot + part.value),
                low=at(foot + part.low) if part.low is not None and not known else None,
                high=at(foot + part.high) if part.high is not None and not known else None,
            )
        )
    axis = _TOP + _ROW * len(steps) + 4
    return Waterfall(
        width=width,
        height=axis + 22,
        null=at(0.5),
        null_anchor=_anchor(at(0.5), width),
        axis=axis,
        steps=tuple(steps),
        ticks=tuple(
            Tick(at=at(t / 100), label=_tick_label(t, step) + " %")
            for t, step in _nice(100 * low, 100 * high, most=7 if width > 500 else 4)
            if 0 <= t <= 100 and LABEL <= at(t / 100) <= width - LABEL
        ),
        title="; ".join(step.label for step in steps),
    )


def forest(
    estimates: Sequence[Estimate],
    *,
    width: int,
    null: float = 0.0,
    ends: tuple[float, float] | None = None,
) -> list[ForestRow | None]:
    """Estimates on one scale that contains ``null``: a value with its interval, or alone where it
    has none; None where there is no value.

    The scale goes from one of ``ends`` to the other, else as far as the intervals.
    """
    at = _forest_scale(estimates, width=width, null=null, ends=ends)
    return [
        None
        if e.value is None
        else ForestRow(
            width=width,
            low=None if e.low is None or e.high is None else at(e.low),
            high=None if e.low is None or e.high is None else at(e.high),
            value=at(e.value),
            null=at(null),
        )
        for e in estimates
    ]


def forest_ticks(estimates: Sequence[Estimate], *, width: int) -> tuple[Tick, ...]:
    """What stands above the rows of ``forest``: zero, and a few round values beside it."""
    at = _forest_scale(estimates, width=width, null=0.0, ends=None)
    ticks: tuple[Tick, ...] = ()
    for most in (5, 4, 3, 2):
        ticks = tuple(
            Tick(at=at(t), label=_tick_label(t, step))
            for t, step in _nice(at.low, at.high, most=most)
        )
        # A digit is about 7 px wide.
        if all(b.at - a.at > 7 * len(b.label) for a, b in pairwise(ticks)):
            break
    return ticks


def _forest_scale(
    estimates: Sequence[Estimate], *, width: int, null: float, ends: tuple[float, float] | None
) -> _Scale:
    bounds = ends or tuple(
        b for e in estimates if e.value is not None for b in (e.value, e.low, e.high)
        if b is not None
    )  # fmt: skip
    low, high = _padded([*bounds, null], share=0.02 if ends else 0.06)
    return _Scale(low=low, high=high, start=2, end=width - 2)


def loss_chart(
    curve: Sequence[LossPoint], *, width: int, height: int, best_step: int | None
) -> LossChart | None:
    """The drawing of a loss curve; None where no loss was logged."""
    train = [(p.step, p.train_loss) for p in curve if p.train_loss is not None]
    validation = [(p.step, p.eval_loss) for p in curve if p.eval_loss is not None]
    both = train + validation
    if not both:
        return None
    left, right, top, bottom = 44, width - 12, LEGEND, height - 40
    x = _Scale(low=0, high=max(1, *(s for s, _ in both)), start=left, end=right)
    low, high = _padded([v for _, v in both], share=0.06)
    y = _Scale(low=low, high=high, start=bottom, end=top)
    steps = [
        Tick(at=x(t), label=count(round(t)))
        for t, _ in _nice(0, x.high, most=8 if width > 500 else 4)
        if t == round(t)
    ]
    losses = [Tick(at=y(t), label=_tick_label(t, step)) for t, step in _nice(low, high, most=5)]
    marks = tuple(
        Hit(x=x(s), y=y(v), title=f"step {count(s)}: validation loss {number(v)}")
        for s, v in validation
    )
    best = [m for m, (s, _) in zip(marks, validation, strict=True) if s == best_step]
    return LossChart(
        width=width,
        height=height,
        left=left,
        right=right,
        top=top,
        bottom=bottom,
        x_ticks=tuple(steps),
        y_ticks=tuple(losses),
        train=" ".join(f"{x(s):g},{y(v):g}" for s, v in train),
        validation=" ".join(f"{m.x:g},{m.y:g}" for m in marks),
        marks=marks,
        best=best[0] if best else None,
        last=x.high,
        low=low,
        high=high,
    )


def loss_rows(curve: Sequence[LossPoint]) -> list[tuple[str, str, str]]:
    """(Step, train loss, validation loss) as text, one row a step; what was not logged is empty.

    At most about ``MOST_ROWS``, all validation losses among them.
    """
    train = {p.step: p.train_loss for p in curve if p.train_loss is not None}
    validation = {p.step: p.eval_loss for p in curve if p.eval_loss is not None}
    stride = math.ceil(len(train) / MOST_ROWS) or 1
    steps = sorted({*list(train)[::stride], *validation})

    def told(loss: float | None) -> str:
        return "" if loss is None else number(loss)

    return [(count(s), told(train.get(s)), told(validation.get(s))) for s in steps]


def _padded(values: Sequence[float], *, share: float) -> tuple[float, float]:
    """The range of the values and a margin; never empty."""
    low, high = min(values), max(values)
    margin = (high - low) * share or max(abs(high), 1.0) * share
    return low - margin, high + margin


def _nice(low: float, high: float, *, most: int) -> list[tuple[float, float]]:
    """At most about ``most`` round values between the bounds, each with the step between them."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(k * step, step) for k in range(first, last + 1)]


def _tick_label(value: float, step: float) -> str:
    return number(value, digits=max(0, -math.floor(math.log10(step) + 1e-9)))


def _anchor(x: float, width: int) -> str:
    if x < 60:
        return "start"
    return "end" if x > width - 60 else "middle"
