"""One batch: its prompts, how warm each is answered, what it draws from, and its keys. Pure.

In float32 an answer is the same in every batch; in bfloat16 the composition of the batch is part of
the result, so an answer's key covers the whole batch: a killed run answers the same batches again
and gets the same bytes. Which prompts are a batch is decided in ``plan``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tuneproof.workspace import digest_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.data.questions import Question
    from tuneproof.generate.asking import Stops
    from tuneproof.generate.plan import Respondent
    from tuneproof.recipe import Generate
    from tuneproof.records import Prompt

DECODING: Final = 2
"""Part of every key: counts up when the decoding changes what a batch is answered with."""

CATEGORY_TEMPERATURES: Final = {
    "writing": 0.7,
    "roleplay": 0.7,
    "extraction": 0.0,
    "math": 0.0,
    "coding": 0.0,
    "reasoning": 0.0,
    "stem": 0.1,
    "humanities": 0.1,
}
"""MT-Bench's, as FastChat answers it (``temperature_config`` in ``llm_judge/common.py``)."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One prompt as one respondent is asked it."""

    prompt: Prompt
    token_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Prompts answered together, for the first or second time (``sample``).

    ``keys`` name the answers. ``temperatures`` is one a prompt, and so is ``names``: with ``seed``
    they name the randomness of a sampled answer, whatever batch it is in.
    """

    who: Respondent
    asks: tuple[Ask, ...]
    keys: tuple[str, ...]
    temperatures: tuple[float, ...]
    names: tuple[tuple[str | int, ...], ...]
    seed: int
    settings: Generate
    stops: Stops
    sample: int = 1


def temperature_of(prompt: Prompt | Question, generate: Generate, *, by_category: bool) -> float:
    """The recipe's temperature; with ``by_category``, on MT-Bench that of the category."""
    if by_category and prompt.benchmark == "mt_bench":
        return CATEGORY_TEMPERATURES.get(prompt.category or "", generate.temperature)
    return generate.temperature


def draw_name(prompt: Prompt, who: Respondent, sample: int) -> tuple[str | int, ...]:
    """What names the randomness of one sampled answer, beside the recipe's seed."""
    return (who.arm.value, who.adapter, prompt.benchmark, prompt.question_id, prompt.turn, sample)


def make_batch(
    asks: Sequence[Ask],
    generate: Generate,
    *,
    who: Respondent,
    weights: str,
    stops: Stops,
    seed: int,
    sample: int = 1,
    by_category: bool = False,
) -> Batch:
    """A batch of these prompts, in their order.

    Args:
        asks: of one respondent, at most one for each question and turn.
        weights: what identifies the weights that answer.
        stops: what ends an answer.
        sample: 2 for answers that are drawn a second time, independently of the first.
        by_category: MT-Bench's categories have temperatures of their own.
    """
    prompts = [ask.prompt for ask in asks]
    temperatures = tuple(temperature_of(p, generate, by_category=by_category) for p in prompts)
    names = tuple(draw_name(p, who, sample) for p in prompts)
    whole = digest_value(
        {
            "decoding": [generate.backend, DECODING],
            "weights": weights,
            "prompts": [ask.token_ids for ask in asks],
            "max_new_tokens": generate.max_new_tokens,
            "temperatures": temperatures,
            "top_p": generate.top_p,
            "stops": [stops.strings, stops.token_ids],
            "seed": seed,
            "names": names,
        }
    )
    return Batch(
        who=who,
        asks=tuple(asks),
        keys=tuple(digest_value([whole, name]) for name in names),
        temperatures=temperatures,
        names=names,
        seed=seed,
        settings=generate,
        stops=stops,
        sample=sample,
    )
