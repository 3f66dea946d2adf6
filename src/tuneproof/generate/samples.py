"""Which questions the tuned model answers a second time, for the judge's A/A test. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.recipe import rng

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.recipe import Recipe
    from tuneproof.records import Prompt


def asked_twice(recipe: Recipe) -> str | None:
    """The benchmark whose questions are answered twice; None where the recipe asks for no A/A test.

    It is the one that a win rate of the verdict would be about: the one that it names, else the
    first whose answers are compared in pairs.
    """
    if recipe.judge is None or not recipe.judge.checks.self_comparisons:
        return None
    if recipe.verdict.benchmark is not None:
        return recipe.verdict.benchmark
    return (recipe.pairwise or recipe.evaluate)[0].benchmark


def second_prompts(recipe: Recipe, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The first turns that are asked again, in their order: at most ``self_comparisons`` of them.

    They are a draw by ``rng(seed, "self-comparisons", benchmark)``; a smaller draw is part of a
    larger one.

    Args:
        recipe: the recipe.
        prompts: of all benchmarks.
    """
    benchmark = asked_twice(recipe)
    if benchmark is None:
        return []
    assert recipe.judge is not None
    firsts = [p for p in prompts if p.benchmark == benchmark and p.turn == 1]
    order = list(range(len(firsts)))
    rng(recipe.seed, "self-comparisons", benchmark).shuffle(order)
    return [firsts[i] for i in sorted(order[: recipe.judge.checks.self_comparisons])]
