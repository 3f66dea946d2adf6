"""The official rate, and what to mind, of a run's own match; on the leaderboard's own rows."""

from __future__ import annotations

import csv
import gzip
import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import shared
from tests.unit import report_case as case
from tuneproof.recipe import (
    AlpacaEval,
    Data,
    Evaluation,
    Heldout,
    Judge,
    Model,
    MtBench,
    Recipe,
    Source,
)
from tuneproof.records import Answer, Arm, Preference, Prompt, Stop
from tuneproof.report.benchmarks import finished, judging_findings
from tuneproof.report.build import own_tables
from tuneproof.report.cases import build_cases
from tuneproof.results import BenchmarkResult, MtBenchLine, MtBenchMatches
from tuneproof.stats.summary import benchmark_result

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(shared("alpaca_eval").parent))
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))


def recipe(evaluation: Evaluation, *, orders: int = 1) -> Recipe:
    section = Judge(model="gpt-4-1106-preview", orders=orders)
    return Recipe(
        name="r", data=Data(source=Source(sample=True)), model=Model(id="m"), judge=section,
        evaluate=(Heldout(benchmark="heldout"), evaluation),
    )  # fmt: skip


def leaderboard_match(
    recipe: Recipe, *, opponent: Arm = Arm.BASELINE, protocol: str = "alpaca-eval-weighted",
    left_out: int = 0,
) -> tuple[BenchmarkResult, str | None]:  # fmt: skip
    """alpaca-7b's official judgments as if they were a run's; and why there is no official rate."""
    with gzip.open(shared("alpaca_eval/annotations/alpaca-7b.json.gz")) as file:
        rows = json.load(file)[left_out:]
    prompts, answers, preferences = [], [], []
    for i, row in enumerate(rows):
        question = f"alpaca-{i:03}"
        prompts.append(
            Prompt(
                question_id=question, benchmark="alpaca_eval", category=row["dataset"],
                instruction=row["instruction"], context="", token_ids=None, reference=None,
                checkable=False,
            )
        )  # fmt: skip
        for arm, text in ((opponent, row["output_1"]), (Arm.TUNED, row["output_2"])):
            answers.append(
                Answer(
                    key=f"{question}/{arm}", question_id=question, benchmark="alpaca_eval",
                    arm=arm, text=text, stop=Stop.EOS, n_prompt_tokens=1, n_tokens=1,
                )
            )  # fmt: skip
        preferences.append(
            Preference(
                question_id=question, benchmark="alpaca_eval", opponent=opponent,
                protocol=protocol, orders=recipe.judge.orders if recipe.judge else 1,
                value=row["preference"] - 1, n_judgments=1, n_unparsed=0, orders_agree=None,
            )
        )  # fmt: skip
    result = benchmark_result(
        prompts, answers, [], [], preferences, judge=recipe.judge, level=0.95,
        model_name=recipe.model_name,
    )  # fmt: skip
    done = finished(recipe, result, prompts=prompts, answers=answers, preferences=preferences)
    assert done.pairwise is not None
    assert done.pairwise.length_controlled is not None
    assert done.pairwise.length_controlled.official is None
    assert done.pairwise.alpaca_eval[0].length_controlled_winrate is None
    return done, done.pairwise.length_controlled.reason


OFFICIAL = AlpacaEval(benchmark="alpaca_eval", against=("baseline",), length_control="official")


def test_the_leaderboards_own_match_lacks_its_file_alone() -> None:
    result, reason = leaderboard_match(recipe(OFFICIAL))
    assert reason is not None
    assert "it is fitted with alpaca_eval/df_gamed.csv" in reason
    assert result.pairwise is not None
    (line,) = result.pairwise.alpaca_eval
    with shared("alpaca_eval/leaderboard.csv").open(encoding="utf-8", newline="") as file:
        (published,) = [row for row in csv.DictReader(file) if row[""] == "alpaca-7b"]
    for column in ("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total",
                   "discrete_win_rate", "avg_length"):  # fmt: skip
        assert getattr(line, column) == pytest.approx(float(published[column]), rel=1e-9), column
    assert (line.n_total, line.reference) == (805, "gpt4_1106_preview")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"opponent": Arm.BASE}, None),  # the same answers, under another model's name
        ({"protocol": "alpaca-eval-binary"}, "this file's judge is alpaca-eval-binary:gpt-4-1106"),
        ({"left_out": 5}, "it is defined for all 805 instructions; this file has 800 rows"),
    ],
)
def test_another_match_has_no_official_rate(change: dict[str, Any], reason: str | None) -> None:
    _, said = leaderboard_match(recipe(OFFICIAL), **change)
    assert said is not None
    assert (reason or "it is fitted with") in said


def test_both_orders_are_another_protocol() -> None:
    _, said = leaderboard_match(recipe(OFFICIAL, orders=2))
    assert said is not None
    assert "alpaca-eval-weighted:gpt-4-1106-preview:both-orders" in said


def test_what_to_mind() -> None:
    asked = recipe(OFFICIAL)
    result, reason = leaderboard_match(asked)
    (found,) = judging_findings(asked, {"alpaca_eval": result})
    assert found == (
        "The recipe asks for AlpacaEval's length-controlled rate, and there is none against "
        f"baseline: {reason}."
    )
    fitted = recipe(OFFICIAL.model_copy(update={"length_control": "fitted"}))
    assert judging_findings(fitted, {"alpaca_eval": result}) == []
    own, _ = leaderboard_match(asked, protocol="tuneproof-pairwise")
    assert (
        "judged with this project's own prompt" in judging_findings(fitted, {"alpaca_eval": own})[0]
    )
    # Who asks for it has it.
    wanted = recipe(OFFICIAL.model_copy(update={"protocol": "own", "length_control": "fitted"}))
    assert judging_findings(wanted, {"alpaca_eval": own}) == []


def mt_bench_result(*opponents: Arm) -> BenchmarkResult:
    """Tuned wins 28, loses 18 and ties 34 of its matches, as in the reference experiment."""
    base = case.results().benchmarks["heldout"]
    pairs = []
    for opponent in opponents:
        lines = tuple(
            MtBenchLine(
                model=model, win=w, loss=lost, tie=34, win_rate=w / 80, loss_rate=lost / 80,
                win_rate_adjusted=(w + 17) / 80,
            )
            for model, w, lost in (("r-tuned", 28, 18), (f"r-{opponent}", 18, 28))
        )  # fmt: skip
        pairs.append(
            case.pairwise().model_copy(
                update={
                    "opponent": opponent,
                    "protocol": "mt-bench-pairwise",
                    "mt_bench": MtBenchMatches(
                        lines=lines, n_matches=80, n_dropped=0, n_without_answers=0,
                        n_inconsistent=20, n_contradictory=9, n_known_wrong=26,
                    ),
                }
            )
        )  # fmt: skip
    return base.model_copy(
        update={"pairwise": pairs[0], "others": {p.opponent.value: p for p in pairs[1:]}}
    )


def test_the_baseline_has_no_line_in_its_own_mode() -> None:
    for mode, models in (
        ("pairwise-all", ["r-tuned", "r-base"]),
        ("pairwise-baseline", ["r-tuned"]),
    ):
        evaluation = MtBench(benchmark="mt_bench", mode=mode)  # type: ignore[arg-type]
        done = finished(
            recipe(evaluation), mt_bench_result(Arm.BASE), prompts=[], answers=[], preferences=[]
        )
        assert done.pairwise is not None
        assert done.pairwise.mt_bench is not None
        assert [line.model for line in done.pairwise.mt_bench.lines] == models


def test_matches_on_wrong_references_are_told() -> None:
    asked = recipe(MtBench(benchmark="mt_bench"))
    (found,) = judging_findings(asked, {"mt_bench": mt_bench_result(Arm.BASE)})
    assert found.startswith("26 of 80 MT-Bench matches rest on reference answers that are known")


def test_the_tables_of_several_opponents_stand_in_one_file_under_names_of_their_own() -> None:
    one = case.results(benchmarks={"mt_bench": mt_bench_result(Arm.BASE)})
    assert [row[0] for row in own_tables(one)["mt_bench"].rows] == ["r-tuned", "r-base"]
    two = case.results(benchmarks={"mt_bench": mt_bench_result(Arm.BASE, Arm.FAIR_BASE)})
    assert [row[0] for row in own_tables(two)["mt_bench"].rows] == [
        "r-tuned against r-base",
        "r-base against tuned",
        "r-tuned against r-fair-base",
        "r-fair-base against tuned",
    ]


def test_a_shorter_limit_of_replies_is_told() -> None:
    asked = recipe(MtBench(benchmark="mt_bench", max_tokens=128, exclude_known_wrong=True))
    result = mt_bench_result(Arm.BASE)
    found = judging_findings(asked, {"mt_bench": result})
    assert found[0] == (
        "MT-Bench's judge could reply with at most 128 tokens; FastChat's limit is 2048."
    )


def test_stored_answers_and_weighed_words_are_shown() -> None:
    (asked,) = case.prompts(1)
    stored = case.answer(0, Arm.BASELINE, "stored words").model_copy(
        update={"stop": Stop.GIVEN, "n_tokens": 0}
    )
    weighed = case.judgment(0, Arm.TUNED, "A").model_copy(
        update={
            "opponent": Arm.BASELINE,
            "p_first": 0.8125,
            "top_logprobs": (("m", -0.2),),
            "reply": "m",
        }
    )
    other = weighed.model_copy(
        update={"first": Arm.BASELINE, "prefers": "tie", "p_first": 0.5, "asked": False}
    )
    joined = build_cases(
        [asked],
        answers=[case.answer(0, Arm.BASE, "x"), stored, case.answer(0, Arm.TUNED, "y")],
        similarities=[],
        judgments=[weighed, other],
        preferences=case.preferred([weighed, other], [asked]),
    )
    (shown,) = joined.cases
    side = shown.turns[0].side(Arm.BASELINE)
    assert (side.stop, side.length, side.text) == (
        "stored answer", "12 characters", "stored words",
    )  # fmt: skip
    assert [r.says for r in shown.turns[0].replies] == [
        "tie (the answers are equal: not asked)",
        "prefers tuned (tuned 81.2 %)",
    ]
    assert [(v.against, v.result) for v in shown.views] == [
        ("base", "none"), ("baseline", "tuned"),
    ]  # fmt: skip
