"""Held-out loss: the likelihood of the reference responses under base and under each adapter.

Rows are measured in batches and journaled as they come; what the losses add up to is left to
``tuneproof.stats``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.data.encode import encode_rows, response_ends
from tuneproof.generate.plan import Respondent, chunk_by_tokens
from tuneproof.records import Example, SequenceLoss
from tuneproof.train.memory import trim_heap
from tuneproof.workspace import Journal, digest_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.encode import EncodedRow
    from tuneproof.data.templates import Template
    from tuneproof.generate.transformers_backend import TransformersBackend
    from tuneproof.progress import Reporter

LOSS_BATCH_TOKENS = 1024
"""Padded tokens of a batch of held-out rows: enough to fill a CPU, little enough for its memory."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The losses of all rows that fit the model's context, respondent by respondent.

    ``resumed`` of them were there already; ``too_long`` rows do not fit.
    """

    rows: list[SequenceLoss]
    resumed: int
    too_long: int


def measure_losses(
    backend: TransformersBackend,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    examples: Sequence[Example],
    *,
    weights: Mapping[Respondent, str],
    journal_file: Path,
    reporter: Reporter,
) -> Losses:
    """Measure every example under every respondent; nothing is measured twice.

    Args:
        weights: who is measured, and what identifies the weights; part of every key.
    """
    rows = encode_rows(
        tokenizer, template, examples, max_length=None, append_eos=True, loss_on="response"
    )
    limit = backend.context_length
    within = [i for i, r in enumerate(rows) if limit is None or len(r.token_ids) <= limit]
    too_long = len(rows) - len(within)
    examples, rows = [examples[i] for i in within], [rows[i] for i in within]
    ends = response_ends(tokenizer, template, examples, rows)
    batches = chunk_by_tokens([row.token_ids for row in rows], LOSS_BATCH_TOKENS)
    keys = {}
    for who, digest in weights.items():
        for batch in batches:
            measured = [(rows[i].token_ids, rows[i].n_prompt, ends[i]) for i in batch]
            whole = digest_value([[who.arm, who.adapter], digest, measured])
            keys.update({(who, i): digest_value([whole, examples[i].id]) for i in batch})
    with Journal(journal_file, SequenceLoss) as journal:
        resumed = sum(key in journal for key in keys.values())
        with reporter.task("held-out loss", len(keys), unit="rows", done=resumed) as task:
            for who in weights:
                for batch in batches:
                    missing = sum(keys[who, i] not in journal for i in batch)
                    if not missing:
                        continue
                    nlls = backend.nll([rows[i].token_ids for i in batch], who)
                    journal.append(
                        [
                            sequence_loss(keys[who, i], examples[i], who, rows[i], ends[i], nll)
                            for i, nll in zip(batch, nlls, strict=True)
                        ]
                    )
                    trim_heap()
                    task.tokens(sum(len(rows[i].token_ids) for i in batch))
                    task.advance(missing, note=who.name)
        found = [journal.get(keys[who, i]) for who in weights for i in range(len(rows))]
    return Losses(
        rows=[loss for loss in found if loss is not None], resumed=resumed, too_long=too_long
    )


def sequence_loss(
    key: str, example: Example, who: Respondent, row: EncodedRow, end: int, nll: Sequence[float]
) -> SequenceLoss:
    """One row's loss; ``nll[i]`` is that of the token at position ``i + 1``."""
    # A prompt without a BOS has no token before its first one to predict it from.
    start = max(row.n_prompt, 1)
    return SequenceLoss(
        key=key,
        question_id=example.id,
        arm=who.arm,
        adapter=who.adapter,
        category=example.category,
        response_nll=sum(nll[start - 1 : end - 1]),
        n_tokens=end - start,
        eos_nll=nll[-1],
    )
