"""What is asked: of each question and turn one prompt. Pure: records in, records out.

How an arm is asked (which text its prompt is) stands in ``asking``; in which batches, in ``plan``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.data.encode import encode_prompts
from tuneproof.records import Example, Prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.questions import Question
    from tuneproof.data.templates import Template


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


def benchmark_prompts(
    tokenizer: PreTrainedTokenizerBase, template: Template, questions: Sequence[Question]
) -> list[Prompt]:
    """The turns of a benchmark's questions, each question's one after another.

    They have no context and no reference; a later turn has no token ids yet.
    """
    firsts = encode_prompts(tokenizer, template, [(q.turns[0], "") for q in questions])
    return [
        Prompt(
            question_id=question.id,
            benchmark=question.benchmark,
            category=question.category,
            turn=turn,
            instruction=instruction,
            context="",
            token_ids=tuple(first) if turn == 1 else None,
            reference=None,
            checkable=False,
        )
        for question, first in zip(questions, firsts, strict=True)
        for turn, instruction in enumerate(question.turns, start=1)
    ]
