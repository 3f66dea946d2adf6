"""The benchmarks' sections of a recipe: protocols, modes, opponents, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuneproof.errors import RecipeError
from tuneproof.plan.judging import Asked, answers, judge_calls
from tuneproof.recipe import AlpacaEval, Judge, MtBench, Recipe
from tuneproof.recipe_file import load_recipe, parse_recipe
from tuneproof.records import Arm

RECIPES = Path(__file__).parents[2] / "recipes"
BASE = """\
name: x
data: {source: {path: a.jsonl}}
model: {id: some/model}
judge: {model: m}
evaluate:
  - {benchmark: heldout}
  - {benchmark: alpaca_eval}
  - {benchmark: mt_bench}
"""


def read(*overrides: str, text: str = BASE) -> Recipe:
    return parse_recipe(text, name="r.yaml", overrides=overrides)


def sections(recipe: Recipe) -> tuple[AlpacaEval, MtBench]:
    (alpaca,) = [e for e in recipe.evaluate if isinstance(e, AlpacaEval)]
    (mt_bench,) = [e for e in recipe.evaluate if isinstance(e, MtBench)]
    return alpaca, mt_bench


def test_defaults_are_the_official_protocols() -> None:
    recipe = read()
    alpaca, mt_bench = sections(recipe)
    assert (alpaca.protocol, alpaca.against) == ("weighted", ("base",))
    assert (mt_bench.protocol, mt_bench.mode, mt_bench.exclude_known_wrong) == (
        "official", "pairwise-all", False,
    )  # fmt: skip
    assert recipe.assets is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluate.1.protocol=official", "expected 'weighted', 'binary' or 'own'"),
        ("evaluate.2.protocol=weighted", "expected 'official' or 'own'"),
        ("evaluate.2.mode=pairwise", "expected 'pairwise-all', 'pairwise-baseline' or 'single'"),
        ("evaluate.2.exclude_known_wrong=1", "expected true or false"),
        ("evaluate.2.against=baseline", "baseline is an opponent on alpaca_eval alone"),
        ("evaluate.0.against=[base, baseline]", "baseline is an opponent on alpaca_eval alone"),
        (
            "evaluate.2={benchmark: mt_bench, mode: pairwise-baseline, against: [base, fair-base]}",
            "expected one opponent under against: the baseline",
        ),
        ("assets=3", "expected text"),
    ],
)
def test_refusals(override: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        read(override)
    assert message in str(error.value)


def test_a_verdict_by_win_rate_needs_pairs() -> None:
    single = "evaluate=[{benchmark: mt_bench, mode: single}]"
    with pytest.raises(RecipeError, match="needs pairs: mt_bench is in mode single"):
        read(single, "verdict.metric=win_rate")
    with pytest.raises(RecipeError, match="needs pairs"):
        read("evaluate.2.mode=single", "verdict={metric: win_rate, benchmark: mt_bench}")
    read("evaluate.2.mode=single", "verdict={metric: win_rate, benchmark: alpaca_eval}")


def test_the_baseline_can_be_the_opponent_that_decides() -> None:
    recipe = read(
        "evaluate.1.against=[base, baseline]",
        "verdict={metric: win_rate, benchmark: alpaca_eval, against: baseline}",
    )
    assert recipe.verdict.against == "baseline"


def test_models_have_names() -> None:
    recipe = read()
    assert [recipe.model_name(arm) for arm in Arm] == [
        "x-base", "x-fair-base", "gpt4_1106_preview", "x-placebo", "x-tuned",
    ]  # fmt: skip
    assert recipe.model_name(Arm.TUNED, 3) == "x-tuned-3"


def test_the_reference_judged_by_the_word_and_its_mended_form_by_probabilities() -> None:
    alpaca, mt_bench = sections(load_recipe(RECIPES / "llama2-7b-dolly15k.yaml"))
    assert (alpaca.protocol, alpaca.against) == ("binary", ("base",))
    assert (mt_bench.protocol, mt_bench.mode) == ("official", "pairwise-all")
    mended = load_recipe(RECIPES / "llama2-7b-dolly15k-mended.yaml")
    alpaca, mt_bench = sections(mended)
    assert (alpaca.protocol, mt_bench.protocol) == ("weighted", "official")
    assert mended.judge is not None
    assert mended.judge.orders == 2


def test_the_plan_counts_what_each_mode_asks() -> None:
    """Four questions of two turns, one opponent, three adapters; a stored answer is not asked."""
    judge = Judge(orders=1)

    def asked(evaluation: AlpacaEval | MtBench, n_turns: int) -> Asked:
        return Asked(
            index=0, evaluation=evaluation, available=9, n_questions=4, n_turns=n_turns, turns=None
        )

    pairs = asked(MtBench(benchmark="mt_bench"), 2)
    single = asked(MtBench(benchmark="mt_bench", mode="single"), 2)
    assert judge_calls(pairs, judge, seeds=3) == 8 * 2 * 3
    assert judge_calls(single, judge, seeds=3) == 8 * (1 + 3)
    stored = asked(AlpacaEval(benchmark="alpaca_eval", against=("base", "baseline")), 1)
    assert answers(stored, seeds=1) == 4 * 2
    assert judge_calls(stored, judge, seeds=1) == 4 * 2


@pytest.mark.parametrize(
    ("overrides", "decisive"),
    [
        ((), "heldout"),
        (("verdict.metric=similarity",), "heldout"),
        (("verdict.metric=win_rate",), "heldout"),
        (("verdict.metric=win_rate", "verdict.benchmark=mt_bench"), "mt_bench"),
        # The first that is judged in pairs against the rule's opponent.
        (
            (
                "verdict.metric=win_rate",
                "verdict.against=fair-base",
                "evaluate.2.against=[base, fair-base]",
            ),
            "mt_bench",
        ),
        (
            (
                "verdict.metric=win_rate",
                "evaluate=[{benchmark: mt_bench, mode: single}, {benchmark: alpaca_eval}]",
            ),
            "alpaca_eval",
        ),
    ],
)
def test_the_benchmark_that_decides(overrides: tuple[str, ...], decisive: str) -> None:
    found = read(*overrides).decisive
    assert found is not None
    assert found.benchmark == decisive
