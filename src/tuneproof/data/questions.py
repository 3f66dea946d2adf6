"""The questions of the public benchmarks, and which of them a recipe asks.

Reads files and selects; nothing is tokenized here. A question has one turn or several; what is
asked in a later turn depends on the answer to the earlier one.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tuneproof import recipe
from tuneproof.benchmark_files import ALPACA_EVAL_QUESTIONS, MT_BENCH_QUESTIONS, ensure_file
from tuneproof.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question. ``id`` is unique within its benchmark; ``turns`` are what the user says."""

    id: str
    benchmark: Literal["alpaca_eval", "mt_bench"]
    category: str
    turns: tuple[str, ...]


def alpaca_eval_questions(assets: str | None = None) -> list[Question]:
    """All 805, in the official order; ids count from ``alpaca-000``; category is the source set.

    Args:
        assets: the recipe's folder of benchmark files.

    Raises:
        AssetError: the file cannot be had.
    """
    rows = json.loads(ensure_file(ALPACA_EVAL_QUESTIONS, assets).read_text("utf-8"))
    return [
        Question(
            id=alpaca_eval_id(i),
            benchmark="alpaca_eval",
            category=row["dataset"],
            turns=(row["instruction"],),
        )
        for i, row in enumerate(rows)
    ]


def alpaca_eval_id(position: int) -> str:
    """The id of the question at a position of the official order, from 0."""
    return f"alpaca-{position:03}"


def alpaca_eval_baseline(assets: str | None = None) -> dict[str, str]:
    """The baseline's answer to each question, by the question's id.

    Raises:
        AssetError: the file cannot be had.
    """
    rows = json.loads(ensure_file(ALPACA_EVAL_QUESTIONS, assets).read_text("utf-8"))
    return {alpaca_eval_id(i): row["output"] for i, row in enumerate(rows)}


def mt_bench_questions(assets: str | None = None) -> list[Question]:
    """All 80, in the official order; ids are the official numbers (``mt-81`` to ``mt-160``).

    Args:
        assets: the recipe's folder of benchmark files.

    Raises:
        AssetError: the file cannot be had.
    """
    lines = ensure_file(MT_BENCH_QUESTIONS, assets).read_text("utf-8").splitlines()
    return [
        Question(
            id=mt_bench_id(row["question_id"]),
            benchmark="mt_bench",
            category=row["category"],
            turns=tuple(row["turns"]),
        )
        for row in map(json.loads, filter(None, lines))
    ]


def mt_bench_id(number: int) -> str:
    """The id of the question with that official number."""
    return f"mt-{number}"


KNOWN_WRONG_REFERENCES = frozenset(
    {104, 105, 109, 111, 113, 114, 120, 122, 124, 125, 126, 128, 130}
)
"""Numbers of MT-Bench's questions whose GPT-4 reference answer is wrong (FastChat issue 3053)."""


def mt_bench_number(question_id: str) -> int:
    """The official number of a question of MT-Bench."""
    return int(question_id.removeprefix("mt-"))


def is_left_out(evaluation: recipe.Evaluation, question_id: str) -> bool:
    """Whether the recipe has this question answered and not judged: its reference is wrong."""
    return (
        isinstance(evaluation, recipe.MtBench)
        and evaluation.exclude_known_wrong
        and mt_bench_number(question_id) in KNOWN_WRONG_REFERENCES
    )


def selected_questions(
    evaluation: recipe.AlpacaEval | recipe.MtBench, *, seed: int, assets: str | None = None
) -> list[Question]:
    """The questions that the recipe asks, in the official order.

    Args:
        evaluation: the benchmark's section of the recipe.
        seed: the recipe's seed.
        assets: the recipe's folder of benchmark files.

    Raises:
        AssetError: the benchmark's file cannot be had.
        RecipeError: the recipe asks for more questions than there are.
    """
    if isinstance(evaluation, recipe.AlpacaEval):
        questions = alpaca_eval_questions(assets)
    else:
        questions = mt_bench_questions(assets)
    wanted = evaluation.questions
    if wanted is not None and wanted > len(questions):
        raise RecipeError(
            f"{evaluation.benchmark} has {len(questions)} questions",
            place="evaluate.questions",
            value=wanted,
            remedy="Ask for fewer, or leave the key out to ask all.",
        )
    if wanted is None:
        return questions
    if evaluation.selection == "first-n":
        return questions[:wanted]
    return stratified(questions, wanted, seed=seed)


def stratified(questions: Sequence[Question], n: int, *, seed: int) -> list[Question]:
    """``n`` questions in their order, each category with its share of them.

    Shares are rounded by largest remainders (ties: the category that comes first); within a
    category the draw is ``rng(seed, "questions", benchmark, category)``.
    """
    sizes = Counter(q.category for q in questions)
    exact = {c: n * size / len(questions) for c, size in sizes.items()}
    shares = {c: int(share) for c, share in exact.items()}
    by_remainder = sorted(sizes, key=lambda c: shares[c] - exact[c])
    for category in by_remainder[: n - sum(shares.values())]:
        shares[category] += 1
    chosen: set[str] = set()
    for category, share in shares.items():
        ids = [q.id for q in questions if q.category == category]
        draw = recipe.rng(seed, "questions", questions[0].benchmark, category)
        chosen.update(draw.sample(ids, share))
    return [q for q in questions if q.id in chosen]
