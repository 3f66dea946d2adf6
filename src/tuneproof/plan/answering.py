"""What answering takes before anything answers: prompts beyond the context, and GPU memory.

The prompts are those that the generate stage will ask, token by token, and the batches those that
it will plan. What is not known is how long the answers to first turns will be: a later turn counts
with the longest that they can get.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tuneproof.generate.answers import Interview
from tuneproof.generate.asking import TemplateAsking, fair_asking
from tuneproof.generate.plan import BASE, FAIR_BASE, Turn, compose, expected_turns
from tuneproof.generate.prompts import benchmark_prompts, heldout_prompts
from tuneproof.plan.findings import TOLERATED, share
from tuneproof.plan.memory import ALLOCATOR_SHARE, CONTEXT_GIB, GIB
from tuneproof.records import Finding, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.templates import Template
    from tuneproof.plan.judging import Asked
    from tuneproof.plan.memory import Shape
    from tuneproof.recipe import Recipe
    from tuneproof.records import Budget, Example, Prompt

BATCH_STEP: Final = 1024
"""A smaller ``generate.batch_tokens`` is named in steps of so many."""


@dataclass(frozen=True, kw_only=True)
class Asks:
    """The turns that one kind of respondent is asked; ``name`` says with what."""

    name: str
    turns: tuple[Turn, ...]


class AnsweringGib(Record):
    """GPU memory in GiB while a batch of ``rows`` prompts, each counted ``width`` tokens long, is
    read and answered, by part; ``total`` is their sum.

    ``adapters`` are all that the recipe trains, in float32; ``activations`` those of reading the
    prompts. ``overhead`` is as in training.
    """

    rows: int
    width: int
    weights: float
    adapters: float
    keys_and_values: float
    activations: float
    overhead: float
    total: float


def planned_asks(
    recipe: Recipe,
    asked: Sequence[Asked],
    test: Sequence[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
) -> list[Asks]:
    """What base, tuned and placebo are asked alike, and fair-base otherwise.

    Questions whose file is not here are left out; so are the contexts that they would have.

    Raises:
        ModelError: fair-base's chat template refuses a conversation.
    """
    prompts: list[Prompt] = []
    for a in asked:
        if a.name == "heldout":
            prompts += heldout_prompts(tokenizer, template, test[: a.n_questions])
        else:
            prompts += benchmark_prompts(tokenizer, template, a.questions)
    facing = {a.name for a in asked if FAIR_BASE.arm in a.opponents}
    fair = tuple(p for p in prompts if p.benchmark in facing)
    interviews = [
        Interview(
            who=BASE,
            asking=TemplateAsking(tokenizer, template),
            prompts=tuple(prompts),
            weights="",
        ),
        Interview(who=FAIR_BASE, asking=fair_asking(tokenizer, template), prompts=fair, weights=""),
    ]
    new = recipe.generate.max_new_tokens
    return [
        Asks(name=i.asking.name, turns=tuple(expected_turns(i, max_new_tokens=new)[0]))
        for i in interviews
        if i.prompts
    ]


def answers_over_context(
    recipe: Recipe, asks: Sequence[Asks], context: int | None
) -> Finding | None:
    """Prompts that leave no room for an answer: they are refused, and count as failed answers."""
    if context is None:
        return None
    new = recipe.generate.max_new_tokens
    everything = [turn for a in asks for turn in a.turns]
    over = [t for t in everything if t.length + new > context]
    if not over:
        return None
    sure = sum(t.turn == 1 for t in over)
    perhaps = len(over) - sure
    unsure = f", {perhaps:,} of them only if the answers before them are long" if perhaps else ""
    # A later turn's prompt holds an answer of that length for each turn before it.
    room = min((context - (t.length - (t.turn - 1) * new)) // t.turn for t in over)
    return Finding(
        id="answers-over-context",
        severity="error" if sure > TOLERATED * len(everything) else "warning",
        count=len(over),
        evidence=f"{share(len(over), len(everything))} prompts with generate.max_new_tokens = "
        f"{new:,} exceed the model's context of {context:,} tokens{unsure}. Such an answer is "
        "refused, and counts as failed.",
        remedy=f"--set generate.max_new_tokens={room}"
        if 2 * room >= new
        else "Take a model with a longer context, or leave out the rows that fill this one: "
        f"generate.max_new_tokens={max(room, 0)} is all that the longest leaves.",
    )


# --- memory ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Held:
    """What is in memory whatever is asked: parameters of the base model (``frozen``) and of all
    adapters together. ``element`` is the bytes of one number of the model's type."""

    shape: Shape
    frozen: int
    adapters: int
    element: int


def answering_memory(asks: Sequence[Asks], budget: Budget, held: Held) -> AnsweringGib | None:
    """The batch that takes most, on a GPU, by the transformers back end; None without a prompt."""
    sizes = {
        (len(batch), max(t.length for t in batch))
        for a in asks
        for batch in compose(a.turns, budget)
    }
    made = [_batch_memory(rows, width, budget.max_new_tokens, held) for rows, width in sizes]
    return max(made, key=lambda m: (m.total, m.rows, m.width), default=None)


def _batch_memory(rows: int, width: int, new: int, held: Held) -> AnsweringGib:
    """``bench/memory.py`` counts the same on tensors without memory."""
    shape, element = held.shape, held.element
    # ``generate.rows``: place for prompt and answer of every row, in each layer.
    kept = 2 * shape.layers * shape.kv_heads * shape.head_dim * element
    # The prompts in a layer's MLP: embeddings, the layer's input and what attention made of it, its
    # norm; silu(gate), up and their product. And a mask of one byte for each pair of positions.
    read = element * (4 * shape.hidden + 3 * shape.intermediate) + width
    activations = rows * width * read / GIB
    parts = {
        "weights": held.frozen * element / GIB,
        "adapters": 4 * held.adapters / GIB,
        "keys_and_values": rows * (width + new) * kept / GIB,
        "activations": activations,
        "overhead": CONTEXT_GIB + ALLOCATOR_SHARE * activations,
    }
    rounded = {name: round(value, 3) for name, value in parts.items()}
    total = round(sum(parts.values()), 3)
    return AnsweringGib(rows=rows, width=width, **rounded, total=total)


def smaller_batches(
    asks: Sequence[Asks], budget: Budget, held: Held, *, usable_gib: float
) -> int | None:
    """The largest ``generate.batch_tokens`` with which answering fits; None where none does."""
    for tokens in range(budget.batch_tokens // BATCH_STEP * BATCH_STEP, 0, -BATCH_STEP):
        smaller = budget.model_copy(update={"batch_tokens": tokens})
        memory = answering_memory(asks, smaller, held)
        if memory is not None and memory.total <= usable_gib:
            return tokens
    return None
