"""Tokens: what the rows of a recipe are once they are token ids, counted.

Padding is counted in the order in which the trainer makes its micro-batches. What too long a row
means is left to ``findings``.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from pydantic import ConfigDict, Field

from tuneproof.data.encode import encode_rows
from tuneproof.recipe import rng
from tuneproof.records import Record
from tuneproof.train.stage import usable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.encode import EncodedRow
    from tuneproof.data.templates import Template
    from tuneproof.recipe import Recipe, Train
    from tuneproof.records import Example


class Bin(Record):
    """Rows of ``start`` to ``end`` tokens, both included; in JSON these are ``from`` and ``to``."""

    model_config = ConfigDict(serialize_by_alias=True)

    start: int = Field(alias="from")
    end: int = Field(alias="to")
    rows: int


class TokenCounts(Record):
    """Tokens of one epoch over the train split, and what the length limit costs.

    ``real``, ``padded`` and ``supervised`` are of the rows trained on, after cutting: the tokens,
    the positions computed once micro-batches are padded, and the targets. ``mean`` to ``histogram``
    are of all rows before cutting, so that a limit can be chosen by them.
    """

    real: int
    padded: int
    supervised: int
    truncated_rows: int
    contexts_shortened: int
    responses_lost: int
    rows_dropped: int
    eos_supervised_rows: int
    prompt_mismatches: int
    mean: float
    median: int
    p95: int
    longest: int
    histogram: tuple[Bin, ...]


class ValidationTokens(Record):
    """Tokens of one evaluation: rows, tokens, positions computed."""

    rows: int
    real: int
    padded: int


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """A split as token ids: ``rows`` in the split's order, ``used`` those that are trained on."""

    rows: list[EncodedRow]
    used: list[EncodedRow]


def encode(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    examples: Sequence[Example],
) -> Encoded:
    """The rows as the train stage will have them; nothing is kept on disk."""
    train = recipe.train
    rows = encode_rows(
        tokenizer,
        template,
        examples,
        max_length=train.max_length,
        append_eos=train.append_eos,
        loss_on=train.loss_on,
        over_length=train.over_length,
    )
    return Encoded(rows=rows, used=usable(rows, train.over_length)[0])


def count_tokens(encoded: Encoded, train: Train, *, seed: int) -> TokenCounts:
    """Counts over one epoch."""
    whole = sorted(r.n_whole for r in encoded.rows)
    n = len(whole)
    return TokenCounts(
        real=sum(len(r.token_ids) for r in encoded.used),
        padded=padded_tokens(_training_order(encoded.used, train, seed), train.micro_batch_size),
        supervised=sum(r.n_targets for r in encoded.used),
        truncated_rows=sum(r.was_cut for r in encoded.rows),
        contexts_shortened=sum(r.context_shortened for r in encoded.rows),
        responses_lost=sum(r.response_lost for r in encoded.rows),
        rows_dropped=n - len(encoded.used),
        eos_supervised_rows=sum(r.ends_with_eos for r in encoded.used),
        prompt_mismatches=sum(not r.prompt_matches for r in encoded.rows),
        mean=round(sum(whole) / n, 1),
        median=whole[n // 2],
        p95=whole[min(n - 1, int(0.95 * n))],
        longest=whole[-1],
        histogram=histogram(whole, train.max_length),
    )


def count_validation(encoded: Encoded, train: Train) -> ValidationTokens:
    """Counts of one evaluation; the trainer takes its rows in the split's order."""
    lengths = [len(r.token_ids) for r in encoded.used]
    return ValidationTokens(
        rows=len(lengths),
        real=sum(lengths),
        padded=padded_tokens(lengths, train.micro_batch_size),
    )


def padded_tokens(lengths: Sequence[int], rows: int) -> int:
    """Positions computed when each ``rows`` lengths in turn are padded to their longest."""
    batches = [lengths[i : i + rows] for i in range(0, len(lengths), rows)]
    return sum(max(batch) * len(batch) for batch in batches)


def _training_order(rows: Sequence[EncodedRow], train: Train, seed: int) -> list[int]:
    lengths = [len(r.token_ids) for r in rows]
    if train.batching == "by-length":
        from tuneproof.train.order import ByLength

        order = ByLength(lengths, train.batch_size, seed=seed, epoch=lambda: 0)
        return [lengths[i] for i in order]
    # Any shuffle will do: over thousands of batches the sum differs by a percent.
    rng(seed, "plan", "batches").shuffle(lengths)
    return lengths


def histogram(lengths: Sequence[int], max_length: int) -> tuple[Bin, ...]:
    """Rows by length, in bins that double up to ``max_length``, and one for what exceeds it."""
    edges = [0]
    while (edge := 32 * 2 ** (len(edges) - 1)) < max_length:
        edges.append(edge)
    edges.append(max_length)
    if max(lengths) > max_length:
        edges.append(max(lengths))
    return tuple(
        Bin.model_validate(
            {"from": low + 1, "to": high, "rows": sum(low < n <= high for n in lengths)}
        )
        for low, high in pairwise(edges)
    )
