"""What a judge made of the control pairs, and whether it may decide.

A control is right only where both orders name the known winner; a tie, a contradiction and a reply
that cannot be read are wrong, and are counted apart. The judge is refused where the lower bound of
its accuracy is too low. Agreement with people is another matter.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, Literal

from tuneproof.judge.controls import OPPONENT, ControlKind
from tuneproof.records import Arm
from tuneproof.results import ControlAccuracy, Estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof.judge.controls import Control

Said = Literal["right", "wrong", "tie"]


@dataclass(frozen=True, kw_only=True)
class ControlResult:
    """What the judge said of one control, with the right answer shown first, and then second.

    None where the reply could not be read or did not come.
    """

    kind: ControlKind
    right_first: Said | None
    right_second: Said | None

    @property
    def is_right(self) -> bool:
        """Whether both orders name the known winner."""
        return self.right_first == self.right_second == "right"

    @property
    def unparsed(self) -> bool:
        """Whether a reply of the two is missing."""
        return self.right_first is None or self.right_second is None

    @property
    def contradicts(self) -> bool:
        """Whether the two orders name different answers: the judge went by the place."""
        return {self.right_first, self.right_second} == {"right", "wrong"}


def control_result(control: Control, preferred: Mapping[Arm, float | None]) -> ControlResult:
    """From the judge's probabilities.

    Args:
        control: the pair.
        preferred: for the arm shown first, P(that answer is better); None, or no entry, where
            there is none. See ``Judgment.p_first``.
    """

    def said(p_right: float | None) -> Said | None:
        if p_right is None:
            return None
        return "tie" if p_right == 0.5 else "right" if p_right > 0.5 else "wrong"

    wrong_first = preferred.get(OPPONENT)
    return ControlResult(
        kind=control.kind,
        right_first=said(preferred.get(Arm.TUNED)),
        right_second=said(None if wrong_first is None else 1 - wrong_first),
    )


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Whether the judge may decide, and the sentence that says why or why not."""

    passes: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class JudgeAccuracy:
    """On all controls, and on those of each kind that there are."""

    overall: ControlAccuracy
    by_kind: dict[ControlKind, ControlAccuracy]

    def gate(self, minimum: float) -> Gate:
        """Refuse the judge where the overall lower bound is under ``minimum``.

        The kinds have too few controls to pass one by one; the sentence names the worst of them.
        """
        n, right = self.overall.n_controls, self.overall.n_right
        low = self.overall.accuracy.low
        if low is None:
            return Gate(
                passes=False,
                sentence="The judge is refused: there was no control pair to test it on.",
            )
        bound = (
            f"{100 * self.overall.accuracy.level:g} % lower bound {_floor(low)}, "
            f"{'at least' if low >= minimum else 'under'} {minimum:g}"
        )
        found = f"it named the better answer in both orders on {right} of {n} control pairs"
        details = "".join(_details(self.overall, self.by_kind))
        if low >= minimum:
            return Gate(passes=True, sentence=f"The judge may decide: {found} ({bound}{details}).")
        few = ""
        if wilson(n, n, level=self.overall.accuracy.level)[0] < minimum:
            few = " With so few controls no judge could pass."
        return Gate(
            passes=False, sentence=f"The judge is refused: {found} ({bound}{details}).{few}"
        )


def judge_accuracy(results: Sequence[ControlResult], *, level: float = 0.95) -> JudgeAccuracy:
    """Count the controls, one result for each that was built."""
    return JudgeAccuracy(
        overall=_accuracy(results, level),
        by_kind={
            kind: _accuracy(own, level)
            for kind in ControlKind
            if (own := [r for r in results if r.kind is kind])
        },
    )


def _accuracy(results: Sequence[ControlResult], level: float) -> ControlAccuracy:
    counts: Counter[str] = Counter()
    for r in results:
        if r.unparsed:
            counts["unparsed"] += 1
        elif r.contradicts:
            counts["contradictions"] += 1
        elif "tie" in (r.right_first, r.right_second):
            counts["ties"] += 1
        counts["right"] += r.is_right
    n, right = len(results), counts["right"]
    low, high = wilson(right, n, level=level) if n else (None, None)
    return ControlAccuracy(
        accuracy=Estimate(
            value=right / n if n else None,
            low=low,
            high=high,
            n_scored=n,
            n_unscored=0,
            level=level,
            unit="share",
            method="Wilson" if n else "none",
            note=None if n else "no controls",
        ),
        n_controls=n,
        n_right=right,
        n_unparsed=counts["unparsed"],
        n_contradictions=counts["contradictions"],
        n_ties=counts["ties"],
    )


def wilson(hits: int, n: int, *, level: float) -> tuple[float, float]:
    """Wilson's score interval of a share (E. B. Wilson, JASA 22, 1927)."""
    assert 0 <= hits <= n, (hits, n)
    assert n > 0
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = hits / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = ((centre + side * half) / (1 + z * z / n) for side in (-1, 1))
    # At no hits and at all of them an end is exactly 0 or 1, but for rounding.
    return (0.0 if hits == 0 else low, 1.0 if hits == n else high)


_NAMES: Final = {
    ControlKind.OTHER_QUESTION: "answers to another question",
    ControlKind.TRUNCATED: "truncated answers",
    ControlKind.EMPTY: "empty answers",
}


def _details(overall: ControlAccuracy, by_kind: Mapping[ControlKind, ControlAccuracy]) -> list[str]:
    """What went wrong, in clauses."""
    parts = []
    worst = min(by_kind, key=lambda k: by_kind[k].n_right / by_kind[k].n_controls)
    if by_kind[worst].n_right < by_kind[worst].n_controls and len(by_kind) > 1:
        one = by_kind[worst]
        parts.append(f"; worst against {_NAMES[worst]}, {one.n_right} of {one.n_controls}")
    for count, what in (
        (overall.n_contradictions, "contradicted by the other order"),
        (overall.n_ties, "called ties"),
        (overall.n_unparsed, "without a reply that could be read"),
    ):
        if count:
            parts.append(f"; {count} {what}")
    return parts


def _floor(value: float) -> str:
    """Three decimals, rounded down: what is under a bound is not shown as equal to it."""
    return f"{math.floor(1000 * value) / 1000:.3f}"
