"""Which questions are asked, and the batch plan. Pure: records in, records out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.data.encode import encode_prompts
from tuneproof.records import Arm, Example, Prompt
from tuneproof.workspace import digest_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.templates import Template
    from tuneproof.recipe import Generate


def heldout_prompts(
    tokenizer: PreTrainedTokenizerBase, template: Template, examples: Sequence[Example]
) -> list[Prompt]:
    """The instructions of held-out examples, with their responses as references."""
    encoded = encode_prompts(tokenizer, template, [(e.instruction, e.context) for e in examples])
    return [
        Prompt(
            question_id=e.id,
            benchmark="heldout",
            category=e.category,
            instruction=e.instruction,
            context=e.context,
            token_ids=tuple(ids),
            reference=e.response,
            checkable=e.checkable,
        )
        for e, ids in zip(examples, encoded, strict=True)
    ]


PROMPT_BATCH_TOKENS = 2048
"""Padded prompt tokens that are read at once; 8,800 of them took 2.2 GB on a CPU with SmolLM2."""


def chunk_by_tokens(
    rows: Sequence[Sequence[int]], budget: int, *, most: int | None = None
) -> list[list[int]]:
    """Indices of rows in batches of like length, longest first, within ``budget`` padded tokens.

    A row that is longer than the budget is a batch of its own. ``most`` limits the rows of a batch.
    """
    chunks: list[list[int]] = []
    for i in sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i)):
        # Rows come longest first, so a chunk's first row is its width.
        if (
            chunks
            and len(rows[chunks[-1][0]]) * (len(chunks[-1]) + 1) <= budget
            and (most is None or len(chunks[-1]) < most)
        ):
            chunks[-1].append(i)
        else:
            chunks.append([i])
    return chunks


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Prompts answered together by one arm. ``keys`` name the answers; ``seed`` the sampling."""

    arm: Arm
    prompts: tuple[Prompt, ...]
    keys: tuple[str, ...]
    seed: int


def plan_batches(
    prompts: Sequence[Prompt], generate: Generate, *, weights: dict[Arm, str], seed: int
) -> list[Batch]:
    """Batches of prompts of like length, longest first, base before tuned.

    A batch has at most ``generate.batch_size`` prompts and ``PROMPT_BATCH_TOKENS`` padded tokens.

    The plan depends on the arguments alone. Where arithmetic is not associative (bfloat16) the
    composition of a batch is part of the result, so an answer's key covers the whole batch: a
    killed run answers the same batches again and gets the same bytes.

    Args:
        weights: for each arm, what identifies the weights that answer.
    """
    ordered = sorted(prompts, key=lambda p: (p.benchmark, p.question_id))
    rows = [p.token_ids for p in ordered]
    chunks = [
        tuple(ordered[i] for i in chunk)
        for chunk in chunk_by_tokens(rows, PROMPT_BATCH_TOKENS, most=generate.batch_size)
    ]
    batches = []
    for arm in (Arm.BASE, Arm.TUNED):
        for chunk in chunks:
            whole = digest_value(
                {
                    "weights": weights[arm],
                    "prompts": [p.token_ids for p in chunk],
                    "settings": generate.model_dump(mode="json"),
                    "seed": seed,
                }
            )
            keys = tuple(digest_value([whole, p.benchmark, p.question_id]) for p in chunk)
            # 63 bits of the digest: named by everything that the batch is.
            batches.append(Batch(arm=arm, prompts=chunk, keys=keys, seed=int(whole[:16], 16) >> 1))
    return batches
