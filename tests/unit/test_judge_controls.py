"""Controls: pairs with a known winner, what a judge made of them, and the gate."""

from __future__ import annotations

import pytest

from tuneproof.judge.accuracy import (
    ControlResult,
    Said,
    control_result,
    judge_accuracy,
    wilson,
)
from tuneproof.judge.controls import (
    CannotBuild,
    Control,
    ControlKind,
    KnownAnswer,
    build_controls,
    known_answers,
)
from tuneproof.judge.own import OwnPairwise
from tuneproof.recipe import Judge
from tuneproof.records import Arm, Prompt

OTHER, TRUNCATED, EMPTY = ControlKind


def known(i: int, *, words: int = 40, right: str | None = None) -> KnownAnswer:
    text = " ".join(f"w{i}x{j}" for j in range(words))
    return KnownAnswer(
        question_id=f"row-{i:03}",
        benchmark="heldout",
        instruction=f"Question {i}?",
        context="",
        right=text if right is None else right,
    )


# --- building --------------------------------------------------------------------------------


def test_thirty_of_each_kind_on_different_questions() -> None:
    found = build_controls([known(i) for i in range(120)], seed=7, per_kind=30)
    kinds = [c.kind for c in found.controls]
    assert kinds == [OTHER] * 30 + [TRUNCATED] * 30 + [EMPTY] * 30
    assert found.cannot == ()
    assert len({c.known.question_id for c in found.controls}) == 90
    assert len({c.id for c in found.controls}) == 90


def test_the_same_seed_draws_the_same_and_another_does_not() -> None:
    answers = [known(i) for i in range(120)]
    found = build_controls(answers, seed=7, per_kind=30)
    assert build_controls(answers[::-1], seed=7, per_kind=30) == found
    assert build_controls(answers, seed=8, per_kind=30) != found


def test_what_the_wrong_answers_are() -> None:
    answers = [known(i) for i in range(90)]
    by_id = {k.question_id: k for k in answers}
    for c in build_controls(answers, seed=1, per_kind=30).controls:
        if c.kind is OTHER:
            assert c.wrong_from is not None
            assert c.wrong_from != c.known.question_id
            assert c.wrong == by_id[c.wrong_from].right
        elif c.kind is TRUNCATED:
            right = c.known.right
            assert right.startswith(c.wrong)
            # A third of the characters at most, and whole words.
            assert 0.28 * len(right) < len(c.wrong) <= len(right) / 3
            assert right[len(c.wrong)] == " "
        else:
            assert c.wrong == ""


def test_both_orders_of_a_control() -> None:
    control = Control(kind=EMPTY, known=known(1, right="yes"), wrong="")
    first, second = control.matches()
    assert (first.first, first.answer_a, first.answer_b) == (Arm.TUNED, "yes", "")
    assert (second.first, second.answer_a, second.answer_b) == (Arm.BASE, "", "yes")
    assert first.question_id == second.question_id == "control/empty/row-001"
    # A protocol can ask about them, and asks two different things.
    protocol, judge = OwnPairwise(orders=2), Judge(model="judge")
    assert protocol.request(first, judge) != protocol.request(second, judge)


def test_short_answers_cannot_be_truncated() -> None:
    found = build_controls([known(i, words=3) for i in range(60)], seed=1, per_kind=10)
    assert [c.kind for c in found.controls] == [OTHER] * 10 + [EMPTY] * 10
    assert found.cannot == (
        CannotBuild(
            kind=TRUNCATED,
            n_missing=10,
            reason="only 0 of 60 known answers have at least 24 words, as it takes to be visibly "
            "cut",
        ),
    )


def test_few_answers_serve_several_kinds_once_each() -> None:
    found = build_controls([known(i) for i in range(5)], seed=1, per_kind=30)
    assert [c.kind for c in found.controls] == [OTHER] * 5 + [TRUNCATED] * 5 + [EMPTY] * 5
    assert [(c.kind, c.n_missing) for c in found.cannot] == [
        (OTHER, 25),
        (TRUNCATED, 25),
        (EMPTY, 25),
    ]
    assert len({c.id for c in found.controls}) == 15


def test_nothing_to_build_from() -> None:
    nothing = build_controls([], seed=1, per_kind=30)
    assert nothing.controls == ()
    assert [c.n_missing for c in nothing.cannot] == [30, 30, 30]
    assert nothing.cannot[0].reason == (
        "no question has a reference or stored answer that is known to be right"
    )
    blank = build_controls([known(0, right=" \n")], seed=1, per_kind=30)
    assert blank.controls == ()
    assert blank.cannot[2].reason == "all 1 known answers are empty"


def test_an_answer_that_may_be_right_too_is_not_taken() -> None:
    # Every other answer is the same, within it, or answers the same instruction.
    answers = [
        known(0, right="twelve"),
        known(1, right="Twelve."),
        known(2, right="twelve sheep"),
    ]
    same_question = KnownAnswer(
        question_id="row-003", benchmark="heldout", instruction="question 0?", context="other",
        right="thirty",
    )  # fmt: skip
    found = build_controls([*answers, same_question], seed=1, per_kind=4)
    pairs = {(c.known.question_id, c.wrong_from) for c in found.controls if c.kind is OTHER}
    allowed = {("row-001", "row-003"), ("row-002", "row-003")}
    assert pairs >= allowed
    assert {source for question, source in pairs if question == "row-003"} <= {"row-001", "row-002"}
    assert "row-000" not in {question for question, _ in pairs}


def test_known_answers_are_references_or_stored() -> None:
    def prompt(name: str, reference: str | None, turn: int = 1) -> Prompt:
        return Prompt(
            question_id=name, benchmark="alpaca_eval", category=None, turn=turn, instruction="?",
            context="", token_ids=None, reference=reference, checkable=False,
        )  # fmt: skip

    prompts = [prompt("a", "of a"), prompt("b", None), prompt("c", None), prompt("a", None, turn=2)]
    found = known_answers(prompts, {"b": "stored of b", "a": "stored of a"})
    assert [(k.question_id, k.right) for k in found] == [("a", "of a"), ("b", "stored of b")]


# --- counting --------------------------------------------------------------------------------


def test_wilson_by_hand() -> None:
    # 28 of 30, z = 1.959964: centre (28/30 + z²/60)/(1 + z²/30), as in any table: 0.7868 to 0.9815.
    assert wilson(28, 30, level=0.95) == pytest.approx((0.786765, 0.981522), abs=1e-6)
    # n/(n + z²) at all, and z²/(n + z²) at none.
    assert wilson(16, 16, level=0.95) == pytest.approx((16 / 19.841459, 1.0), abs=1e-7)
    assert wilson(0, 16, level=0.95) == pytest.approx((0.0, 3.841459 / 19.841459), abs=1e-7)


def result(first: Said | None, second: Said | None, kind: ControlKind = EMPTY) -> ControlResult:
    return ControlResult(kind=kind, right_first=first, right_second=second)


@pytest.mark.parametrize(
    ("shown_first", "shown_second", "said"),
    [
        (1.0, 0.0, ("right", "right")),
        (0.9, 0.2, ("right", "right")),
        (1.0, 1.0, ("right", "wrong")),
        (0.5, 0.0, ("tie", "right")),
        (0.0, 0.5, ("wrong", "tie")),
        (None, 0.0, (None, "right")),
    ],
)
def test_from_probabilities(
    shown_first: float | None, shown_second: float, said: tuple[Said | None, Said]
) -> None:
    """P(first is better), with the right answer first and then second."""
    control = Control(kind=EMPTY, known=known(1), wrong="")
    found = control_result(control, {Arm.TUNED: shown_first, Arm.BASE: shown_second})
    assert (found.right_first, found.right_second) == said
    assert found.is_right == (said == ("right", "right"))
    # A reply that never came is like one that could not be read.
    assert control_result(control, {}).unparsed


def test_only_both_orders_count() -> None:
    results = [
        result("right", "right"),
        result("right", "right", TRUNCATED),
        result("right", "tie"),
        result("tie", "tie"),
        result("right", "wrong"),
        result("wrong", "right"),
        result("wrong", "wrong"),
        result(None, "right"),
        result(None, None),
        result("right", "right"),
    ]
    found = judge_accuracy(results)
    overall = found.overall
    assert (overall.n_controls, overall.n_right) == (10, 3)
    assert (overall.n_ties, overall.n_contradictions, overall.n_unparsed) == (2, 2, 2)
    assert overall.accuracy.value == 0.3
    assert (overall.accuracy.low, overall.accuracy.high) == wilson(3, 10, level=0.95)
    assert set(found.by_kind) == {TRUNCATED, EMPTY}
    assert (found.by_kind[TRUNCATED].n_right, found.by_kind[TRUNCATED].n_controls) == (1, 1)
    assert found.by_kind[EMPTY].n_right == 2


def test_the_gate() -> None:
    good = [result("right", "right", kind) for kind in ControlKind for _ in range(30)]
    ties = [result("tie", "tie", TRUNCATED)] * 10
    passes = judge_accuracy([*good[:80], *ties]).gate(0.8)
    assert passes.passes
    assert passes.sentence == (
        "The judge may decide: it named the better answer in both orders on 80 of 90 control pairs "
        "(95 % lower bound 0.807, at least 0.8; worst against truncated answers, 30 of 40; 10 "
        "called ties)."
    )
    wrong = [result("wrong", "right", OTHER)] * 10 + [result(None, "right", EMPTY)]
    refused = judge_accuracy([*good[11:], *wrong]).gate(0.8)
    assert not refused.passes
    assert refused.sentence == (
        "The judge is refused: it named the better answer in both orders on 79 of 90 control pairs "
        "(95 % lower bound 0.794, under 0.8; worst against answers to another question, 19 of 29; "
        "10 contradicted by the other order; 1 without a reply that could be read)."
    )
    assert judge_accuracy([*good[11:], *wrong]).gate(0.75).passes


def test_few_controls_pass_no_judge() -> None:
    perfect = [result("right", "right")] * 15
    refused = judge_accuracy(perfect).gate(0.8)
    assert not refused.passes
    assert refused.sentence.endswith("With so few controls no judge could pass.")
    assert "0.796" in refused.sentence
    assert judge_accuracy([*perfect, perfect[0]]).gate(0.8).passes


def test_no_controls_is_no_pass() -> None:
    found = judge_accuracy([])
    assert (found.overall.accuracy.value, found.overall.accuracy.note) == (None, "no controls")
    assert found.gate(0.8).sentence == (
        "The judge is refused: there was no control pair to test it on."
    )


def test_a_judge_that_goes_by_the_place_or_the_length_is_refused() -> None:
    """The whole way: pairs, both orders, a judge of one rule, the gate."""
    controls = build_controls(
        [known(i, words=30 + i) for i in range(120)], seed=3, per_kind=30
    ).controls

    def accuracy(rule: str) -> float:
        results = []
        for control in controls:
            p = {}
            for match in control.matches():
                a, b = match.answer_a, match.answer_b
                first = True if rule == "place" else len(a) > len(b)
                if rule == "truth":
                    first = a == control.known.right
                p[match.first] = float(first)
            results.append(control_result(control, p))
        found = judge_accuracy(results)
        assert found.gate(0.8).passes == (rule == "truth")
        return found.overall.accuracy.value or 0.0

    assert accuracy("truth") == 1.0
    assert accuracy("place") == 0.0
    # Right on truncated and empty ones, by chance on the others.
    assert 0.6 < accuracy("length") < 0.95
