"""The placebo: responses shuffled with none at its place, and what is compared with it."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tuneproof.data.placebo import derangement, shuffle_responses
from tuneproof.errors import DataError
from tuneproof.recipe import VerdictRule
from tuneproof.records import Arm, Example, Prompt, SequenceLoss, Similarity
from tuneproof.stats.placebo import placebo_result

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuneproof.results import PlaceboResult


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
    return [f"row-{i}" for i in range(n)]


def losses(arms: Mapping[Arm, Mapping[str, float]]) -> list[SequenceLoss]:
    """One token a row, so that the loss is the plain mean."""
    return [
        SequenceLoss(
            key=f"{q}/{arm}", question_id=q, arm=arm, category=None, response_nll=v, n_tokens=1,
            eos_nll=0.0,
        )
        for arm, values in arms.items()
        for q, v in values.items()
    ]  # fmt: skip


def of_loss(
    arms: Mapping[Arm, Mapping[str, float]], *, effect: float = 0.0
) -> PlaceboResult | None:
    return placebo_result(
        VerdictRule(metric="heldout_loss", smallest_effect=effect),
        losses=losses(arms),
        prompts=[],
        similarities=[],
        benchmarks={},
    )


def test_by_hand() -> None:
    found = of_loss(
        {
            Arm.BASE: {"a": 3.0, "b": 3.0, "c": 3.0},
            Arm.TUNED: {"a": 1.0, "b": 2.0, "c": 3.0},
            Arm.PLACEBO: {"a": 2.0, "b": 4.0, "c": 3.0},
        }
    )
    assert found is not None
    assert found.tuned_gain is not None
    assert found.placebo_gain is not None
    # Gains over base 2, 1, 0 and 1, −1, 0; differences 1, 2, 0: sd 1, SE 1/√3; t(2) = 4.302653.
    assert found.tuned_gain.value == 1.0
    assert found.placebo_gain.value == 0.0
    assert found.over_placebo.value == 1.0
    assert found.over_placebo.low == pytest.approx(1 - 4.302653 / 3**0.5, abs=1e-6)
    assert not found.beaten
    assert found.placebo_is_better is False


def test_what_hard_questions_have_in_common_does_not_widen_it() -> None:
    draw = random.Random(1)
    hard = {q: draw.gauss(5, 1) for q in names(100)}
    found = of_loss(
        {
            Arm.BASE: dict.fromkeys(names(100), 5.0),
            Arm.TUNED: {q: v - 0.3 + draw.gauss(0, 0.1) for q, v in hard.items()},
            Arm.PLACEBO: {q: v + draw.gauss(0, 0.1) for q, v in hard.items()},
        },
        effect=0.1,
    )
    assert found is not None
    assert found.beaten
    assert found.placebo_gain is not None
    assert found.over_placebo.width < 0.2 * found.placebo_gain.width


def test_the_smallest_effect_must_be_exceeded() -> None:
    arms = {
        Arm.BASE: dict.fromkeys(names(50), 3.0),
        Arm.TUNED: {q: 2.8 - (i % 2) / 100 for i, q in enumerate(names(50))},
        Arm.PLACEBO: dict.fromkeys(names(50), 3.0),
    }
    for effect, beaten in ((0.1, True), (0.3, False)):
        found = of_loss(arms, effect=effect)
        assert found is not None
        assert found.beaten == beaten


def test_exact_match_and_its_sentences() -> None:
    def of(tuned: int, placebo: int) -> str:
        """100 checkable questions; base is right on 50, the others on so many, from the first."""
        right = {Arm.BASE: 50, Arm.TUNED: tuned, Arm.PLACEBO: placebo}
        found = placebo_result(
            VerdictRule(metric="exact_match"),
            losses=[],
            prompts=[
                Prompt(
                    question_id=q, benchmark="heldout", category=None, instruction="?", context="",
                    token_ids=(1,), reference="x", checkable=True,
                )
                for q in names(100)
            ],
            similarities=[
                Similarity(question_id=q, arm=arm, category=None, chrf=0.5, exact=i < n)
                for arm, n in right.items()
                for i, q in enumerate(names(100))
            ],
            benchmarks={},
        )  # fmt: skip
        assert found is not None
        return found.sentence

    # 30 of 100 differ by 1: 30 ± 9.14.
    assert of(80, 50) == (
        "Better than placebo, by 30.0 points, 95 % interval 20.9 to 39.1: what was learned is more "
        "than the format. The placebo did not come out better than base (0.0 points, 95 % interval "
        "−3.7 to 3.7)."
    )
    # 2 of 100: 2 ± 2.79; 20 of 100: 20 ± 7.98.
    assert of(72, 70) == (
        "Not shown to be better than placebo (2.0 points, 95 % interval −0.8 to 4.8): the gain may "
        "be format and length, which shuffled responses teach as well. The placebo itself came out "
        "better than base, by 20.0 points, 95 % interval 12.0 to 28.0."
    )


def test_nothing_to_compare() -> None:
    base = dict.fromkeys(names(3), 1.0)
    assert of_loss({Arm.BASE: base, Arm.TUNED: base}) is None
    apart = of_loss({Arm.BASE: base, Arm.TUNED: {"row-0": 1.0}, Arm.PLACEBO: {"row-1": 1.0}})
    assert apart is not None
    assert not apart.beaten
    assert apart.sentence == "Nothing was scored for tuned and placebo alike."
    one = of_loss({Arm.BASE: base, Arm.TUNED: {"row-0": 1.0}, Arm.PLACEBO: {"row-0": 2.0}})
    assert one is not None
    assert one.sentence.startswith("Tuned and placebo cannot be compared")
