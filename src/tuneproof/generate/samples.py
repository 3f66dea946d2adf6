"""Which questions the tuned model answers a second time, for the judge's A/A test. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tuneproof.errors import RecipeError
from tuneproof.generate.batch import temperature_of
from tuneproof.recipe import MtBench, rng

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.data.questions import Question
    from tuneproof.recipe import Recipe
    from tuneproof.records import Prompt

Q = TypeVar("Q", "Prompt", "Question")


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """The first turns that are asked again, in their order.

    ``greedy`` questions of the benchmark were left out of the draw: they are answered at
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
    warm = _warm(recipe, firsts)
    order = list(range(len(warm)))
    rng(recipe.seed, "self-comparisons", evaluation.benchmark).shuffle(order)
    drawn = sorted(order[: recipe.judge.checks.self_comparisons])
    return Seconds(prompts=tuple(warm[i] for i in drawn), greedy=len(firsts) - len(warm))


def check_samples(recipe: Recipe, questions: Sequence[Question]) -> None:
    """Refuse an A/A test none of whose questions can have a second answer.

    Args:
        recipe: the recipe.
        questions: those of the benchmark that is answered twice.

    Raises:
        RecipeError: all of them are answered at temperature 0.
    """
    evaluation = recipe.asked_twice
    if evaluation is None or _warm(recipe, questions):
        return
    assert recipe.judge is not None
    greedy = ", ".join(sorted({q.category for q in questions}))
    raise RecipeError(
        f"all {len(questions)} questions of {evaluation.benchmark} are of categories that are "
        f"answered at temperature 0 ({greedy}), and have the same answer twice",
        place="judge.checks.self_comparisons",
        value=recipe.judge.checks.self_comparisons,
        remedy="Ask questions of other categories too, set the benchmark's temperatures to recipe, "
        "or judge.checks.self_comparisons to 0.",
    )


def _warm(recipe: Recipe, asked: Sequence[Q]) -> list[Q]:
    e = recipe.asked_twice
    by_category = isinstance(e, MtBench) and e.temperatures == "category"
    return [q for q in asked if temperature_of(q, recipe.generate, by_category=by_category) > 0]
