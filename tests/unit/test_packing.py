"""Micro-batches of an optimizer step: nothing lost, nothing twice, nothing over the budget."""

from __future__ import annotations

import random

import pytest

from tuneproof.errors import DataError, RecipeError
from tuneproof.recipe_file import load_recipe
from tuneproof.train.packing import WINDOW, pack


def test_by_hand() -> None:
    # 9 + 1 and 6 + 4: two micro-batches of ten tokens hold all twenty.
    assert sorted(pack([1, 9, 4, 6], budget=10)) == [(0, 1), (2, 3)]
    # First-fit decreasing fills one to nine tokens; two as even as can be are 6 and 5.
    assert sorted(pack([5, 4, 2], budget=9)) == [(0,), (1, 2)]
    assert pack([3], budget=3) == [(0,)]


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_every_sequence_once_and_within_the_budget(parts: int) -> None:
    draw = random.Random(parts)
    for _ in range(300):
        budget = draw.randint(20, 200)
        lengths = [draw.randint(1, budget) for _ in range(draw.randint(1, 40))]
        found = pack(lengths, budget=budget, parts=parts)
        assert sorted(i for rows in found for i in rows) == list(range(len(lengths)))
        assert max(sum(lengths[i] for i in rows) for rows in found) <= budget
        assert len(found) % parts == 0
        assert all(list(rows) == sorted(rows) for rows in found)
        # First-fit decreasing: 11/9 of what would hold all tokens, and some, and then whole shares.
        fullest = 2 * sum(lengths) / budget + 1
        assert len(found) <= parts * -(-fullest // parts)


def test_processes_without_a_sequence_get_an_empty_micro_batch() -> None:
    assert sorted(pack([5, 5], budget=10, parts=4)) == [(), (), (0,), (1,)]


def test_the_same_lengths_give_the_same_micro_batches() -> None:
    lengths = [random.Random(0).randint(1, 50) for _ in range(100)]
    assert pack(lengths, budget=64) == pack(list(lengths), budget=64)


def test_many_rows_are_packed_in_windows() -> None:
    draw = random.Random(1)
    lengths = [draw.randint(1, 100) for _ in range(WINDOW + 500)]
    found = pack(lengths, budget=400)
    assert sorted(i for rows in found for i in rows) == list(range(len(lengths)))
    assert sum(lengths) / (400 * len(found)) > 0.97


def test_a_sequence_longer_than_the_budget_is_named() -> None:
    with pytest.raises(
        DataError, match=r"train\.token_budget = 8: sequence 1 .* has 9 tokens"
    ) as e:
        pack([3, 9], budget=8)
    assert "--set train.token_budget=9" in str(e.value)


def test_a_budget_too_small_is_refused_in_the_recipe() -> None:
    from tuneproof.cli.stages import bundled_recipe

    demo = bundled_recipe("demo")
    with pytest.raises(
        RecipeError, match=r"to hold a sequence of max_length: 511 is less than 512"
    ):
        load_recipe(demo, ["train.token_budget=511"])
    assert load_recipe(demo, ["train.token_budget=512"]).train.micro_batch_tokens == 512
    assert load_recipe(demo).train.micro_batch_tokens == 2 * 512


def test_a_gpu_without_bfloat16_is_named_before_anything_is_loaded() -> None:
    from tuneproof.train.check import _check_bf16

    with pytest.raises(RecipeError, match=r"model\.dtype = bfloat16: this GPU does not") as e:
        _check_bf16("bfloat16", supported=False)
    assert "--set model.dtype=auto" in str(e.value)
    _check_bf16("auto", supported=False)
    _check_bf16("bfloat16", supported=True)
