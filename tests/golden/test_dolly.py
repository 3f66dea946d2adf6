"""Dolly-15K as the reference prepares it, against the rules written a second time."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from tuneproof.data.encode import encode_prompts, encode_rows
from tuneproof.data.prepare import prepare, write_prepared
from tuneproof.data.templates import parse_template
from tuneproof.recipe import Data, Source
from tuneproof.records import Split

if TYPE_CHECKING:
    from pathlib import Path

TEMPLATE = parse_template("instruction-context-response")


def test_files_are_byte_identical_to_the_rules(dolly: Path, tmp_path: Path) -> None:
    """Independent of the product: the document's preprocessing, line by line."""
    texts = []
    for line in dolly.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if not row["response"].strip():
            continue
        texts.append(
            f"### Instruction:\n{row['instruction'].strip()}\n\n"
            f"### Context:\n{row['context'].strip()}\n\n"
            f"### Response:\n{row['response'].strip()}\n"
        )
    random.Random(42).shuffle(texts)
    first, second = int(0.8 * len(texts)), int(0.8 * len(texts)) + int(0.1 * len(texts))
    expected = {
        "train": texts[:first],
        "validation": texts[first:second],
        "test": texts[second:],
    }

    prepared = prepare(Data(source=Source(path=str(dolly))), 42)
    write_prepared(prepared, TEMPLATE, text_dir=tmp_path, sidecar=tmp_path / "examples.jsonl")

    assert prepared.rows() == {"train": 12_008, "validation": 1_501, "test": 1_502}
    assert prepared.ledger.read == prepared.ledger.kept == 15_011
    for split, rows in expected.items():
        lines = "".join(json.dumps({"text": t}, ensure_ascii=False) + "\n" for t in rows)
        assert (tmp_path / f"{split}.jsonl").read_bytes() == lines.encode("utf-8"), split


@pytest.mark.parametrize("max_length", [None, 1024])
def test_prompts_are_the_same_tokens_in_training_and_at_inference(
    dolly: Path, llama2_tokenizer: Path, max_length: int | None
) -> None:
    """Of every test row, with the real Llama-2 tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama2_tokenizer)
    examples = prepare(Data(source=Source(path=str(dolly))), 42).splits[Split.TEST]
    prompts = encode_prompts(tokenizer, TEMPLATE, [(e.instruction, e.context) for e in examples])
    rows = encode_rows(
        tokenizer, TEMPLATE, examples, max_length=max_length, append_eos=False, loss_on="response"
    )
    assert sum(not r.prompt_matches for r in rows) == 0
    for prompt, row in zip(prompts, rows, strict=True):
        n = min(len(prompt), len(row.token_ids))
        assert list(row.token_ids[:n]) == prompt[:n]
        assert row.n_prompt == len(prompt)
        # One BOS, at the start, in both.
        assert prompt[0] == tokenizer.bos_token_id
        assert prompt.count(tokenizer.bos_token_id) == 1


def test_what_the_length_limit_costs_the_reference(dolly: Path, llama2_tokenizer: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(llama2_tokenizer)
    examples = prepare(Data(source=Source(path=str(dolly))), 42).splits[Split.TRAIN]
    rows = encode_rows(
        tokenizer, TEMPLATE, examples, max_length=1024, append_eos=False, loss_on="text"
    )
    assert sum(r.was_cut for r in rows) == 220
    assert sum(r.response_lost for r in rows) == 126
    assert sum(r.ends_with_eos for r in rows) == 0
    assert sum(len(r.token_ids) for r in rows) == 2_518_407
