"""The placebo: whether the tuned model gained more than one trained on shuffled responses.

The placebo adapter went through the same pipeline on the same rows, with each row's response taken
from another (``tuneproof.data.placebo``). Two things are asked of it, each with a paired, clustered
interval: does *it* come out better than base (then the metric rewards format, and a gain of the
tuned model is not about content); and is the tuned model better than *it*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.stats.estimates import Bounds, mean

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tuneproof.records import Estimate

_MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True, kw_only=True)
class PlaceboComparison:
    """Gains, above 0 where better, all on the questions that every arm has a value on.

    ``tuned_gain`` and ``placebo_gain`` are over base; ``over_placebo`` is the first less the
    second. ``smallest_effect`` is what an interval must lie beyond.
    """

    tuned_gain: Estimate
    placebo_gain: Estimate
    over_placebo: Estimate
    smallest_effect: float

    @property
    def placebo_is_better(self) -> bool:
        """Whether the placebo came out better than base, its whole interval beyond the effect."""
        return _beyond(self.placebo_gain, self.smallest_effect)

    @property
    def beats_placebo(self) -> bool:
        """Whether the tuned model is better than the placebo."""
        return _beyond(self.over_placebo, self.smallest_effect)


def compare_with_placebo(
    tuned: Mapping[str, float],
    placebo: Mapping[str, float],
    *,
    questions: Collection[str],
    level: float,
    smallest_effect: float,
    bounds: Bounds | None = None,
    unit: str = "",
) -> PlaceboComparison:
    """Compare gains question by question.

    For a win rate against base, a question's gain is its mean preference less one half; for a
    measure of both arms, the arm's value less base's (base less the arm's, where lower is better).

    Args:
        tuned: the tuned model's gain over base by question, over all its adapters.
        placebo: the placebo's.
        questions: all that were asked; those without a value on either side are unscored.
        level: the confidence level.
        smallest_effect: the recipe's, in the unit of the gains.
        bounds: the least and the largest gain possible.
        unit: of the gains.
    """
    asked = list(dict.fromkeys([*questions, *tuned, *placebo]))
    shared = [q for q in asked if q in tuned and q in placebo]

    def of(values: list[float], limits: Bounds | None) -> Estimate:
        return mean(
            values,
            shared,
            level=level,
            n_unscored=len(asked) - len(shared),
            bounds=limits,
            unit=unit,
        )

    span = None if bounds is None else (bounds[0] - bounds[1], bounds[1] - bounds[0])
    return PlaceboComparison(
        tuned_gain=of([tuned[q] for q in shared], bounds),
        placebo_gain=of([placebo[q] for q in shared], bounds),
        over_placebo=of([tuned[q] - placebo[q] for q in shared], span),
        smallest_effect=smallest_effect,
    )


def _beyond(estimate: Estimate, effect: float) -> bool:
    return estimate.low is not None and estimate.low > effect


def sentence(
    found: PlaceboComparison, *, scale: float = 100.0, unit: str = "points", digits: int = 1
) -> str:
    """What the comparison comes to.

    Args:
        found: the comparison.
        scale: what an estimate is multiplied by to be shown in ``unit``.
        unit: the unit shown.
        digits: decimals shown.
    """
    if found.over_placebo.value is None:
        return "Nothing was scored for tuned and placebo alike."
    if found.over_placebo.low is None:
        return "Tuned and placebo cannot be compared: one question gives no interval."
    gain = _shown(found.over_placebo, scale, unit, digits)
    alone = _shown(found.placebo_gain, scale, unit, digits)
    if found.beats_placebo:
        text = f"Better than placebo, by {gain}: what was learned is more than the format"
    else:
        text = (
            f"Not shown to be better than placebo ({gain}): the gain may be format and length, "
            "which shuffled responses teach as well"
        )
    if found.placebo_is_better:
        return f"{text}. The placebo itself came out better than base, by {alone}."
    return f"{text}. The placebo did not come out better than base ({alone})."


def _shown(e: Estimate, scale: float, unit: str, digits: int) -> str:
    assert e.value is not None
    assert e.low is not None
    assert e.high is not None
    value, low, high = (
        f"{scale * v:.{digits}f}".replace("-", _MINUS) for v in (e.value, e.low, e.high)
    )
    return f"{value} {unit}, {100 * e.level:g} % interval {low} to {high}"
