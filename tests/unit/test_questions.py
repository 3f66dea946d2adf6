"""The benchmarks' questions, and which of them a recipe asks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.conftest import shared
from tuneproof.data.questions import (
    Question,
    alpaca_eval_questions,
    mt_bench_questions,
    selected_questions,
    stratified,
)
from tuneproof.errors import AssetError, RecipeError
from tuneproof.recipe import AlpacaEval, MtBench

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def assets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(shared("alpaca_eval").parent))


def question(number: int, category: str) -> Question:
    return Question(id=f"q{number}", benchmark="mt_bench", category=category, turns=("one", "two"))


def alpaca(n: int | None, selection: str = "stratified") -> AlpacaEval:
    return AlpacaEval.model_validate(
        {"benchmark": "alpaca_eval", "questions": n, "selection": selection}
    )


def mt(n: int | None, selection: str = "stratified") -> MtBench:
    return MtBench.model_validate({"benchmark": "mt_bench", "questions": n, "selection": selection})


@pytest.mark.usefixtures("assets")
def test_all_questions_are_there_in_the_official_order() -> None:
    every = alpaca_eval_questions()
    assert len(every) == len({q.id for q in every}) == 805
    assert (every[0].id, every[804].id) == ("alpaca-000", "alpaca-804")
    assert all(len(q.turns) == 1 and q.turns[0] for q in every)
    assert len({q.category for q in every}) == 5
    both = mt_bench_questions()
    assert [q.id for q in both] == [f"mt-{n}" for n in range(81, 161)]
    assert all(len(q.turns) == 2 for q in both)
    assert set(Counter(q.category for q in both).values()) == {10}
    assert not {q.id for q in every} & {q.id for q in both}


@pytest.mark.usefixtures("assets")
def test_the_first_n_are_those_of_the_reference() -> None:
    """300 of AlpacaEval are three of five sources, 40 of MT-Bench four of eight categories."""
    chosen = selected_questions(alpaca(300, "first-n"), seed=1)
    assert chosen == alpaca_eval_questions()[:300]
    assert Counter(q.category for q in chosen) == {"koala": 156, "helpful_base": 129, "oasst": 15}
    first = selected_questions(mt(40, "first-n"), seed=1)
    assert Counter(q.category for q in first) == dict.fromkeys(
        ("writing", "roleplay", "reasoning", "math"), 10
    )


@pytest.mark.usefixtures("assets")
def test_a_stratified_draw_keeps_the_shares_and_the_order() -> None:
    chosen = selected_questions(mt(40), seed=1)
    assert set(Counter(q.category for q in chosen).values()) == {5}
    assert [q.id for q in chosen] == sorted((q.id for q in chosen), key=lambda i: int(i[3:]))
    assert selected_questions(mt(40), seed=1) == chosen
    assert selected_questions(mt(40), seed=2) != chosen
    shares = Counter(q.category for q in selected_questions(alpaca(300), seed=1))
    sizes = Counter(q.category for q in alpaca_eval_questions())
    assert sum(shares.values()) == 300
    for category, size in sizes.items():
        assert abs(shares[category] - 300 * size / 805) < 1


@pytest.mark.usefixtures("assets")
@pytest.mark.parametrize("selection", ["first-n", "stratified"])
def test_all_or_more_than_all(selection: str) -> None:
    assert selected_questions(mt(None, selection), seed=1) == mt_bench_questions()
    assert selected_questions(mt(80, selection), seed=1) == mt_bench_questions()
    with pytest.raises(RecipeError, match="mt_bench has 80 questions"):
        selected_questions(mt(81, selection), seed=1)


def test_shares_are_rounded_by_largest_remainders() -> None:
    """Of 5 a, 3 b and 2 c: four are 2.0, 1.2 and 0.8, so 2, 1 and 1; seven are 3.5, 2.1, 1.4."""
    questions = [question(i, c) for i, c in enumerate("aaaaabbbcc")]

    def counts(n: int) -> dict[str, int]:
        return dict(Counter(q.category for q in stratified(questions, n, seed=3)))

    assert counts(4) == {"a": 2, "b": 1, "c": 1}
    assert counts(7) == {"a": 4, "b": 2, "c": 1}
    assert counts(1) == {"a": 1}
    assert counts(10) == {"a": 5, "b": 3, "c": 2}
    # Every question of a category can be drawn.
    drawn = {q.id for seed in range(60) for q in stratified(questions, 4, seed=seed)}
    assert drawn == {q.id for q in questions}


def test_a_file_with_another_digest_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "question.jsonl").write_text('{"question_id": 81}\n')
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(tmp_path))
    with pytest.raises(AssetError, match="expected SHA-256 119565"):
        mt_bench_questions()
