"""The verdict: better, worse or inconclusive, by the rule that the recipe fixed beforehand.

Reads estimates and writes a sentence; computes no statistics of its own. The outcome follows the
interval only if no guard objects: too many unscored questions, a judge that failed its control
pairs or follows the order in which answers are shown, a placebo that was not beaten, a measure that
was not taken, fewer than two questions. Half of the module is words, kept beside what they say.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from tuneproof.naming import listed, spoken
from tuneproof.records import Arm
from tuneproof.results import Estimate, Outcome, Verdict
from tuneproof.stats.power import questions_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuneproof.recipe import VerdictRule
    from tuneproof.results import (
        BenchmarkResult,
        HeldoutLoss,
        PairwiseResult,
        PlaceboResult,
    )

MANY_QUESTIONS: Final = 100_000
_MINUS: Final = "\N{MINUS SIGN}"


@dataclass(frozen=True, kw_only=True)
class _Measure:
    """One metric's estimate and how to speak of it.

    ``gain`` is ``sign · (value − neutral)``: above 0 where the tuned model is better. ``scale``
    turns the metric's unit into the one that is shown.
    """

    estimate: Estimate
    noun: str
    sign: int
    neutral: float
    scale: float
    unit: str
    benchmark: str | None = None
    where: str = ""
    pairwise: PairwiseResult | None = None
    remarks: tuple[str, ...] = ()

    def gain(self) -> tuple[float, float, float]:
        """Value, low and high end of the gain, in the metric's own unit."""
        e = self.estimate
        assert e.value is not None
        assert e.low is not None
        assert e.high is not None
        ends = sorted(self.sign * (v - self.neutral) for v in (e.low, e.high))
        return self.sign * (e.value - self.neutral), ends[0], ends[1]


def decide(
    rule: VerdictRule,
    heldout: HeldoutLoss | None,
    benchmarks: Mapping[str, BenchmarkResult],
    *,
    seeds: int = 1,
    placebo: PlaceboResult | None = None,
) -> Verdict:
    """Apply the rule.

    Better, where the whole interval of the gain lies above ``rule.smallest_effect``; worse, where
    it lies below its negative; else inconclusive. The gain is base − tuned for ``heldout_loss``
    (nats a token), tuned − base for ``exact_match`` and ``similarity``, and the win rate − ½ for
    ``win_rate``. ``rule.benchmark`` and ``rule.against`` name the benchmark and, for a win rate,
    the opponent; where they do not, the first that has the metric is taken, and a reason says so.

    Args:
        rule: the recipe's ``verdict`` section. The estimates must have been made at its level.
        heldout: the held-out loss, where it was measured.
        benchmarks: results by benchmark, in the recipe's order.
        seeds: how many training runs with different seeds the estimates rest on. With one, the
            verdict is about this adapter and not about the recipe.
        placebo: the comparison with the placebo, where there is one. Better is said only if it is
            beaten too, where the rule asks for that.
    """
    assert seeds >= 1, seeds
    subject = "for this adapter" if seeds == 1 else f"for this recipe, over {seeds} training seeds"
    measure = _measure(rule, heldout, benchmarks)
    if measure is None:
        estimate = Estimate(
            value=None,
            low=None,
            high=None,
            n_scored=0,
            n_unscored=0,
            level=rule.level,
            note="not measured",
        )
        reason = f"{_NOUNS[rule.metric]} was not measured"
        return _verdict(rule, Outcome.INCONCLUSIVE, subject, reason, (f"{reason}.",), estimate)

    estimate = measure.estimate
    objections = _guards(rule, measure)
    if placebo is not None:
        caveat = placebo.sentence
        measure = replace(measure, remarks=(*measure.remarks, caveat))
    caveats = (*measure.remarks, *_caveats(measure, seeds))
    if objections:
        reasons = (*(f"{_capital(o)}." for o in objections), *caveats)
        if estimate.low is not None:
            reasons = (*reasons, f"Measured all the same: {_finding(measure)}.")
        said = _headline(objections[0], measure)
        return _verdict(rule, Outcome.INCONCLUSIVE, subject, said, reasons, measure)

    assert estimate.level == rule.level, (estimate.level, rule.level)
    effect, low, high = measure.gain()
    delta = rule.smallest_effect
    if low > delta or high < -delta:
        outcome = Outcome.BETTER if low > delta else Outcome.WORSE
        if outcome is Outcome.BETTER and rule.beat_placebo and not (placebo and placebo.beaten):
            why_not = (
                "the recipe asks for more than a placebo brings, and that is not shown"
                if placebo is not None
                else "the recipe asks for more than a placebo brings, and there is none to compare "
                "with"
            )
            text = f"{_finding(measure)}, but {why_not}"
            reasons = (f"{_capital(why_not)}.", *caveats)
            return _verdict(rule, Outcome.INCONCLUSIVE, subject, text, reasons, measure)
        gain = "gain" if outcome is Outcome.BETTER else "decline"
        beyond = "The whole interval lies on one side of no effect."
        if delta:
            beyond = (
                f"The whole interval is a {gain} of more than {_amount(delta, measure)}, the "
                "smallest effect that the recipe counts."
            )
        reasons = (beyond, *caveats)
        return _verdict(rule, outcome, subject, _finding(measure), reasons, measure)

    why = _too_wide(measure, effect, low, high, delta)
    text = f"{_finding(measure)}, and {why[0]}"
    return _verdict(
        rule,
        Outcome.INCONCLUSIVE,
        subject,
        text,
        (f"{_capital(why[0])}.", *why[1:], *caveats),
        measure,
    )


def _verdict(
    rule: VerdictRule,
    outcome: Outcome,
    subject: str,
    text: str,
    reasons: tuple[str, ...],
    measure: _Measure | Estimate,
) -> Verdict:
    """``measure`` is an estimate alone where nothing was measured."""
    if isinstance(measure, Estimate):
        benchmark, against, estimate = None, None, measure
    else:
        benchmark, estimate = measure.benchmark, measure.estimate
        against = measure.pairwise.opponent if measure.pairwise is not None else None
    return Verdict(
        outcome=outcome,
        sentence=f"{_capital(outcome.value)}, {subject}: {text}.",
        reasons=reasons,
        metric=rule.metric,
        benchmark=benchmark,
        against=against,
        estimate=estimate,
    )


# --- the measure -----------------------------------------------------------------------------

_NOUNS: Final = {
    "heldout_loss": "held-out loss",
    "exact_match": "exact match",
    "similarity": "similarity to the reference responses (chrF)",
    "win_rate": "the judge's preference",
}


def _measure(
    rule: VerdictRule, heldout: HeldoutLoss | None, benchmarks: Mapping[str, BenchmarkResult]
) -> _Measure | None:
    """The metric's estimate, from the one place that has it; None where none has."""
    noun = _NOUNS[rule.metric]
    if rule.metric == "heldout_loss":
        if heldout is None:
            return None
        return _Measure(
            estimate=heldout.difference,
            noun=noun,
            sign=-1,
            neutral=0.0,
            scale=1.0,
            unit="nats a token",
            benchmark="heldout",
        )
    found: dict[str, tuple[Estimate, PairwiseResult | None]] = {}
    for name, result in benchmarks.items():
        if rule.metric == "win_rate":
            pairwise = _against(result, rule.against)
            if pairwise is not None:
                found[name] = (pairwise.win_rate, pairwise)
        else:
            pair = result.exact_match if rule.metric == "exact_match" else result.chrf
            if pair is not None:
                found[name] = (pair.difference, None)
    if rule.benchmark is not None:
        found = {name: it for name, it in found.items() if name == rule.benchmark}
    if not found:
        return None
    name, (estimate, pairwise) = next(iter(found.items()))
    several = len(found) > 1
    remarks = []
    if several:
        remarks.append(
            f"Measured on {listed(spoken(n) for n in found)}; the verdict is that of "
            f"{spoken(name)}, the first."
        )
    if pairwise is not None:
        remarks += _other_opponents(benchmarks[name], pairwise)
    return _Measure(
        estimate=estimate,
        noun=noun,
        sign=1,
        neutral=0.5 if rule.metric == "win_rate" else 0.0,
        scale=100.0,
        unit="points",
        benchmark=name,
        # Named where there is more than one to mistake it for.
        where=f" of {spoken(name)}" if len(benchmarks) > 1 and (several or rule.benchmark) else "",
        pairwise=pairwise,
        remarks=tuple(remarks),
    )


def _against(result: BenchmarkResult, opponent: str | None) -> PairwiseResult | None:
    """The result against the opponent of that name; None: against the first one."""
    if opponent is None or result.pairwise is None or result.pairwise.opponent == opponent:
        return result.pairwise
    return result.others.get(opponent)


def _other_opponents(result: BenchmarkResult, chosen: PairwiseResult) -> list[str]:
    """What was found against the opponents that the verdict is not about."""
    results = [
        r
        for r in (result.pairwise, *result.others.values())
        if r is not None and r is not chosen and r.opponent is not Arm.PLACEBO
    ]
    told = []
    for r in results:
        e = r.win_rate
        if (
            r is chosen
            or r.opponent is Arm.PLACEBO
            or e.value is None
            or e.low is None
            or e.high is None
        ):
            continue
        told.append(
            f"Against {_OPPONENTS[r.opponent]} the rate is {100 * e.value:.1f} % "
            f"({100 * e.level:g} % interval {100 * e.low:.1f} to {100 * e.high:.1f} %)."
        )
    return told


_OPPONENTS: Final = {
    Arm.BASE: "the base model, asked like the tuned one,",
    Arm.FAIR_BASE: "the base model at its best (fair-base)",
    Arm.PLACEBO: "the placebo, trained on shuffled responses,",
    Arm.BASELINE: "the benchmark's own baseline, gpt-4-1106-preview,",
}


# --- what forbids a conclusion ---------------------------------------------------------------


def _guards(rule: VerdictRule, measure: _Measure) -> list[str]:
    """Everything that makes the verdict inconclusive whatever the interval says, as clauses."""
    estimate, pairwise = measure.estimate, measure.pairwise
    objections = []
    n_asked = estimate.n_scored + estimate.n_unscored
    if estimate.n_scored < 2:
        count = "no question was" if estimate.n_scored == 0 else "only one question was"
        objections.append(f"{count} scored, and an interval takes at least two")
    if n_asked and estimate.n_unscored / n_asked > rule.max_unscored:
        objections.append(
            f"{estimate.n_unscored} of {n_asked} questions are unscored "
            f"({_percent(estimate.n_unscored / n_asked)}), and the recipe allows "
            f"{_percent(rule.max_unscored)}"
        )
    if pairwise is not None:
        pairs = pairwise.pairs
        # Where a question is one pair, the sentence above has said it.
        if pairs.total > n_asked and pairs.unscored / pairs.total > rule.max_unscored:
            objections.append(
                f"{pairs.unscored} of {pairs.total} pairs of answers are unscored "
                f"({_percent(pairs.unscored / pairs.total)}), and the recipe allows "
                f"{_percent(rule.max_unscored)}"
            )
    if pairwise is not None and pairwise.check is not None and pairwise.check.passes is False:
        objections.insert(0, _lower(pairwise.check.sentence).rstrip("."))
    if pairwise is not None and pairwise.orders == 2:
        agreement = pairwise.order_agreement.value
        if agreement is not None and agreement < rule.min_order_agreement:
            of = "pairs" if pairwise.pairs.total > n_asked else "questions"
            objections.append(
                "the judge's preference follows the order in which answers are shown, not the "
                f"answers: both orders agree on {_percent(agreement)} of the {of}, and the recipe "
                f"asks for {_percent(rule.min_order_agreement)}"
            )
    return objections


def _headline(objection: str, measure: _Measure) -> str:
    """The objection as the verdict's sentence says it; a judge's whole record is in the reasons."""
    check = measure.pairwise.check if measure.pairwise is not None else None
    if check is not None and check.passes is False:
        return objection.partition(" (")[0]
    return objection


def _caveats(measure: _Measure, seeds: int) -> tuple[str, ...]:
    """What a reader should bear in mind whatever the outcome."""
    caveats = []
    pairwise = measure.pairwise
    if pairwise is not None and pairwise.decomposition is not None:
        caveats.append(pairwise.decomposition.sentence)
    if pairwise is not None and pairwise.check is not None and pairwise.check.passes is not False:
        caveats.append(pairwise.check.sentence)
    if pairwise is not None and pairwise.orders == 1 and pairwise.n_judgments:
        caveats.append(
            "Each pair was judged in one order only: what part position bias has in this is not "
            "known. judge.orders 2 would show it."
        )
    if seeds == 1:
        caveats.append(
            "One training seed was run: the interval covers the choice of questions, not the luck "
            "of a training run."
        )
    else:
        caveats.append(
            f"{seeds} training seeds were run: the interval also covers what their adapters differ "
            "by, as far as so few can show it."
        )
    return tuple(caveats)


def _too_wide(
    measure: _Measure, effect: float, low: float, high: float, delta: float
) -> tuple[str, ...]:
    """Why the interval decides nothing, and what would; the first is a clause.

    What would: so many questions that an effect of the observed size is found in four cases of five
    (see ``power.questions_for``).
    """
    within = _amount(delta, measure)
    if delta and low > -delta and high < delta:
        return (
            f"the whole interval lies within ±{within}: any effect is smaller than the smallest "
            "that the recipe counts",
            "More questions would not change that.",
        )
    what = "the interval does not rule out that there is no effect"
    if delta:
        what = f"the interval does not rule out an effect below {within}"
    if delta and abs(effect) <= delta:
        return (
            what,
            f"At the observed effect no number of questions would do: it is not beyond {within}.",
        )
    n = measure.estimate.n_scored
    needed = questions_for(measure.estimate, effect, beyond=delta)
    if needed is None:
        return (what, "All questions have the same value: how many more would do is not known.")
    if needed > MANY_QUESTIONS:
        return (
            what,
            f"At the observed effect, which is close to none, more than {MANY_QUESTIONS:,} "
            "questions would be needed.",
        )
    return (
        what,
        f"At the observed effect, about {_round_up(needed):,} questions would settle it in four "
        f"cases of five ({n:,} were scored).",
    )


# --- words -----------------------------------------------------------------------------------


def _finding(measure: _Measure) -> str:
    """What was seen, as a clause, with interval and number of questions."""
    e = measure.estimate
    assert e.value is not None
    assert e.low is not None
    assert e.high is not None
    questions = f"on {e.n_scored:,} questions{measure.where}"
    level = f"{100 * e.level:g} % interval"
    digits = _digits(measure)
    if measure.pairwise is not None:
        low, high = (f"{100 * v:.{digits}f}" for v in (e.low, e.high))
        opponent = measure.pairwise.opponent
        to = f" to those of {opponent}" if opponent is not Arm.BASE else ""
        return (
            f"{measure.pairwise.judge} preferred the tuned model's answers{to} at a rate of "
            f"{100 * e.value:.{digits}f} %, ties counted as half ({level} {low} to {high} %), "
            f"{questions}"
        )
    effect, low_end, high_end = (measure.scale * v for v in (e.value, e.low, e.high))
    if low_end > 0 or high_end < 0:
        # One direction is certain: say it in a word and leave the signs out.
        verb = "rose" if effect > 0 else "fell"
        ends = sorted((abs(low_end), abs(high_end)))
        shown = f"{verb} by {abs(effect):.{digits}f} {measure.unit}"
        interval = f"{ends[0]:.{digits}f} to {ends[1]:.{digits}f}"
    else:
        shown = f"changed by {_signed(effect, digits)} {measure.unit}"
        interval = f"{_signed(low_end, digits)} to {_signed(high_end, digits)}"
    return f"{measure.noun} {shown} ({level} {interval}) {questions}"


def _digits(measure: _Measure) -> int:
    """Decimals: one for points, three for nats, more where the interval is narrower than that."""
    least = 1 if measure.unit == "points" else 3
    width = measure.scale * measure.estimate.width
    if not 0 < width < math.inf:
        return least
    return min(8, max(least, 1 - math.floor(math.log10(width))))


def _amount(value: float, measure: _Measure) -> str:
    """An effect size in the unit that is shown, with no more digits than it has."""
    return f"{measure.scale * value:g} {measure.unit}"


def _signed(value: float, digits: int) -> str:
    shown = f"{value:+.{digits}f}"
    if float(shown) == 0:
        return shown[1:]
    return shown.replace("-", _MINUS)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _round_up(number: float) -> int:
    """Up to two significant digits: an estimate of a sample size has no more."""
    unit: int = 10 ** max(0, math.floor(math.log10(max(number, 1.0))) - 1)
    return math.ceil(number / unit) * unit


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
