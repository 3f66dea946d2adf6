"""The batch plan: which prompts are answered together, with which settings, seeds and keys. Pure.

The plan depends on its arguments alone. Where arithmetic is not associative (bfloat16) the
composition of a batch is part of the result, so an answer's key covers the whole batch: a killed
run answers the same batches again and gets the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.records import Arm, Prompt
from tuneproof.workspace import digest_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.generate.asking import Stops
    from tuneproof.recipe import Generate

PROMPT_BATCH_TOKENS = 2048
"""Padded prompt tokens that are read at once; 8,800 of them took 2.2 GB on a CPU with SmolLM2."""


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

    ``keys`` name the answers; ``seed`` the sampling.
    """

    who: Respondent
    asks: tuple[Ask, ...]
    keys: tuple[str, ...]
    seed: int
    settings: Generate
    stops: Stops
    sample: int = 1


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


def settings_of(prompt: Prompt, generate: Generate) -> Generate:
    """The settings that a prompt is answered with: the recipe's, whatever it asks.

    The one place to answer a benchmark or a category otherwise, such as MT-Bench's temperatures.
    """
    return generate


def plan_batches(
    asks: Sequence[Ask],
    generate: Generate,
    *,
    who: Respondent,
    weights: str,
    stops: Stops,
    seed: int,
    sample: int = 1,
) -> list[Batch]:
    """Batches of prompts of like length, longest first, each benchmark by itself.

    A batch has at most ``generate.batch_size`` prompts and ``PROMPT_BATCH_TOKENS`` padded tokens,
    and one set of settings. Since no batch mixes benchmarks, a benchmark's answers are the same
    whatever else the recipe asks.

    Args:
        asks: of one respondent, at most one for each question and turn.
        weights: what identifies the weights that answer.
        stops: what ends an answer.
        sample: 2 for answers that are drawn a second time, independently of the first.
    """
    groups: dict[tuple[str, str], list[Ask]] = {}
    for ask in sorted(
        asks, key=lambda a: (a.prompt.benchmark, a.prompt.question_id, a.prompt.turn)
    ):
        settings = settings_of(ask.prompt, generate)
        groups.setdefault((ask.prompt.benchmark, settings.model_dump_json()), []).append(ask)
    batches = []
    for group in groups.values():
        settings = settings_of(group[0].prompt, generate)
        rows = [ask.token_ids for ask in group]
        for chunk in chunk_by_tokens(rows, PROMPT_BATCH_TOKENS, most=settings.batch_size):
            together = tuple(group[i] for i in chunk)
            whole = digest_value(
                {
                    "who": [who.arm, who.adapter],
                    "weights": weights,
                    "prompts": [ask.token_ids for ask in together],
                    "settings": settings.model_dump(mode="json"),
                    "stops": [stops.strings, stops.token_ids],
                    "seed": seed,
                    # A first sample has the keys of before there were second ones.
                    **({"sample": sample} if sample > 1 else {}),
                }
            )
            batches.append(
                Batch(
                    who=who,
                    asks=together,
                    keys=tuple(
                        digest_value([whole, p.benchmark, p.question_id, p.turn])
                        for p in (ask.prompt for ask in together)
                    ),
                    # 63 bits of the digest: named by everything that the batch is.
                    seed=int(whole[:16], 16) >> 1,
                    settings=settings,
                    stops=stops,
                    sample=sample,
                )
            )
    return batches
