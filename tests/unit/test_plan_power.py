"""What so many questions can show; too few of them refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.plan_case import ALPACA, MT_BENCH, asked_of, recipe_of, referenced, without_files
from tuneproof.errors import RecipeError
from tuneproof.plan import power as findings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tuneproof.recipe import Recipe
    from tuneproof.records import Example


@pytest.fixture(autouse=True)
def no_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    yield from without_files(monkeypatch, tmp_path)


# --- power -----------------------------------------------------------------------------------


def test_underpowered() -> None:
    recipe = recipe_of(ALPACA, MT_BENCH)
    finding = findings.underpowered(recipe, asked_of(recipe))
    assert finding is not None
    # 300 questions show 8.1 points, which is below the ten of a recipe that states no effect.
    assert finding.count == 40
    assert "19.1 points with 40 questions of MT-Bench × 2 turns (15.7" in finding.evidence
    assert "evaluate.1.questions=null" in finding.remedy
    exact = recipe_of(ALPACA, verdict={"metric": "win_rate", "smallest_effect": 0.02})
    finding = findings.underpowered(exact, asked_of(exact))
    assert finding is not None
    assert "8.1 points with 300 questions of AlpacaEval 2" in finding.evidence
    large = recipe_of(ALPACA, verdict={"metric": "win_rate", "smallest_effect": 0.09})
    assert findings.underpowered(large, asked_of(large)) is None


def test_beyond_the_smallest_effect() -> None:
    """(1.960 + 0.842) · 0.5 / √n: 8.1 points at 300, 4.9 at 805."""

    def evidence(effect: float, questions: int | None) -> str:
        recipe = recipe_of(
            {**ALPACA, "questions": questions},
            verdict={"metric": "win_rate", "smallest_effect": effect},
        )
        finding = findings.underpowered(recipe, asked_of(recipe))
        assert finding is not None
        assert finding.severity == "warning"
        return finding.evidence

    assert "4.9 points with 805 questions of AlpacaEval 2, so 6.9 points" in evidence(0.02, None)
    # Well above what 300 questions show; but 53.1 points are more than there are.
    assert "only a rate of nearly 100 %" in evidence(0.45, 300)
    assert "no win rate is beyond" in evidence(0.5, 300)


def test_ratings_have_no_win_rate() -> None:
    recipe = recipe_of({**MT_BENCH, "mode": "single"}, ALPACA)
    assert findings.underpowered(recipe, asked_of(recipe)) is None


# --- too few ---------------------------------------------------------------------------------


def refused(recipe: Recipe, test: list[Example]) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        findings.check_questions(recipe, asked_of(recipe, test), test)
    return caught.value


def test_one_question_is_no_sample() -> None:
    test = referenced(5)
    one = {"benchmark": "heldout", "questions": 1}
    error = refused(recipe_of(ALPACA, one, verdict={"metric": "heldout_loss"}), test)
    assert (error.place, error.value) == ("evaluate.1.questions", 1)
    assert "heldout_loss, has one question on heldout" in error.problem
    assert "heldout has 5" in error.remedy
    for kept in (
        recipe_of(ALPACA, one),  # the verdict rests on AlpacaEval
        recipe_of(ALPACA, {**one, "questions": 2}, verdict={"metric": "heldout_loss"}),
    ):
        findings.check_questions(kept, asked_of(kept, test), test)
    error = refused(recipe_of({**MT_BENCH, "questions": 1}), test)
    assert "win_rate, has one question on mt_bench" in error.problem


def test_a_test_split_of_nothing() -> None:
    recipe = recipe_of({"benchmark": "heldout"}, verdict={"metric": "similarity"})
    error = refused(recipe, [])
    assert "has no question on heldout" in error.problem
    assert "data.split.test" in error.remedy


def test_exact_match_counts_rows_with_one_right_answer() -> None:
    test = referenced(5)
    test[4] = test[4].model_copy(update={"checkable": True})
    recipe = recipe_of({"benchmark": "heldout"}, verdict={"metric": "heldout_loss"})
    rule = recipe.verdict.model_copy(update={"metric": "exact_match"})
    exact = recipe.model_copy(update={"verdict": rule})
    assert "has one question with one right answer" in refused(exact, test).problem
    test[3] = test[3].model_copy(update={"checkable": True})
    findings.check_questions(exact, asked_of(exact, test), test)
