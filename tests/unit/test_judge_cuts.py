"""Cuts: where an answer ends, both to one length, and which matches have to be judged again."""

from __future__ import annotations

import pytest

from tuneproof.data.sections import section_starts
from tuneproof.data.templates import parse_template
from tuneproof.judge.cuts import cut_at_stop, cut_at_word, cut_matches, cut_to_equal_length
from tuneproof.records import Arm, Condition, Exchange, Match

TEMPLATE = parse_template("instruction-context-response")
MARKERS = section_starts(TEMPLATE)


def test_markers_are_the_templates_headings() -> None:
    assert MARKERS == ("\n### Instruction:", "\n### Context:", "\n### Response:")


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Paris.\n\n### Instruction:\nWhat is …", "Paris."),
        ("Paris.\n### Response:\nParis.\n### Instruction:\n", "Paris."),
        ("### Instruction:\nanother question", ""),
        ("A heading: ### Instruction: within a line", "A heading: ### Instruction: within a line"),
        (" untouched \n", " untouched \n"),
        ("### Explanation:\nnot of this template", "### Explanation:\nnot of this template"),
        ("", ""),
    ],
)
def test_cut_at_stop(text: str, left: str) -> None:
    assert cut_at_stop(text, MARKERS) == left
    # Nothing is left to cut.
    assert cut_at_stop(left, MARKERS) == left


def test_without_markers_nothing_is_cut() -> None:
    assert cut_at_stop("a\n### Instruction:\nb", ()) == "a\n### Instruction:\nb"


@pytest.mark.parametrize(
    ("text", "limit", "left"),
    [
        ("one two three", 13, "one two three"),
        ("one two three", 12, "one two"),
        ("one two three", 8, "one two"),
        ("one two three", 7, "one two"),  # the limit falls on a word's end
        ("one two three", 6, "one"),
        ("one two three", 2, "on"),  # not even the first word fits
        ("one two three", 0, ""),
        ("東京は日本の首都です", 4, "東京は日"),  # no spaces between words
        ("  one two", 7, "  one"),
        ("one\n\ntwo three", 10, "one\n\ntwo"),
    ],
)
def test_cut_at_word(text: str, limit: int, left: str) -> None:
    assert cut_at_word(text, limit) == left


def test_cut_to_equal_length() -> None:
    assert cut_to_equal_length("one two three", "12345678") == ("one two", "12345678")
    assert cut_to_equal_length("12345678", "one two three") == ("12345678", "one two")
    assert cut_to_equal_length("same", "size") == ("same", "size")
    assert cut_to_equal_length("", "something") == ("", "")


def match(tuned: str, base: str, first: Arm = Arm.TUNED, question: str = "q") -> Match:
    a, b = (tuned, base) if first is Arm.TUNED else (base, tuned)
    return Match(
        question_id=question,
        benchmark="heldout",
        opponent=Arm.BASE,
        instruction="?",
        context="",
        first=first,
        answer_a=a,
        answer_b=b,
    )


RUNS_ON = "Paris.\n\n### Instruction:\nNext?"


def test_only_what_a_cut_changed_is_judged_again() -> None:
    matches = [
        match("The capital is Paris.", RUNS_ON, first, question="cut")
        for first in (Arm.TUNED, Arm.BASE)
    ]
    matches.append(match("The capital is Rome.", "Rome is it.", question="as it was"))
    matches.append(match("Paris.", RUNS_ON, question="alike"))
    matches.append(match("Paris.", "### Response:\n### Response:", question="emptied"))
    found = cut_matches(matches, Condition.STOPPED, markers=MARKERS)
    assert [m.question_id for m in found.changed] == ["cut", "cut", "emptied"]
    assert [m.question_id for m in found.alike] == ["alike"]
    assert [m.question_id for m in found.unchanged] == ["as it was"]
    # Both orders of a pair have the same texts.
    assert (found.changed[0].answer_a, found.changed[0].answer_b) == (
        "The capital is Paris.",
        "Paris.",
    )
    assert (found.changed[1].answer_a, found.changed[1].answer_b) == (
        "Paris.",
        "The capital is Paris.",
    )
    assert len(found.changed) == 3
    assert found.n_answers_cut == {Arm.BASE: 4}
    assert found.n_emptied == {Arm.BASE: 1}
    assert found.n_shortened == {}


def test_equal_length_is_cut_after_the_stop() -> None:
    found = cut_matches(
        [match("The capital is Paris.", RUNS_ON)], Condition.EQUAL_LENGTH, markers=MARKERS
    )
    assert (found.changed[0].answer_a, found.changed[0].answer_b) == ("The", "Paris.")
    assert found.n_answers_cut == {Arm.TUNED: 1, Arm.BASE: 1}
    assert found.n_shortened == {Arm.TUNED: 1}  # base's was cut at the marker alone
    longer = cut_matches([match("Yes.", RUNS_ON)], Condition.EQUAL_LENGTH, markers=MARKERS)
    assert longer.n_shortened == {Arm.BASE: 1}
    # Of equal length already, and without a marker: as it was.
    same = match("four", "five")
    assert cut_matches([same], Condition.EQUAL_LENGTH, markers=MARKERS).unchanged == (same,)


def test_earlier_turns_are_cut_too() -> None:
    later = Match(
        question_id="q",
        benchmark="mt_bench",
        turn=2,
        opponent=Arm.BASE,
        instruction="And then?",
        context="",
        first=Arm.BASE,
        answer_a="same",
        answer_b="size",
        earlier=(Exchange(instruction="?", answer_a=RUNS_ON, answer_b="Paris. Surely."),),
    )
    found = cut_matches([later], Condition.STOPPED, markers=MARKERS)
    assert found.changed[0].earlier[0] == Exchange(
        instruction="?", answer_a="Paris.", answer_b="Paris. Surely."
    )
    assert (found.changed[0].answer_a, found.changed[0].answer_b) == ("same", "size")
    assert found.n_answers_cut == {Arm.BASE: 1}


def test_nothing_to_cut() -> None:
    found = cut_matches([], Condition.STOPPED, markers=MARKERS)
    assert (found.changed, found.alike, found.unchanged, found.n_answers_cut) == ((), (), (), {})
