"""The order of training rows where a recipe asks for batches of like length."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.utils.data import Sampler

from tuneproof.recipe import rng

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class ByLength(Sampler[int]):
    """Rows in batches of like length, the batches in random order; each epoch has an order of its
    own that depends on seed and epoch alone, so that a resumed epoch is the one that was begun.

    Rows are shuffled, sorted within pools of ``POOL`` batches, and cut into batches. The very
    first batch of an epoch is the one with the longest row, so that too little memory shows at
    once.
    """

    POOL = 50

    def __init__(
        self, lengths: Sequence[int], batch_size: int, *, seed: int, epoch: Callable[[], int]
    ) -> None:
        self._lengths = lengths
        self._batch_size = batch_size
        self._seed = seed
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        draw = rng(self._seed, "train", "order", self._epoch())
        order = list(range(len(self._lengths)))
        draw.shuffle(order)
        pool, size = self.POOL * self._batch_size, self._batch_size
        batches: list[list[int]] = []
        for start in range(0, len(order), pool):
            rows = sorted(order[start : start + pool], key=lambda i: -self._lengths[i])
            batches += [rows[i : i + size] for i in range(0, len(rows), size)]
        # A partial batch must stay the last, or it would shift every row after it.
        partial = [batches.pop()] if len(batches[-1]) < size else []
        draw.shuffle(batches)
        longest = max(range(len(batches)), key=lambda b: self._lengths[batches[b][0]], default=0)
        if batches:
            batches.insert(0, batches.pop(longest))
        return (i for batch in [*batches, *partial] for i in batch)
