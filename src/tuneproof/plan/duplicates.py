"""Texts that repeat one another: rows within the data, and benchmark questions among the rows.

Candidates come from MinHash signatures of word shingles (datasketch); every candidate is then
compared by the shingles themselves, so that no pair is reported that is not alike. What a pair
means is left to ``findings``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    Numbers = NDArray[np.uint64]
    """A text as the numbers of its words."""
    Shingles = NDArray[np.uint32]
    """The distinct shingles of a text, hashed and sorted."""

SHINGLE_WORDS = 3
"""Words of a shingle; a shorter text is one shingle."""

ALIKE = 0.8
"""Jaccard similarity of the shingles from which two texts count as one."""

BANDS, ROWS = 16, 4
"""Of a signature of 64 minima: a pair of similarity s is a candidate with probability
1 − (1 − s⁴)¹⁶, which is 0.9998 at 0.8 and 0.12 at 0.3."""

CONTAINED_WORDS = 8
"""A question of fewer words stands inside other texts by chance ("What is the meaning of …")."""


class WordNumbers:
    """Gives every word a number as it comes, so only texts of one instance compare.

    Words are lower-case and without punctuation.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, text: str) -> Numbers:
        """The numbers of the words of a text, in order."""
        import numpy as np

        known = self._numbers
        found = re.findall(r"\w+", text.casefold())
        return np.array([known.setdefault(w, len(known) + 1) for w in found], dtype=np.uint64)


def shingles(numbers: Numbers, width: int = SHINGLE_WORDS) -> Shingles:
    """The distinct shingles of ``width`` words, of a shorter text the text; none of no words.

    Two different shingles share their hash of 32 bits with probability 2⁻³².
    """
    import numpy as np

    width = min(width, len(numbers))
    return np.unique(_mixed(numbers, width)) if width else np.empty(0, dtype=np.uint32)


def _mixed(numbers: Numbers, width: int) -> NDArray[np.uint32]:
    """One hash for each run of ``width`` numbers, in order."""
    import numpy as np

    n = len(numbers) - width + 1
    mixed = np.zeros(max(0, n), dtype=np.uint64)
    for offset in range(width if n > 0 else 0):
        # Multiplied by the odd constant of splitmix64, overflow meant, and the high bits brought
        # down, so that order and every number count.
        mixed = (mixed + numbers[offset : offset + n]) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(32)).astype(np.uint32)


def jaccard(left: Shingles, right: Shingles) -> float:
    """Shared shingles over all shingles of both; 0 where both are empty."""
    import numpy as np

    both = len(np.intersect1d(left, right, assume_unique=True))
    either = len(left) + len(right) - both
    return both / either if either else 0.0


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two texts that are alike, by their indices; ``similarity`` is Jaccard's."""

    left: int
    right: int
    similarity: float


def pairs_within(texts: Sequence[Shingles], *, at_least: float = ALIKE) -> list[Pair]:
    """All pairs of alike texts, left before right."""
    return _pairs(texts, None, at_least)


def pairs_between(
    left: Sequence[Shingles], right: Sequence[Shingles], *, at_least: float = ALIKE
) -> list[Pair]:
    """All alike pairs of one text of each side."""
    return _pairs(right, left, at_least)


def _pairs(
    texts: Sequence[Shingles], indexed: Sequence[Shingles] | None, at_least: float
) -> list[Pair]:
    from datasketch import MinHashLSH

    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    side = texts if indexed is None else indexed
    if indexed is not None:
        for i, signature in _signatures(indexed):
            index.insert(i, signature)
    found = []
    for i, signature in _signatures(texts):
        for j in index.query(signature):
            similarity = jaccard(side[j], texts[i])
            if similarity >= at_least:
                found.append(Pair(left=j, right=i, similarity=similarity))
        if indexed is None:
            index.insert(i, signature)
    return sorted(found, key=lambda p: (p.left, p.right))


def _signatures(texts: Iterable[Shingles]) -> Iterator[tuple[int, object]]:
    """Index and signature of each text that has words."""
    from datasketch import MinHash

    some = [(i, text) for i, text in enumerate(texts) if len(text)]
    made = MinHash.generator((t.tolist() for _, t in some), num_perm=BANDS * ROWS, hashfunc=int)
    return zip((i for i, _ in some), made, strict=True)


def contained(questions: Sequence[Numbers], texts: Sequence[Numbers]) -> list[tuple[int, int]]:
    """Which questions stand word for word inside which texts, as (question, text).

    Questions of fewer than ``CONTAINED_WORDS`` words are left out.
    """
    import numpy as np

    if not texts or not questions:
        return []
    width = CONTAINED_WORDS
    by_hash: dict[int, list[int]] = {}
    for q, numbers in enumerate(questions):
        if len(numbers) >= width:
            by_hash.setdefault(int(_mixed(numbers[:width], width)[0]), []).append(q)
    whole = np.concatenate(texts)
    ends = np.cumsum([len(t) for t in texts])
    hashes = _mixed(whole, width)
    found = set()
    for place in np.flatnonzero(np.isin(hashes, list(by_hash))):
        text = int(np.searchsorted(ends, place, side="right"))
        for q in by_hash[int(hashes[place])]:
            end = place + len(questions[q])
            if end <= ends[text] and np.array_equal(whole[place:end], questions[q]):
                found.add((q, text))
    return sorted(found)
