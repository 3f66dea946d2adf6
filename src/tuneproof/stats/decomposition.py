"""Where a win comes from: what stopping, length and the rest have in it.

The same pairs are judged three times: as they are, with every answer cut where it runs on into the
template, and with both also cut to equal length. With w, w₁ and w₂ the win rates of the three::

    w − ½  =  (w − w₁)  +  (w₁ − w₂)  +  (w₂ − ½)
    whole     stopping     length        what remains

Each part is a mean over questions of differences within the question, and the parts sum to the
whole. Their intervals are made as the win rate's, from the same resamples of questions: where both
rest on the same pairs, the whole's is the win rate's less one half. The order is a choice: what
stopping and length do together is counted as stopping, since an answer that does not stop is long
because of that.

A pair whose texts a cut left alone has no part in what the cut did: its difference is nought and
known. Only pairs that were cut, and judged again, leave room for doubt where all came out alike.

Only pairs scored in all three conditions count, so that no part moves because another question came
in; the rest are counted. How texts are cut is ``tuneproof.judge.cuts``' business.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from tuneproof.results import Decomposition
from tuneproof.stats.bootstrap import Column, bootstrap_means
from tuneproof.stats.estimates import SHARE_DIFFERENCE, mean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tuneproof.records import CutPreference
    from tuneproof.results import Estimate
    from tuneproof.stats.estimates import Bounds

    Value = Callable[[float, float, float], float]

SHARE_UNIT: Final = "share"
FROM_ONE_HALF: Final = (-0.5, 0.5)
_MINUS: Final = "\N{MINUS SIGN}"


_PARTS: Final[dict[str, tuple[Value, Bounds]]] = {
    "whole": (lambda judged, stopped, equal: judged - 0.5, FROM_ONE_HALF),
    "stopping": (lambda judged, stopped, equal: judged - stopped, SHARE_DIFFERENCE),
    "length": (lambda judged, stopped, equal: stopped - equal, SHARE_DIFFERENCE),
    "remaining": (lambda judged, stopped, equal: equal - 0.5, FROM_ONE_HALF),
}
"""Each of one pair's preferences as answered, stopped and at equal length; and what it can be."""

_CHANGED: Final[dict[str, Callable[[CutPreference], bool | None]]] = {
    "stopping": lambda row: row.cut_at_stop,
    "length": lambda row: row.cut_to_length,
}


def decompose(
    rows: Sequence[CutPreference], *, level: float, seed: int | None = None, n_rejudged: int = 0
) -> Decomposition:
    """The parts of a win rate's distance from one half.

    The pairs of a question (its turns and adapters) are averaged first, as in a win rate. Where
    there are several adapters, what their choice adds is in the intervals.

    Args:
        rows: one for each pair, scored or not.
        level: the confidence level of the intervals.
        seed: of the bootstrap, as in ``pairwise.win_rate``; None takes Student's t throughout.
        n_rejudged: how many replies the cut answers took.
    """
    scored = [
        r
        for r in rows
        if r.as_answered is not None and r.stopped is not None and r.equal_length is not None
    ]
    n_as_answered = sum(r.as_answered is not None for r in rows)
    n_unscored = len({r.question_id for r in rows} - {r.question_id for r in scored})

    parts = _estimates(scored, level=level, seed=seed, n_unscored=n_unscored)
    found = Decomposition(
        whole=parts["whole"],
        stopping=parts["stopping"],
        length=parts["length"],
        remaining=parts["remaining"],
        n_pairs=len(scored),
        n_left_out=len(rows) - len(scored),
        n_lost_to_cuts=n_as_answered - len(scored),
        n_cut_at_stop=_count(r.cut_at_stop for r in scored),
        n_cut_to_length=_count(r.cut_to_length for r in scored),
        n_rejudged=n_rejudged,
        shortened_tuned=sum(r.shortened_tuned for r in rows),
        shortened_opponent=sum(r.shortened_opponent for r in rows),
    )
    return found.model_copy(update={"sentence": sentence(found)})


def _estimates(
    scored: Sequence[CutPreference], *, level: float, seed: int | None, n_unscored: int
) -> dict[str, Estimate]:
    """The whole and its parts, by name."""
    adapters = sorted({r.adapter for r in scored})
    columns = {}
    for name, (value, bounds) in _PARTS.items():
        values = _by_question(scored, value)
        columns[name] = Column(
            values=list(values.values()),
            clusters=list(values),
            n_unscored=n_unscored,
            bounds=bounds,
            unit=SHARE_UNIT,
            known=_uncut(scored, name),
        )
    if seed is not None and len(adapters) == 1:
        return bootstrap_means(columns, level=level, seed=seed)
    return {
        name: mean(
            column.values,
            column.clusters,
            level=level,
            n_unscored=n_unscored,
            bounds=column.bounds,
            unit=SHARE_UNIT,
            known=column.known,
            adapters=[
                _by_question([r for r in scored if r.adapter == a], _PARTS[name][0])
                for a in adapters
            ]
            if len(adapters) > 1
            else (),
        )
        for name, column in columns.items()
    }


def _count(changed: Iterable[bool | None]) -> int | None:
    """How many pairs a cut changed; None where that was not recorded."""
    found = list(changed)
    return None if None in found else sum(map(bool, found))


def _uncut(scored: Sequence[CutPreference], part: str) -> set[str]:
    """The questions on which a part is nought whatever the judge says: no text was changed."""
    cut = _CHANGED.get(part)
    if cut is None:
        return set()
    left = {r.question_id for r in scored}
    return left - {r.question_id for r in scored if cut(r) is not False}


def _by_question(rows: Sequence[CutPreference], value: Value) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for r in rows:
        assert r.as_answered is not None
        assert r.stopped is not None
        assert r.equal_length is not None
        found.setdefault(r.question_id, []).append(value(r.as_answered, r.stopped, r.equal_length))
    return {question: math.fsum(vs) / len(vs) for question, vs in found.items()}


# --- words -----------------------------------------------------------------------------------


ONE_SIDED: Final = 2 / 3
"""Of the answers cut for equal length: with more of them on one side, what remains is a bound."""


def sentence(found: Decomposition) -> str:
    """``Of 33 points above one half, 20 are stopping, 6 are length, 7 remain, …``

    The whole numbers shown sum as the parts do: they are rounded by largest remainders. Then comes
    what remains with its interval, and whether it can be told from none; what it is worth where
    mostly one side's answers were cut off in the middle; and how many pairs are not in it.

    """
    whole, rest = found.whole, found.remaining
    shortened = (found.shortened_tuned, found.shortened_opponent)
    if whole.value is None:
        return "Where the result comes from is not known: no pair was scored before and after."
    shown = rounded([100 * (part.value or 0.0) for part in found.parts], 100 * whole.value)
    stopping, length, remaining = (_signed(n) for n in shown)
    side = "above" if whole.value >= 0 else "below"
    flip = 1 if whole.value >= 0 else -1
    total = sum(shown)
    if total == 0:
        text = (
            f"The win rate is one half, to the nearest point: stopping adds {stopping} points, "
            f"length {length}, and what remains {remaining}"
        )
    else:
        stopping, length, remaining = (_signed(flip * n) for n in shown)
        text = (
            f"Of {abs(total)} points {side} one half, {stopping} are stopping, {length} are "
            f"length, {remaining} remain"
        )
    on = f"on {whole.n_scored:,} question{'' if whole.n_scored == 1 else 's'}"
    if rest.low is None or rest.high is None:
        return f"{text}, {on}; too few for an interval."
    ends = f"{_signed(100 * rest.low, 1)} to {_signed(100 * rest.high, 1)}"
    covers = " and may be none" if rest.low <= 0 <= rest.high else ""
    text = (
        f"{text}, {on}. What remains for tuned is {_signed(100 * (rest.value or 0.0), 1)} points "
        f"({100 * rest.level:g} % interval {ends}){covers}."
    )
    if max(shortened) > ONE_SIDED * sum(shortened):
        tuned_more = shortened[0] > shortened[1]
        whose, bound = ("tuned", "at least") if tuned_more else ("the opponent", "at most")
        text += (
            f" Of {sum(shortened):,} answers cut off for equal length, {max(shortened):,} are "
            f"those of {whose}, which a judge may hold against them: what remains is {bound} this."
        )
    if found.n_left_out:
        text += (
            f" {found.n_left_out:,} of {found.n_pairs + found.n_left_out:,} pairs are not in this, "
            "being unscored in one of the three judgments."
        )
    return text


def rounded(parts: Sequence[float], whole: float) -> list[int]:
    """Whole numbers for the parts that sum to the rounded whole (largest remainders)."""
    shown = [math.floor(p) for p in parts]
    missing = round(whole) - sum(shown)
    by_remainder = sorted(range(len(parts)), key=lambda i: shown[i] - parts[i])
    for i in by_remainder[:missing]:
        shown[i] += 1
    return shown


def _signed(value: float, digits: int = 0) -> str:
    """With a real minus sign, and no sign where nothing is left of the number."""
    text = f"{value:.{digits}f}"
    if float(text) == 0:
        return text.removeprefix("-")
    return text.replace("-", _MINUS)
