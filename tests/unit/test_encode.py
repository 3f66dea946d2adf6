"""Token ids of rows and prompts on the tiny tokenizer: cutting, EOS, what is supervised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tuneproof.data.encode import IGNORED, encode_prompts, encode_rows, response_ends
from tuneproof.data.templates import parse_template
from tuneproof.recipe import Model
from tuneproof.records import Example
from tuneproof.train.model import load_tokenizer

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

TEMPLATE = parse_template("instruction-context-response")


def example(response: str, instruction: str = "one two") -> Example:
    return Example(id="r", instruction=instruction, context="", response=response, category=None)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(Model(id=str(tiny_model)))


def test_pad_is_eos(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2


def test_a_row_is_prompt_response_suffix_eos(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = encode_rows(
        tokenizer, TEMPLATE, [example("red")], max_length=None, append_eos=True, loss_on="response"
    )
    (prompt,) = encode_prompts(tokenizer, TEMPLATE, [("one two", "")])
    (row,) = rows
    assert list(row.token_ids[: row.n_prompt]) == prompt
    assert tokenizer.decode(list(row.token_ids[row.n_prompt :])) == "red\n</s>"
    assert row.supervised == (len(prompt), len(row.token_ids))
    assert row.labels == [IGNORED] * len(prompt) + list(row.token_ids[len(prompt) :])
    (end,) = response_ends(tokenizer, TEMPLATE, [example("red")], rows)
    assert tokenizer.decode(list(row.token_ids[row.n_prompt : end])) == "red"


def test_loss_on_text_supervises_all(tokenizer: PreTrainedTokenizerBase) -> None:
    (row,) = encode_rows(
        tokenizer, TEMPLATE, [example("red")], max_length=None, append_eos=False, loss_on="text"
    )
    assert row.labels == list(row.token_ids)
    assert row.token_ids[-1] != tokenizer.eos_token_id


def test_a_cut_row_does_not_end(tokenizer: PreTrainedTokenizerBase) -> None:
    """EOS after half a response would teach to stop in the middle."""
    whole = encode_rows(
        tokenizer, TEMPLATE, [example("red " * 9)], max_length=None, append_eos=True, loss_on="text"
    )[0]
    n = len(whole.token_ids)
    at_limit, under = (
        encode_rows(
            tokenizer,
            TEMPLATE,
            [example("red " * 9)],
            max_length=limit,
            append_eos=True,
            loss_on="text",
        )[0]
        for limit in (n, n - 1)
    )
    assert at_limit.ends_with_eos
    assert not at_limit.was_cut
    assert under.was_cut
    assert not under.ends_with_eos
    assert not under.response_lost
    assert under.token_ids == whole.token_ids[: n - 1]


def test_a_lost_response_is_seen(tokenizer: PreTrainedTokenizerBase) -> None:
    (row,) = encode_rows(
        tokenizer,
        TEMPLATE,
        [example("red", instruction="one two " * 30)],
        max_length=32,
        append_eos=True,
        loss_on="response",
    )
    assert row.response_lost
    assert row.supervised == (32, 32)


def test_a_prompt_that_merges_with_its_response_is_counted(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    """Without a newline between them, the blank and the word are one token."""
    glued = parse_template("{instruction} {response}")
    (row,) = encode_rows(
        tokenizer, glued, [example("green")], max_length=None, append_eos=True, loss_on="response"
    )
    (prompt,) = encode_prompts(tokenizer, glued, [("one two", "")])
    assert not row.prompt_matches
    assert row.n_prompt == len(prompt) - 1
    assert tokenizer.decode(list(row.token_ids[row.n_prompt :])) == " green</s>"
