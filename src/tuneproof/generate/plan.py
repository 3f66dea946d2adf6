"""The batch plan: which prompts are answered together, how warm, and under which keys. Pure.

The plan depends on its arguments alone. Batches mix the prompts of all benchmarks. In float32 an
answer is the same in every batch; in bfloat16 the composition of the batch is part of the result,
so an answer's key covers the whole batch: a killed run answers the same batches again and gets the
same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tuneproof.records import Arm, Prompt
from tuneproof.workspace import digest_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.generate.asking import Stops
    from tuneproof.recipe import Generate

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


@dataclass(frozen=True)
class Respondent:
    """Who answers: an arm, and for tuned which of the trained adapters, counted from 1."""

    arm: Arm
    adapter: int = 1

    @property
    def name(self) -> str:
        """What progress lines call it."""
        return f"{self.arm} {self.adapter}" if self.adapter > 1 else self.arm.value


BASE = Respondent(Arm.BASE)
FAIR_BASE = Respondent(Arm.FAIR_BASE)
PLACEBO = Respondent(Arm.PLACEBO)


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


def chunk_by_tokens(
    rows: Sequence[Sequence[int]], budget: int, *, beside: int = 0, most: int | None = None
) -> list[list[int]]:
    """Indices of rows in batches of like length, longest first, within ``budget`` padded tokens.

    A row that is longer than the budget is a batch of its own. ``beside`` tokens are counted beside
    those of each row; ``most`` limits the rows of a batch.
    """
    chunks: list[list[int]] = []
    for i in sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i)):
        # Rows come longest first, so a chunk's first row is its width.
        if (
            chunks
            and (len(rows[chunks[-1][0]]) + beside) * (len(chunks[-1]) + 1) <= budget
            and (most is None or len(chunks[-1]) < most)
        ):
            chunks[-1].append(i)
        else:
            chunks.append([i])
    return chunks


def temperature_of(prompt: Prompt, generate: Generate, *, by_category: bool) -> float:
    """The recipe's temperature; with ``by_category``, on MT-Bench that of the category."""
    if by_category and prompt.benchmark == "mt_bench":
        return CATEGORY_TEMPERATURES.get(prompt.category or "", generate.temperature)
    return generate.temperature


def draw_name(prompt: Prompt, who: Respondent, sample: int) -> tuple[str | int, ...]:
    """What names the randomness of one sampled answer, beside the recipe's seed."""
    return (who.arm.value, who.adapter, prompt.benchmark, prompt.question_id, prompt.turn, sample)


def plan_batches(
    asks: Sequence[Ask],
    generate: Generate,
    *,
    who: Respondent,
    weights: str,
    stops: Stops,
    seed: int,
    sample: int = 1,
    by_category: bool = False,
) -> list[Batch]:
    """Batches of prompts of like length, longest first.

    A batch has at most ``generate.batch_size`` prompts and, each counted as long as the longest and
    with ``max_new_tokens``, ``generate.batch_tokens`` tokens; a prompt that is longer than that is
    a batch of its own.

    Args:
        asks: of one respondent, at most one for each question and turn.
        weights: what identifies the weights that answer.
        stops: what ends an answer.
        sample: 2 for answers that are drawn a second time, independently of the first.
        by_category: MT-Bench's categories have temperatures of their own.
    """
    ordered = sorted(asks, key=lambda a: (a.prompt.benchmark, a.prompt.question_id, a.prompt.turn))
    chunks = chunk_by_tokens(
        [ask.token_ids for ask in ordered],
        generate.batch_tokens,
        beside=generate.max_new_tokens,
        most=generate.batch_size,
    )
    batches = []
    for chunk in chunks:
        together = tuple(ordered[i] for i in chunk)
        prompts = [ask.prompt for ask in together]
        temperatures = tuple(temperature_of(p, generate, by_category=by_category) for p in prompts)
        names = tuple(draw_name(p, who, sample) for p in prompts)
        whole = digest_value(
            {
                "decoding": [generate.backend, DECODING],
                "weights": weights,
                "prompts": [ask.token_ids for ask in together],
                "max_new_tokens": generate.max_new_tokens,
                "temperatures": temperatures,
                "top_p": generate.top_p,
                "stops": [stops.strings, stops.token_ids],
                "seed": seed,
                "names": names,
            }
        )
        batches.append(
            Batch(
                who=who,
                asks=together,
                keys=tuple(digest_value([whole, name]) for name in names),
                temperatures=temperatures,
                names=names,
                seed=seed,
                settings=generate,
                stops=stops,
                sample=sample,
            )
        )
    return batches
