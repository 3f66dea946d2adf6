"""How the answers of each arm ended and how long they are: counts, quantiles, and where they are
drawn.

Described, not estimated: the differences with their intervals are in the tables of ``content``.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.records import Arm, Stop
from tuneproof.report.cases import STOPS
from tuneproof.report.numbers import count

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof.records import Answer, Prompt

WIDTH = 220
"""Of either drawing, in CSS pixels."""
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """The answers that ended in one way: where they lie in a bar of ``WIDTH``."""

    stop: str
    at: float
    width: float


@dataclass(frozen=True, kw_only=True)
class Box:
    """The 5th, 25th, 50th, 75th and 95th percentile of the lengths, as places in a drawing."""

    p5: float
    p25: float
    p50: float
    p75: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """One arm (and adapter): how its answers ended, and their lengths; ``box`` is None where there
    is none to draw."""

    name: str
    tuned: bool
    n: int
    ended: str
    segments: tuple[Segment, ...]
    lengths: str
    box: Box | None


def behaviours(
    prompts: Sequence[Prompt], answers: Sequence[Answer]
) -> Mapping[str, tuple[Behaviour, ...]]:
    """By benchmark, in the order of the prompts: one for each arm and adapter that answered."""
    benchmark_of = {(p.question_id, p.turn): p.benchmark for p in prompts}
    said: dict[str, dict[tuple[Arm, int], list[Answer]]] = {
        name: {} for name in dict.fromkeys(benchmark_of.values())
    }
    for a in answers:
        if (a.question_id, a.turn) in benchmark_of:
            of = said[benchmark_of[a.question_id, a.turn]]
            of.setdefault((a.arm, a.adapter), []).append(a)
    return {name: _of_benchmark(arms) for name, arms in said.items()}


def _of_benchmark(arms: Mapping[tuple[Arm, int], Sequence[Answer]]) -> tuple[Behaviour, ...]:
    order = list(Arm)
    n_adapters = len({adapter for arm, adapter in arms if arm is Arm.TUNED})
    lengths = {who: _lengths(answers) for who, answers in arms.items()}
    longest = max((q[-1] for q in lengths.values() if q), default=0.0)
    rows = []
    for arm, adapter in sorted(arms, key=lambda it: (order.index(it[0]), it[1])):
        mine = arms[arm, adapter]
        several = arm is Arm.TUNED and n_adapters > 1
        quantiles = lengths[arm, adapter]
        rows.append(
            Behaviour(
                name=f"{arm}, adapter {adapter}" if several else arm.value,
                tuned=arm is Arm.TUNED,
                n=len(mine),
                ended=_ended(mine),
                segments=_segments(mine),
                lengths=_told(quantiles) if quantiles else "not known in tokens",
                box=_box(quantiles, longest) if quantiles and longest else None,
            )
        )
    return tuple(rows)


def _counts(answers: Sequence[Answer]) -> list[tuple[Stop, int]]:
    found = Counter(a.stop for a in answers)
    return [(stop, found[stop]) for stop in Stop if found[stop]]


def _ended(answers: Sequence[Answer]) -> str:
    """``95 stopped by themselves, 1 cut at the token limit, of 96``."""
    told = ", ".join(
        f"{count(n)} {STOPS[stop] if n == 1 else STOPS[stop].replace('itself', 'themselves')}"
        for stop, n in _counts(answers)
    )
    return f"{told}, of {count(len(answers))}"


def _segments(answers: Sequence[Answer]) -> tuple[Segment, ...]:
    found, before = [], 0
    for stop, n in _counts(answers):
        scale = WIDTH / len(answers)
        found.append(
            Segment(stop=stop.value, at=round(before * scale, 1), width=round(n * scale, 1))
        )
        before += n
    return tuple(found)


def _lengths(answers: Sequence[Answer]) -> tuple[float, ...]:
    """The quantiles of the lengths in tokens; none of failed and of read answers."""
    known = sorted(a.n_tokens for a in answers if a.stop not in (Stop.ERROR, Stop.GIVEN))
    return tuple(_quantile(known, q) for q in _QUANTILES) if known else ()


def _quantile(values: Sequence[int], share: float) -> float:
    """Between the two nearest values, as numpy has it by default."""
    place = share * (len(values) - 1)
    below = math.floor(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def _told(quantiles: Sequence[float]) -> str:
    p5, p25, p50, p75, p95 = (count(round(q)) for q in quantiles)
    return f"median {p50} tokens; half are {p25} to {p75}, nine tenths {p5} to {p95}"


def _box(quantiles: Sequence[float], longest: float) -> Box:
    inset = 3
    p5, p25, p50, p75, p95 = (
        round(inset + q / longest * (WIDTH - 2 * inset), 1) for q in quantiles
    )
    return Box(p5=p5, p25=p25, p50=p50, p75=p75, p95=p95)
