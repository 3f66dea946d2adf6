"""What a judge preferred: from preferences and judgments to win rates and counts.

Pure functions. The preferences of one question (its turns, its adapters) are averaged first, so
that the question is the unit of every interval.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tuneproof.results import PairwiseResult, Tally
from tuneproof.stats.bootstrap import Column, bootstrap_mean
from tuneproof.stats.decomposition import decompose
from tuneproof.stats.estimates import SHARE, mean, unmeasured
from tuneproof.stats.leaderboards import (
    ModelName,
    alpaca_eval_lines,
    arm_name,
    fitted_length_control,
    mt_bench_matches,
)
from tuneproof.stats.lengths import bands

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tuneproof.recipe import Judge
    from tuneproof.records import (
        Answer,
        CutPreference,
        Judgment,
        Preference,
        Prompt,
    )
    from tuneproof.results import Estimate

SHARE_UNIT = "share"


def pairwise_results(
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    judgments: Sequence[Judgment],
    preferences: Sequence[Preference],
    *,
    judge: Judge,
    level: float,
    seed: int | None = None,
    cuts: Sequence[CutPreference] = (),
    cut_judgments: Sequence[Judgment] = (),
    model_name: ModelName = arm_name,
) -> list[PairwiseResult]:
    """One result for each opponent on the questions of ``prompts``, in the order of preferences.

    Every pair has a preference, scored or not: a question without any was left out of judging.
    """
    asked = {p.question_id for p in prompts}
    mine = [p for p in preferences if p.question_id in asked]
    return [
        pairwise_result(
            prompts,
            answers,
            [j for j in judgments if j.question_id in asked and j.opponent is opponent],
            [p for p in mine if p.opponent is opponent],
            judge=judge,
            level=level,
            seed=seed,
            cuts=[c for c in cuts if c.question_id in asked and c.opponent is opponent],
            n_rejudged=sum(
                j.asked for j in cut_judgments if j.question_id in asked and j.opponent is opponent
            ),
            model_name=model_name,
        )
        for opponent in dict.fromkeys(p.opponent for p in mine)
    ]


def pairwise_result(
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    judgments: Sequence[Judgment],
    preferences: Sequence[Preference],
    *,
    judge: Judge,
    level: float,
    seed: int | None = None,
    cuts: Sequence[CutPreference] = (),
    n_rejudged: int = 0,
    model_name: ModelName = arm_name,
) -> PairwiseResult:
    """The win rate against one opponent, and what speaks for or against the judge.

    A question is scored where any of its pairs is; the pairs that are not are counted in ``pairs``.
    With both orders judged, a pair whose orders contradict each other is a tie.
    ``first_preferred`` is over single judgments that decided, clustered by question: one half where
    the judge has no position bias.

    Args:
        prompts: of one benchmark, all turns.
        answers: of these prompts.
        judgments: of the opponent's pairs.
        preferences: of the opponent's pairs, at least one.
        judge: the recipe's.
        level: the confidence level of every interval.
        seed: of the bootstrap of every win rate, splits and parts included; see ``win_rate``.
        cuts: the preferences of the same pairs in all conditions, where they were judged again.
        n_rejudged: how many replies that took.
        model_name: what the benchmark's own table calls a model.
    """
    judged = {p.question_id for p in preferences}
    n_excluded = sum(p.question_id not in judged for p in prompts)
    prompts = [p for p in prompts if p.question_id in judged]
    questions = dict.fromkeys(p.question_id for p in prompts)
    category_of = {p.question_id: p.category for p in prompts}
    agreed = [p for p in preferences if p.orders_agree is not None]
    # What a protocol knows without a judge tells nothing of a judge.
    decided = [j for j in judgments if j.asked and j.prefers in ("A", "B")]
    scored = _by_question(preferences)
    some = preferences[0]

    def rate(chosen: Iterable[Preference], of: Iterable[str]) -> Estimate:
        return win_rate(list(chosen), list(of), level=level, seed=seed)

    turns = sorted({p.turn for p in prompts})
    categories = sorted({c for c in category_of.values() if c is not None})
    adapters = sorted({p.adapter for p in preferences})
    by_length = bands(answers, preferences)
    is_alpaca_eval = some.benchmark == "alpaca_eval"
    return PairwiseResult(
        judge=judge.name,
        protocol=some.protocol,
        opponent=some.opponent,
        orders=some.orders,
        win_rate=win_rate(preferences, list(questions), level=level, seed=seed),
        questions=_tally(scored.get(q) for q in questions),
        pairs=_tally(p.value for p in preferences),
        n_inconsistent=sum(p.orders_agree is False for p in preferences),
        n_judgments=sum(j.asked for j in judgments),
        n_unparsed=sum(j.prefers is None for j in judgments),
        n_not_asked=sum(not j.asked for j in judgments),
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
        by_length={
            name: rate(pairs, dict.fromkeys(p.question_id for p in pairs))
            for name, pairs in by_length.items()
        }
        if len(by_length) > 1
        else {},
        by_adapter={
            str(number): rate((p for p in preferences if p.adapter == number), questions)
            for number in adapters
        }
        if len(adapters) > 1
        else {},
        alpaca_eval=alpaca_eval_lines(prompts, answers, preferences, model_name=model_name)
        if is_alpaca_eval
        else (),
        length_controlled=fitted_length_control(prompts, answers, preferences, level=level)
        if is_alpaca_eval
        else None,
        mt_bench=mt_bench_matches(
            prompts,
            answers,
            judgments,
            preferences,
            level=level,
            n_excluded=n_excluded * len(adapters),
            model_name=model_name,
        )
        if some.benchmark == "mt_bench"
        else None,
        decomposition=decompose(cuts, level=level, seed=seed, n_rejudged=n_rejudged)
        if cuts
        else None,
    )


def win_rate(
    preferences: Sequence[Preference],
    questions: Sequence[str],
    *,
    level: float,
    seed: int | None = None,
) -> Estimate:
    """The mean over questions of their pairs' mean preference.

    Its interval is the bootstrap's, which holds near 0 and 1, where Student's t does not. With very
    few questions it is Student's (see ``bootstrap``), and where several adapters were judged, too,
    which has what their choice adds.

    Args:
        preferences: of the pairs; unscored ones have no value.
        questions: all that were judged.
        level: the confidence level.
        seed: the recipe's, for the bootstrap; None takes Student's t throughout.
    """
    scored = _by_question(preferences)
    adapters = sorted({p.adapter for p in preferences})
    n_unscored = len(questions) - len(scored)
    if seed is not None and len(adapters) == 1:
        column = Column(
            values=list(scored.values()),
            clusters=list(scored),
            n_unscored=n_unscored,
            bounds=SHARE,
            unit=SHARE_UNIT,
        )
        return bootstrap_mean(column, level=level, seed=seed)
    return mean(
        list(scored.values()),
        list(scored),
        level=level,
        n_unscored=n_unscored,
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
