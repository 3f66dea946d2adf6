"""Similarity to the reference: chrF and exact match."""

from __future__ import annotations

import pytest

from tuneproof.judge.similarity import normalise, similarity
from tuneproof.records import Answer, Arm, Prompt, Stop


def prompt(question: str, reference: str | None, *, checkable: bool = False) -> Prompt:
    return Prompt(
        question_id=question,
        benchmark="heldout",
        category="open_qa",
        instruction="?",
        context="",
        token_ids=(1,),
        reference=reference,
        checkable=checkable,
    )


def answer(question: str, arm: Arm, text: str, stop: Stop = Stop.EOS) -> Answer:
    return Answer(
        key=f"{question}/{arm}", question_id=question, benchmark="heldout", arm=arm, text=text,
        stop=stop, n_prompt_tokens=1, n_tokens=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("Paris", " paris. "),
        ("Paris", '"Paris."'),
        ("Paris", "“Paris”!"),
        ("a  b\n c", "A B C"),
        ("STRASSE", "straße"),
        ("½", "1⁄2"),
        ("ﬁne", "fine"),
        ("42", "42。"),
        ("x", "`x`"),
    ],
)
def test_what_does_not_make_another_answer(left: str, right: str) -> None:
    assert normalise(left) == normalise(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("5", "-5"), ("3.5", "35"), ("a b", "ab"), ("50%", "50"), ("f(x)", "f(x"), ("?", "!")],
)
def test_what_does(left: str, right: str) -> None:
    assert normalise(left) != normalise(right)


def test_rows_in_order_failures_left_out_and_empty_answers_zero() -> None:
    prompts = [
        prompt("q1", "The cat sat.", checkable=True),
        prompt("q2", "A dog"),
        prompt("q3", None),
        prompt("q4", "x", checkable=True),
    ]
    answers = [
        answer("q4", Arm.BASE, "", Stop.ERROR),
        answer("q4", Arm.TUNED, " "),
        answer("q3", Arm.BASE, "anything"),
        answer("q2", Arm.TUNED, "A dog", Stop.LENGTH),
        answer("q2", Arm.BASE, "zzz"),
        answer("q1", Arm.TUNED, "the cat sat"),
        answer("q1", Arm.BASE, "The cat sat on the mat."),
    ]
    rows = similarity(prompts, answers)
    assert [(r.question_id, r.arm, r.exact) for r in rows] == [
        ("q1", Arm.BASE, False),
        ("q1", Arm.TUNED, True),
        ("q2", Arm.BASE, None),
        ("q2", Arm.TUNED, None),
        ("q4", Arm.TUNED, False),
    ]
    assert rows[2].chrf == 0.0
    assert rows[3].chrf == pytest.approx(1.0)
    assert 0.3 < rows[0].chrf < 0.9
    assert rows[4].chrf == 0.0
    assert rows[0].category == "open_qa"


def test_an_empty_answer_to_an_empty_reference_is_no_hit() -> None:
    (row,) = similarity([prompt("q", "", checkable=True)], [answer("q", Arm.BASE, " ")])
    assert (row.chrf, row.exact) == (0.0, False)


def test_chrf_by_hand() -> None:
    # "ab" against "ac": of the unigrams one of two is right, of the bigrams none of one; both
    # precisions and recalls average to (1/2 + 0)/2 = 1/4, and so does their F-score.
    (row,) = similarity([prompt("q", "ac")], [answer("q", Arm.BASE, "ab")])
    assert row.chrf == pytest.approx(0.25)


def test_every_arm_and_adapter_has_a_row() -> None:
    answers = [
        answer("q", Arm.TUNED, "ab").model_copy(update={"adapter": 2}),
        answer("q", Arm.TUNED, "xyz"),
        answer("q", Arm.FAIR_BASE, "ab"),
        answer("q", Arm.BASE, ""),
    ]
    rows = similarity([prompt("q", "ab", checkable=True)], answers)
    assert [(r.arm, r.adapter, r.exact) for r in rows] == [
        (Arm.BASE, 1, False),
        (Arm.FAIR_BASE, 1, True),
        (Arm.TUNED, 1, False),
        (Arm.TUNED, 2, True),
    ]
