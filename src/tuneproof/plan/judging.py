"""What is asked after training: questions, answers and judge calls. Counts alone.

They are exact, but for what is judged again with the answers cut: how many that will be, only the
answers can show. What a call takes in tokens and costs is left to ``cost``, which controls can be
built to ``controls``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof import recipe as recipes
from tuneproof.data.questions import (
    KNOWN_WRONG_REFERENCES,
    is_left_out,
    mt_bench_id,
    selected_questions,
)
from tuneproof.errors import AssetError
from tuneproof.generate.samples import answered_twice
from tuneproof.judge.alpaca_eval import BINARY, WEIGHTED
from tuneproof.judge.choice import Chosen, choose
from tuneproof.judge.mt_bench import PAIRWISE
from tuneproof.judge.own import OwnPairwise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.data.questions import Question
    from tuneproof.judge.protocol import JudgeProtocol
    from tuneproof.recipe import Evaluation, Judge, Opponent, Recipe
    from tuneproof.records import Example


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one benchmark of a recipe asks. ``index`` is its place under ``evaluate``.

    ``available`` counts the questions that the benchmark has, ``n_questions`` those asked.
    ``turns`` holds the texts of each question, and is None where the benchmark's file could not be
    had: ``n_questions`` is then by the benchmark's known size, and ``missing`` says why.
    ``n_left_out`` questions are answered and not judged, since the recipe says so. ``assets`` is
    the recipe's folder of benchmark files.
    """

    index: int
    evaluation: Evaluation
    available: int
    n_questions: int
    n_turns: int
    turns: tuple[tuple[str, ...], ...] | None
    questions: tuple[Question, ...] = ()
    n_left_out: int = 0
    missing: str | None = None
    assets: str | None = None

    @property
    def name(self) -> str:
        """The benchmark's name."""
        return self.evaluation.benchmark

    @property
    def opponents(self) -> tuple[Opponent, ...]:
        """Whom the tuned model is compared with."""
        return self.evaluation.against

    @property
    def n_prompts(self) -> int:
        """Questions times turns."""
        return self.n_questions * self.n_turns

    @property
    def n_judged(self) -> int:
        """The questions whose answers are judged."""
        return self.n_questions - self.n_left_out

    def chosen(self, judge: Judge) -> Chosen:
        """How it is judged, by the files that are here."""
        return choose(self.evaluation, judge, assets=self.assets)

    def protocol(self, judge: Judge) -> JudgeProtocol:
        """How its pairs are judged."""
        return self.chosen(judge).pairwise


_SIZES = {"alpaca_eval": (805, 1), "mt_bench": (80, 2)}


def asked_questions(recipe: Recipe, test: Sequence[Example]) -> list[Asked]:
    """What each benchmark asks.

    Raises:
        RecipeError: the recipe asks for more questions than there are.
    """
    return [_asked(i, e, recipe, test) for i, e in enumerate(recipe.evaluate)]


def _asked(index: int, evaluation: Evaluation, recipe: Recipe, test: Sequence[Example]) -> Asked:
    if isinstance(evaluation, recipes.Heldout):
        rows = test[: evaluation.questions]
        texts = tuple((f"{e.instruction}\n{e.context}".strip(),) for e in rows)
        return Asked(
            index=index,
            evaluation=evaluation,
            available=len(test),
            n_questions=len(rows),
            n_turns=1,
            turns=texts,
        )
    size, n_turns = _SIZES[evaluation.benchmark]
    try:
        questions = selected_questions(evaluation, seed=recipe.seed, assets=recipe.assets)
    except AssetError as error:
        return Asked(
            index=index,
            evaluation=evaluation,
            available=size,
            n_questions=min(evaluation.questions or size, size),
            n_turns=n_turns,
            turns=None,
            # Which ones a subset has is not known without the file.
            n_left_out=sum(is_left_out(evaluation, mt_bench_id(n)) for n in KNOWN_WRONG_REFERENCES)
            if evaluation.questions in (None, size)
            else 0,
            missing=f"{error.place} {error.problem}",
            assets=recipe.assets,
        )
    return Asked(
        index=index,
        evaluation=evaluation,
        available=size,
        n_questions=len(questions),
        n_turns=n_turns,
        turns=tuple(q.turns for q in questions),
        questions=tuple(questions),
        n_left_out=sum(is_left_out(evaluation, q.id) for q in questions),
        assets=recipe.assets,
    )


# --- what is compared ------------------------------------------------------------------------


def is_pairwise(asked: Asked) -> bool:
    """Whether answers are judged in pairs, and not one by one."""
    return not isinstance(asked.evaluation, recipes.MtBench) or asked.evaluation.mode != "single"


def protocol_name(evaluation: Evaluation) -> str:
    """The protocol by which the recipe wants pairs of a benchmark judged.

    Where its files cannot be had when the judge is asked, it will be the project's own.
    """
    if isinstance(evaluation, recipes.AlpacaEval) and evaluation.protocol != "own":
        return WEIGHTED if evaluation.protocol == "weighted" else BINARY
    if isinstance(evaluation, recipes.MtBench) and evaluation.protocol == "official":
        return PAIRWISE
    return OwnPairwise.name


def decisive(recipe: Recipe, asked: Sequence[Asked]) -> Asked | None:
    """The benchmark that the verdict rests on; None where none has its metric."""
    return next((a for a in asked if a.evaluation == recipe.decisive), None)


# --- counts ----------------------------------------------------------------------------------


def games_of(asked: Asked, judge: Judge) -> int:
    """How often one pair of answers is judged, by the benchmark's protocol."""
    return asked.protocol(judge).orders


def judge_calls(asked: Asked, judge: Judge, *, seeds: int) -> int:
    """Questions × turns × games × opponents × adapters; where answers are rated one by one, those
    of every opponent and adapter once. A placebo is no opponent of the recipe's: see below."""
    if judge.kind == "reference":
        return 0
    if not is_pairwise(asked):
        return asked.n_judged * asked.n_turns * (len(asked.opponents) + seeds)
    return len(asked.opponents) * _against_one(asked, judge, seeds=seeds)


def placebo_calls(recipe: Recipe, asked: Sequence[Asked]) -> int:
    """The matches of tuned and placebo: on the verdict's benchmark, where it is a judge's.

    By any other metric the two are compared without asking anybody.
    """
    judge, where = recipe.judge, decisive(recipe, asked)
    if judge is None or judge.kind == "reference" or where is None:
        return 0
    if not recipe.verdict.beat_placebo or recipe.verdict.metric != "win_rate":
        return 0
    return _against_one(where, judge, seeds=recipe.train.seeds)


def _against_one(asked: Asked, judge: Judge, *, seeds: int) -> int:
    return asked.n_judged * asked.n_turns * games_of(asked, judge) * seeds


def compared_with_itself(recipe: Recipe, asked: Sequence[Asked]) -> tuple[Asked, int] | None:
    """Where two answers of the tuned model meet each other, and on how many questions.

    Those answered greedily are not counted, unless the benchmark's file could not be had.
    """
    where = next((a for a in asked if a.evaluation == recipe.asked_twice), None)
    if where is None:
        return None
    assert recipe.judge is not None
    able = len(answered_twice(recipe, where.questions)) if where.questions else where.n_judged
    return where, min(recipe.judge.checks.self_comparisons, able)


def answers(asked: Asked, *, seeds: int) -> int:
    """One answer of each opponent and of each adapter to every prompt; a baseline's are there."""
    asks = [opponent for opponent in asked.opponents if opponent != "baseline"]
    return asked.n_prompts * (len(asks) + seeds)
