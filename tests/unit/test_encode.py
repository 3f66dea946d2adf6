"""Token ids of rows and prompts on the tiny tokenizer: cutting, EOS, what is supervised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tuneproof.data import encode
from tuneproof.data.encode import (
    IGNORED,
    EncodedRow,
    encode_prompts,
    encode_rows,
    response_ends,
    token_ids,
)
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


# --- rows that do not fit, and tokens that are kept -------------------------------------------


def with_context(context: str, response: str = "red green") -> Example:
    return Example(id="r", instruction="one two", context=context, response=response, category=None)


def shortened(
    tokenizer: PreTrainedTokenizerBase, examples: list[Example], max_length: int
) -> list[EncodedRow]:
    return encode_rows(
        tokenizer,
        TEMPLATE,
        examples,
        max_length=max_length,
        append_eos=True,
        loss_on="response",
        over_length="shorten-context",
    )


def test_a_context_is_shortened_until_the_response_fits(tokenizer: PreTrainedTokenizerBase) -> None:
    long = with_context("red green blue " * 60)
    (row,) = shortened(tokenizer, [long], 128)
    assert 100 < len(row.token_ids) <= 128
    assert row.context_shortened
    assert row.was_cut  # tokens were lost, though none of the response
    assert row.ends_with_eos
    text = str(tokenizer.decode(list(row.token_ids), skip_special_tokens=True))
    assert text.startswith("### Instruction:\none two\n\n### Context:\nred green blue red")
    assert text.endswith("\n\n### Response:\nred green\n")
    target = [i for i in row.labels if i != IGNORED]
    assert tokenizer.decode(target) == "red green\n</s>"
    # No word was cut in two.
    context = text.partition("### Context:\n")[2].partition("\n\n###")[0]
    assert set(context.split()) == {"red", "green", "blue"}


def test_rows_that_fit_are_left_alone_by_shortening(tokenizer: PreTrainedTokenizerBase) -> None:
    short, long = with_context("blue"), with_context("red green blue " * 60)
    rows = shortened(tokenizer, [short, long, short], 128)
    plain = encode_rows(
        tokenizer, TEMPLATE, [short], max_length=128, append_eos=True, loss_on="response"
    )
    assert rows[0] == rows[2] == plain[0]
    assert [r.context_shortened for r in rows] == [False, True, False]


def test_a_response_that_is_too_long_by_itself_is_cut_and_counted(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    (row,) = shortened(tokenizer, [with_context("blue", response="red green blue " * 60)], 128)
    assert len(row.token_ids) == 128
    assert (row.was_cut, row.context_shortened, row.ends_with_eos) == (True, True, False)
    assert not row.response_lost


def test_kept_tokens_are_those_that_were_counted(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    texts = ["red", "", "one two three\n", "grün ☃"]
    counted = token_ids(tokenizer, texts)
    assert counted == [tokenizer(t)["input_ids"] for t in texts]
    assert token_ids(tokenizer, texts, cache=tmp_path) == counted
    (kept,) = tmp_path.glob("*.npz")
    assert token_ids(tokenizer, texts, cache=tmp_path) == counted
    assert token_ids(tokenizer, texts[:2], cache=tmp_path) == counted[:2]
    assert len(list(tmp_path.glob("*.npz"))) == 2
    # A torn file is counted again, and put right.
    kept.write_bytes(kept.read_bytes()[:50])
    assert token_ids(tokenizer, texts, cache=tmp_path) == counted
    assert kept.stat().st_size > 50


def test_what_is_kept_is_read_and_not_counted(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    """Another file under the same name shows: the answer comes from there."""
    token_ids(tokenizer, ["red"], cache=tmp_path)
    token_ids(tokenizer, ["green"], cache=tmp_path)
    first, second = sorted(tmp_path.glob("*.npz"))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert token_ids(tokenizer, ["red"], cache=tmp_path) == token_ids(tokenizer, ["green"])


def test_only_the_newest_files_are_kept(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encode, "KEPT_FILES", 3)
    for n in range(6):
        token_ids(tokenizer, [f"red {n}"], cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_cache_that_cannot_be_written_is_done_without(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert token_ids(tokenizer, ["red"], cache=tmp_path / "file") == token_ids(tokenizer, ["red"])


# --- templates ----------------------------------------------------------------------------------


def test_the_context_section_is_left_out_where_it_is_empty() -> None:
    template = parse_template("instruction-optional-context-response")
    assert template.text("do", "this", "done") == TEMPLATE.text("do", "this", "done")
    assert template.text("do", "", "done") == "### Instruction:\ndo\n\n### Response:\ndone\n"
    assert TEMPLATE.keeps_empty_context
    assert not template.keeps_empty_context


def test_a_conversation_is_training_texts_and_then_a_prompt() -> None:
    assert TEMPLATE.conversation([("a", "b"), ("c", "d")], "e") == (
        TEMPLATE.text("a", "", "b") + "\n" + TEMPLATE.text("c", "", "d") + "\n"
        "### Instruction:\ne\n\n### Context:\n\n\n### Response:\n"
    )
