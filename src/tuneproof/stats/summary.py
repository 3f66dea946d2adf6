"""From the records of a run to its estimates: held-out loss and one result a benchmark.

Pure functions. Which question counts as unscored is decided here, and only by what is missing: a
question that was asked and has no value on either side. The formulas are those of ``estimates``,
what a judge preferred is in ``pairwise``, how it rated in ``ratings``, and what the numbers prove
is left to ``verdict``.

Turns and adapters of a question are averaged before anything else, over the turns that both arms
answered: the question is the unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.records import Arm, Stop
from tuneproof.results import BenchmarkResult, HeldoutLoss, Measures
from tuneproof.stats.estimates import NOT_NEGATIVE, SHARE, paired, paired_ratio
from tuneproof.stats.leaderboards import ModelName, arm_name
from tuneproof.stats.pairwise import SHARE_UNIT, pairwise_results
from tuneproof.stats.ratings import ratings_result
from tuneproof.stats.sides import Row, sides_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tuneproof.recipe import Judge
    from tuneproof.records import (
        Answer,
        CutPreference,
        Judgment,
        Preference,
        Prompt,
        Rating,
        SequenceLoss,
        Similarity,
    )
    from tuneproof.results import ArmPair

LOSS_UNIT = "nats/token"
EOS_UNIT = "nats"
LENGTH_UNIT = "tokens"
CHRF_UNIT = "chrF"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All estimates of a run."""

    heldout_loss: HeldoutLoss | None
    benchmarks: dict[str, BenchmarkResult]


def summarize(
    *,
    losses: Sequence[SequenceLoss],
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    similarities: Sequence[Similarity],
    judgments: Sequence[Judgment],
    preferences: Sequence[Preference],
    judge: Judge | None,
    level: float,
    ratings: Sequence[Rating] = (),
    seed: int | None = None,
    cuts: Sequence[CutPreference] = (),
    cut_judgments: Sequence[Judgment] = (),
    model_name: ModelName = arm_name,
) -> Summary:
    """All estimates of a run, benchmarks in the order of their first prompts.

    Args:
        losses: of the test split's rows; empty where the loss was not measured.
        prompts: of all benchmarks; a question belongs to one benchmark.
        answers: of all arms.
        similarities: from the judge stage.
        judgments: from the judge stage.
        preferences: from the judge stage, one for each pair, unscored ones included.
        judge: the recipe's judge; None leaves the pairwise results out.
        level: the confidence level of every interval.
        ratings: from the judge stage, where answers were rated one by one.
        seed: the recipe's, for bootstrap intervals; None takes Student's t throughout.
        cuts: from the judge stage, where pairs were judged again with their answers cut.
        cut_judgments: the judgments of these.
        model_name: what the benchmarks' own tables call the model of an arm and adapter.
    """
    names = dict.fromkeys(p.benchmark for p in prompts)
    return Summary(
        heldout_loss=heldout_loss(losses, level=level) if losses else None,
        benchmarks={
            name: benchmark_result(
                [p for p in prompts if p.benchmark == name],
                answers,
                similarities,
                judgments,
                preferences,
                judge=judge,
                level=level,
                ratings=ratings,
                seed=seed,
                cuts=cuts,
                cut_judgments=cut_judgments,
                model_name=model_name,
            )
            for name in names
        },
    )


def heldout_loss(losses: Sequence[SequenceLoss], *, level: float) -> HeldoutLoss:
    """Nats a response token over all rows and by category, and the end-of-sequence token's nats.

    The overall value weighs every token alike (Σ nll / Σ tokens). Rows without a category are in
    the overall value only.
    """
    overall = _loss(losses, level=level)
    eos = sides_of(losses, lambda row: row.eos_nll, base=Arm.BASE)
    categories = sorted({row.category for row in losses if row.category is not None})
    adapters = sorted({row.adapter for row in losses if row.arm is Arm.TUNED})
    return HeldoutLoss(
        base=overall.base,
        tuned=overall.tuned,
        difference=overall.difference,
        eos=paired(
            eos.base,
            eos.tuned,
            questions=[row.question_id for row in losses],
            level=level,
            bounds=NOT_NEGATIVE,
            unit=EOS_UNIT,
            adapters=eos.adapters,
        ),
        by_category={
            name: _loss([row for row in losses if row.category == name], level=level)
            for name in categories
        },
        by_adapter={
            str(number): _loss(
                [r for r in losses if r.arm is Arm.BASE or r.adapter == number], level=level
            )
            for number in adapters
        }
        if len(adapters) > 1
        else {},
    )


def _loss(losses: Sequence[SequenceLoss], *, level: float) -> ArmPair:
    nll = sides_of(losses, lambda row: row.response_nll, base=Arm.BASE)
    tokens = sides_of(losses, lambda row: float(row.n_tokens), base=Arm.BASE)
    return paired_ratio(
        {q: (x, tokens.base[q]) for q, x in nll.base.items()},
        {q: (x, tokens.tuned[q]) for q, x in nll.tuned.items()},
        questions=[row.question_id for row in losses],
        level=level,
        bounds=NOT_NEGATIVE,
        unit=LOSS_UNIT,
        adapters=[
            {q: (x, n[q]) for q, x in values.items()}
            for values, n in zip(nll.adapters, tokens.adapters, strict=True)
        ],
    )


def benchmark_result(
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    similarities: Sequence[Similarity],
    judgments: Sequence[Judgment],
    preferences: Sequence[Preference],
    *,
    judge: Judge | None,
    level: float,
    ratings: Sequence[Rating] = (),
    seed: int | None = None,
    cuts: Sequence[CutPreference] = (),
    cut_judgments: Sequence[Judgment] = (),
    model_name: ModelName = arm_name,
) -> BenchmarkResult:
    """All measures on the questions of ``prompts``; rows of other questions are passed over.

    ``pairwise`` is None without a judge. A failed answer has no stop, length or similarity.
    """
    asked = {p.question_id for p in prompts}
    mine = [a for a in answers if a.question_id in asked]
    near = [s for s in similarities if s.question_id in asked]
    base = measures(prompts, mine, near, base=Arm.BASE, level=level)
    rated = [r for r in ratings if r.question_id in asked]
    results = (
        pairwise_results(
            prompts,
            mine,
            judgments,
            preferences,
            judge=judge,
            level=level,
            seed=seed,
            cuts=cuts,
            cut_judgments=cut_judgments,
            model_name=model_name,
        )
        if judge is not None
        else []
    )
    return BenchmarkResult(
        **dict(base),
        n_questions=len(asked),
        n_turns=max(p.turn for p in prompts),
        n_adapters=len({a.adapter for a in mine if a.arm is Arm.TUNED}),
        fair_base=measures(prompts, mine, near, base=Arm.FAIR_BASE, level=level)
        if any(a.arm is Arm.FAIR_BASE for a in mine)
        else None,
        pairwise=results[0] if results else None,
        others={r.opponent.value: r for r in results[1:]},
        ratings=ratings_result(prompts, rated, level=level, model_name=model_name)
        if rated
        else None,
    )


def measures(
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    similarities: Sequence[Similarity],
    *,
    base: Arm,
    level: float,
) -> Measures:
    """What tuned and ``base`` have in stops, lengths and similarity, on the same questions."""
    said = [a for a in answers if a.stop is not Stop.ERROR]

    def of(
        rows: Iterable[Row],
        value: Callable[[Row], float],
        questions: Sequence[str],
        bounds: tuple[float, float] | None,
        unit: str,
    ) -> ArmPair:
        sides = sides_of(rows, value, base=base)
        return paired(
            sides.base,
            sides.tuned,
            questions=questions,
            level=level,
            bounds=bounds,
            unit=unit,
            adapters=sides.adapters,
        )

    everything = [p.question_id for p in prompts]
    referenced = [p.question_id for p in prompts if p.reference is not None]
    checkable = [p.question_id for p in prompts if p.reference is not None and p.checkable]
    return Measures(
        stopped=of(said, lambda a: float(a.stop.by_itself), everything, SHARE, SHARE_UNIT),
        answer_tokens=of(said, lambda a: float(a.n_tokens), everything, NOT_NEGATIVE, LENGTH_UNIT),
        chrf=of(similarities, lambda s: s.chrf, referenced, SHARE, CHRF_UNIT)
        if referenced
        else None,
        exact_match=of(
            [s for s in similarities if s.exact is not None],
            lambda s: float(s.exact is True),
            checkable,
            SHARE,
            SHARE_UNIT,
        )
        if checkable
        else None,
    )
