"""Findings about judging and verdict; power by formula; calls, tokens and prices by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import TypeAdapter

from tuneproof.errors import RecipeError
from tuneproof.judge.prices import DATED, price_of
from tuneproof.plan import evaluation as findings
from tuneproof.plan.evaluation import (
    families_of,
    first_categories,
)
from tuneproof.plan.judging import (
    REPLY_TOKENS,
    AnswerTokens,
    answers,
    asked_questions,
    games_of,
    judge_calls,
    plan_cost,
)
from tuneproof.recipe import Evaluation, Judge, Prices, Recipe
from tuneproof.records import Example

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tuneproof.plan.judging import Asked

ALPACA = {"benchmark": "alpaca_eval", "questions": 300, "selection": "first-n"}
MT_BENCH = {"benchmark": "mt_bench", "questions": 40, "selection": "first-n"}
BOTH = ["base", "fair-base"]


@pytest.fixture(autouse=True)
def no_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Without the benchmarks' files: counts are then by their known sizes."""
    from tuneproof import hub

    monkeypatch.delenv("TUNEPROOF_ASSETS", raising=False)
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
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


def asked_of(recipe: Recipe) -> list[Asked]:
    return asked_questions(recipe, TEST)


# --- counts ----------------------------------------------------------------------------------


def test_calls_of_the_reference() -> None:
    recipe = recipe_of(ALPACA, MT_BENCH, judge={"orders": 1})
    assert recipe.judge is not None
    alpaca, mt_bench = asked_of(recipe)
    assert judge_calls(alpaca, recipe.judge, seeds=1) == 300
    assert judge_calls(mt_bench, recipe.judge, seeds=1) == 40 * 2 * 2
    assert answers(alpaca, seeds=1) + answers(mt_bench, seeds=1) == 2 * (300 + 80)
    assert alpaca.missing is not None
    assert "hub cannot be reached" in alpaca.missing


def test_calls_of_the_mended_one() -> None:
    recipe = recipe_of(
        {"benchmark": "heldout", "questions": 300},
        {"benchmark": "alpaca_eval", "against": BOTH},
        {"benchmark": "mt_bench", "against": BOTH},
        train={"seeds": 3},
    )
    assert recipe.judge is not None
    calls = [judge_calls(a, recipe.judge, seeds=3) for a in asked_of(recipe)]
    assert calls == [300 * 2 * 3, 805 * 2 * 2 * 3, 80 * 2 * 2 * 2 * 3]
    assert [games_of(a, recipe.judge) for a in asked_of(recipe)] == [2, 2, 2]
    assert [answers(a, seeds=3) for a in asked_of(recipe)] == [300 * 4, 805 * 5, 160 * 5]


def test_heldout_asks_no_more_than_there_is() -> None:
    (asked,) = asked_of(recipe_of({"benchmark": "heldout", "questions": 9999}))
    assert (asked.n_questions, asked.available) == (500, 500)
    assert asked.turns is not None
    assert asked.turns[0] == ("one two",)


def test_more_questions_than_a_benchmark_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from tests.conftest import shared

    monkeypatch.setenv("TUNEPROOF_ASSETS", str(shared("mt_bench").parent))
    with pytest.raises(RecipeError, match="mt_bench has 80 questions"):
        asked_of(recipe_of({"benchmark": "mt_bench", "questions": 81}))


# --- tokens and dollars ----------------------------------------------------------------------


class CountsWords:
    """A tokenizer by spaces, with the face that ``token_ids`` uses of one that is not fast."""

    is_fast = False

    def __call__(self, texts: Sequence[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[0] * len(t.split()) for t in texts]}


LENGTHS = AnswerTokens(tuned=50, base=512, fair_base=60, limit=512)


def test_what_the_judge_reads_and_writes() -> None:
    recipe = recipe_of(
        {"benchmark": "heldout", "questions": 10, "against": BOTH},
        judge={"model": "gpt-4o-mini", "max_tokens": 300},
        train={"seeds": 2},
    )
    assert recipe.judge is not None
    asked = asked_of(recipe)
    cost, notes = plan_cost(recipe, asked, CountsWords(), LENGTHS)  # type: ignore[arg-type]
    assert notes == []
    from tuneproof.judge.choice import protocol_of
    from tuneproof.records import Arm, Match

    body = protocol_of(asked[0].evaluation, recipe.judge).request(
        Match(
            question_id="q",
            benchmark="heldout",
            opponent=Arm.BASE,
            instruction="one two",
            context="",
            first=Arm.BASE,
            answer_a="",
            answer_b="",
        ),
        recipe.judge,
    )
    bare = sum(len(m["content"].split()) for m in body["messages"])
    games = 10 * 2 * 2  # questions, orders, adapters; then for each opponent
    assert cost.judge_calls == {"heldout": 2 * games}
    assert cost.judge_calls_total == 2 * games
    assert cost.prompt_tokens == games * (bare + 50 + 512) + games * (bare + 50 + 60)
    assert cost.completion_tokens == 2 * games * REPLY_TOKENS
    assert cost.upper.prompt_tokens == 2 * games * (bare + 1024)
    assert cost.upper.completion_tokens == 2 * games * 300
    assert cost.usd == pytest.approx(
        (cost.prompt_tokens * 0.15 + cost.completion_tokens * 0.60) / 1e6, abs=1e-4
    )
    assert cost.price is not None
    assert cost.price.dated == DATED


def test_a_second_turn_is_read_with_the_first() -> None:
    recipe = recipe_of({**MT_BENCH, "questions": 1})
    cost, _ = plan_cost(recipe, asked_of(recipe), CountsWords(), LENGTHS)  # type: ignore[arg-type]
    shorter = AnswerTokens(tuned=49, base=512, fair_base=60, limit=512)
    less, _ = plan_cost(recipe, asked_of(recipe), CountsWords(), shorter)  # type: ignore[arg-type]
    # One token less in each tuned answer: once in the first turn, twice in the second; two games.
    assert cost.prompt_tokens - less.prompt_tokens == 2 * (1 + 2)


def test_without_a_judge_nothing_is_paid() -> None:
    recipe = recipe_of({"benchmark": "heldout"}, verdict={"metric": "heldout_loss"})
    recipe = recipe.model_copy(update={"judge": None})
    cost, notes = plan_cost(recipe, asked_of(recipe), CountsWords(), LENGTHS)  # type: ignore[arg-type]
    assert (cost.judge_calls_total, cost.usd, cost.answers) == (0, 0.0, 1000)
    assert notes == []


@pytest.mark.parametrize(
    ("model", "prices"),
    [
        ("gpt-4o-mini", (0.15, 0.60)),
        ("gpt-4o-mini-2024-07-18", (0.15, 0.60)),
        ("gpt-4o", (2.5, 10.0)),
        ("gpt-4o-2024-05-13", (5.0, 15.0)),
        ("gpt-4.1", (2.0, 8.0)),
        ("gpt-4.1-mini", (0.4, 1.6)),
        ("gpt-4.1-nano-2025-04-14", (0.1, 0.4)),
        ("gpt-4-1106-preview", (10.0, 30.0)),
    ],
)
def test_list_prices(model: str, prices: tuple[float, float]) -> None:
    price, note = price_of(Judge(model=model))
    assert price is not None
    assert ((price.input, price.output), note) == (prices, None)


def test_prices_that_are_not_known() -> None:
    for judge in (
        Judge(model="some-model"),
        Judge(model="gpt-4o-mini", base_url="http://localhost:8000/v1"),
    ):
        price, note = price_of(judge)
        assert price is None
        assert note is not None
        assert "judge.prices={input: " in note


def test_the_recipes_prices_win() -> None:
    judge = Judge(
        base_url="http://localhost:8000/v1",
        prices=Prices(input=1.0, output=2.0),
    )
    price, note = price_of(judge)
    assert price is not None
    assert (price.input, price.output, price.dated, note) == (1.0, 2.0, None, None)
    for free in (Judge(kind="replay", journal="j.jsonl"), Judge(kind="local", model="m")):
        price, _ = price_of(free)
        assert price is not None
        assert (price.input, price.output) == (0.0, 0.0)


def test_the_batch_api_is_half_the_price() -> None:
    price, _ = price_of(Judge(model="gpt-4o", batch_api=True))
    assert price is not None
    assert (price.input, price.output) == (1.25, 5.0)
    price, _ = price_of(Judge(prices=Prices(input=1.0, output=2.0), batch_api=True))
    assert price is not None
    assert (price.input, price.output, price.dated) == (0.5, 1.0, None)
    assert "Batch API" in price.source


# --- power -----------------------------------------------------------------------------------


def test_underpowered() -> None:
    recipe = recipe_of(ALPACA, MT_BENCH)
    finding = findings.underpowered(recipe, asked_of(recipe))
    assert finding is not None
    # 300 questions show 8.1 points, which is below the ten of a recipe that states no effect.
    assert finding.count == 40
    assert "19.1 points with 40 questions of mt_bench × 2 turns (15.7" in finding.evidence
    assert "evaluate.1.questions=null" in finding.remedy
    exact = recipe_of(ALPACA, verdict={"metric": "win_rate", "smallest_effect": 0.02})
    finding = findings.underpowered(exact, asked_of(exact))
    assert finding is not None
    assert "8.1 points with 300 questions of alpaca_eval" in finding.evidence
    large = recipe_of(ALPACA, verdict={"metric": "win_rate", "smallest_effect": 0.09})
    assert findings.underpowered(large, asked_of(large)) is None


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
