"""Shingles, MinHash candidates, containment; and the findings about repeated rows."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tuneproof.data.questions import Question
from tuneproof.plan.duplicates import (
    WordNumbers,
    contained,
    jaccard,
    pairs_between,
    pairs_within,
    shingles,
)
from tuneproof.plan.judging import Asked
from tuneproof.plan.repeats import (
    Corpus,
    benchmark_overlap,
    duplicate_rows,
    split_leak,
)
from tuneproof.recipe import AlpacaEval
from tuneproof.records import Example, Split

LONG = (
    "the quick brown fox jumps over the lazy dog while the old farmer counts his seven geese and "
    "wonders whether it will rain before the evening train has left for the town across the river"
)


def test_words_are_compared_without_case_and_punctuation() -> None:
    number = WordNumbers()
    assert number("What is it?").tolist() == number("what IS, it").tolist()
    assert number("what is it").tolist() != number("it is what").tolist()
    assert len(number("?!")) == 0


def test_jaccard_by_hand() -> None:
    number = WordNumbers()
    left = shingles(number("a b c d e"))  # abc bcd cde
    right = shingles(number("a b c d f"))  # abc bcd cdf
    assert len(left) == 3
    assert jaccard(left, right) == pytest.approx(2 / 4)
    assert jaccard(left, left) == 1
    empty = shingles(number(""))
    assert jaccard(empty, empty) == 0
    # A text shorter than a shingle is one, and order counts in it.
    assert jaccard(shingles(number("a b")), shingles(number("a b"))) == 1
    assert jaccard(shingles(number("a b")), shingles(number("b a"))) == 0


def test_pairs_are_those_of_brute_force() -> None:
    draw = random.Random(3)
    vocabulary = [f"w{i}" for i in range(400)]
    number = WordNumbers()
    texts = []
    for _ in range(80):
        original = draw.choices(vocabulary, k=draw.randint(10, 60))
        texts.append(original)
        changed = list(original)
        for _ in range(draw.randint(0, 6)):
            changed[draw.randrange(len(changed))] = draw.choice(vocabulary)
        texts.append(changed)
    shingled = [shingles(number(" ".join(t))) for t in texts]
    found = {(p.left, p.right) for p in pairs_within(shingled)}
    brute = {
        (i, j)
        for j in range(len(texts))
        for i in range(j)
        if jaccard(shingled[i], shingled[j]) >= 0.8
    }
    assert found <= brute  # verified, so never more
    assert len(found) >= 0.99 * len(brute) > 20


def test_pairs_between_two_sides() -> None:
    number = WordNumbers()
    left = [shingles(number(t)) for t in (LONG, "nothing like it at all", "")]
    right = [shingles(number(t)) for t in ("what is this then", LONG.upper() + "!", "")]
    (pair,) = pairs_between(left, right)
    assert (pair.left, pair.right, pair.similarity) == (0, 1, 1.0)


def test_a_question_inside_a_text() -> None:
    number = WordNumbers()
    question = number("name seven wonders of the old world and their builders")
    texts = [
        number("Please: name seven wonders of the old world, and their builders. Thank you"),
        number("name seven wonders of the old world and their"),
        number("builders"),  # begins where the one before ends: no hit across the border
        number("other words"),
    ]
    assert contained([question], texts) == [(0, 0)]
    assert contained([number("too short to count")], [number("too short to count")]) == []
    assert contained([], texts) == []


# --- findings --------------------------------------------------------------------------------


def row(i: int, instruction: str, response: str, context: str = "") -> Example:
    return Example(
        id=f"row-{i:05}",
        instruction=instruction,
        context=context,
        response=response,
        category=None,
    )


def other(i: int) -> Example:
    return row(i, f"question {i} about {i * 7} things", f"answer {i} is {i * 11} of {i * 13}")


def splits(
    train: list[Example], validation: list[Example], test: list[Example]
) -> dict[Split, list[Example]]:
    return {Split.TRAIN: train, Split.VALIDATION: validation, Split.TEST: test}


def test_rows_that_count_as_one() -> None:
    same = row(1, "Why is the sky blue?", LONG)
    again = row(2, "why is the sky blue", LONG + ".")
    nearly = row(3, "Why is the sky so blue?", LONG)
    another_answer = row(4, "Why is the sky blue?", "because of scattering")
    label = "It belongs to the second of them"
    another_text = row(5, "Sort this note.", label, context="one two three four five")
    yet_another = row(6, "Sort this note.", label, context="six seven eight nine ten")
    parts = splits(
        [same, again, nearly, another_answer, another_text, yet_another], [other(7)], [other(8)]
    )
    repeats = Corpus(parts).repeats()
    assert {(r.first.id, r.second.id, r.identical) for r in repeats} == {
        ("row-00001", "row-00002", True),
        ("row-00001", "row-00003", False),
        ("row-00002", "row-00003", False),
    }
    finding = duplicate_rows(repeats, 6)
    assert finding is not None
    assert (finding.count, finding.severity) == (2, "warning")
    assert "1 word for word" in finding.evidence
    few = duplicate_rows(repeats, 1000)
    assert few is not None
    assert few.severity == "note"
    assert duplicate_rows([], 6) is None


def test_rows_that_cross_the_splits() -> None:
    train = [other(i) for i in range(40)]
    copy = row(900, "Why is the sky blue?", LONG)
    parts = splits(
        [*train, copy],
        [other(100), copy.model_copy(update={"id": "row-00901"})],
        [
            copy.model_copy(update={"id": "row-00902"}),
            row(903, "why is the sky blue", "nobody knows"),
            *(other(i) for i in range(200, 220)),
        ],
    )
    corpus = Corpus(parts)
    before = corpus.asked_before()
    assert before == ["row-00902", "row-00903"]
    finding = split_leak(corpus.repeats(), parts, asked_before=before, test_is_used=True)
    assert finding is not None
    assert (finding.count, finding.severity) == (1, "error")  # 1 of 22 is above one in a hundred
    assert "1 of 22" in finding.evidence
    assert "1 of 2 " in finding.evidence
    unused = split_leak(corpus.repeats(), parts, asked_before=before, test_is_used=False)
    assert unused is not None
    assert unused.severity == "note"
    many = parts | {Split.TEST: [*parts[Split.TEST], *(other(i) for i in range(300, 400))]}
    rare = split_leak(corpus.repeats(), many, asked_before=before, test_is_used=True)
    assert rare is not None
    assert rare.severity == "warning"  # 1 of 122
    clean = splits(train, [other(100)], [other(200)])
    assert split_leak([], clean, asked_before=[], test_is_used=True) is None


def asked_of(questions: list[str], n_asked: int | None = None) -> Asked:
    made = tuple(
        Question(id=f"alpaca-{i:03}", benchmark="alpaca_eval", category="koala", turns=(text,))
        for i, text in enumerate(questions)
    )
    return Asked(
        index=0,
        evaluation=AlpacaEval(benchmark="alpaca_eval"),
        available=805,
        n_questions=n_asked or len(made),
        n_turns=1,
        turns=tuple(q.turns for q in made),
        questions=made,
    )


def test_benchmark_questions_among_the_rows() -> None:
    wonders = "Name seven wonders of the old world and their builders"
    parts = splits(
        [
            row(1, "what is the meaning of life", "42"),
            row(2, "What is the meaning of rain?", "water"),
            row(3, "Help me.", "no", context=f"He asked: {wonders}, and left."),
        ],
        [row(4, "What is the capital of Australia?", "Canberra")],  # not trained on
        [other(5)],
    )
    asked = asked_of(
        ["What is the meaning of life?\x1b[31m", "What is the capital of Australia?", wonders]
    )
    overlaps = Corpus(parts).overlaps([asked])
    assert [(o.question_id, o.row.id) for o in overlaps] == [
        ("alpaca-000", "row-00001"),
        ("alpaca-002", "row-00003"),
    ]
    finding = benchmark_overlap(overlaps, [asked])
    assert finding is not None
    assert (finding.count, finding.severity) == (2, "error")
    assert "\x1b" not in finding.evidence
    assert "row-00001, row-00003" in finding.remedy
    rare = benchmark_overlap(overlaps, [asked_of(["a", "b", "c"], n_asked=805)])
    assert rare is not None
    assert rare.severity == "warning"
    assert benchmark_overlap([], [asked]) is None


def test_texts_without_words() -> None:
    parts = splits([row(1, "???", "!!!"), row(2, "???", "!!!")], [other(3)], [other(4)])
    assert Corpus(parts).repeats() == []
    assert np.array_equal(shingles(WordNumbers()("")), np.empty(0, dtype=np.uint32))
