"""Findings about judging: questions, opponents, judges."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.plan_case import (
    ALPACA,
    BOTH,
    MT_BENCH,
    asked_of,
    recipe_of,
    without_files,
)
from tuneproof.plan import evaluation as findings
from tuneproof.plan.evaluation import families_of, first_categories

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    yield from without_files(monkeypatch, tmp_path)


# --- questions -------------------------------------------------------------------------------


def test_the_first_questions_are_not_the_benchmark() -> None:
    finding = findings.first_n_subset(asked_of(recipe_of(ALPACA, MT_BENCH)))
    assert finding is not None
    assert (finding.severity, finding.count) == ("warning", 340)
    for words in (
        "129 helpful_base, 156 koala, 15 oasst",
        "none is selfinstruct or vicuna",
        "10 writing, 10 roleplay, 10 reasoning, 10 math",
        "none is coding or extraction or stem or humanities",
    ):
        assert words in finding.evidence


@pytest.mark.parametrize(
    "evaluation",
    [
        {"benchmark": "alpaca_eval", "questions": 300},
        {"benchmark": "alpaca_eval", "selection": "first-n"},
        {"benchmark": "mt_bench", "questions": 80, "selection": "first-n"},
        {"benchmark": "heldout", "questions": 10},
    ],
)
def test_subsets_that_are_fair(evaluation: dict[str, Any]) -> None:
    assert findings.first_n_subset(asked_of(recipe_of(evaluation))) is None


@pytest.mark.parametrize("n", [40, 300, 805, 80])
def test_categories_are_those_of_the_files(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from collections import Counter

    from tests.conftest import shared
    from tuneproof.data.questions import alpaca_eval_questions, mt_bench_questions

    monkeypatch.setenv("TUNEPROOF_ASSETS", str(shared("alpaca_eval").parent))
    for name, questions in (
        ("alpaca_eval", alpaca_eval_questions()),
        ("mt_bench", mt_bench_questions()),
    ):
        assert first_categories(name, n) == Counter(q.category for q in questions[:n])


def test_a_test_split_that_nobody_asks() -> None:
    finding = findings.unused_test_split(asked_of(recipe_of(ALPACA)), 1502)
    assert finding is not None
    assert (finding.id, finding.count) == ("test-split-unused", 1502)
    asked = asked_of(recipe_of({"benchmark": "heldout"}))
    assert findings.unused_test_split(asked, 1502) is None


def test_no_capability_benchmark_is_a_note() -> None:
    assert findings.no_capability_benchmark().severity == "note"


# --- opponents and judges --------------------------------------------------------------------


def test_nothing_but_the_base_model() -> None:
    recipe = recipe_of(ALPACA, {**MT_BENCH, "against": BOTH})
    finding = findings.weak_opponent(recipe, asked_of(recipe))
    assert finding is not None
    assert (finding.severity, finding.count) == ("warning", 300)
    assert "never taught to follow instructions" in finding.evidence
    assert "evaluate.0.against" in finding.remedy
    assert "evaluate.1" not in finding.remedy
    # The verdict rests on the other benchmark.
    other = recipe_of(
        ALPACA,
        {**MT_BENCH, "against": BOTH},
        verdict={"metric": "win_rate", "benchmark": "mt_bench"},
    )
    finding = findings.weak_opponent(other, asked_of(other))
    assert finding is not None
    assert finding.severity == "note"
    fair = recipe_of({**ALPACA, "against": BOTH})
    assert findings.weak_opponent(fair, asked_of(fair)) is None
    chat = recipe_of(ALPACA, model="meta-llama/Llama-2-7b-chat-hf")
    finding = findings.weak_opponent(chat, asked_of(chat))
    assert finding is not None
    assert "not its own" in finding.evidence


def test_a_length_control_of_another_match() -> None:
    official = asked_of(recipe_of({**ALPACA, "length_control": "official"}))
    finding = findings.foreign_length_control(official)
    assert finding is not None
    assert (finding.severity, finding.count) == ("error", 300)
    assert finding.remedy == "--set evaluate.0.length_control=fitted"
    assert findings.foreign_length_control(asked_of(recipe_of(ALPACA, MT_BENCH))) is None


def test_one_order() -> None:
    once = recipe_of(ALPACA, MT_BENCH, judge={"orders": 1})
    finding = findings.single_order(once, asked_of(once))
    assert finding is not None
    assert finding.count == 300  # MT-Bench plays both
    both = recipe_of(ALPACA, judge={"orders": 2})
    assert findings.single_order(both, asked_of(both)) is None
    always = recipe_of(MT_BENCH, judge={"orders": 1})
    assert findings.single_order(always, asked_of(always)) is None


def test_one_judge_and_one_seed() -> None:
    assert findings.single_judge(recipe_of(ALPACA)) is not None
    assert findings.single_seed(recipe_of(ALPACA)) is not None
    assert findings.single_seed(recipe_of(ALPACA, train={"seeds": 2})) is None


def test_a_judge_that_is_no_model() -> None:
    heldout = {"benchmark": "heldout"}
    recipe = recipe_of(heldout, judge={"kind": "reference", "orders": 1}, model="gpt-2")
    assert findings.single_order(recipe, asked_of(recipe)) is None
    assert findings.judge_kinship(recipe) is None  # the default model's name is not asked
    finding = findings.single_judge(recipe)
    assert finding is not None
    assert "nearness to the reference" in finding.evidence


@pytest.mark.parametrize(
    ("name", "families"),
    [
        ("meta-llama/Llama-2-7b-hf", {"llama"}),
        ("gpt-4o-mini", {"gpt"}),
        ("o3-mini", {"gpt"}),
        ("Qwen/Qwen2.5-7B-Instruct", {"qwen"}),
        ("asset:smollm2-135m-instruct", {"smollm"}),
        ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", {"deepseek", "llama"}),
        ("/models/mixtral-8x7b/", {"mistral"}),
        ("my-own-model", set()),
    ],
)
def test_families(name: str, families: set[str]) -> None:
    assert families_of(name) == families


def test_kinship() -> None:
    assert findings.judge_kinship(recipe_of(ALPACA)) is None
    same = findings.judge_kinship(recipe_of(ALPACA, judge={"model": "meta-llama/Llama-3-70B"}))
    assert same is not None
    assert same.severity == "warning"
    assert "so is the model" in same.evidence
    author = findings.judge_kinship(recipe_of(ALPACA, source="tatsu-lab/alpaca"))
    assert author is not None
    assert "author of the responses" in author.evidence
    assert findings.judge_kinship(recipe_of(ALPACA, model="mine", judge={"model": "x"})) is None
