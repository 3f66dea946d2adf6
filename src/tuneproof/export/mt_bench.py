"""FastChat's files: ``model_answer`` of each model, ``model_judgment`` of the judge.

The keys and their order are those of FastChat's ``llm_judge``. What it writes as a sign (a winner
``error``, a score of −1) stands here where this project has an unscored value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneproof.data.questions import mt_bench_number
from tuneproof.judge.mt_bench import MtBenchPairwise, MtBenchSingle, prompt_name
from tuneproof.records import Arm, Stop
from tuneproof.stats.leaderboards import game_winner
from tuneproof.workspace import digest_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.judge.protocol import JudgeProtocol
    from tuneproof.judge.ratings import Rated, RatingProtocol
    from tuneproof.recipe import Judge, Recipe
    from tuneproof.records import Answer, Judgment, Match, Prompt, Rating

JsonRow = dict[str, Any]

NO_REPLY = "$ERROR$"
"""What FastChat writes as the judgment of a request that got no reply."""


def model_answer(
    prompts: Sequence[Prompt], answers: Sequence[Answer], *, model: str, tstamp: float
) -> tuple[list[JsonRow], int]:
    """One row for each question that the model answered in all turns; and how many it did not."""
    questions: dict[str, list[int]] = {}
    for p in prompts:
        questions.setdefault(p.question_id, []).append(p.turn)
    said = {(a.question_id, a.turn): a for a in answers if a.stop is not Stop.ERROR}
    rows = []
    for question, turns in questions.items():
        whole = [said[question, turn] for turn in turns if (question, turn) in said]
        if len(whole) < len(turns):
            continue
        rows.append(
            {
                "question_id": mt_bench_number(question),
                "answer_id": digest_value([model, *(a.key for a in whole)])[:22],
                "model_id": model,
                "choices": [{"index": 0, "turns": [a.text for a in whole]}],
                "tstamp": tstamp,
            }
        )
    return rows, len(questions) - len(rows)


def pair_judgments(
    matches: Sequence[Match],
    judgments: Sequence[Judgment],
    recipe: Recipe,
    protocol: JudgeProtocol,
    *,
    tstamp: float,
) -> list[JsonRow]:
    """One row for each pair of games: in the first, tuned (model_1) is shown first."""
    judge = recipe.judge
    assert judge is not None
    said = {_place(j): j for j in judgments}
    swapped = {_place(m): m for m in matches}
    rows = []
    for match in matches:
        if match.first is not Arm.TUNED:
            continue
        games = (match, swapped[(*_place(match)[:-1], match.opponent)])
        replies = [said.get(_place(game)) for game in games]
        prompts = [_user_prompt(protocol.request(game, judge)) for game in games]
        name = protocol.name
        if isinstance(protocol, MtBenchPairwise):
            name = prompt_name("pair", match.category, match.turn)
        rows.append(
            {
                "question_id": mt_bench_number(match.question_id),
                "model_1": recipe.model_name(Arm.TUNED, match.adapter),
                "model_2": recipe.model_name(match.opponent),
                "g1_winner": game_winner(replies[0]),
                "g2_winner": game_winner(replies[1]),
                "judge": [judge.model, name],
                "g1_user_prompt": prompts[0],
                "g1_judgment": NO_REPLY if replies[0] is None else replies[0].reply,
                "g2_user_prompt": prompts[1],
                "g2_judgment": NO_REPLY if replies[1] is None else replies[1].reply,
                "turn": match.turn,
                "tstamp": tstamp,
            }
        )
    return rows


def _place(row: Match | Judgment) -> tuple[str, int, Arm, int, Arm]:
    return row.question_id, row.turn, row.opponent, row.adapter, row.first


def single_judgments(
    rated: Sequence[Rated],
    ratings: Sequence[Rating],
    recipe: Recipe,
    protocol: RatingProtocol,
    *,
    tstamp: float,
) -> list[JsonRow]:
    """One row for each rating that came, in the order of the answers."""
    judge = recipe.judge
    assert judge is not None
    said = {(r.question_id, r.turn, r.arm, r.adapter): r for r in ratings}
    rows = []
    for one in rated:
        rating = said.get((one.question_id, one.turn, one.arm, one.adapter))
        if rating is None:
            continue
        name = protocol.name
        if isinstance(protocol, MtBenchSingle):
            name = prompt_name("single", one.category, one.turn)
        rows.append(
            {
                "question_id": mt_bench_number(one.question_id),
                "model": recipe.model_name(one.arm, one.adapter),
                "judge": [judge.model, name],
                "user_prompt": _user_prompt(protocol.request(one, judge)),
                "judgment": rating.reply,
                "score": _score(rating.score),
                "turn": one.turn,
                "tstamp": tstamp,
            }
        )
    return rows


def _user_prompt(body: JsonRow) -> str:
    return str(body["messages"][-1]["content"])


def _score(score: float | None) -> float | int:
    if score is None:
        return -1
    return int(score) if score == int(score) else score


def judge_in_file_name(judge: Judge) -> str:
    """The judge's model as FastChat puts it into a file's name; without slashes."""
    kept = "".join(c if c.isalnum() or c in "._-" else "_" for c in judge.model)
    return kept.strip("_") or "judge"
