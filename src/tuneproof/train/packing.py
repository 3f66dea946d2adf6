"""Which sequences of an optimizer step go through the model together.

Pure: lengths and a token budget in, micro-batches out. Nothing is padded, cut, reordered between
steps or left out. Making tensors of a micro-batch is left to ``packed``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

WINDOW = 2048
"""Sequences packed at once: first-fit takes time by their square."""


def pack(lengths: Sequence[int], *, budget: int, parts: int = 1) -> list[tuple[int, ...]]:
    """Micro-batches of at most ``budget`` tokens, each the indices of its sequences, ascending.

    As few as first-fit decreasing needs (at most 11/9 of the fewest there are, plus one: Johnson
    1973), and then filled as evenly as the budget allows: the largest one sets the memory.

    Args:
        lengths: tokens of each sequence.
        parts: the number of micro-batches is a multiple of it, with empty ones where there are too
            few sequences, so that as many processes get as many each.

    Raises:
        DataError: a sequence is longer than the budget.
    """
    for i, length in enumerate(lengths):
        if length > budget:
            raise DataError(
                f"sequence {i} of the step has {length:,} tokens, more than one micro-batch holds",
                place="train.token_budget",
                value=budget,
                remedy=f"--set train.token_budget={length} or more, or a smaller train.max_length.",
            )
    packed: list[list[int]] = []
    for start in range(0, len(lengths), WINDOW):
        window = sorted(
            range(start, min(start + WINDOW, len(lengths))), key=lambda i: (-lengths[i], i)
        )
        first = _first_fit(window, lengths, budget)
        n = parts * -(-len(first) // parts)
        even = _evenly(window, lengths, budget, n)
        packed += even if even is not None else first + [[] for _ in range(n - len(first))]
    return [tuple(sorted(rows)) for rows in packed]


def _first_fit(order: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    bins: list[list[int]] = []
    room: list[int] = []
    for i in order:
        for b, left in enumerate(room):
            if lengths[i] <= left:
                bins[b].append(i)
                room[b] -= lengths[i]
                break
        else:
            bins.append([i])
            room.append(budget - lengths[i])
    return bins


def _evenly(
    order: Sequence[int], lengths: Sequence[int], budget: int, n: int
) -> list[list[int]] | None:
    """``n`` micro-batches, the longest sequence first into the emptiest; None if one overflows."""
    bins: list[list[int]] = [[] for _ in range(n)]
    filled = [0] * n
    for i in order:
        emptiest = min(range(n), key=lambda b: filled[b])
        filled[emptiest] += lengths[i]
        if filled[emptiest] > budget:
            return None
        bins[emptiest].append(i)
    return bins
