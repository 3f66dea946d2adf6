"""Answers, judge calls, tokens and prices, by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.plan_case import (
    ALPACA,
    BOTH,
    LENGTHS,
    MT_BENCH,
    CountsWords,
    asked_of,
    recipe_of,
    referenced,
    without_files,
)
from tuneproof.errors import RecipeError
from tuneproof.judge.own import OwnPairwise
from tuneproof.judge.prices import DATED, price_of
from tuneproof.plan.controls import planned_controls
from tuneproof.plan.cost import REPLY_TOKENS, AnswerTokens, plan_cost
from tuneproof.plan.judging import answers, games_of, judge_calls, placebo_calls
from tuneproof.recipe import Judge, Prices
from tuneproof.records import Arm, Match

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    yield from without_files(monkeypatch, tmp_path)


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


def words_of_a_request(judge: Judge) -> int:
    """Of the project's own prompt, about an instruction of two words, without the answers."""
    match = Match(
        question_id="q",
        benchmark="heldout",
        opponent=Arm.BASE,
        instruction="one two",
        context="",
        first=Arm.BASE,
        answer_a="",
        answer_b="",
    )
    body = OwnPairwise(orders=2).request(match, judge)
    return sum(len(m["content"].split()) for m in body["messages"])


def test_what_the_judge_reads_and_writes() -> None:
    recipe = recipe_of(
        {"benchmark": "heldout", "questions": 10, "against": BOTH},
        judge={
            "model": "gpt-4o-mini",
            "max_tokens": 300,
            "decompose": False,
            "checks": {"repeats": 0},
        },
        train={"seeds": 2},
    )
    assert recipe.judge is not None
    asked = asked_of(recipe)
    cost, notes = plan_cost(recipe, asked, CountsWords(), LENGTHS)  # type: ignore[arg-type]
    assert notes == []
    bare = words_of_a_request(recipe.judge)
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
    recipe = recipe_of({**MT_BENCH, "questions": 1}, judge={"checks": {"repeats": 0}})
    cost, _ = plan_cost(recipe, asked_of(recipe), CountsWords(), LENGTHS)  # type: ignore[arg-type]
    shorter = AnswerTokens(tuned=49, base=512, fair_base=60, limit=512)
    less, _ = plan_cost(recipe, asked_of(recipe), CountsWords(), shorter)  # type: ignore[arg-type]
    # One token less in each tuned answer: once in the first turn, twice in the second; two games.
    assert cost.prompt_tokens - less.prompt_tokens == 2 * (1 + 2)


def test_what_is_asked_beside_the_matches() -> None:
    recipe = recipe_of(
        {"benchmark": "heldout", "questions": 10},
        judge={
            "model": "gpt-4o-mini",
            "checks": {"controls": 2, "repeats": 6, "self_comparisons": 4},
        },
        generate={"temperature": 0.2},
        train={"seeds": 2},
        verdict={"metric": "win_rate", "beat_placebo": True},
    )
    test = referenced(20)
    asked = asked_of(recipe, test)
    assert recipe.judge is not None
    cost, _ = plan_cost(
        recipe,
        asked,
        CountsWords(),  # type: ignore[arg-type]
        LENGTHS,
        controls=planned_controls(recipe, asked, test),
    )
    # Two trained adapters, base, the placebo; and two answers to four of the questions.
    assert (cost.answers, cost.placebo_answers, cost.second_answers) == (10 * 4 + 4, 10, 4)
    assert cost.judge_calls == {"heldout": 10 * 2 * 2}  # questions, orders, adapters
    checks = cost.check_calls
    assert checks.controls == {"tuneproof-pairwise": 2 * 3 * 2}  # orders, kinds, of each
    assert (checks.placebo, checks.self_comparison, checks.repeats) == (10 * 2 * 2, 2 * 4, 6)
    calls = 40 + 12 + 40 + 8 + 6
    assert cost.judge_calls_total == calls
    assert cost.rejudged_at_most == 2 * (40 + 40)  # two cuts of all matches
    bare = words_of_a_request(recipe.judge)
    # Right answers of thirty words against thirty, ten (a third) and none; two each; both orders.
    controls = 2 * 2 * (3 * bare + 60 + 40 + 30)
    assert cost.prompt_tokens == (
        40 * (bare + 50 + 512)  # against base
        + 40 * (bare + 50 + 50)  # against the placebo, which stops as tuned does
        + 8 * (bare + 50 + 50)
        + 6 * (bare + (562 + 100) // 2)  # the mean match
        + controls
    )
    assert cost.completion_tokens == calls * REPLY_TOKENS
    assert cost.upper.prompt_tokens == (40 + 40 + 8 + 6 + 160) * (bare + 1024) + controls
    assert cost.upper.completion_tokens == (calls + 160) * 512
    assert "nothing judged again" in cost.how


def test_nothing_is_sent_again_more_often_than_there_are_matches() -> None:
    heldout = {"benchmark": "heldout", "questions": 2}
    recipe = recipe_of(
        heldout,
        judge={"checks": {"controls": 0, "repeats": 99, "self_comparisons": 99}},
        generate={"temperature": 0.2},
    )
    cost, _ = plan_cost(recipe, asked_of(recipe), CountsWords(), LENGTHS)  # type: ignore[arg-type]
    assert (cost.check_calls.repeats, cost.check_calls.self_comparison) == (4, 4)


def test_the_placebo_meets_tuned_where_the_verdict_is() -> None:
    heldout, both = {"benchmark": "heldout", "questions": 10}, [ALPACA, MT_BENCH]
    for rule, calls in (
        ({"metric": "win_rate"}, 10 * 2),  # the first benchmark
        ({"metric": "win_rate", "benchmark": "mt_bench"}, 40 * 2 * 2),
        ({"metric": "win_rate", "benchmark": "alpaca_eval"}, 300 * 2),
        ({"metric": "heldout_loss"}, 0),
        ({"metric": "similarity"}, 0),
    ):
        recipe = recipe_of(heldout, *both, verdict={**rule, "beat_placebo": True})
        assert placebo_calls(recipe, asked_of(recipe)) == calls, rule
        without = recipe_of(heldout, *both, verdict=rule)
        assert placebo_calls(without, asked_of(without)) == 0
    # By its opponent: fair-base is met on MT-Bench alone.
    recipe = recipe_of(
        ALPACA,
        {**MT_BENCH, "against": BOTH},
        verdict={"metric": "win_rate", "against": "fair-base", "beat_placebo": True},
    )
    assert placebo_calls(recipe, asked_of(recipe)) == 40 * 2 * 2


def test_ratings_are_neither_cut_nor_sent_again() -> None:
    single = {**MT_BENCH, "mode": "single", "against": BOTH}
    recipe = recipe_of(single, {"benchmark": "heldout"}, verdict={"metric": "heldout_loss"})
    recipe = recipe.model_copy(update={"evaluate": recipe.evaluate[:1]})
    asked = asked_of(recipe)
    assert planned_controls(recipe, asked, referenced(50)) == []
    cost, _ = plan_cost(recipe, asked, CountsWords(), LENGTHS)  # type: ignore[arg-type]
    assert cost.judge_calls == {"mt_bench": 40 * 2 * 3}
    assert (cost.judge_calls_total, cost.rejudged_at_most) == (240, 0)


def test_questions_with_a_wrong_reference_are_not_judged() -> None:
    left_out = {"benchmark": "mt_bench", "exclude_known_wrong": True}
    recipe = recipe_of(left_out, judge={"checks": {"controls": 0, "repeats": 0}})
    cost, _ = plan_cost(recipe, asked_of(recipe), CountsWords(), LENGTHS)  # type: ignore[arg-type]
    assert cost.judge_calls == {"mt_bench": (80 - 13) * 2 * 2}
    assert cost.answers == 80 * 2 * 2


def test_a_judge_that_is_no_model_asks_nobody() -> None:
    recipe = recipe_of(
        {"benchmark": "heldout", "questions": 10},
        judge={"kind": "reference"},
        verdict={"metric": "win_rate", "beat_placebo": True},
    )
    asked = asked_of(recipe)
    assert planned_controls(recipe, asked, referenced(50)) == []
    cost, notes = plan_cost(recipe, asked, CountsWords(), LENGTHS)  # type: ignore[arg-type]
    assert (cost.judge_calls, cost.judge_calls_total, cost.rejudged_at_most) == ({}, 0, 0)
    assert (cost.usd, cost.upper.usd, cost.price, notes) == (0.0, 0.0, None, [])
    assert cost.answers == 10 * 3
    assert "asks nobody" in cost.how


def test_an_own_prompt_in_the_place_of_another_is_noted() -> None:
    recipe = recipe_of(ALPACA, {"benchmark": "heldout"})
    _, notes = plan_cost(recipe, asked_of(recipe), CountsWords(), LENGTHS)  # type: ignore[arg-type]
    (note,) = notes
    assert note.startswith("alpaca_eval is counted as judged with this project's own prompt")


def test_a_model_that_may_refuse_the_limits_name_is_noted() -> None:
    recipe = recipe_of({"benchmark": "heldout"}, judge={"model": "o3-mini"})
    cost, notes = plan_cost(recipe, asked_of(recipe), CountsWords(), LENGTHS)  # type: ignore[arg-type]
    assert any("judge.limit_field=max_completion_tokens" in note for note in notes)
    renamed = recipe_of(
        {"benchmark": "heldout"},
        judge={"model": "o3-mini", "limit_field": "max_completion_tokens"},
    )
    again, notes = plan_cost(renamed, asked_of(renamed), CountsWords(), LENGTHS)  # type: ignore[arg-type]
    assert not any("limit_field" in note for note in notes)
    assert again.upper == cost.upper  # the same limit


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
    for free in (
        Judge(kind="replay", journal="j.jsonl"),
        Judge(kind="local", model="m"),
        Judge(kind="reference"),
    ):
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
