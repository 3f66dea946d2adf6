"""The placebo: responses shuffled with none at its place, and what is compared with it."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tuneproof.data.placebo import derangement, shuffle_responses
from tuneproof.errors import DataError
from tuneproof.records import Example
from tuneproof.stats.estimates import SHARE_DIFFERENCE
from tuneproof.stats.placebo import compare_with_placebo, sentence


def example(i: int, response: str) -> Example:
    return Example(
        id=f"row-{i}",
        instruction=f"do {i}",
        context=f"about {i}",
        response=response,
        category="some",
        checkable=True,
    )


# --- the data --------------------------------------------------------------------------------


def test_only_the_responses_move() -> None:
    rows = [example(i, f"answer {i}") for i in range(20)]
    found = shuffle_responses(rows, seed=1)
    for before, after in zip(rows, found, strict=True):
        assert after.response != before.response
        assert not after.checkable
        assert after.model_copy(update={"response": "", "checkable": False}) == before.model_copy(
            update={"response": "", "checkable": False}
        )
    assert Counter(r.response for r in found) == Counter(r.response for r in rows)


def test_the_seed_decides() -> None:
    rows = [example(i, f"answer {i}") for i in range(20)]
    assert shuffle_responses(rows, seed=1) == shuffle_responses(rows, seed=1)
    assert shuffle_responses(rows, seed=1) != shuffle_responses(rows, seed=2)


def test_no_text_comes_back_to_where_it_stood() -> None:
    draw = random.Random(0)
    for seed in range(300):
        n = draw.randint(2, 12)
        texts = [draw.choice("abcdef") for _ in range(n)]
        if 2 * max(Counter(texts).values()) > n:
            with pytest.raises(DataError, match="gives no placebo"):
                derangement(texts, seed=seed)
            continue
        order = derangement(texts, seed=seed)
        assert sorted(order) == list(range(n))
        assert all(texts[i] != texts[source] for i, source in enumerate(order))


def test_half_of_one_text_is_just_possible() -> None:
    assert sorted(derangement(["yes", "yes", "no", "maybe"], seed=3)[:2]) == [2, 3]


@pytest.mark.parametrize("responses", [[], ["one"], ["yes", "yes", "no"], ["yes", "yes"]])
def test_what_cannot_be_shuffled(responses: list[str]) -> None:
    with pytest.raises(DataError, match="gives no placebo"):
        shuffle_responses([example(i, r) for i, r in enumerate(responses)], seed=1)


def test_every_other_place_is_drawn() -> None:
    """Of four different texts each place takes one of the three others, about equally often."""
    counts: Counter[tuple[int, int]] = Counter()
    for seed in range(3000):
        counts.update(enumerate(derangement(list("abcd"), seed=seed)))
    assert len(counts) == 12
    assert all(850 < n < 1150 for n in counts.values())


# --- the comparison --------------------------------------------------------------------------


def names(n: int) -> list[str]:
    return [f"q{i}" for i in range(n)]


def test_by_hand() -> None:
    tuned = {"a": 0.5, "b": 0.5, "c": 0.0, "only tuned": 0.5}
    placebo = {"a": 0.0, "b": -0.5, "c": 0.0, "only placebo": 0.5}
    found = compare_with_placebo(
        tuned, placebo, questions=[*tuned, "neither"], level=0.95, smallest_effect=0.0
    )
    # Differences 0.5, 1, 0: mean 0.5, sd 0.5, SE 0.5/√3; t(2) = 4.302653.
    assert found.over_placebo.value == 0.5
    assert found.over_placebo.low == pytest.approx(0.5 - 4.302653 * 0.5 / 3**0.5, abs=1e-6)
    assert found.tuned_gain.value == pytest.approx(1 / 3)
    assert found.placebo_gain.value == pytest.approx(-1 / 6)
    for e in (found.tuned_gain, found.placebo_gain, found.over_placebo):
        assert (e.n_scored, e.n_unscored) == (3, 3)
    assert not found.beats_placebo
    assert not found.placebo_is_better


def test_what_hard_questions_have_in_common_does_not_widen_it() -> None:
    draw = random.Random(1)
    hard = {q: draw.gauss(0, 1) for q in names(100)}
    found = compare_with_placebo(
        {q: v + 0.3 + draw.gauss(0, 0.1) for q, v in hard.items()},
        {q: v + draw.gauss(0, 0.1) for q, v in hard.items()},
        questions=names(100),
        level=0.95,
        smallest_effect=0.1,
    )
    assert found.beats_placebo
    assert not found.placebo_is_better
    assert found.over_placebo.width < 0.2 * found.placebo_gain.width


def test_the_smallest_effect_must_be_exceeded() -> None:
    tuned = {q: 0.2 + (i % 2) / 100 for i, q in enumerate(names(50))}
    placebo = dict.fromkeys(names(50), 0.0)
    for effect, beats in ((0.1, True), (0.3, False)):
        found = compare_with_placebo(
            tuned, placebo, questions=names(50), level=0.95, smallest_effect=effect
        )
        assert found.beats_placebo == beats


def test_the_sentences() -> None:
    def of(tuned: float, placebo: float) -> str:
        """100 questions; the given share gains a half, the rest loses it."""
        gains = [{q: 0.5 if i < s * 100 else -0.5 for i, q in enumerate(names(100))}
                 for s in (tuned, placebo)]  # fmt: skip
        return sentence(
            compare_with_placebo(
                gains[0],
                gains[1],
                questions=names(100),
                level=0.95,
                smallest_effect=0.0,
                bounds=(-0.5, 0.5),
            )
        )

    # 30 of 100 differ by 1: 30 ± 9.14; the placebo is at 50: ± 9.97.
    assert of(0.8, 0.5) == (
        "Better than placebo, by 30.0 points, 95 % interval 20.9 to 39.1: what was learned is more "
        "than the format. The placebo did not come out better than base (0.0 points, 95 % interval "
        "−10.0 to 10.0)."
    )
    assert of(0.72, 0.7) == (
        "Not shown to be better than placebo (2.0 points, 95 % interval −0.8 to 4.8): the gain may "
        "be format and length, which shuffled responses teach as well. The placebo itself came out "
        "better than base, by 20.0 points, 95 % interval 10.9 to 29.1."
    )


def test_nothing_to_compare() -> None:
    nothing = compare_with_placebo(
        {"a": 1.0}, {"b": 1.0}, questions=["a", "b"], level=0.95, smallest_effect=0.0,
        bounds=SHARE_DIFFERENCE,
    )  # fmt: skip
    assert not nothing.beats_placebo
    assert sentence(nothing) == "Nothing was scored for tuned and placebo alike."
    one = compare_with_placebo(
        {"a": 1.0}, {"a": 0.0}, questions=["a"], level=0.95, smallest_effect=0.0
    )
    assert sentence(one).startswith("Tuned and placebo cannot be compared")
