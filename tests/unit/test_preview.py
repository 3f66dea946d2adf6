"""The preview shows what training does: every target is the collator's, every token readable."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import write_jsonl
from tuneproof.data.encode import IGNORED, encode_rows
from tuneproof.data.templates import parse_template
from tuneproof.errors import UsageError
from tuneproof.preview.rows import Preview, PreviewRow, Role, choose, make_preview
from tuneproof.preview.show import HEAD, plain, preview_lines
from tuneproof.preview.tokens import seen, token_texts
from tuneproof.recipe import Model
from tuneproof.recipe_file import load_recipe
from tuneproof.records import Example
from tuneproof.train.model import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedTokenizerBase

    from tuneproof.recipe import Recipe


_ORDER = list(range(20))
random.Random(7).shuffle(_ORDER)
WITH_EOS, LONG_CONTEXT, LONG_RESPONSE = _ORDER[3:6]
"""Places of three rows that the tiny recipe's seed puts into the train split."""


def named(place: int) -> str:
    return f"row-{place:05d}"


@pytest.fixture
def tokenizer(tiny_model: Path) -> PreTrainedTokenizerBase:
    return load_tokenizer(Model(id=str(tiny_model)))


@pytest.fixture
def recipe_of(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> Callable[..., Recipe]:
    """The tiny recipe over rows that have something to show, with overrides."""
    path = tiny_recipe()
    rows: list[dict[str, str | bool]] = [
        {
            "instruction": f"one two {i}",
            "context": "red green " * 2 if i % 2 == 0 else "",
            "response": "blue " * (i + 1),
            "checkable": True,
        }
        for i in range(20)
    ]
    # What stands in the data as the end token's text becomes the end token.
    rows[WITH_EOS]["response"] = "say </s> blue"
    rows[LONG_CONTEXT] |= {"context": "red green " * 60, "response": "blue"}
    rows[LONG_RESPONSE] |= {"context": "", "response": "blue " * 90}

    def load(*overrides: str) -> Recipe:
        source = write_jsonl(tmp_path / "rows.jsonl", rows)
        return load_recipe(path, [f"data.source.path={source}", *overrides])

    return load


def row_of(preview: Preview, row_id: str) -> PreviewRow:
    return next(r for r in preview.rows if r.id == row_id)


def everything(recipe: Recipe) -> Preview:
    return make_preview(recipe, n_rows=99)


# --- what is shown is what is trained on -----------------------------------------------------


@pytest.mark.parametrize(
    ("loss_on", "append_eos", "over_length"),
    list(
        itertools.product(("text", "response"), (True, False), ("cut", "shorten-context", "drop"))
    ),
)
def test_targets_are_the_collators(
    recipe_of: Callable[..., Recipe],
    tokenizer: PreTrainedTokenizerBase,
    loss_on: str,
    append_eos: bool,
    over_length: str,
) -> None:
    """Compared with the batch that training would make of all rows at once, padding and all."""
    from tuneproof.data.prepare import prepare
    from tuneproof.records import Split
    from tuneproof.train.trainer import make_collator, make_features

    recipe = recipe_of(
        f"train.loss_on={loss_on}",
        f"train.append_eos={str(append_eos).lower()}",
        f"train.over_length={over_length}",
        "train.max_length=100",
    )
    train = recipe.train
    examples = prepare(recipe.data, recipe.seed).splits[Split.TRAIN]
    encoded = encode_rows(
        tokenizer,
        parse_template(recipe.data.template),
        examples,
        max_length=train.max_length,
        append_eos=train.append_eos,
        loss_on=train.loss_on,
        over_length=train.over_length,
    )
    batch = make_collator(train, tokenizer)(make_features(train, encoded))
    preview = everything(recipe)
    assert len(preview.rows) == len(examples) == 12
    for row in preview.rows:
        place = row.line - 1
        labels = batch["labels"][place].tolist()
        # The loss compares the prediction at i with the label at i + 1: the first is never used.
        targets = [i for i in range(1, len(labels)) if labels[i] != IGNORED]
        kept = [t for t in row.tokens if t.role is not Role.CUT]
        assert [t.id for t in kept] == list(encoded[place].token_ids)
        assert [i for i, t in enumerate(kept) if t.target] == targets
        assert row.n_supervised == len(targets)
        assert not any(t.target for t in row.tokens if t.role is Role.CUT)
        assert {t.target for t in kept if t.role is Role.SUPERVISED} <= {True}
        assert {t.target for t in kept if t.role in (Role.MASKED, Role.BOS)} <= {False}


@pytest.mark.parametrize(
    ("loss_on", "append_eos", "ends"),
    [
        ("text", True, [True, True]),
        ("response", True, [True, True]),
        ("response", False, [True]),
        # The reference: pad is EOS, and its collator masks every pad token.
        ("text", False, [False]),
    ],
)
def test_an_eos_is_shown_as_learned_only_where_it_is(
    recipe_of: Callable[..., Recipe], loss_on: str, append_eos: bool, ends: list[bool]
) -> None:
    recipe = recipe_of(f"train.loss_on={loss_on}", f"train.append_eos={str(append_eos).lower()}")
    tokens = row_of(everything(recipe), named(WITH_EOS)).tokens
    assert [t.target for t in tokens if t.role is Role.EOS] == ends
    assert tokens[0].role is Role.BOS
    assert not tokens[0].target


def test_a_cut_row(recipe_of: Callable[..., Recipe], tokenizer: PreTrainedTokenizerBase) -> None:
    row = row_of(everything(recipe_of("train.max_length=100")), named(LONG_RESPONSE))
    assert (row.n_tokens, row.n_whole - row.n_cut) == (100, 100)
    assert [t.role is Role.CUT for t in row.tokens] == [False] * 100 + [True] * row.n_cut
    assert row.tokens[-1].id == tokenizer.eos_token_id
    assert not row.ends_with_eos
    text = str(tokenizer.decode([t.id for t in row.tokens]))
    assert text.startswith(f"<s>### Instruction:\none two {LONG_RESPONSE}\n")
    assert text.endswith("blue\n</s>")


def test_a_shortened_context_is_cut_where_it_stood(recipe_of: Callable[..., Recipe]) -> None:
    recipe = recipe_of("train.max_length=100", "train.over_length=shorten-context")
    row = row_of(everything(recipe), named(LONG_CONTEXT))
    assert row.context_shortened
    assert not row.response_lost
    roles = [t.role is Role.CUT for t in row.tokens]
    first, last = roles.index(True), len(roles) - roles[::-1].index(True)
    assert all(roles[first:last])
    lost = "".join(t.text for t in row.tokens[first:last])
    assert set(lost.split()) == {"red", "green"}
    assert {t.part for t in row.tokens[first:last]} == {"prompt"}
    assert row.tokens[-1].role is Role.EOS
    assert "".join(t.text for t in row.tokens[last:]).startswith("\n\n### Response:\nblue")


def test_a_row_that_is_left_out_says_why(recipe_of: Callable[..., Recipe]) -> None:
    dropped = row_of(
        everything(recipe_of("train.max_length=100", "train.over_length=drop")),
        named(LONG_RESPONSE),
    )
    assert dropped.left_out == "longer than max_length"
    nothing = row_of(
        everything(recipe_of("train.max_length=16", "train.loss_on=response")), named(LONG_RESPONSE)
    )
    assert nothing.response_lost
    assert nothing.n_supervised == 0
    assert nothing.left_out == "no supervised token left after cutting"


def test_a_first_token_that_is_no_bos_is_no_target(
    recipe_of: Callable[..., Recipe], tiny_model: Path, tmp_path: Path
) -> None:
    """As with tokenizers that add none: nothing stands before it, so it is never predicted."""
    tokenizer = load_tokenizer(Model(id=str(tiny_model)))
    tokenizer.backend_tokenizer.post_processor = None
    tokenizer.save_pretrained(tmp_path / "bare")
    recipe = recipe_of(f"model.tokenizer={tmp_path / 'bare'}", "train.loss_on=text")
    row = make_preview(recipe, n_rows=1).rows[0]
    assert (row.tokens[0].role, row.tokens[0].target) == (Role.FIRST, False)
    assert row.n_supervised == row.n_tokens - 1


# --- which rows ------------------------------------------------------------------------------


def test_rows_are_chosen_to_teach(tokenizer: PreTrainedTokenizerBase) -> None:
    def example(context: str, response: str) -> Example:
        return Example(id="r", instruction="one", context=context, response=response, category=None)

    examples = [
        example("red", "blue"),
        example("", "blue " * 80),
        example("", "blue " * 99),
        example("", "blue " * 3),
        example("", "a"),
        example("red", "blue " * 2),
    ]
    rows = encode_rows(
        tokenizer,
        parse_template("instruction-context-response"),
        examples,
        max_length=64,
        append_eos=True,
        loss_on="text",
    )
    assert choose(examples, rows, n_rows=5, over_length="cut") == [
        (0, ["the first row", "one with a context"]),
        (2, ["the longest of 2 that are cut"]),
        (3, ["one without a context"]),
        (4, ["the shortest"]),
        (1, ["the next one in order"]),
    ]
    assert [i for i, _ in choose(examples, rows, n_rows=2, over_length="cut")] == [0, 2]
    assert len(choose(examples, rows, n_rows=99, over_length="cut")) == 6


def test_a_prompt_that_is_tokenized_otherwise_is_shown(recipe_of: Callable[..., Recipe]) -> None:
    """The blank before the response and its first word are one token."""
    recipe = recipe_of("data.template='{instruction} {response}'")
    preview = make_preview(recipe, n_rows=3)
    assert not preview.rows[0].prompt_matches
    assert "one of 11 that are tokenized otherwise at inference" in preview.rows[0].why[1]
    text = plain(preview_lines(preview, width=100, long=False))
    assert "! the prompt's tokens differ from those asked at inference after token" in text


def test_rows_by_id(recipe_of: Callable[..., Recipe]) -> None:
    recipe = recipe_of()
    ids = [r.id for r in everything(recipe).rows]
    asked = make_preview(recipe, row_ids=[ids[7], ids[2], ids[7]])
    assert [r.id for r in asked.rows] == [ids[7], ids[2]]
    assert {r.why for r in asked.rows} == {("asked for with --row",)}
    assert asked.rows[0].tokens == everything(recipe).rows[7].tokens


def test_rows_that_are_not_there(recipe_of: Callable[..., Recipe]) -> None:
    recipe = recipe_of()
    held = make_preview(recipe, split="validation", n_rows=1).rows[0].id
    for arguments, message in (
        ({"row_ids": ["row-99999"]}, "--row = row-99999: no such row"),
        ({"row_ids": [held]}, "is in the validation split\n  --split validation"),
        ({"split": "test"}, "--split = test: expected train or validation"),
    ):
        with pytest.raises(UsageError) as refused:
            make_preview(recipe, **arguments)
        assert message in str(refused.value)


# --- tokens that can be read -----------------------------------------------------------------


def test_byte_level_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("one two\n\té€</s>")["input_ids"]
    texts = [token_texts(tokenizer, ids)[i] for i in ids]
    assert "".join(texts[:-6]) == "<s>one two\n\t"
    assert texts[-6:] == ["<0xC3>", "<0xA9>", "<0xE2>", "<0x82>", "<0xAC>", "</s>"]


def test_sentencepiece_tokens(llama2_tokenizer: Path) -> None:
    tokenizer = load_tokenizer(Model(id="none", tokenizer=str(llama2_tokenizer)))
    ids = tokenizer("Paris is big\n\U0001f9ff")["input_ids"]
    texts = [token_texts(tokenizer, ids)[i] for i in ids]
    assert texts == ["<s>", " Paris", " is", " big", "\n", "<0xF0>", "<0x9F>", "<0xA7>", "<0xBF>"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" a  b", "␣a␣␣b"),
        ("\n", "⏎"),
        ("\t\r", "⇥␍"),
        ("\x1b[31m\u202e\u00a0", "<U+001B>[31m<U+202E><U+00A0>"),
        ("é漢", "é漢"),
    ],
)
def test_what_cannot_be_seen_is_made_visible(text: str, shown: str) -> None:
    assert seen(text) == shown


# --- the page --------------------------------------------------------------------------------


def test_lines(recipe_of: Callable[..., Recipe]) -> None:
    recipe = recipe_of("train.max_length=100", "train.loss_on=response")
    preview = make_preview(recipe, row_ids=[named(LONG_RESPONSE)])
    row = preview.rows[0]
    lines = plain(preview_lines(preview, width=72, long=True)).splitlines()
    assert max(map(len, lines)) <= 100
    body = lines[next(i for i, line in enumerate(lines) if line.startswith("  prompt    BOS")) :]
    assert max(map(len, body)) <= 72
    # Every token is there, in order, and nothing else is.
    told = " ".join(line[24:] for line in body).split()
    assert told == [seen(t.text) for t in row.tokens]
    labels = [line[:24].split() for line in body if line[:24].strip()]
    assert labels == [
        ["prompt", "BOS"],
        ["prompt", "masked"],
        ["response", "supervised"],
        ["response", "cut"],
    ]
    assert f"  {row.n_whole} cut to 100 tokens: {row.n_supervised} supervised" in "\n".join(lines)
    assert any(f"! {row.n_cut} tokens cut off to fit 100" in line for line in lines)


def test_long_rows_are_shown_in_part_and_counted(recipe_of: Callable[..., Recipe]) -> None:
    preview = make_preview(recipe_of("train.max_length=256"), row_ids=[named(LONG_CONTEXT)])
    row = preview.rows[0]
    text = plain(preview_lines(preview, width=100, long=False))
    left_out = sum(
        int(line.split("… ")[1].split()[0]) for line in text.splitlines() if "… " in line
    )
    body = text[text.index("  prompt    BOS") :]
    told = [w for line in body.splitlines() if "…" not in line for w in line[24:].split()]
    assert left_out > 0
    assert len(told) + left_out == len(row.tokens)
    assert told[:HEAD] == [seen(t.text) for t in row.tokens[:HEAD]]
    # What happens around the response is always there.
    assert "response  EOS learned </s>" in text
    assert "## # ␣Response" in text or "### ␣Response" in text


def test_json_has_every_token(recipe_of: Callable[..., Recipe]) -> None:
    preview = make_preview(recipe_of("train.max_length=100"), n_rows=2)
    told = json.loads(json.dumps(preview.to_json()))
    assert told["rows"][0]["tokens"][0] == {
        "id": 1, "text": "<s>", "role": "bos", "target": False, "part": "prompt",
    }  # fmt: skip
    assert {len(r["tokens"]) for r in told["rows"]} == {r.n_tokens + r.n_cut for r in preview.rows}


# --- the real thing --------------------------------------------------------------------------


def test_dolly_through_llama2(dolly: Path, llama2_tokenizer: Path) -> None:
    """The longest row of the reference: all that is left is prompt, and no EOS is learned."""
    root = Path(__file__).parents[2]
    recipe = load_recipe(
        root / "recipes/llama2-7b-dolly15k.yaml",
        [f"data.source.path={dolly}", f"model.tokenizer={llama2_tokenizer}"],
    )
    (row,) = make_preview(recipe, row_ids=["row-09053"]).rows
    assert (row.n_tokens, row.n_supervised, row.n_cut) == (1024, 1023, 7877)
    assert row.response_lost
    assert row.prompt_matches
    assert [t.text for t in row.tokens[:6]] == ["<s>", " ###", " Inst", "ruction", ":", "\n"]
    assert not [t for t in row.tokens if t.role is Role.EOS]
