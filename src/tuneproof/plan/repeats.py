"""Findings about rows that repeat one another, cross the splits, or are benchmark questions.

Two rows count as one if their exchanges (instruction and response together) are alike, and so are
their responses and what contexts they have: the same question about another text is another row,
and so is one with another answer. A row is a benchmark question if its instruction is alike, or
holds the question word for word. What alike means is in ``duplicates``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.plan import duplicates
from tuneproof.plan.findings import TOLERATED, for_example, share
from tuneproof.progress import printable
from tuneproof.records import Finding, Record, Severity, Split

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tuneproof.plan.duplicates import Numbers
    from tuneproof.plan.judging import Asked
    from tuneproof.records import Example


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """Two rows that count as one, the earlier split first.

    ``identical`` says that instruction and response are the same words.
    """

    first: Example
    first_split: Split
    second: Example
    second_split: Split
    identical: bool


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """A training row and the benchmark question (and turn, from 1) that it repeats.

    ``similarity`` is 1 where the row holds the question word for word.
    """

    row: Example
    benchmark: str
    question_id: str
    turn: int
    question: str
    similarity: float


class RepeatCounts(Record):
    """What was looked at and found, in rows, pairs of rows and questions of public benchmarks."""

    rows_compared: int
    alike_pairs: int
    questions_checked: int
    overlapping_questions: int


class Corpus:
    """All rows as word numbers and shingles, made once for every comparison."""

    def __init__(self, splits: Mapping[Split, Sequence[Example]]) -> None:
        import numpy as np

        self._number = duplicates.WordNumbers()
        self.rows = [(split, e) for split in Split for e in splits.get(split, ())]
        numbers = [
            (self._number(e.instruction), self._number(e.context), self._number(e.response))
            for _, e in self.rows
        ]
        self._exchanges = [np.concatenate([i, r]) for i, _, r in numbers]
        self._instructions = [i for i, _, _ in numbers]
        self._contexts = [c for _, c, _ in numbers]
        self._responses = [r for _, _, r in numbers]
        self._prompts = [np.concatenate([i, c]) for i, c, _ in numbers]

    def repeats(self) -> list[Repeat]:
        """Pairs of rows that count as one, over all splits."""
        texts = [duplicates.shingles(n) for n in self._exchanges]
        return [
            Repeat(
                first=self.rows[p.left][1],
                first_split=self.rows[p.left][0],
                second=self.rows[p.right][1],
                second_split=self.rows[p.right][0],
                identical=self._same(p.left, p.right),
            )
            for p in duplicates.pairs_within(texts)
            if _alike(self._responses[p.left], self._responses[p.right])
            and (
                not len(self._contexts[p.left])
                or not len(self._contexts[p.right])
                or _alike(self._contexts[p.left], self._contexts[p.right])
            )
        ]

    def _same(self, left: int, right: int) -> bool:
        return (
            self._instructions[left].tobytes() == self._instructions[right].tobytes()
            and self._responses[left].tobytes() == self._responses[right].tobytes()
        )

    def overlaps(self, asked: Iterable[Asked]) -> list[Overlap]:
        """Training rows that are questions of a public benchmark."""
        turns = [
            (a.name, q.id, turn, text)
            for a in asked
            for q in a.questions
            for turn, text in enumerate(q.turns, start=1)
        ]
        numbers = [self._number(text) for *_, text in turns]
        train = [k for k, (split, _) in enumerate(self.rows) if split is Split.TRAIN]
        alike = {
            (p.left, p.right): p.similarity
            for p in duplicates.pairs_between(
                [duplicates.shingles(n) for n in numbers],
                [duplicates.shingles(self._instructions[k]) for k in train],
            )
        }
        for pair in duplicates.contained(numbers, [self._prompts[k] for k in train]):
            alike.setdefault(pair, 1.0)
        return [
            Overlap(
                row=self.rows[train[row]][1],
                benchmark=turns[q][0],
                question_id=turns[q][1],
                turn=turns[q][2],
                question=turns[q][3],
                similarity=similarity,
            )
            for (q, row), similarity in sorted(alike.items())
        ]

    def asked_before(self) -> list[str]:
        """Ids of test rows that ask word for word what a train row asks, context included."""
        seen = {
            (e.context == "", prompt.tobytes())
            for (split, e), prompt in zip(self.rows, self._prompts, strict=True)
            if split is Split.TRAIN
        }
        return [
            e.id
            for (split, e), prompt in zip(self.rows, self._prompts, strict=True)
            if split is Split.TEST and (e.context == "", prompt.tobytes()) in seen
        ]


def _alike(left: Numbers, right: Numbers) -> bool:
    similarity = duplicates.jaccard(duplicates.shingles(left), duplicates.shingles(right))
    return similarity >= duplicates.ALIKE


# --- findings --------------------------------------------------------------------------------


def duplicate_rows(repeats: Sequence[Repeat], n_train: int) -> Finding | None:
    """Train rows that repeat an earlier train row."""
    pairs = [r for r in repeats if r.first_split is r.second_split is Split.TRAIN]
    again = {r.second.id for r in pairs}
    if not again:
        return None
    same = {r.second.id for r in pairs if r.identical}
    shown = next((r for r in pairs if r.identical), pairs[0])
    return Finding(
        id="duplicate-rows",
        severity="warning" if len(again) > TOLERATED * n_train else "note",
        count=len(again),
        evidence=f"{share(len(again), n_train)} train rows repeat another one, {len(same):,} word "
        f"for word and the rest nearly{for_example([shown.first.id, shown.second.id])}: they "
        "count twice in the loss.",
        remedy="Remove one row of each pair from the source.",
    )


def split_leak(
    repeats: Sequence[Repeat],
    splits: Mapping[Split, Sequence[Example]],
    *,
    asked_before: Sequence[str],
    test_is_used: bool,
) -> Finding | None:
    """Test rows that training has seen.

    An error where more than one in a hundred is, word for word: a model that knows them by heart
    can then gain a whole point on the test rows without being any better. Less is a warning; and a
    note where the recipe asks nothing of the test split, so that only the validation loss could
    profit.

    Args:
        asked_before: ids of test rows whose prompt is that of a train row.
    """
    crossing = [
        r
        for r in repeats
        if r.first_split is Split.TRAIN and r.second_split in (Split.TEST, Split.VALIDATION)
    ]
    test = {r.second.id for r in crossing if r.second_split is Split.TEST}
    validation = {r.second.id for r in crossing if r.second_split is Split.VALIDATION}
    if not test and not validation:
        return None
    rows = splits[Split.TEST]
    same = {r.second.id for r in crossing if r.identical} & test
    severity: Severity = "error" if len(same) > TOLERATED * len(rows) else "warning"
    shown = next((r for r in crossing if r.second_split is Split.TEST), crossing[0])
    unused = "" if test_is_used else " The recipe asks nothing of the test split."
    return Finding(
        id="split-leak",
        severity=severity if test_is_used else "note",
        count=len(test),
        evidence=f"{share(len(test), len(rows))} test rows and "
        f"{share(len(validation), len(splits[Split.VALIDATION]))} validation rows repeat a train "
        f"row{for_example([shown.first.id, shown.second.id])}, {len(same):,} of the test rows word "
        f"for word; {len(asked_before):,} test rows ask what a train row asks.{unused}",
        remedy="Remove one row of each pair from the source, and prepare again.",
    )


def benchmark_overlap(overlaps: Sequence[Overlap], asked: Sequence[Asked]) -> Finding | None:
    """Benchmark questions that the recipe asks and trains on.

    An error where they are more than one in a hundred of a benchmark's questions: its win rate can
    then move by more than a point for having seen them.
    """
    if not overlaps:
        return None
    rows = {o.row.id for o in overlaps}
    parts, worst = [], 0.0
    for a in asked:
        questions = {o.question_id for o in overlaps if o.benchmark == a.name}
        if questions:
            parts.append(f"{share(len(questions), a.n_questions)} questions of {a.name}")
            worst = max(worst, len(questions) / a.n_questions)
    o = overlaps[0]
    quoted = " ".join(printable(o.question).split())
    quoted = quoted if len(quoted) <= 80 else f"{quoted[:79]}…"
    return Finding(
        id="benchmark-overlap",
        severity="error" if worst > TOLERATED else "warning",
        count=len({(o.benchmark, o.question_id) for o in overlaps}),
        evidence=f"{' and '.join(parts)} are in the training data, in {len(rows):,} "
        f"{'row' if len(rows) == 1 else 'rows'}: {o.question_id} “{quoted}” is {o.row.id}.",
        remedy=f"Remove these rows from the source: {_listed(sorted(rows))}.",
    )


def _listed(ids: Sequence[str], most: int = 10) -> str:
    more = f" and {len(ids) - most:,} more" if len(ids) > most else ""
    return ", ".join(ids[:most]) + more
