"""The placebo: whether the tuned model gained more than one trained on shuffled responses.

The placebo adapter went through the same pipeline on the same rows, with each row's response taken
from another (``tuneproof.data.placebo``). Two things are asked of it in the verdict's own metric,
each with that metric's paired, clustered interval: does *it* come out better than base (then the
metric rewards format, and a gain of the tuned model need not be about content); and is the tuned
model better than *it*. For a win rate the judge compares tuned with placebo directly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from tuneproof.records import Arm, SequenceLoss, Similarity
from tuneproof.results import PlaceboResult
from tuneproof.stats.summary import heldout_loss, measures

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof.recipe import VerdictRule
    from tuneproof.records import Prompt
    from tuneproof.results import BenchmarkResult, Estimate

Row = TypeVar("Row", SequenceLoss, Similarity)

_MINUS = "\N{MINUS SIGN}"
SCALES = {"heldout_loss": (1.0, "nats a token", 3)}
"""What an estimate is multiplied by to be shown, in which unit and with how many decimals."""
POINTS = (100.0, "points", 1)


def placebo_result(
    rule: VerdictRule,
    *,
    losses: Sequence[SequenceLoss],
    prompts: Sequence[Prompt],
    similarities: Sequence[Similarity],
    benchmarks: Mapping[str, BenchmarkResult],
) -> PlaceboResult | None:
    """Compare in the verdict's metric; None where the placebo has nothing in it.

    Args:
        rule: the recipe's ``verdict`` section.
        losses: of the test split's rows, all arms.
        prompts: of the held-out benchmark.
        similarities: all arms.
        benchmarks: results by benchmark, for a win rate.
    """
    if rule.metric == "win_rate":
        found = [
            pairwise
            for name, result in benchmarks.items()
            if rule.benchmark in (None, name)
            for pairwise in [result.others.get(Arm.PLACEBO)]
            if pairwise is not None
        ]
        if not found:
            return None
        return judged(rule, None, None, shifted(found[0].win_rate, -0.5))

    def gain(tuned: Arm, base: Arm) -> Estimate | None:
        if rule.metric == "heldout_loss":
            rows = _as(losses, tuned=tuned, base=base)
            return negated(heldout_loss(rows, level=rule.level).difference) if rows else None
        near = _as(similarities, tuned=tuned, base=base)
        of = measures(prompts, [], near, base=Arm.BASE, level=rule.level)
        pair = of.exact_match if rule.metric == "exact_match" else of.chrf
        return pair.difference if pair is not None else None

    rows: list[SequenceLoss | Similarity] = [*losses, *similarities]
    over = gain(Arm.TUNED, Arm.PLACEBO)
    if over is None or not any(r.arm is Arm.PLACEBO for r in rows):
        return None
    return judged(rule, gain(Arm.TUNED, Arm.BASE), gain(Arm.PLACEBO, Arm.BASE), over)


def judged(
    rule: VerdictRule,
    tuned_gain: Estimate | None,
    placebo_gain: Estimate | None,
    over_placebo: Estimate,
) -> PlaceboResult:
    """What three gains come to, by the recipe's smallest effect."""
    effect = rule.smallest_effect
    found = PlaceboResult(
        metric=rule.metric,
        tuned_gain=tuned_gain,
        placebo_gain=placebo_gain,
        over_placebo=over_placebo,
        beaten=_beyond(over_placebo, effect),
        placebo_is_better=_beyond(placebo_gain, effect) if placebo_gain is not None else None,
        sentence="",
    )
    return found.model_copy(update={"sentence": sentence(found)})


def _as(rows: Sequence[Row], *, tuned: Arm, base: Arm) -> list[Row]:
    """The rows of two arms, as if they were tuned and base."""
    names = {tuned: Arm.TUNED, base: Arm.BASE}
    return [r.model_copy(update={"arm": names[r.arm]}) for r in rows if r.arm in names]


def negated(e: Estimate) -> Estimate:
    """The estimate of the opposite: a loss that falls is a gain."""
    return e.model_copy(
        update={
            "value": None if e.value is None else -e.value,
            "low": None if e.high is None else -e.high,
            "high": None if e.low is None else -e.low,
        }
    )


def shifted(e: Estimate, by: float) -> Estimate:
    """The estimate with a constant added."""
    ends = {name: getattr(e, name) for name in ("value", "low", "high")}
    return e.model_copy(update={k: None if v is None else v + by for k, v in ends.items()})


def _beyond(estimate: Estimate, effect: float) -> bool:
    return estimate.low is not None and estimate.low > effect


def sentence(found: PlaceboResult) -> str:
    """What the comparison comes to."""
    if found.over_placebo.value is None:
        return "Nothing was scored for tuned and placebo alike."
    if found.over_placebo.low is None:
        return "Tuned and placebo cannot be compared: one question gives no interval."
    gain = _shown(found.over_placebo, found.metric)
    if found.beaten:
        text = f"Better than placebo, by {gain}: what was learned is more than the format."
    else:
        text = (
            f"Not shown to be better than placebo ({gain}): the gain may be format and length, "
            "which shuffled responses teach as well."
        )
    if found.placebo_gain is None or found.placebo_gain.low is None:
        return text
    alone = _shown(found.placebo_gain, found.metric)
    if found.placebo_is_better:
        return f"{text} The placebo itself came out better than base, by {alone}."
    return f"{text} The placebo did not come out better than base ({alone})."


def _shown(e: Estimate, metric: str) -> str:
    assert e.value is not None
    assert e.low is not None
    assert e.high is not None
    scale, unit, digits = SCALES.get(metric, POINTS)
    value, low, high = (
        f"{scale * v:.{digits}f}".replace("-", _MINUS) for v in (e.value, e.low, e.high)
    )
    return f"{value} {unit}, {100 * e.level:g} % interval {low} to {high}"
