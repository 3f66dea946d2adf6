"""From records to estimates."""

from __future__ import annotations

from typing import Literal

import pytest

from tuneproof.recipe import Judge
from tuneproof.records import (
    Answer,
    Arm,
    Judgment,
    Preference,
    Prompt,
    SequenceLoss,
    Similarity,
    Stop,
)
from tuneproof.results import Tally
from tuneproof.stats.summary import benchmark_result, heldout_loss, summarize

BASE, TUNED = Arm.BASE, Arm.TUNED


def loss(
    question: str, arm: Arm, nll: float, n: int, eos: float = 1.0, category: str | None = "qa"
) -> SequenceLoss:
    return SequenceLoss(
        key=f"{question}/{arm}",
        question_id=question,
        arm=arm,
        category=category,
        response_nll=nll,
        n_tokens=n,
        eos_nll=eos,
    )


def prompt(
    question: str,
    *,
    benchmark: str = "heldout",
    reference: str | None = "r",
    checkable: bool = False,
    turn: int = 1,
    category: str | None = None,
) -> Prompt:
    return Prompt(
        question_id=question, benchmark=benchmark, category=category, turn=turn, instruction="?",
        context="", token_ids=(1,), reference=reference, checkable=checkable,
    )  # fmt: skip


def answer(
    question: str, arm: Arm, stop: Stop, n_tokens: int, *, turn: int = 1, adapter: int = 1
) -> Answer:
    return Answer(
        key=f"{question}/{turn}/{arm}/{adapter}", question_id=question, benchmark="heldout",
        turn=turn, arm=arm, adapter=adapter, text="", stop=stop, n_prompt_tokens=1,
        n_tokens=n_tokens,
    )  # fmt: skip


def near(question: str, arm: Arm, chrf: float, exact: bool | None = None) -> Similarity:
    return Similarity(question_id=question, arm=arm, category=None, chrf=chrf, exact=exact)


def judgment(question: str, first: Arm, prefers: Literal["A", "B", "tie"] | None) -> Judgment:
    return Judgment(
        key=f"{question}/{first}", question_id=question, benchmark="heldout", opponent=BASE,
        protocol="p", judge="j", first=first, prefers=prefers,
        unparsed=None if prefers else "?", reply="",
    )  # fmt: skip


def preference(
    question: str,
    value: float | None,
    agree: bool | None = None,
    *,
    orders: int = 2,
    turn: int = 1,
    opponent: Arm = BASE,
    adapter: int = 1,
) -> Preference:
    return Preference(
        question_id=question, benchmark="heldout", turn=turn, opponent=opponent, adapter=adapter,
        protocol="p", orders=orders, value=value, n_judgments=2, n_unparsed=0, orders_agree=agree,
    )  # fmt: skip


def test_heldout_loss_weighs_tokens_and_splits_categories() -> None:
    found = heldout_loss(
        [
            loss("a", BASE, 20, 10, 5.0),
            loss("a", TUNED, 10, 10, 0.5),
            loss("b", BASE, 120, 30, 7.0, "summarization"),
            loss("b", TUNED, 90, 30, 0.1, "summarization"),
            loss("c", BASE, 8, 10, 3.0, None),
            loss("c", TUNED, 8, 10, 0.0, None),
            loss("d", BASE, 99, 9, 9.0),
        ],
        level=0.95,
    )
    assert found.base.value == pytest.approx(148 / 50)
    assert found.tuned.value == pytest.approx(108 / 50)
    assert found.difference.value == pytest.approx(-40 / 50)
    assert (found.difference.n_scored, found.difference.n_unscored) == (3, 1)
    assert found.difference.unit == "nats/token"
    assert (found.eos.base.value, found.eos.tuned.value) == pytest.approx((5.0, 0.2))
    assert found.eos.difference.unit == "nats"
    assert set(found.by_category) == {"qa", "summarization"}
    summaries = found.by_category["summarization"].difference
    assert (summaries.value, summaries.low, summaries.n_scored) == (-1.0, None, 1)
    assert found.by_category["qa"].difference.n_unscored == 1


def test_a_benchmark() -> None:
    prompts = [
        prompt("q1", checkable=True),
        prompt("q2", checkable=True),
        prompt("q3", reference=None),
        prompt("q4"),
    ]
    answers = [
        answer("q1", BASE, Stop.LENGTH, 8),
        answer("q1", TUNED, Stop.EOS, 2),
        answer("q2", BASE, Stop.LENGTH, 8),
        answer("q2", TUNED, Stop.EOS, 4),
        answer("q3", BASE, Stop.EOS, 2),
        answer("q3", TUNED, Stop.EOS, 3),
        answer("q4", BASE, Stop.EOS, 2),
        answer("q4", TUNED, Stop.ERROR, 0),
        answer("another benchmark's", BASE, Stop.EOS, 1000),
    ]
    similarities = [
        near("q1", BASE, 0.2, exact=False),
        near("q1", TUNED, 0.8, exact=True),
        near("q2", BASE, 0.4, exact=True),
        near("q2", TUNED, 0.6, exact=True),
        near("q4", BASE, 0.9),
    ]
    found = benchmark_result(prompts, answers, similarities, [], [], judge=None, level=0.95)
    assert found.n_questions == 4
    assert (found.stopped.base.value, found.stopped.tuned.value) == pytest.approx((1 / 3, 1.0))
    assert (found.stopped.base.n_scored, found.stopped.base.n_unscored) == (3, 1)
    assert (found.answer_tokens.base.value, found.answer_tokens.tuned.value) == (6.0, 3.0)
    assert found.chrf is not None
    assert found.chrf.difference.value == pytest.approx(0.4)
    # q1 and q2 are scored, q4 is not, and q3 has no reference to be near to.
    assert (found.chrf.difference.n_scored, found.chrf.difference.n_unscored) == (2, 1)
    assert found.exact_match is not None
    assert (found.exact_match.base.value, found.exact_match.tuned.value) == (0.5, 1.0)
    assert found.exact_match.difference.n_unscored == 0
    assert found.pairwise is None


def test_measures_that_were_not_taken_are_absent() -> None:
    found = benchmark_result([prompt("q", reference=None)], [], [], [], [], judge=None, level=0.95)
    assert (found.chrf, found.exact_match, found.pairwise) == (None, None, None)
    assert (found.stopped.base.value, found.stopped.base.n_unscored) == (None, 1)


def test_pairwise() -> None:
    prompts = [prompt(f"q{i}") for i in range(6)]
    judgments = [
        judgment("q0", BASE, "B"), judgment("q0", TUNED, "A"),
        judgment("q1", BASE, "A"), judgment("q1", TUNED, "A"),
        judgment("q2", BASE, "A"), judgment("q2", TUNED, "B"),
        judgment("q3", BASE, "tie"), judgment("q3", TUNED, "A"),
        judgment("q4", BASE, None), judgment("q4", TUNED, "A"),
    ]  # fmt: skip
    preferences = [
        preference("q0", 1.0, True),
        preference("q1", 0.5, False),
        preference("q2", 0.0, True),
        preference("q3", 0.75, False),
        preference("q4", None),
        preference("q5", None),
    ]
    found = benchmark_result(
        prompts, [], [], judgments, preferences, judge=Judge(model="j"), level=0.95
    ).pairwise
    assert found is not None
    assert found.win_rate.value == pytest.approx(2.25 / 4)
    assert (found.win_rate.n_scored, found.win_rate.n_unscored) == (4, 2)
    assert found.questions == found.pairs == Tally(wins=2, losses=1, ties=1, unscored=2)
    assert (found.n_judgments, found.n_unparsed, found.orders) == (10, 1, 2)
    assert found.order_agreement.value == 0.5
    assert found.order_agreement.n_unscored == 2
    # Decided: q0 B A, q1 A A, q2 A B, q3 A, q4 A: six of eight preferred the first.
    assert found.first_preferred.value == pytest.approx(6 / 8)
    assert (found.first_preferred.n_scored, found.first_preferred.n_unscored) == (5, 1)


def test_pairwise_in_one_order_says_that_agreement_is_unknown() -> None:
    found = benchmark_result(
        [prompt("q0"), prompt("q1")],
        [],
        [],
        [judgment("q0", BASE, "B"), judgment("q1", TUNED, "B")],
        [preference("q0", 1.0, orders=1), preference("q1", 0.0, orders=1)],
        judge=Judge(model="j", orders=1),
        level=0.95,
    ).pairwise
    assert found is not None
    assert found.order_agreement.value is None
    assert found.order_agreement.note == "each pair was shown in one order only"
    assert found.win_rate.value == 0.5


def test_summarize_keeps_benchmarks_apart() -> None:
    found = summarize(
        losses=[],
        prompts=[prompt("q1", benchmark="two"), prompt("q2", benchmark="one"), prompt("q3")],
        answers=[answer("q1", BASE, Stop.EOS, 5), answer("q1", TUNED, Stop.EOS, 7)],
        similarities=[],
        judgments=[],
        preferences=[],
        judge=None,
        level=0.9,
    )
    assert found.heldout_loss is None
    assert list(found.benchmarks) == ["two", "one", "heldout"]
    assert found.benchmarks["two"].answer_tokens.difference.value == 2.0
    assert found.benchmarks["one"].answer_tokens.difference.value is None
    assert found.benchmarks["two"].answer_tokens.difference.level == 0.9


def test_one_row_a_question_and_arm() -> None:
    with pytest.raises(AssertionError):
        heldout_loss([loss("a", BASE, 1, 1), loss("a", BASE, 1, 1)], level=0.95)


# --- turns, adapters, opponents --------------------------------------------------------------

FAIR = Arm.FAIR_BASE


def test_turns_and_adapters_are_averaged_within_a_question() -> None:
    prompts = [prompt(q, turn=t, reference=None) for q in ("q1", "q2") for t in (1, 2)]
    answers = [
        answer("q1", BASE, Stop.LENGTH, 10), answer("q1", BASE, Stop.EOS, 20, turn=2),
        answer("q1", TUNED, Stop.EOS, 1), answer("q1", TUNED, Stop.EOS, 3, turn=2),
        answer("q1", TUNED, Stop.EOS, 5, adapter=2),
        answer("q1", TUNED, Stop.LENGTH, 7, turn=2, adapter=2),
        # One adapter failed at the first turn, base at the second: only what both sides have
        # counts, which is the first turn of the other adapter.
        answer("q2", BASE, Stop.EOS, 30), answer("q2", BASE, Stop.ERROR, 0, turn=2),
        answer("q2", TUNED, Stop.ERROR, 0), answer("q2", TUNED, Stop.EOS, 100, turn=2),
        answer("q2", TUNED, Stop.EOS, 8, adapter=2),
        answer("q2", TUNED, Stop.EOS, 200, turn=2, adapter=2),
    ]  # fmt: skip
    found = benchmark_result(prompts, answers, [], [], [], judge=None, level=0.95)
    assert (found.n_questions, found.n_turns, found.n_adapters) == (2, 2, 2)
    assert found.fair_base is None
    lengths = found.answer_tokens
    assert lengths.base.value == (15 + 30) / 2
    assert lengths.tuned.value == ((1 + 3 + 5 + 7) / 4 + 8) / 2
    assert lengths.difference.value == (4 - 15 + 8 - 30) / 2
    assert found.stopped.tuned.value == (3 / 4 + 1) / 2
    assert (lengths.difference.n_scored, lengths.difference.n_unscored) == (2, 0)
    assert "between adapters" in lengths.difference.method
    assert "between adapters" not in lengths.base.method


def test_fair_base_is_compared_on_its_own_and_a_stop_string_counts_as_stopping() -> None:
    prompts = [prompt("q1"), prompt("q2")]
    answers = [
        a
        for q in ("q1", "q2")
        for a in (
            answer(q, BASE, Stop.LENGTH, 10),
            answer(q, FAIR, Stop.STOP_STRING if q == "q1" else Stop.LENGTH, 4),
            answer(q, TUNED, Stop.EOS, 3),
        )
    ]
    found = benchmark_result(
        prompts, answers, [near("q1", FAIR, 0.5), near("q1", TUNED, 0.75)], [], [], judge=None,
        level=0.95,
    )  # fmt: skip
    assert (found.stopped.base.value, found.stopped.tuned.value) == (0.0, 1.0)
    assert found.fair_base is not None
    assert found.fair_base.stopped.base.value == 0.5
    assert found.fair_base.answer_tokens.difference.value == -1.0
    assert found.fair_base.chrf is not None
    assert (found.fair_base.chrf.difference.value, found.fair_base.chrf.base.n_unscored) == (
        0.25,
        1,
    )
    # Base has no row of similarity: nothing of another arm stands in for it.
    assert found.chrf is not None
    assert found.chrf.difference.value is None


def test_heldout_loss_of_several_adapters() -> None:
    rows = [
        loss("a", BASE, 20, 10), loss("b", BASE, 60, 30),
        loss("a", TUNED, 10, 10), loss("b", TUNED, 30, 30),
        loss("a", TUNED, 12, 10).model_copy(update={"adapter": 2}),
        loss("b", TUNED, 48, 30).model_copy(update={"adapter": 2}),
    ]  # fmt: skip
    found = heldout_loss(rows, level=0.95)
    assert found.base.value == 2.0
    assert found.tuned.value == pytest.approx((11 + 39) / 40)
    assert found.by_adapter["1"].tuned.value == 1.0
    assert found.by_adapter["2"].tuned.value == 1.5
    assert found.by_adapter["2"].base == found.by_adapter["1"].base
    assert "between adapters" in found.difference.method
    assert heldout_loss(rows[:4], level=0.95).by_adapter == {}


def test_pairs_of_one_question_are_one_observation() -> None:
    prompts = [
        prompt(q, turn=t, category=c)
        for q, c in (("q1", "math"), ("q2", "writing"), ("q3", "math"))
        for t in (1, 2)
    ]  # fmt: skip
    preferences = [
        preference("q1", 1.0, agree=True), preference("q1", 0.5, agree=False, turn=2),
        preference("q1", 1.0, agree=True, adapter=2),
        preference("q1", 0.0, agree=True, turn=2, adapter=2),
        preference("q2", 0.5, agree=False), preference("q2", None, turn=2),
        preference("q2", None, adapter=2), preference("q2", 0.5, agree=True, turn=2, adapter=2),
        *(preference("q3", None, turn=t, adapter=a) for t in (1, 2) for a in (1, 2)),
        preference("q1", 0.0, agree=True, opponent=FAIR),
    ]  # fmt: skip
    judgments = [
        judgment("q1", BASE, "B"),
        judgment("q1", FAIR, "A").model_copy(update={"opponent": FAIR}),
    ]
    found = benchmark_result(
        prompts, [], [], judgments, preferences, judge=Judge(model="j"), level=0.95
    )
    assert found.pairwise is not None
    result = found.pairwise
    assert (result.opponent, list(found.others)) == (BASE, ["fair-base"])
    assert result.win_rate.value == pytest.approx((2.5 / 4 + 0.5) / 2)
    assert (result.win_rate.n_scored, result.win_rate.n_unscored) == (2, 1)
    assert result.questions == Tally(wins=1, losses=0, ties=1, unscored=1)
    assert result.pairs == Tally(wins=2, losses=1, ties=3, unscored=6)
    assert result.n_judgments == 1
    assert result.order_agreement.value == pytest.approx(4 / 6)
    assert result.order_agreement.n_scored == 2
    assert {name: e.value for name, e in result.by_turn.items()} == {"1": 0.75, "2": 0.375}
    assert {name: e.value for name, e in result.by_adapter.items()} == {
        "1": pytest.approx((0.75 + 0.5) / 2),
        "2": pytest.approx((0.5 + 0.5) / 2),
    }
    assert {name: (e.value, e.n_unscored) for name, e in result.by_category.items()} == {
        "math": (0.625, 1),
        "writing": (0.5, 0),
    }
    assert found.others["fair-base"].win_rate.value == 0.0
    assert found.others["fair-base"].n_judgments == 1
