"""From the records of a run to its estimates: held-out loss and one result a benchmark.

Pure functions. Which question counts as unscored is decided here, and only by what is missing: a
question that was asked and has no value on either side. The formulas are those of ``estimates``;
what the numbers prove is left to ``verdict``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tuneproof.records import (
    Answer,
    Arm,
    BenchmarkResult,
    HeldoutLoss,
    Judgment,
    PairwiseResult,
    Preference,
    Prompt,
    SequenceLoss,
    Similarity,
    Stop,
)
from tuneproof.stats.estimates import SHARE, mean, paired, paired_ratio, unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from tuneproof.recipe import Judge
    from tuneproof.records import ArmPair

Row = TypeVar("Row", SequenceLoss, Answer, Similarity)
Value = TypeVar("Value")

LOSS_UNIT = "nats/token"
EOS_UNIT = "nats"
LENGTH_UNIT = "tokens"
SHARE_UNIT = "share"
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
) -> Summary:
    """All estimates of a run, benchmarks in the order of their first prompts.

    Args:
        losses: of the test split's rows; empty where the loss was not measured.
        prompts: of all benchmarks; a question belongs to one benchmark.
        answers: of both arms.
        similarities: from the judge stage.
        judgments: from the judge stage.
        preferences: from the judge stage, one for each question, unscored ones included.
        judge: the recipe's judge; None leaves the pairwise results out.
        level: the confidence level of every interval.
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
    eos = _by_arm(losses, lambda row: row.eos_nll)
    categories = sorted({row.category for row in losses if row.category is not None})
    return HeldoutLoss(
        base=overall.base,
        tuned=overall.tuned,
        difference=overall.difference,
        eos=paired(
            eos[Arm.BASE],
            eos[Arm.TUNED],
            questions=[row.question_id for row in losses],
            level=level,
            unit=EOS_UNIT,
        ),
        by_category={
            name: _loss([row for row in losses if row.category == name], level=level)
            for name in categories
        },
    )


def _loss(losses: Sequence[SequenceLoss], *, level: float) -> ArmPair:
    sums = _by_arm(losses, lambda row: (row.response_nll, float(row.n_tokens)))
    return paired_ratio(
        sums[Arm.BASE],
        sums[Arm.TUNED],
        questions=[row.question_id for row in losses],
        level=level,
        unit=LOSS_UNIT,
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
) -> BenchmarkResult:
    """All measures on the questions of ``prompts``; rows of other questions are passed over.

    ``chrf`` is None where no prompt has a reference, ``exact_match`` where none is checkable,
    ``pairwise`` without a judge. A failed answer has no stop, length or similarity: its question
    is unscored.
    """
    asked = {p.question_id for p in prompts}
    said = [a for a in answers if a.question_id in asked and a.stop is not Stop.ERROR]
    near = [s for s in similarities if s.question_id in asked]

    def of(
        values: Mapping[Arm, Mapping[str, float]],
        questions: Sequence[str],
        bounds: tuple[float, float] | None,
        unit: str,
    ) -> ArmPair:
        return paired(
            values[Arm.BASE],
            values[Arm.TUNED],
            questions=questions,
            level=level,
            bounds=bounds,
            unit=unit,
        )

    everything = [p.question_id for p in prompts]
    referenced = [p.question_id for p in prompts if p.reference is not None]
    checkable = [p.question_id for p in prompts if p.reference is not None and p.checkable]
    return BenchmarkResult(
        n_questions=len(asked),
        stopped=of(
            _by_arm(said, lambda a: float(a.stop is Stop.EOS)), everything, SHARE, SHARE_UNIT
        ),
        answer_tokens=of(_by_arm(said, lambda a: float(a.n_tokens)), everything, None, LENGTH_UNIT),
        chrf=of(_by_arm(near, lambda s: s.chrf), referenced, SHARE, CHRF_UNIT)
        if referenced
        else None,
        exact_match=of(
            _by_arm([s for s in near if s.exact is not None], lambda s: float(s.exact is True)),
            checkable,
            SHARE,
            SHARE_UNIT,
        )
        if checkable
        else None,
        pairwise=pairwise_result(
            [j for j in judgments if j.question_id in asked],
            [p for p in preferences if p.question_id in asked],
            questions=everything,
            judge=judge,
            level=level,
        )
        if judge is not None
        else None,
    )


def pairwise_result(
    judgments: Sequence[Judgment],
    preferences: Sequence[Preference],
    *,
    questions: Sequence[str],
    judge: Judge,
    level: float,
) -> PairwiseResult:
    """The win rate over questions, and what speaks for or against the judge.

    ``n_wins``, ``n_losses`` and ``n_ties`` count scored questions whose preference is above, below
    and at one half; with both orders judged, a question whose orders contradict each other is a
    tie. ``first_preferred`` is over single judgments that decided, clustered by question: one half
    where the judge has no position bias.
    """
    asked = dict.fromkeys(questions)
    scored = {p.question_id: p.value for p in preferences if p.value is not None}
    agreement = {
        p.question_id: float(p.orders_agree) for p in preferences if p.orders_agree is not None
    }
    decided = [j for j in judgments if j.prefers in ("A", "B")]
    n_decided = len({j.question_id for j in decided})
    return PairwiseResult(
        judge=judge.model,
        orders=judge.orders,
        win_rate=mean(
            list(scored.values()),
            list(scored),
            level=level,
            n_unscored=len(asked) - len(scored),
            bounds=SHARE,
            unit=SHARE_UNIT,
        ),
        n_wins=sum(v > 0.5 for v in scored.values()),
        n_losses=sum(v < 0.5 for v in scored.values()),
        n_ties=sum(v == 0.5 for v in scored.values()),
        n_judgments=len(judgments),
        n_unparsed=sum(j.prefers is None for j in judgments),
        order_agreement=mean(
            list(agreement.values()),
            list(agreement),
            level=level,
            n_unscored=len(asked) - len(agreement),
            bounds=SHARE,
            unit=SHARE_UNIT,
        )
        if judge.orders == 2
        else unmeasured(
            "each pair was shown in one order only",
            level=level,
            n_unscored=len(asked),
            unit=SHARE_UNIT,
        ),
        first_preferred=mean(
            [float(j.prefers == "A") for j in decided],
            [j.question_id for j in decided],
            level=level,
            n_unscored=len(asked) - n_decided,
            bounds=SHARE,
            unit=SHARE_UNIT,
        ),
    )


def _by_arm(rows: Iterable[Row], value: Callable[[Row], Value]) -> dict[Arm, dict[str, Value]]:
    """The value of each row by arm and question; a row that comes twice is a bug upstream."""
    found: dict[Arm, dict[str, Value]] = {arm: {} for arm in Arm}
    for row in rows:
        assert row.question_id not in found[row.arm], (row.question_id, row.arm)
        found[row.arm][row.question_id] = value(row)
    return found
