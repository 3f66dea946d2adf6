"""The benchmarks' own columns and tables, from a run's records; by hand."""

from __future__ import annotations

import math

import pytest

from tuneproof.recipe import Judge
from tuneproof.records import (
    Answer,
    Arm,
    Judgment,
    Preference,
    Prompt,
    Rating,
    Stop,
    preferred,
)
from tuneproof.score import alpaca_eval as scoring
from tuneproof.stats.leaderboards import SEED, arm_name
from tuneproof.stats.ratings import ratings_result
from tuneproof.stats.summary import benchmark_result

BASE, TUNED = Arm.BASE, Arm.TUNED


def prompt(question: str, *, turn: int = 1, category: str = "c") -> Prompt:
    benchmark = "mt_bench" if question.startswith("mt") else "alpaca_eval"
    return Prompt(
        question_id=question, benchmark=benchmark, category=category, turn=turn,
        instruction=f"{question}?", context="", token_ids=None, reference=None, checkable=False,
    )  # fmt: skip


def answer(
    question: str, arm: Arm, length: int = 5, *, turn: int = 1, adapter: int = 1,
    stop: Stop = Stop.EOS,
) -> Answer:  # fmt: skip
    return Answer(
        key=f"{question}/{turn}/{arm}/{adapter}", question_id=question,
        benchmark="mt_bench" if question.startswith("mt") else "alpaca_eval", turn=turn, arm=arm,
        adapter=adapter, text="x" * length, stop=stop, n_prompt_tokens=1, n_tokens=1,
    )  # fmt: skip


def preference(
    question: str, value: float | None, *, turn: int = 1, adapter: int = 1, opponent: Arm = BASE,
    protocol: str = "alpaca-eval-weighted", agree: bool | None = None,
) -> Preference:  # fmt: skip
    return Preference(
        question_id=question,
        benchmark="mt_bench" if question.startswith("mt") else "alpaca_eval", turn=turn,
        opponent=opponent, adapter=adapter, protocol=protocol, orders=1, value=value,
        n_judgments=1, n_unparsed=0, orders_agree=agree,
    )  # fmt: skip


def game(
    question: str, turn: int, first: Arm, p_first: float | None, *, asked: bool = True
) -> Judgment:
    return Judgment(
        key=f"{question}/{turn}/{first}", question_id=question,
        benchmark="mt_bench" if question.startswith("mt") else "alpaca_eval", turn=turn,
        opponent=BASE, protocol="mt-bench-pairwise", judge="j", first=first,
        prefers=preferred(p_first), p_first=p_first, asked=asked,
        unparsed=None if p_first is not None else "?", reply="",
    )  # fmt: skip


# --- AlpacaEval ------------------------------------------------------------------------------


def test_alpaca_evals_columns() -> None:
    """Three scored rows: 0.9, 0.5 and 0.2; one unscored, one whose answer failed."""
    questions = [f"alpaca-{i:03}" for i in range(5)]
    answers = [
        a
        for i, q in enumerate(questions)
        for a in (
            answer(q, BASE, 10),
            answer(q, TUNED, (10, 20, 33, 41, 0)[i], stop=Stop.ERROR if i == 4 else Stop.EOS),
        )
    ]
    values = [0.9, 0.5, 0.2, None, None]
    found = benchmark_result(
        [prompt(q) for q in questions], answers, [],
        [game("alpaca-001", 1, BASE, 0.5, asked=False), game("alpaca-000", 1, BASE, 0.1)],
        [preference(q, v) for q, v in zip(questions, values, strict=True)],
        judge=Judge(model="j", orders=1), level=0.95,
    ).pairwise  # fmt: skip
    assert found is not None
    (line,) = found.alpaca_eval
    assert (line.model, line.reference, line.mode) == ("tuned", "base", "community")
    assert line.win_rate == pytest.approx(100 * 1.6 / 3)
    mean = 1.6 / 3
    sd = math.sqrt(sum((v - mean) ** 2 for v in (0.9, 0.5, 0.2)) / 2)
    assert line.standard_error == pytest.approx(100 * sd / math.sqrt(3))
    assert (line.n_wins, line.n_wins_base, line.n_draws, line.n_total) == (1, 1, 1, 3)
    assert line.discrete_win_rate == pytest.approx(50.0)
    assert line.avg_length == 26  # 104 characters over the four rows with two answers
    assert (line.n_unscored, line.n_without_answers) == (1, 1)
    assert line.length_controlled_winrate is None
    assert (found.n_judgments, found.n_not_asked) == (1, 1)
    control = found.length_controlled
    assert control is not None
    assert control.fitted.value is None
    assert control.fitted.note == "fewer than ten questions"
    # tuned is as long once, and longer twice, of the three scored rows
    assert (control.n_longer, control.n_shorter) == (2, 0)


def test_a_line_for_each_adapter_and_opponent() -> None:
    questions = [f"alpaca-{i:03}" for i in range(2)]
    answers = [
        a
        for q in questions
        for a in (
            answer(q, BASE), answer(q, Arm.BASELINE, stop=Stop.GIVEN), answer(q, TUNED, 7),
            answer(q, TUNED, 9, adapter=2),
        )
    ]  # fmt: skip
    rows = [
        preference(q, 1.0 if adapter == 1 else 0.0, adapter=adapter, opponent=opponent)
        for q in questions
        for opponent in (BASE, Arm.BASELINE)
        for adapter in (1, 2)
    ]
    found = benchmark_result(
        [prompt(q) for q in questions], answers, [], [], rows, judge=Judge(), level=0.95
    )
    assert found.pairwise is not None
    assert [(x.model, x.win_rate, x.avg_length) for x in found.pairwise.alpaca_eval] == [
        ("tuned", 100.0, 7),
        ("tuned-2", 0.0, 9),
    ]
    assert {x.reference for x in found.others["baseline"].alpaca_eval} == {"baseline"}


def test_the_fitted_rate_is_that_of_a_scored_file() -> None:
    assert scoring.SEED == SEED


def test_questions_without_a_preference_were_left_out_and_not_unscored() -> None:
    prompts = [prompt(f"mt-{n}", turn=t) for n in (81, 105) for t in (1, 2)]
    answers = [answer(p.question_id, a, turn=p.turn) for p in prompts for a in (BASE, TUNED)]
    rows = [preference("mt-81", 1.0, turn=t, protocol="mt-bench-pairwise") for t in (1, 2)]
    games = [game("mt-81", t, f, float(f is TUNED)) for t in (1, 2) for f in (TUNED, BASE)]
    found = benchmark_result(prompts, answers, [], games, rows, judge=Judge(), level=0.95).pairwise
    assert found is not None
    assert (found.win_rate.n_scored, found.win_rate.n_unscored) == (1, 0)
    assert found.questions.total == 1
    assert found.mt_bench is not None
    assert (found.mt_bench.n_excluded, found.mt_bench.n_matches) == (2, 2)


# --- MT-Bench --------------------------------------------------------------------------------


def test_mt_benchs_table() -> None:
    """Six matches: won, lost, a tie, a contradiction, a dropped one, one without an answer."""
    outcomes: dict[str, tuple[float | None, float | None]] = {
        # P(first is better) in game 1 (tuned first) and game 2 (base first)
        "mt-81": (1.0, 0.0),
        "mt-82": (0.0, 1.0),
        "mt-83": (0.5, 0.0),
        "mt-105": (1.0, 1.0),
        "mt-85": (None, 0.0),
    }
    prompts = [prompt(q) for q in (*outcomes, "mt-86")]
    answers = [
        answer(p.question_id, arm, stop=Stop.ERROR if p.question_id == "mt-86" else Stop.EOS)
        for p in prompts
        for arm in (BASE, TUNED)
    ]
    games = [
        game(q, 1, first, p)
        for q, (g1, g2) in outcomes.items()
        for first, p in ((TUNED, g1), (BASE, g2))
    ]
    values = {"mt-81": 1.0, "mt-82": 0.0, "mt-83": 0.5, "mt-105": 0.5}
    rows = [
        preference(p.question_id, values.get(p.question_id), protocol="mt-bench-pairwise",
                   agree={"mt-83": False, "mt-105": False}.get(p.question_id))
        for p in prompts
    ]  # fmt: skip
    found = benchmark_result(
        prompts, answers, [], games, rows, judge=Judge(), level=0.95,
        model_name=lambda arm, n: f"m-{arm_name(arm, n)}",
    ).pairwise  # fmt: skip
    assert found is not None
    table = found.mt_bench
    assert table is not None
    assert [(x.model, x.win, x.loss, x.tie) for x in table.lines] == [
        ("m-tuned", 1, 1, 2),
        ("m-base", 1, 1, 2),
    ]
    assert table.lines[0].win_rate_adjusted == 0.5
    assert (table.n_matches, table.n_dropped, table.n_without_answers) == (4, 1, 1)
    assert (table.n_inconsistent, table.n_contradictory) == (2, 1)
    assert table.n_known_wrong == 1  # 105
    assert found.n_inconsistent == 2


def test_our_own_prompt_rests_on_no_reference() -> None:
    rows = [preference("mt-105", 1.0, protocol="tuneproof-pairwise")]
    answers = [answer("mt-105", arm) for arm in (BASE, TUNED)]
    games = [game("mt-105", 1, TUNED, 1.0), game("mt-105", 1, BASE, 0.0)]
    found = benchmark_result(
        [prompt("mt-105")], answers, [], games, rows, judge=Judge(), level=0.95
    ).pairwise
    assert found is not None
    assert found.mt_bench is not None
    assert found.mt_bench.n_known_wrong == 0


# --- ratings ---------------------------------------------------------------------------------


def rating(question: str, turn: int, arm: Arm, score: float | None, adapter: int = 1) -> Rating:
    return Rating(
        key=f"{question}/{turn}/{arm}/{adapter}", question_id=question, benchmark="mt_bench",
        category="c", turn=turn, arm=arm, adapter=adapter, protocol="mt-bench-single", judge="j",
        score=score, unparsed=None if score is not None else "?", reply="",
    )  # fmt: skip


def test_ratings_are_averaged_within_a_question_and_paired() -> None:
    prompts = [prompt(q, turn=t) for q in ("mt-81", "mt-82", "mt-104") for t in (1, 2)]
    rows = [
        rating("mt-81", 1, BASE, 4), rating("mt-81", 2, BASE, 6),
        rating("mt-81", 1, TUNED, 8), rating("mt-81", 2, TUNED, 10),
        rating("mt-82", 1, BASE, 5), rating("mt-82", 2, BASE, 1),
        rating("mt-82", 1, TUNED, 6), rating("mt-82", 2, TUNED, None),
        rating("mt-104", 1, BASE, 3), rating("mt-104", 1, TUNED, 2),
    ]  # fmt: skip
    found = ratings_result(prompts, rows, level=0.95)
    pair = found.against["base"]
    # mt-82's second turn has no rating of tuned: its first alone is compared.
    assert pair.base.value == pytest.approx((5 + 5 + 3) / 3)
    assert pair.tuned.value == pytest.approx((9 + 6 + 2) / 3)
    assert pair.difference.value == pytest.approx((4 + 1 - 1) / 3)
    assert (pair.difference.n_scored, pair.difference.n_unscored) == (3, 0)
    assert (found.n_ratings, found.n_unparsed, found.n_known_wrong) == (10, 1, 2)
    tuned, base = found.lines
    assert (tuned.model, tuned.first_turn, tuned.second_turn) == ("tuned", 16 / 3, 10.0)
    assert (tuned.average, tuned.n_scored, tuned.n_unscored) == (26 / 4, 4, 1)
    assert (base.model, base.average) == ("base", 19 / 5)


def test_a_question_that_nobody_was_rated_on_is_unscored_unless_it_was_left_out() -> None:
    prompts = [prompt(q) for q in ("mt-81", "mt-82", "mt-104")]
    rows = [rating("mt-81", 1, arm, 5) for arm in (BASE, TUNED)]
    found = ratings_result(prompts, rows, level=0.95)
    assert found.against["base"].difference.n_unscored == 1  # mt-82; 104 is known to be wrong
