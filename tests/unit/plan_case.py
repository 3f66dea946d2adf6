"""Recipes, a test split and a tokenizer for the plan's tests, without the benchmarks' files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter

from tuneproof import hub
from tuneproof.plan.cost import AnswerTokens
from tuneproof.plan.judging import Asked, asked_questions
from tuneproof.recipe import Evaluation, Recipe
from tuneproof.records import Example

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pytest

ALPACA = {"benchmark": "alpaca_eval", "questions": 300, "selection": "first-n"}
MT_BENCH = {"benchmark": "mt_bench", "questions": 40, "selection": "first-n"}
BOTH = ["base", "fair-base"]


def without_files(patch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Without the benchmarks' files: counts are then by their known sizes."""
    patch.delenv("TUNEPROOF_ASSETS", raising=False)
    patch.setenv("TUNEPROOF_CACHE", str(folder))
    patch.setenv("HF_HUB_OFFLINE", "1")
    hub.is_reachable.cache_clear()
    yield
    hub.is_reachable.cache_clear()


def recipe_of(
    *evaluate: dict[str, Any],
    judge: dict[str, Any] | None = None,
    model: str = "meta-llama/Llama-2-7b-hf",
    source: str = "databricks/databricks-dolly-15k",
    **sections: Any,
) -> Recipe:
    kinds = TypeAdapter(tuple[Evaluation, ...])
    return Recipe.model_validate(
        {
            "name": "r",
            "data": {"source": {"hub": source}},
            "model": {"id": model},
            "judge": {} if judge is None else judge,
            "evaluate": kinds.validate_python([dict(e) for e in evaluate]),
            "verdict": {"metric": "win_rate"},
            **sections,
        }
    )


TEST = [
    Example(id=f"row-{i}", instruction="one two", context="", response="r", category=None)
    for i in range(500)
]


def referenced(n: int, *, n_words: int = 30) -> list[Example]:
    """Rows with answers of words of four letters, none like another's."""
    return [
        Example(
            id=f"row-{i}",
            instruction=f"say {i}",
            context="",
            response=" ".join(f"{i:02}{j:02}" for j in range(n_words)),
            category=None,
        )
        for i in range(n)
    ]


def asked_of(recipe: Recipe, test: Sequence[Example] = TEST) -> list[Asked]:
    return asked_questions(recipe, test)


class CountsWords:
    """A tokenizer by spaces, with the face that ``token_ids`` uses of one that is not fast."""

    is_fast = False

    def __call__(self, texts: Sequence[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[0] * len(t.split()) for t in texts]}


LENGTHS = AnswerTokens(tuned=50, base=512, fair_base=60, limit=512)
