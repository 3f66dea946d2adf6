"""What a judge preferred: from preferences and judgments to win rates and counts.

Pure functions. The preferences of one question (its turns, its adapters) are averaged first, so
that the question is the unit of every interval.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tuneproof.records import PairwiseResult, Tally
from tuneproof.stats.estimates import SHARE, mean, unmeasured

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tuneproof.recipe import Judge
    from tuneproof.records import Estimate, Judgment, Preference, Prompt

SHARE_UNIT = "share"


def pairwise_results(
    prompts: Sequence[Prompt],
    judgments: Sequence[Judgment],
    preferences: Sequence[Preference],
    *,
    judge: Judge,
    level: float,
) -> list[PairwiseResult]:
    """One result for each opponent on the questions of ``prompts``, in the order of preferences."""
    asked = {p.question_id for p in prompts}
    mine = [p for p in preferences if p.question_id in asked]
    return [
        pairwise_result(
            prompts,
            [j for j in judgments if j.question_id in asked and j.opponent is opponent],
            [p for p in mine if p.opponent is opponent],
            judge=judge,
            level=level,
        )
        for opponent in dict.fromkeys(p.opponent for p in mine)
    ]


def pairwise_result(
    prompts: Sequence[Prompt],
    judgments: Sequence[Judgment],
    preferences: Sequence[Preference],
    *,
    judge: Judge,
    level: float,
) -> PairwiseResult:
    """The win rate against one opponent, and what speaks for or against the judge.

    A question is scored where any of its pairs is; the pairs that are not are counted in ``pairs``.
    With both orders judged, a pair whose orders contradict each other is a tie.
    ``first_preferred`` is over single judgments that decided, clustered by question: one half where
    the judge has no position bias.

    Args:
        prompts: of one benchmark, all turns.
        judgments: of the opponent's pairs.
        preferences: of the opponent's pairs, at least one.
    """
    questions = dict.fromkeys(p.question_id for p in prompts)
    category_of = {p.question_id: p.category for p in prompts}
    agreed = [p for p in preferences if p.orders_agree is not None]
    decided = [j for j in judgments if j.prefers in ("A", "B")]
    scored = _by_question(preferences)
    some = preferences[0]

    def rate(chosen: Iterable[Preference], of: Iterable[str]) -> Estimate:
        return win_rate(list(chosen), list(of), level=level)

    turns = sorted({p.turn for p in prompts})
    categories = sorted({c for c in category_of.values() if c is not None})
    adapters = sorted({p.adapter for p in preferences})
    return PairwiseResult(
        judge=judge.model,
        protocol=some.protocol,
        opponent=some.opponent,
        orders=some.orders,
        win_rate=rate(preferences, questions),
        questions=_tally(scored.get(q) for q in questions),
        pairs=_tally(p.value for p in preferences),
        n_judgments=len(judgments),
        n_unparsed=sum(j.prefers is None for j in judgments),
        order_agreement=mean(
            [float(p.orders_agree is True) for p in agreed],
            [p.question_id for p in agreed],
            level=level,
            n_unscored=len(questions) - len({p.question_id for p in agreed}),
            bounds=SHARE,
            unit=SHARE_UNIT,
        )
        if some.orders == 2
        else unmeasured(
            "each pair was shown in one order only",
            level=level,
            n_unscored=len(questions),
            unit=SHARE_UNIT,
        ),
        first_preferred=mean(
            [float(j.prefers == "A") for j in decided],
            [j.question_id for j in decided],
            level=level,
            n_unscored=len(questions) - len({j.question_id for j in decided}),
            bounds=SHARE,
            unit=SHARE_UNIT,
        ),
        by_turn={
            str(turn): rate(
                (p for p in preferences if p.turn == turn),
                dict.fromkeys(p.question_id for p in prompts if p.turn == turn),
            )
            for turn in turns
        }
        if len(turns) > 1
        else {},
        by_category={
            name: rate(
                (p for p in preferences if category_of[p.question_id] == name),
                (q for q in questions if category_of[q] == name),
            )
            for name in categories
        }
        if len(categories) > 1
        else {},
        by_adapter={
            str(number): rate((p for p in preferences if p.adapter == number), questions)
            for number in adapters
        }
        if len(adapters) > 1
        else {},
    )


def win_rate(
    preferences: Sequence[Preference], questions: Sequence[str], *, level: float
) -> Estimate:
    """The mean over questions of their pairs' mean preference; where several adapters were judged,
    what their choice adds is in the interval."""
    scored = _by_question(preferences)
    adapters = sorted({p.adapter for p in preferences})
    return mean(
        list(scored.values()),
        list(scored),
        level=level,
        n_unscored=len(questions) - len(scored),
        bounds=SHARE,
        unit=SHARE_UNIT,
        adapters=[_by_question([p for p in preferences if p.adapter == a]) for a in adapters]
        if len(adapters) > 1
        else (),
    )


def _by_question(preferences: Sequence[Preference]) -> dict[str, float]:
    """The mean of each question's scored preferences; a question without one is left out."""
    values: dict[str, list[float]] = {}
    for p in preferences:
        if p.value is not None:
            values.setdefault(p.question_id, []).append(p.value)
    return {question: math.fsum(vs) / len(vs) for question, vs in values.items()}


def _tally(values: Iterable[float | None]) -> Tally:
    found = list(values)
    scored = [v for v in found if v is not None]
    return Tally(
        wins=sum(v > 0.5 for v in scored),
        losses=sum(v < 0.5 for v in scored),
        ties=sum(v == 0.5 for v in scored),
        unscored=len(found) - len(scored),
    )
