"""Answers rated one by one: from ratings to means by arm, and FastChat's single-answer table.

Pure functions. Turns and adapters of a question are averaged first, so that the question is the
unit of every interval.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.data.questions import KNOWN_WRONG_REFERENCES, mt_bench_number
from tuneproof.records import Arm
from tuneproof.results import ArmPair, RatingLine, RatingsResult
from tuneproof.stats.estimates import paired
from tuneproof.stats.leaderboards import ModelName, arm_name
from tuneproof.stats.mt_bench import HIGHEST, LOWEST, Score, single_table
from tuneproof.stats.sides import sides_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.records import Prompt, Rating

UNIT = "points"


def ratings_result(
    prompts: Sequence[Prompt],
    ratings: Sequence[Rating],
    *,
    level: float,
    model_name: ModelName = arm_name,
) -> RatingsResult:
    """Mean ratings against each opponent, with paired differences.

    Args:
        prompts: of one benchmark, all turns.
        ratings: of their answers, at least one.
        level: the confidence level of every interval.
        model_name: what the table calls a model.
    """
    some = ratings[0]
    # Questions with a wrong reference on which nobody was rated were left out, as the recipe says;
    # others without a rating are unscored.
    rated = {r.question_id for r in ratings}
    questions = list(
        dict.fromkeys(
            p.question_id
            for p in prompts
            if p.question_id in rated
            or mt_bench_number(p.question_id) not in KNOWN_WRONG_REFERENCES
        )
    )
    scored = [r for r in ratings if r.score is not None]

    def against(opponent: Arm) -> ArmPair:
        sides = sides_of(scored, lambda r: r.score or 0.0, base=opponent)
        return paired(
            sides.base,
            sides.tuned,
            questions=questions,
            level=level,
            bounds=(LOWEST, HIGHEST),
            unit=UNIT,
            adapters=sides.adapters,
        )

    arms = dict.fromkeys((r.arm, r.adapter) for r in ratings)
    table = single_table(
        [
            Score(
                question_id=mt_bench_number(r.question_id),
                turn=r.turn,
                model=model_name(r.arm, r.adapter),
                score=r.score,
            )
            for r in ratings
        ],
        level=level,
    )
    # Tuned first, as in the pairwise table.
    order = sorted(arms, key=lambda it: (it[0] is not Arm.TUNED, it[1]))
    rows = {model_name(*it): table[model_name(*it)] for it in order}
    return RatingsResult(
        judge=some.judge,
        protocol=some.protocol,
        against={
            arm.value: against(arm)
            for arm in dict.fromkeys(a for a, _ in arms)
            if arm is not Arm.TUNED
        },
        lines=tuple(
            RatingLine(
                model=name,
                first_turn=row.first_turn,
                second_turn=row.second_turn,
                average=row.average,
                n_scored=row.n_scored,
                n_unscored=row.n_unscored,
            )
            for name, row in rows.items()
        ),
        n_ratings=len(ratings),
        n_unparsed=len(ratings) - len(scored),
        n_known_wrong=sum(mt_bench_number(r.question_id) in KNOWN_WRONG_REFERENCES for r in ratings)
        if some.protocol.startswith("mt-bench")
        else 0,
    )
