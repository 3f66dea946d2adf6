"""What the plan says of answering: prompts beyond the context, and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.plan_case import recipe_of
from tuneproof.generate.plan import Turn
from tuneproof.plan.answering import (
    AnsweringGib,
    Asks,
    Held,
    answering_memory,
    answers_over_context,
    smaller_batches,
)
from tuneproof.plan.build import make_plan
from tuneproof.plan.memory import CONTEXT_GIB, GIB, Shape
from tuneproof.plan.text import plan_text
from tuneproof.recipe_file import load_recipe
from tuneproof.records import Budget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LLAMA2 = Shape(
    layers=32, hidden=4096, intermediate=11008, heads=32, kv_heads=32, head_dim=128,
    vocabulary=32000,
)  # fmt: skip
HELD = Held(shape=LLAMA2, frozen=6_738_415_616, adapters=4_194_304, element=2)


def asks(*lengths: int, turn: int = 1) -> Asks:
    turns = [Turn(question_id=f"q{i}", turn=turn, length=n) for i, n in enumerate(lengths)]
    return Asks(name="training template", turns=tuple(turns))


def of(budget: Budget, *given: Asks, held: Held = HELD) -> AnsweringGib:
    found = answering_memory(given, budget, held)
    assert found is not None
    return found


# --- memory ----------------------------------------------------------------------------------


def test_by_hand() -> None:
    """Half a MiB of keys and values a token; 99,328 bytes a token read, and its row of the mask."""
    budget = Budget(batch_size=64, batch_tokens=4000, max_new_tokens=500)
    found = of(budget, asks(300, 500, 400, 100))
    # Four of them would be 4 × 1,000 tokens: within the budget, as long as the longest.
    assert (found.rows, found.width) == (4, 500)
    assert found.keys_and_values == pytest.approx(4 * 1000 / 2048, abs=0.001)
    assert found.activations == pytest.approx(
        4 * 500 * (2 * (4 * 4096 + 3 * 11008) + 500) / GIB, abs=0.001
    )
    assert found.weights == pytest.approx(2 * 6_738_415_616 / GIB, abs=0.001)
    assert found.adapters == pytest.approx(4 * 4_194_304 / GIB, abs=0.001)
    assert found.overhead == pytest.approx(CONTEXT_GIB + 0.1 * found.activations, abs=0.001)
    parts = found.model_dump(exclude={"rows", "width", "total"})
    assert found.total == pytest.approx(sum(parts.values()), abs=0.005)


def test_the_batch_that_takes_most_of_all_respondents_counts() -> None:
    budget = Budget(batch_size=2, batch_tokens=10_000, max_new_tokens=10)
    found = of(budget, asks(10, 10, 10), asks(90, 20))
    assert (found.rows, found.width) == (2, 90)
    assert answering_memory([], budget, HELD) is None


def test_a_smaller_budget_that_fits() -> None:
    budget = Budget(batch_size=64, batch_tokens=32_768, max_new_tokens=512)
    given = [asks(*([100] * 300))]
    assert of(budget, *given).total > 23.6
    tokens = smaller_batches(given, budget, HELD, usable_gib=23.6)
    assert tokens is not None
    assert tokens % 1024 == 0
    for n, fits in ((tokens, True), (tokens + 1024, False)):
        smaller = budget.model_copy(update={"batch_tokens": n})
        assert (of(smaller, *given).total <= 23.6) == fits
    # The weights alone are more.
    assert smaller_batches(given, budget, HELD, usable_gib=12) is None


# --- context ---------------------------------------------------------------------------------


def test_what_fits_the_context_is_not_mentioned() -> None:
    recipe = recipe_of({"benchmark": "heldout"}, generate={"max_new_tokens": 100})
    assert answers_over_context(recipe, [asks(20, 50)], 150) is None
    assert answers_over_context(recipe, [asks(20, 51)], None) is None


def test_prompts_that_leave_no_room_are_counted() -> None:
    recipe = recipe_of({"benchmark": "heldout"}, generate={"max_new_tokens": 100})
    found = answers_over_context(recipe, [asks(20, 51, 81)], 150)
    assert found is not None
    assert (found.severity, found.count) == ("error", 2)
    assert found.evidence.startswith(
        "2 of 3 (66.7 %) prompts with generate.max_new_tokens = 100 exceed the model's context of "
        "150 tokens. "
    )
    assert found.remedy == "--set generate.max_new_tokens=69"
    long = answers_over_context(recipe, [asks(20, 149)], 150)
    assert long is not None
    assert "max_new_tokens=1 is all" in long.remedy
    longer = answers_over_context(recipe, [asks(20, 1490)], 150)
    assert longer is not None
    assert "max_new_tokens=0 is all" in longer.remedy


def test_a_later_turn_may_fit() -> None:
    """Its prompt of 30 tokens has an answer of up to 100 before it."""
    recipe = recipe_of({"benchmark": "heldout"}, generate={"max_new_tokens": 100})
    found = answers_over_context(recipe, [asks(20, 20), asks(130, turn=2)], 200)
    assert found is not None
    assert (found.severity, found.count) == ("warning", 1)
    assert "tokens, 1 of them only if the answers before them are long." in found.evidence
    assert found.remedy == "--set generate.max_new_tokens=85"


# --- the whole -------------------------------------------------------------------------------


def test_a_plan_says_both(tiny_recipe: Callable[..., Path]) -> None:
    """The tiny model's context is 256 tokens."""
    recipe = load_recipe(tiny_recipe())
    plan = make_plan(recipe)
    assert plan.answering_gib is not None
    assert plan.answering_gib.rows == recipe.generate.batch_size
    assert "answers-over-context" not in {f.id for f in plan.findings}
    assert plan.fits_with_batch_tokens == {}
    [line] = [t.plain for t in plan_text(plan) if t.plain.startswith("  answering")]
    assert f"{plan.answering_gib.total:.2f} GiB" in line
    long = make_plan(load_recipe(tiny_recipe(generate={"max_new_tokens": 255})))
    [found] = [f for f in long.findings if f.id == "answers-over-context"]
    assert found.count == 2 * 18 // 2


def test_where_a_server_answers_its_memory_is_not_ours(tiny_recipe: Callable[..., Path]) -> None:
    server = {"base_url": "http://127.0.0.1:9/v1", "base": "b", "adapters": ["tuned"]}
    recipe = tiny_recipe(generate={"backend": "completions", "server": server})
    plan = make_plan(load_recipe(recipe))
    assert plan.answering_gib is None
    assert all(plan.fits.values())
