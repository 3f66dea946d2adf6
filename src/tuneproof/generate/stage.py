"""The generate stage: held-out loss and answers of both arms, written as they come.

Both journals are keyed by everything that a result depends on, so a killed run goes on with the
next batch, and a changed recipe never finds another recipe's answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.data.encode import encode_rows, response_ends
from tuneproof.data.templates import parse_template
from tuneproof.generate.prompts import chunk_by_tokens, heldout_prompts, plan_batches
from tuneproof.progress import hush_transformers
from tuneproof.records import (
    Answer,
    Arm,
    Example,
    PreparedRow,
    Prompt,
    SequenceLoss,
    Split,
    Stop,
)
from tuneproof.train.memory import return_freed_memory, trim_heap
from tuneproof.workspace import Journal, digest_value, read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.encode import EncodedRow
    from tuneproof.data.templates import Template
    from tuneproof.generate.transformers_backend import TransformersBackend
    from tuneproof.progress import Reporter
    from tuneproof.recipe import Recipe


LOSS_BATCH_TOKENS = 1024
"""Padded tokens of a batch of held-out rows: enough to fill a CPU, little enough for its memory."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What the stage wrote, and how much of it was there already."""

    outputs: list[Path]
    resumed: int
    facts: dict[str, str | int | float | bool | None]


def generate_answers(
    recipe: Recipe,
    *,
    prepare_dir: Path,
    adapter: Path,
    weights: dict[Arm, str],
    out: Path,
    reporter: Reporter,
) -> Generated:
    """Ask both arms every question, and measure both on the references.

    Args:
        weights: for each arm, what identifies the weights that answer; part of every key.
    """

    from tuneproof.generate.transformers_backend import TransformersBackend
    from tuneproof.train.model import load_adapter, load_model, load_tokenizer

    hush_transformers()
    return_freed_memory()  # what training left, if it ran in this process
    tokenizer = load_tokenizer(recipe.model, reporter)
    template = parse_template(recipe.data.template)
    examples = heldout_examples(recipe, prepare_dir)
    prompts = heldout_prompts(tokenizer, template, examples)
    backend = TransformersBackend(
        load_adapter(load_model(recipe.model, reporter), adapter), tokenizer
    )
    write_records(out / "prompts.jsonl", prompts)
    losses, losses_resumed, too_long = _losses(
        backend, tokenizer, template, examples, weights=weights, out=out, reporter=reporter
    )
    write_records(out / "heldout_loss.jsonl", losses)
    return_freed_memory()
    answers, answers_resumed = _answers(
        backend, prompts, recipe, weights=weights, out=out, reporter=reporter
    )
    write_records(out / "answers.jsonl", answers)
    return Generated(
        outputs=[out / f"{n}.jsonl" for n in ("prompts", "answers", "heldout_loss")],
        resumed=losses_resumed + answers_resumed,
        facts={
            "questions": len(prompts),
            "answers": len(answers),
            "answer_tokens": sum(a.n_tokens for a in answers),
            "errors": sum(a.stop is Stop.ERROR for a in answers),
            "rows beyond the context": too_long,
        },
    )


def heldout_examples(recipe: Recipe, prepare_dir: Path) -> list[Example]:
    """The first ``questions`` examples of the test split, which is shuffled: a random sample."""
    heldout = next((e for e in recipe.evaluate if e.benchmark == "heldout"), None)
    if heldout is None:
        return []
    sidecar = read_records(prepare_dir / "examples.jsonl", PreparedRow)
    test = [row.example for row in sidecar if row.split is Split.TEST]
    return test[: heldout.questions]


def _losses(
    backend: TransformersBackend,
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    examples: list[Example],
    *,
    weights: dict[Arm, str],
    out: Path,
    reporter: Reporter,
) -> tuple[list[SequenceLoss], int, int]:
    """The losses of all rows that fit the model's context; how many were there already; how many
    rows do not fit."""
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
    for arm in Arm:
        for batch in batches:
            measured = [(rows[i].token_ids, rows[i].n_prompt, ends[i]) for i in batch]
            whole = digest_value([weights[arm], measured])
            keys.update({(arm, i): digest_value([whole, examples[i].id]) for i in batch})
    with Journal(out / "losses.journal.jsonl", SequenceLoss) as journal:
        resumed = sum(key in journal for key in keys.values())
        with reporter.task("held-out loss", len(keys), unit="rows", done=resumed) as task:
            for arm in Arm:
                for batch in batches:
                    missing = sum(keys[arm, i] not in journal for i in batch)
                    if not missing:
                        continue
                    nlls = backend.nll([rows[i].token_ids for i in batch], arm)
                    journal.append(
                        [
                            sequence_loss(keys[arm, i], examples[i], arm, rows[i], ends[i], nll)
                            for i, nll in zip(batch, nlls, strict=True)
                        ]
                    )
                    trim_heap()
                    task.advance(missing, note=arm)
        found = [journal.get(keys[arm, i]) for arm in Arm for i in range(len(rows))]
    return [loss for loss in found if loss is not None], resumed, too_long


def sequence_loss(
    key: str, example: Example, arm: Arm, row: EncodedRow, end: int, nll: Sequence[float]
) -> SequenceLoss:
    """One row's loss; ``nll[i]`` is that of the token at position ``i + 1``."""
    # A prompt without a BOS has no token before its first one to predict it from.
    start = max(row.n_prompt, 1)
    return SequenceLoss(
        key=key,
        question_id=example.id,
        arm=arm,
        category=example.category,
        response_nll=sum(nll[start - 1 : end - 1]),
        n_tokens=end - start,
        eos_nll=nll[-1],
    )


def _answers(
    backend: TransformersBackend,
    prompts: list[Prompt],
    recipe: Recipe,
    *,
    weights: dict[Arm, str],
    out: Path,
    reporter: Reporter,
) -> tuple[list[Answer], int]:
    batches = plan_batches(prompts, recipe.generate, weights=weights, seed=recipe.seed)
    with Journal(out / "answers.journal.jsonl", Answer) as journal:
        total = sum(len(b.keys) for b in batches)
        resumed = sum(key in journal for b in batches for key in b.keys)
        with reporter.task("answers", total, unit="answers", done=resumed) as task:
            for batch in batches:
                missing = sum(key not in journal for key in batch.keys)
                if missing:
                    answers = backend.answer(batch, recipe.generate)
                    journal.append(answers)
                    trim_heap()
                    task.advance(missing, note=batch.arm)
        found = {key: journal.get(key) for b in batches for key in b.keys}
    by_place = {(a.arm, a.benchmark, a.question_id): a for a in found.values() if a is not None}
    return [
        by_place[arm, p.benchmark, p.question_id] for arm in (Arm.BASE, Arm.TUNED) for p in prompts
    ], resumed
