"""The preflight: what a recipe will do, counted on its own data, without loading its weights.

The model's shape comes from its configuration and is built on the meta device; tokens are counted
with the real tokenizer.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tuneproof.data.encode import encode_rows
from tuneproof.data.prepare import check_data, prepare
from tuneproof.progress import hush_transformers
from tuneproof.recipe import rng
from tuneproof.records import Ledger, Record, Split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.data.encode import EncodedRow
    from tuneproof.recipe import Recipe


class TokenCounts(Record):
    """Tokens of one epoch over the train split, and what the length limit costs.

    ``padded`` counts what is computed when micro-batches drawn at random are padded to their
    longest row; ``supervised`` the tokens that are targets.
    """

    real: int
    padded: int
    supervised: int
    mean: float
    median: int
    p95: int
    longest: int
    truncated_rows: int
    responses_lost: int
    eos_supervised_rows: int
    prompt_mismatches: int


class Plan(Record):
    """What the recipe will do."""

    name: str
    rows: dict[str, int]
    ledger: Ledger
    trainable_parameters: int
    total_parameters: int
    trainable_percent: float
    optimizer_steps: int
    warmup_steps: int
    tokens: TokenCounts
    answers: int
    judge_calls: int


def make_plan(recipe: Recipe) -> Plan:
    """Count rows, tokens, parameters, steps, answers and judge calls.

    Raises:
        UsageError: what the run itself would refuse.
    """
    from tuneproof.train.model import load_tokenizer, parameter_counts
    from tuneproof.train.stage import usable

    hush_transformers()
    template = check_data(recipe.data)
    prepared = prepare(recipe.data, recipe.seed)
    whole = encode_rows(
        load_tokenizer(recipe.model),
        template,
        prepared.splits[Split.TRAIN],
        max_length=recipe.train.max_length,
        append_eos=recipe.train.append_eos,
        loss_on=recipe.train.loss_on,
    )
    encoded, _ = usable(whole)
    trainable, total = parameter_counts(recipe.model, recipe.lora)
    steps = recipe.train.optimizer_steps(len(encoded))
    rows = prepared.rows()
    heldout = next((e for e in recipe.evaluate if e.benchmark == "heldout"), None)
    questions = min(heldout.questions or rows["test"], rows["test"]) if heldout else 0
    return Plan(
        name=recipe.name,
        rows=rows,
        ledger=prepared.ledger,
        trainable_parameters=trainable,
        total_parameters=total,
        trainable_percent=round(100 * trainable / total, 4),
        optimizer_steps=steps,
        warmup_steps=math.ceil(recipe.train.warmup_ratio * steps),
        tokens=count_tokens(whole, recipe),
        answers=2 * questions,
        judge_calls=questions * recipe.judge.orders if recipe.judge else 0,
    )


def count_tokens(rows: Sequence[EncodedRow], recipe: Recipe) -> TokenCounts:
    """Counts over one epoch."""
    lengths = [len(r.token_ids) for r in rows]
    ordered = sorted(lengths)
    batch = recipe.train.micro_batch_size
    if recipe.train.batching == "random":
        order = list(lengths)
        rng(recipe.seed, "plan", "batches").shuffle(order)
    else:
        order = ordered
    padded = sum(
        max(order[i : i + batch]) * len(order[i : i + batch]) for i in range(0, len(order), batch)
    )
    return TokenCounts(
        real=sum(lengths),
        padded=padded,
        supervised=sum(r.n_targets for r in rows),
        mean=round(sum(lengths) / len(lengths), 1),
        median=ordered[len(ordered) // 2],
        p95=ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))],
        longest=max(r.n_whole for r in rows),
        truncated_rows=sum(r.was_cut for r in rows),
        responses_lost=sum(r.response_lost for r in rows),
        eos_supervised_rows=sum(r.ends_with_eos for r in rows),
        prompt_mismatches=sum(not r.prompt_matches for r in rows),
    )


def plan_lines(plan: Plan) -> list[str]:
    """The plan for people."""
    t = plan.tokens
    rows = ", ".join(f"{n:,} {split}" for split, n in plan.rows.items())
    lines = [
        f"recipe      {plan.name}",
        f"rows        {plan.ledger.read:,} read, {plan.ledger.kept:,} kept: {rows}",
        f"parameters  {plan.trainable_parameters:,} trainable of {plan.total_parameters:,} "
        f"({plan.trainable_percent} %)",
        f"steps       {plan.optimizer_steps:,}, of which {plan.warmup_steps} warm-up",
        f"tokens      {t.real:,} an epoch ({t.padded:,} with padding, "
        f"{t.padded / t.real:.2f}×); mean {t.mean:g}, median {t.median}, p95 {t.p95}, "
        f"longest {t.longest}",
        f"length      {t.truncated_rows} rows cut, {t.responses_lost} of them lose the whole "
        "response",
        f"EOS         learned from {t.eos_supervised_rows:,} of {plan.rows['train']:,} rows",
    ]
    if t.prompt_mismatches:
        lines.append(f"prompts     {t.prompt_mismatches} rows tokenise otherwise than their prompt")
    lines.append(f"answers     {plan.answers:,}, judge calls {plan.judge_calls:,}")
    return lines
