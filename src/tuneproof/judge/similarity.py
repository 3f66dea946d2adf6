"""How near an answer is to the reference response: chrF, and exact match where there is one answer.

Similarity to a reference is what it says and no more: it is not a preference and not a win rate.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final

from tuneproof.records import Answer, Arm, Prompt, Similarity, Stop

if TYPE_CHECKING:
    from collections.abc import Sequence

_QUOTES: Final = {
    '"': '"',
    "'": "'",
    "`": "`",
    "“": "”",
    "‘": "’",
    "„": "“",
    "«": "»",
    "»": "«",
    "‹": "›",
}
_FINAL: Final = ".,;:!?…。、"


def normalise(text: str) -> str:
    """The text with what does not make an answer another answer taken away.

    Unicode NFKC and case folding, runs of white space as one space, no punctuation at the end and
    no quotes around the whole. A text of nothing but punctuation stays as it is.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    whole = " ".join(folded.split())
    bare = whole
    while True:
        before = bare
        bare = bare.rstrip(_FINAL).rstrip()
        if len(bare) >= 2 and _QUOTES.get(bare[0]) == bare[-1]:
            bare = bare[1:-1].strip()
        if bare == before:
            return bare or whole


def nearness(text: str, reference: str) -> float:
    """chrF of a text and its reference, in [0, 1]."""
    from sacrebleu import sentence_chrf

    return min(1.0, max(0.0, float(sentence_chrf(text, [reference]).score) / 100))


def similarity(prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[Similarity]:
    """Compare every answer with its question's reference response.

    ``chrf`` is sacrebleu's sentence-level chrF2 (Popović 2015; character n-grams up to 6, β = 2)
    over 100; ``exact`` compares after ``normalise`` and is None where the prompt is not checkable.
    An empty answer scores 0 and is not exact.

    Returns:
        A row for each answer whose prompt has a reference, in the order of the prompts, and of the
        arms, tuned last. An answer that failed (``stop`` error) has no row: it is unscored, not
        wrong.
    """
    by_prompt: dict[tuple[str, int], list[Answer]] = {}
    for answer in answers:
        if answer.stop is not Stop.ERROR:
            by_prompt.setdefault((answer.question_id, answer.turn), []).append(answer)
    arms = list(Arm)
    rows = []
    for prompt in prompts:
        if prompt.reference is None:
            continue
        said = by_prompt.get((prompt.question_id, prompt.turn), [])
        for answer in sorted(said, key=lambda a: (arms.index(a.arm), a.adapter)):
            empty = not answer.text.strip()
            exact = None
            if prompt.checkable:
                exact = not empty and normalise(answer.text) == normalise(prompt.reference)
            rows.append(
                Similarity(
                    question_id=prompt.question_id,
                    arm=answer.arm,
                    adapter=answer.adapter,
                    category=prompt.category,
                    chrf=nearness(answer.text, prompt.reference),
                    exact=exact,
                )
            )
    return rows
