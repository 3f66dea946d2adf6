"""Placebo data: the training rows with their responses shuffled among them.

An adapter trained on them learns the template, the tone, the length and where to stop, but nothing
that a question has to do with its answer. What it gains over the base model is format; what the
tuned model gains over it is not. The comparison is ``tuneproof.stats.placebo``'s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.errors import DataError
from tuneproof.recipe import rng
from tuneproof.records import Split

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.records import Example


def shuffle_responses(
    examples: Sequence[Example], *, seed: int, split: Split = Split.TRAIN
) -> list[Example]:
    """The same rows in the same order, each with another row's response.

    Instruction, context, category and id stay; ``checkable`` becomes False, since the response is
    no right answer any more. All responses are used once, so their lengths, words and ends are
    those of the data.

    Args:
        examples: the rows of one split.
        seed: the recipe's; the draw is ``rng(seed, "placebo")``.
        split: which one, for an error to name.

    Raises:
        DataError: see ``derangement``.
    """
    order = derangement([e.response for e in examples], seed=seed, split=split)
    return [
        e.model_copy(update={"response": examples[source].response, "checkable": False})
        for e, source in zip(examples, order, strict=True)
    ]


def derangement(texts: Sequence[str], *, seed: int, split: Split = Split.TRAIN) -> list[int]:
    """A permutation that gives no place its own text back, equal texts counted as its own.

    Texts are put in a drawn order in which equal ones stand together, and each place takes the text
    that stands one longest group further on (in a circle), so that no group reaches itself. Where
    all texts differ this is a drawn permutation of one single cycle.

    Returns:
        For each place, the place its text comes from.

    Raises:
        DataError: one text is at more than half of the places (or there are fewer than two): no
            such permutation exists.
    """
    draw = rng(seed, "placebo")
    places: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        places.setdefault(text, []).append(place)
    groups = list(places.values())
    longest = max(map(len, groups), default=0)
    if len(texts) < 2 or 2 * longest > len(texts):
        raise DataError(
            "gives no placebo",
            place=f"the rows of the {split} split",
            value=f"{longest} of {len(texts)} responses are one and the same"
            if len(texts) > 1
            else f"{len(texts)} rows",
            remedy="Shuffled, some rows would keep their response. Leave the placebo out, or give "
            "data with more different responses.",
        )
    draw.shuffle(groups)
    for group in groups:
        draw.shuffle(group)
    circle = [place for group in groups for place in group]
    sources = [0] * len(texts)
    for i, place in enumerate(circle):
        sources[place] = circle[(i + longest) % len(circle)]
    return sources
