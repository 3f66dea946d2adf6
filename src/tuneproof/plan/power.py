"""Whether the questions are enough for the verdict: what so many can show, and what is too few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.errors import RecipeError
from tuneproof.naming import spoken
from tuneproof.plan.judging import decisive, is_pairwise
from tuneproof.records import Finding
from tuneproof.stats.power import effective_questions, minimum_detectable_effect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.plan.judging import Asked
    from tuneproof.recipe import Recipe
    from tuneproof.records import Example

FEWEST = 2
"""Questions that any interval takes."""


def check_questions(recipe: Recipe, asked: Sequence[Asked], test: Sequence[Example]) -> None:
    """Refuse a verdict on so few questions that there will be no interval.

    For exact match, those count whose test row has one right answer.

    Raises:
        RecipeError: fewer than two.
    """
    where, metric = decisive(recipe, asked), recipe.verdict.metric
    if where is None:
        return
    n, kind = where.n_judged, ""
    if metric == "exact_match":
        n, kind = sum(e.checkable for e in test[: where.n_questions]), " with one right answer"
    if n >= FEWEST:
        return
    few = "no question" if n == 0 else "one question"
    place, value = f"evaluate.{where.index}.questions", where.evaluation.questions
    if value is not None and where.available > where.n_questions:
        remedy = f"Ask more: {where.name} has {where.available:,}, and questions=null asks all."
    else:
        remedy = (
            "Hold out more rows (data.split.test), or let the verdict rest on another metric."
            if where.name == "heldout"
            else "Let the verdict rest on another benchmark."
        )
    raise RecipeError(
        f"the verdict's metric, {metric}, has {few}{kind} on {where.name}, and an interval takes "
        f"at least {FEWEST}",
        place=place,
        value=value,
        remedy=remedy,
    )


UNSTATED_EFFECT = 0.10
"""The difference that a benchmark should be able to show where the recipe states none."""

LARGEST = 0.5
"""The largest difference of a win rate from one half."""


def underpowered(recipe: Recipe, asked: Sequence[Asked]) -> Finding | None:
    """Benchmarks judged in pairs too small for the smallest effect that the recipe calls worth
    having; or whose interval is too wide for any win rate to lie beyond that effect for sure.

    The whole interval must lie beyond the smallest effect δ: so a true difference of δ and the
    minimum detectable effect together ends as better four times in five, and one of δ hardly ever.
    """
    if recipe.judge is None:
        return None
    rule = recipe.verdict
    stated = rule.smallest_effect if rule.metric == "win_rate" else 0.0
    wanted = stated or UNSTATED_EFFECT
    found, remedies, n_questions = [], [], 0
    undecidable = False

    def effect(n: float) -> float:
        return minimum_detectable_effect(n, level=rule.level)

    for a in asked:
        if not is_pairwise(a) or not a.n_judged:
            continue
        least = effect(effective_questions(a.n_judged, a.n_turns))
        if least <= wanted and stated + least < LARGEST:
            continue
        n_questions += a.n_judged
        undecidable |= stated + least >= LARGEST
        turns = (
            f" × {a.n_turns} turns ({_points(effect(a.n_judged * a.n_turns))} if the turns of a "
            "question were independent)"
            if a.n_turns > 1
            else ""
        )
        found.append(
            f"{_points(least)} points with {a.n_judged} questions of {spoken(a.name)}{turns}"
        )
        if stated:
            found[-1] += f", {_beyond(stated, least)}"
        if a.n_questions < a.available:
            everything = effective_questions(a.available, a.n_turns)
            remedies.append(
                f"--set evaluate.{a.index}.questions=null asks all {a.available:,} of "
                f"{spoken(a.name)} ({_points(effect(everything))} points)"
            )
        else:
            remedies.append(f"{spoken(a.name)} has no more questions: rest no verdict on it alone")
    if not found:
        return None
    if undecidable:
        remedies.append("or a smaller verdict.smallest_effect")
    if stated:
        why = (
            f"The recipe's smallest effect is {100 * stated:g} points, and the whole interval must "
            "lie beyond it: a smaller difference than those is likely to end as inconclusive."
        )
    else:
        why = (
            f"That is more than {100 * wanted:g} points, which counts as an effect worth having "
            "where the recipe names none: a real one of that size is likely to end as inconclusive."
        )
    return Finding(
        id="underpowered",
        severity="warning",
        count=n_questions,
        evidence="At 80 % power, a win rate shows a difference from one half of no less than "
        f"{'; '.join(found)}. {why}",
        remedy="; ".join(remedies) + ".",
    )


def _points(effect: float) -> str:
    return f"{100 * effect:.1f}"


def _beyond(stated: float, least: float) -> str:
    """What it takes to be beyond the smallest effect as well."""
    if stated >= LARGEST:
        return "and no win rate is beyond the smallest effect"
    if stated + least >= LARGEST:
        return "so that beyond the smallest effect only a rate of nearly 100 % can be shown"
    return f"so {_points(stated + least)} points to be beyond the smallest effect"
