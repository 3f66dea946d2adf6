"""What the report says, before it is HTML or Markdown: which measures, in which words and units.

Both outputs say the same because both are made from here. Records come in finished; this module
chooses labels, units and order; it escapes nothing. Questions with their answers are in ``cases``,
and how the numbers came about is in ``provenance``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tuneproof.report.numbers import Shown, count, parts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tuneproof.recipe import Recipe, VerdictRule
    from tuneproof.records import (
        ArmPair,
        BenchmarkResult,
        Estimate,
        PairwiseResult,
        Results,
    )


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of measure: its name, its unit, which way is better, how it is written."""

    label: str
    unit: str
    better: str
    percent: bool = False
    digits: int | None = None
    null: float = 0.0


HELDOUT_LOSS = Kind(label="Held-out loss", unit="nats a response token", better="lower")
EOS_LOSS = Kind(label="Loss of the end token", unit="nats", better="lower")
EXACT_MATCH = Kind(label="Exact match", unit="share", better="higher", percent=True)
SIMILARITY = Kind(label="Reference similarity", unit="chrF", better="higher", percent=True)
STOPPED = Kind(label="Stopped by itself", unit="share of answers", better="higher", percent=True)
TOKENS = Kind(label="Answer length", unit="tokens", better="", digits=1)
WIN_RATE = Kind(
    label="Pairwise win rate", unit="ties count half", better="higher", percent=True, null=0.5
)
METRICS = {
    "heldout_loss": HELDOUT_LOSS,
    "exact_match": EXACT_MATCH,
    "similarity": SIMILARITY,
    "win_rate": WIN_RATE,
}


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One row of a table: both arms and their difference; all three None where not measured."""

    kind: Kind
    base: Shown | None
    tuned: Shown | None
    difference: Shown | None


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One key figure: a difference, or a win rate, with its interval and n."""

    label: str
    shown: Shown
    explained: str


@dataclass(frozen=True, kw_only=True)
class Pairwise:
    """What a judge preferred, in counts and estimates."""

    judge: str
    orders: str
    wins: str
    losses: str
    ties: str
    judgments: str
    unparsed: str
    win_rate: Shown
    order_agreement: Shown
    first_preferred: Shown


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark's table."""

    title: str
    n_questions: str
    measures: tuple[Measure, ...]
    pairwise: Pairwise | None


def measure(kind: Kind, pair: ArmPair | None) -> Measure:
    """The row of one measure."""
    if pair is None:
        return Measure(kind=kind, base=None, tuned=None, difference=None)
    return Measure(
        kind=kind,
        base=parts(pair.base, percent=kind.percent, digits=kind.digits),
        tuned=parts(pair.tuned, percent=kind.percent, digits=kind.digits),
        difference=parts(pair.difference, percent=kind.percent, digits=kind.digits, signed=True),
    )


def verdict_figure(results: Results) -> Figure:
    """The number that the verdict rests on."""
    verdict = results.verdict
    kind = METRICS.get(verdict.metric, Kind(label=verdict.metric, unit="", better="higher"))
    shown = parts(verdict.estimate, percent=kind.percent, signed=not kind.null)
    return Figure(label=kind.label, shown=shown, explained=_explained(kind))


def key_figures(results: Results) -> list[Figure]:
    """One figure for each headline measure that was taken: differences, and the win rate."""
    several = len(results.benchmarks) > 1
    pairs: list[tuple[Kind, ArmPair | None]] = []
    rates: list[Figure] = []
    for name, result in results.benchmarks.items():
        of = f" ({name})" if several else ""
        pairs += [
            (_named(EXACT_MATCH, of), result.exact_match),
            (_named(SIMILARITY, of), result.chrf),
            (_named(STOPPED, of), result.stopped),
        ]
        if result.pairwise is not None:
            kind = _named(WIN_RATE, of)
            shown = parts(result.pairwise.win_rate, percent=True)
            rates.append(Figure(label=kind.label, shown=shown, explained=_explained(kind)))
    return [
        *_differences([(HELDOUT_LOSS, results.heldout_loss)]),
        *rates,
        *_differences(pairs),
    ]


def _differences(pairs: Iterable[tuple[Kind, ArmPair | None]]) -> Iterator[Figure]:
    for kind, pair in pairs:
        if pair is not None:
            shown = parts(pair.difference, percent=kind.percent, digits=kind.digits, signed=True)
            yield Figure(label=kind.label, shown=shown, explained=_explained(kind))


def _named(kind: Kind, suffix: str) -> Kind:
    return replace(kind, label=kind.label + suffix)


def _explained(kind: Kind) -> str:
    if kind.null:
        return "tuned against base; 50 % is no difference"
    # Points already say that a share is meant.
    unit = "" if kind.percent else f"{kind.unit}, "
    return f"{unit}tuned − base; {kind.better} is better"


def heldout_measures(results: Results) -> list[Measure]:
    """The rows of the held-out loss."""
    loss = results.heldout_loss
    return [measure(HELDOUT_LOSS, loss), measure(EOS_LOSS, loss.eos if loss else None)]


def benchmark(name: str, result: BenchmarkResult) -> Benchmark:
    """The table of one benchmark."""
    return Benchmark(
        title="Answers to held-out questions" if name == "heldout" else name,
        n_questions=count(result.n_questions),
        measures=(
            measure(EXACT_MATCH, result.exact_match),
            measure(SIMILARITY, result.chrf),
            measure(STOPPED, result.stopped),
            measure(TOKENS, result.answer_tokens),
        ),
        pairwise=_pairwise(result.pairwise) if result.pairwise else None,
    )


def _pairwise(result: PairwiseResult) -> Pairwise:
    return Pairwise(
        judge=result.judge,
        orders="both orders" if result.orders == 2 else "one order",
        wins=count(result.n_wins),
        losses=count(result.n_losses),
        ties=count(result.n_ties),
        judgments=count(result.n_judgments),
        unparsed=count(result.n_unparsed),
        win_rate=parts(result.win_rate, percent=True),
        order_agreement=parts(result.order_agreement, percent=True),
        first_preferred=parts(result.first_preferred, percent=True),
    )


def rule(verdict: VerdictRule) -> str:
    """The recipe's rule for the verdict, in one sentence."""
    kind = METRICS[verdict.metric]
    unit = "" if kind.percent else f" {kind.unit}"
    effect = (
        f"{verdict.smallest_effect * 100:g} points"
        if kind.percent
        else (f"{verdict.smallest_effect:g}{unit}")
    )
    against = "one half" if kind.null else "no difference"
    beyond = f"{against} by more than {effect}" if verdict.smallest_effect else against
    return (
        f"Rule, as the recipe states it: better or worse only if the whole "
        f"{verdict.level * 100:g} % interval of the {kind.label.lower()} lies beyond "
        f"{beyond}, with at most {verdict.max_unscored * 100:g} % unscored"
        + (
            f" and the judge's two orders agreeing on at least "
            f"{verdict.min_order_agreement * 100:g} % of questions."
            if verdict.metric == "win_rate"
            else "."
        )
    )


def meanings(results: Results, recipe: Recipe) -> list[tuple[str, str]]:
    """(Term, meaning) of every measure that the report shows."""
    level = f"{results.verdict.estimate.level * 100:g} %"
    found = list(dict.fromkeys(e.method for e in _estimates(results) if e.method))
    methods = f" Made by: {'; '.join(found)}." if found else ""
    told = [
        (
            "Interval and n",
            f"“1.20 (1.10 to 1.30, n = 96)” is a value, its {level} interval (unless another "
            "level is named) and the number of questions it rests on. The interval covers the "
            "chance of having drawn these questions and not others of their kind; it does not "
            "cover another training seed. Unscored questions are counted apart, never as wrong."
            + methods,
        ),
        (
            HELDOUT_LOSS.label,
            "How surprised a model is by the reference responses of the test split, as negative "
            "log likelihood in nats a response token; lower is better. The end-of-sequence token "
            "after the response is counted apart, because a base model need not know where this "
            "template ends. Differences are tuned − base on the same questions.",
        ),
        (
            EXACT_MATCH.label,
            "The share of checkable questions (one right answer) whose answer is that answer.",
        ),
        (
            SIMILARITY.label,
            "chrF: overlap of character sequences with one reference response, from 0 to 100 %. It "
            "measures likeness to that reference. A good answer in other words scores low.",
        ),
        (
            STOPPED.label,
            "The share of answers that ended with the end-of-sequence token and not at the limit "
            f"of {count(recipe.generate.max_new_tokens)} tokens.",
        ),
    ]
    if any(b.pairwise for b in results.benchmarks.values()):
        told.append(
            (
                WIN_RATE.label,
                "How often a judge preferred the tuned model's answer to the base model's, a tie "
                "counted as one half. It is one judge's opinion against this base model: it cannot "
                "be compared with win rates against other opponents.",
            )
        )
    return told


def _estimates(results: Results) -> Iterator[Estimate]:
    """All estimates of the results, in the order of the report."""
    yield results.verdict.estimate
    pairs: list[ArmPair | None] = []
    if results.heldout_loss is not None:
        loss = results.heldout_loss
        pairs += [loss, loss.eos, *loss.by_category.values()]
    for b in results.benchmarks.values():
        pairs += [b.exact_match, b.chrf, b.stopped, b.answer_tokens]
    for pair in pairs:
        if pair is not None:
            yield from (pair.base, pair.tuned, pair.difference)
    for b in results.benchmarks.values():
        if b.pairwise is not None:
            yield from (b.pairwise.win_rate, b.pairwise.order_agreement, b.pairwise.first_preferred)
