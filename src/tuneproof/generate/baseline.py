"""The answers that a benchmark brings along: an opponent that is read and not asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.data.questions import alpaca_eval_baseline
from tuneproof.records import Answer, Arm, Stop
from tuneproof.workspace import digest_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.records import Prompt


def baseline_answers(prompts: Sequence[Prompt], *, assets: str | None) -> list[Answer]:
    """The stored answers to AlpacaEval's prompts, in their order, letter by letter.

    Args:
        prompts: of AlpacaEval.
        assets: the recipe's folder of benchmark files.

    Raises:
        AssetError: the file cannot be had.
    """
    stored = alpaca_eval_baseline(assets)
    return [
        Answer(
            key=digest_value(["baseline", prompt.question_id, stored[prompt.question_id]]),
            question_id=prompt.question_id,
            benchmark=prompt.benchmark,
            turn=prompt.turn,
            arm=Arm.BASELINE,
            text=stored[prompt.question_id],
            stop=Stop.GIVEN,
            n_prompt_tokens=0,
            n_tokens=0,
        )
        for prompt in prompts
    ]
