"""Which questions the tuned model answers a second time, for the judge's A/A test. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tuneproof.data.questions import Question, is_left_out
from tuneproof.errors import RecipeError
from tuneproof.generate.batch import temperature_of
from tuneproof.recipe import MtBench, rng
from tuneproof.records import Prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.recipe import Recipe

Q = TypeVar("Q", Prompt, Question)


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """The first turns that are asked again, in their order.

    ``greedy`` judged questions of the benchmark were left out of the draw: they are answered at
    temperature 0, and twice would be twice the same.
    """

    prompts: tuple[Prompt, ...]
    greedy: int


def second_prompts(recipe: Recipe, prompts: Sequence[Prompt]) -> Seconds:
    """A draw of at most ``self_comparisons`` first turns, by ``rng(seed, "self-comparisons",
    benchmark)``; a smaller draw is part of a larger one.

    Args:
        recipe: the recipe.
        prompts: of all benchmarks.
    """
    evaluation = recipe.asked_twice
    if evaluation is None:
        return Seconds(prompts=(), greedy=0)
    assert recipe.judge is not None
    firsts = [p for p in prompts if p.benchmark == evaluation.benchmark and p.turn == 1]
    warm = answered_twice(recipe, firsts)
    order = list(range(len(warm)))
    rng(recipe.seed, "self-comparisons", evaluation.benchmark).shuffle(order)
    drawn = sorted(order[: recipe.judge.checks.self_comparisons])
    judged = [p for p in firsts if not is_left_out(evaluation, p.question_id)]
    return Seconds(prompts=tuple(warm[i] for i in drawn), greedy=len(judged) - len(warm))


def check_samples(recipe: Recipe, questions: Sequence[Question]) -> None:
    """Refuse an A/A test none of whose questions can have a second answer.

    Args:
        recipe: the recipe.
        questions: those of the benchmark that is answered twice.

    Raises:
        RecipeError: all of them are answered at temperature 0.
    """
    evaluation = recipe.asked_twice
    if evaluation is None or answered_twice(recipe, questions):
        return
    assert recipe.judge is not None
    judged = [q for q in questions if not is_left_out(evaluation, q.id)]
    greedy = ", ".join(sorted({q.category for q in judged}))
    raise RecipeError(
        f"all {len(judged)} judged questions of {evaluation.benchmark} are of categories that are "
        f"answered at temperature 0 ({greedy}), and have the same answer twice",
        place="judge.checks.self_comparisons",
        value=recipe.judge.checks.self_comparisons,
        remedy="Ask questions of other categories too, set the benchmark's temperatures to recipe, "
        "or judge.checks.self_comparisons to 0.",
    )


def answered_twice(recipe: Recipe, asked: Sequence[Q]) -> list[Q]:
    """Of what is asked on ``recipe.asked_twice``, what can be drawn for a second answer: what is
    judged, and sampled."""
    e = recipe.asked_twice
    assert e is not None
    by_category = isinstance(e, MtBench) and e.temperatures == "category"
    return [
        q
        for q in asked
        if temperature_of(q, recipe.generate, by_category=by_category) > 0
        and not is_left_out(e, q.question_id if isinstance(q, Prompt) else q.id)
    ]
