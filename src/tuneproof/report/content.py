"""What the report says, before it is HTML or Markdown: which measures, in which words and units.

Both outputs say the same because both are made from here. Records come in finished; this module
chooses labels, units and order; it escapes nothing. What a judge preferred is in ``pairwise``, what
the measures mean in ``meanings``, questions with their answers in ``cases``, and how the numbers
came about in ``provenance``. What speaks for and against the verdict is in ``evidence``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tuneproof.records import Arm
from tuneproof.report.numbers import Shown, count, parts
from tuneproof.report.pairwise import (
    Pairwise,
    opponent_name,
    pairwise,
    ratings_rows,
    ratings_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tuneproof.recipe import VerdictRule
    from tuneproof.report.tables import Table
    from tuneproof.results import (
        ArmPair,
        BenchmarkResult,
        Measures,
        PairwiseResult,
        RatingsResult,
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
RATING = Kind(label="Rating", unit="points from 1 to 10", better="higher", digits=2)
WIN_RATE = Kind(
    label="Pairwise win rate", unit="ties count half", better="higher", percent=True, null=0.5
)
REMAINING = "Win rate beyond stopping and length"
TITLES = {
    "heldout": "Answers to held-out questions",
    "alpaca_eval": "AlpacaEval 2",
    "mt_bench": "MT-Bench",
}
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
    """One key figure: a difference, or a win rate, with its interval and n. ``decides`` marks the
    one that the verdict rests on."""

    label: str
    shown: Shown
    explained: str
    decides: bool = False


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One benchmark's tables. ``fair_measures`` is empty where fair-base was not asked.

    ``rating_rows`` and ``rating_table`` are there where answers were rated one by one, and no
    ``pairwise`` then.
    """

    title: str
    asked: str
    measures: tuple[Measure, ...]
    fair_measures: tuple[Measure, ...]
    pairwise: tuple[Pairwise, ...]
    rating_rows: tuple[tuple[str, str], ...] = ()
    rating_table: Table | None = None


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
    label = kind.label
    if len(results.benchmarks) > 1 and verdict.benchmark in TITLES and kind is not HELDOUT_LOSS:
        label = f"{kind.label} ({TITLES[verdict.benchmark]})"
    return Figure(label=label, shown=shown, explained=_explained(kind, verdict.against))


def reasons(results: Results) -> list[str]:
    """The verdict's reasons but those that its sentence has said already."""
    said = results.verdict.sentence.casefold()
    return [r for r in results.verdict.reasons if r.rstrip(".").casefold() not in said]


def unfinished(results: Results) -> bool:
    """Whether a stage is still to be run, and is not just gone with its results all used."""
    return any(not m.later for m in results.missing)


def not_whole(results: Results) -> str:
    """Before the list of the stages that are missing."""
    return "Not finished." if unfinished(results) else "Not whole."


def lacks(results: Results, stage: str) -> str | None:
    """In the place of what that stage would have brought: why it is not there; None where it is."""
    missing = any(m.stage == stage for m in results.missing)
    return f"not shown ({stage} has no result in this run)" if missing else None


def outcome(results: Results) -> str:
    """The verdict in a word, or that there is none for want of a stage."""
    if unfinished(results) and results.verdict.estimate.value is None:
        return "no verdict yet"
    return results.verdict.outcome.value


def key_figures(results: Results) -> list[Figure]:
    """One figure for each headline measure that was taken: differences, and the win rates."""
    several = len(results.benchmarks) > 1
    deciding = verdict_figure(results)
    pairs: list[tuple[Kind, ArmPair | None]] = []
    rates: list[Figure] = []
    for name, result in results.benchmarks.items():
        of = f" ({TITLES.get(name, name)})" if several else ""
        pairs += [
            (_named(EXACT_MATCH, of), result.exact_match),
            (_named(SIMILARITY, of), result.chrf),
            (_named(STOPPED, of), result.stopped),
        ]
        if result.ratings is not None:
            pairs.append((_named(RATING, of), result.ratings.against.get("base")))
        for found in pairwise_results(result):
            shown = parts(found.win_rate, percent=True)
            explained = _explained(WIN_RATE, found.opponent)
            rates.append(Figure(label=WIN_RATE.label + of, shown=shown, explained=explained))
            rates += _remaining(found, of)
    figures = [
        *_differences([(HELDOUT_LOSS, results.heldout_loss)]),
        *rates,
        *_differences(pairs),
    ]
    return [
        replace(f, decides=True)
        if (f.label, f.shown, f.explained) == (deciding.label, deciding.shown, deciding.explained)
        else f
        for f in figures
    ]


def figure_columns(n: int) -> int:
    """How many key figures stand beside each other, so that none is left alone in the last row."""
    return next((c for c in (5, 4, 3) if n % c != 1), 5)


def _remaining(found: PairwiseResult, of: str) -> Iterator[Figure]:
    split = found.decomposition
    if split is not None and split.remaining.value is not None:
        yield Figure(
            label=REMAINING + of,
            shown=parts(split.remaining, percent=True, signed=True),
            explained=f"above one half, against {opponent_name(found.opponent)}",
        )


def pairwise_results(result: BenchmarkResult) -> list[PairwiseResult]:
    """Against all opponents, the recipe's first one first."""
    return [r for r in (result.pairwise, *result.others.values()) if r is not None]


def _differences(pairs: Iterable[tuple[Kind, ArmPair | None]]) -> Iterator[Figure]:
    for kind, pair in pairs:
        if pair is not None:
            shown = parts(pair.difference, percent=kind.percent, digits=kind.digits, signed=True)
            yield Figure(label=kind.label, shown=shown, explained=_explained(kind))


def _named(kind: Kind, suffix: str) -> Kind:
    return replace(kind, label=kind.label + suffix)


def _explained(kind: Kind, against: Arm | None = None) -> str:
    if kind.null:
        return f"tuned against {opponent_name(against or Arm.BASE)}; 50 % is no difference"
    # Points already say that a share is meant.
    unit = "" if kind.percent else f"{kind.unit}, "
    return f"{unit}tuned − base; {kind.better} is better"


def heldout_measures(results: Results) -> list[Measure]:
    """The rows of the held-out loss."""
    loss = results.heldout_loss
    return [measure(HELDOUT_LOSS, loss), measure(EOS_LOSS, loss.eos if loss else None)]


def benchmark(name: str, result: BenchmarkResult) -> Benchmark:
    """The tables of one benchmark."""
    rated = result.ratings
    asked = f"{count(result.n_questions)} questions"
    if result.n_turns > 1:
        asked += f" of {result.n_turns} turns"
    asked += ", each answered by both models"
    if result.n_adapters > 1:
        asked += f", and by each of {result.n_adapters} adapters, which are averaged"
    return Benchmark(
        title=TITLES.get(name, name),
        asked=asked,
        measures=_measures(result, rated, Arm.BASE, referenced=name == "heldout"),
        fair_measures=_measures(
            result.fair_base, rated, Arm.FAIR_BASE, referenced=name == "heldout"
        )
        if result.fair_base is not None
        else (),
        pairwise=tuple(pairwise(r) for r in pairwise_results(result)),
        rating_rows=tuple(ratings_rows(rated)) if rated is not None else (),
        rating_table=ratings_table(rated) if rated is not None else None,
    )


def _measures(
    found: Measures, rated: RatingsResult | None, base: Arm, *, referenced: bool
) -> tuple[Measure, ...]:
    """Where there are no references, nobody could have compared with them."""
    rating = rated.against.get(base) if rated is not None else None
    rows = (
        *(((RATING, rating),) if rating is not None else ()),
        (EXACT_MATCH, found.exact_match),
        (SIMILARITY, found.chrf),
        (STOPPED, found.stopped),
        (TOKENS, found.answer_tokens),
    )
    return tuple(measure(kind, pair) for kind, pair in rows if referenced or pair is not None)


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
    of = f" of {TITLES[verdict.benchmark]}" if verdict.benchmark and kind.null else ""
    if kind.null and verdict.against:
        of += f" against {opponent_name(Arm(verdict.against))}"
    beyond = f"{against} by more than {effect}" if verdict.smallest_effect else against
    return (
        f"Rule, as the recipe states it: better or worse only if the whole "
        f"{verdict.level * 100:g} % interval of the {kind.label.lower()}{of} lies beyond "
        f"{beyond}, with at most {verdict.max_unscored * 100:g} % unscored"
        + (
            f" and the judge's two orders agreeing on at least "
            f"{verdict.min_order_agreement * 100:g} % of questions."
            if verdict.metric == "win_rate"
            else "."
        )
    )
