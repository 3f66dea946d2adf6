"""Second answers for the A/A test, where some questions are answered greedily."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tuneproof.data.questions import KNOWN_WRONG_REFERENCES, Question, mt_bench_id
from tuneproof.errors import RecipeError
from tuneproof.generate.batch import CATEGORY_TEMPERATURES
from tuneproof.generate.samples import check_samples, second_prompts
from tuneproof.plan.judging import Asked, compared_with_itself
from tuneproof.recipe_file import load_recipe
from tuneproof.records import Prompt

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tuneproof.recipe import Recipe

CATEGORIES = sorted(CATEGORY_TEMPERATURES)
GREEDY = {"coding", "extraction", "math", "reasoning"}
QUESTIONS = [
    Question(id=mt_bench_id(i), benchmark="mt_bench", category=CATEGORIES[i % 8], turns=("a", "b"))
    for i in range(101, 141)
]
PROMPTS = [
    Prompt(
        question_id=q.id, benchmark=q.benchmark, category=q.category, turn=turn, instruction="do",
        context="", token_ids=None, reference=None, checkable=False,
    )
    for q in QUESTIONS
    for turn in (1, 2)
]  # fmt: skip


@pytest.fixture
def read(tiny_recipe: Callable[..., Path]) -> Callable[..., Recipe]:
    def of(
        *overrides: str, n: int = 15, temperatures: str = "category", **mt_bench: object
    ) -> Recipe:
        path = tiny_recipe(
            judge={"checks": {"self_comparisons": n}},
            generate={"temperature": 0.5},
            evaluate=[
                {"benchmark": "heldout"},
                {"benchmark": "mt_bench", "temperatures": temperatures, **mt_bench},
            ],
            verdict={"metric": "win_rate", "benchmark": "mt_bench"},
        )
        return load_recipe(path, overrides)

    return of


def test_greedy_categories_are_left_out_and_counted(read: Callable[..., Recipe]) -> None:
    """Of 40 questions 20 are of the four categories at temperature 0."""
    recipe = read()
    found = second_prompts(recipe, PROMPTS)
    assert len(found.prompts) == 15
    assert found.greedy == 20
    assert not {p.category for p in found.prompts} & GREEDY
    more = second_prompts(read(n=99), PROMPTS)
    assert len(more.prompts) == 20
    assert set(found.prompts) < set(more.prompts)
    # At one temperature for all, nothing is left out.
    whole = second_prompts(read(n=99, temperatures="recipe"), PROMPTS)
    assert (len(whole.prompts), whole.greedy) == (40, 0)
    check_samples(recipe, QUESTIONS)


def test_the_plan_counts_those_that_can_differ(read: Callable[..., Recipe]) -> None:
    def planned(recipe: Recipe) -> int:
        evaluation = recipe.asked_twice
        assert evaluation is not None
        asked = Asked(
            index=1, evaluation=evaluation, available=80, n_questions=40, n_turns=2,
            turns=None, questions=tuple(QUESTIONS),
        )  # fmt: skip
        found = compared_with_itself(recipe, [asked])
        assert found is not None
        return found[1]

    for recipe in (read(), read(n=99), read(n=99, temperatures="recipe", exclude_known_wrong=True)):
        assert planned(recipe) == len(second_prompts(recipe, PROMPTS).prompts)


def test_what_is_not_judged_is_not_answered_twice(read: Callable[..., Recipe]) -> None:
    recipe = read(n=99, temperatures="recipe", exclude_known_wrong=True)
    found = second_prompts(recipe, PROMPTS)
    assert (len(found.prompts), found.greedy) == (40 - 13, 0)
    assert not {p.question_id for p in found.prompts} & {*map(mt_bench_id, KNOWN_WRONG_REFERENCES)}


def test_it_is_where_the_verdict_is(read: Callable[..., Recipe]) -> None:
    def where(*overrides: str) -> str | None:
        evaluation = read(*overrides).asked_twice
        return evaluation.benchmark if evaluation is not None else None

    assert where() == "mt_bench"
    assert where("verdict.benchmark=heldout") == "heldout"
    assert where("verdict.metric=exact_match", "verdict.benchmark=null") == "heldout"
    assert where("judge.checks.self_comparisons=0") is None


def test_none_of_which_can_differ_is_refused_by_name(read: Callable[..., Recipe]) -> None:
    greedy = [q for q in QUESTIONS if q.category in {"math", "coding"}]
    check_samples(read("judge.checks.self_comparisons=0"), greedy)
    with pytest.raises(RecipeError) as refused:
        check_samples(read(), greedy)
    assert str(refused.value) == (
        "judge.checks.self_comparisons = 15: all 10 judged questions of mt_bench are of categories "
        "that are answered at temperature 0 (coding, math), and have the same answer twice\n"
        "  Ask questions of other categories too, set the benchmark's temperatures to recipe, or "
        "judge.checks.self_comparisons to 0."
    )


def test_a_greedy_recipe_is_refused_unless_categories_are_warm(
    read: Callable[..., Recipe],
) -> None:
    assert len(second_prompts(read("generate.temperature=0"), PROMPTS).prompts) == 15
    greedy = "self_comparisons = 15: greedy decoding answers a question of"
    with pytest.raises(RecipeError, match=f"{greedy} mt_bench twice the same"):
        read("generate.temperature=0", temperatures="recipe")
    with pytest.raises(RecipeError, match=f"{greedy} heldout twice the same"):
        read("generate.temperature=0", "verdict.benchmark=heldout")
