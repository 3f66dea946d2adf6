"""The two sides of a comparison: one measure by question, of an opponent and of tuned.

Turns and adapters of a question are averaged, over the turns that both sides have: the question is
the unit of everything that is estimated from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tuneproof.records import Answer, Arm, Rating, SequenceLoss, Similarity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Row = TypeVar("Row", SequenceLoss, Answer, Similarity, Rating)


@dataclass(frozen=True, kw_only=True)
class Sides:
    """One measure by question: the base arm's, tuned's over all adapters, and each adapter's.

    ``adapters`` is empty where there is only one.
    """

    base: dict[str, float]
    tuned: dict[str, float]
    adapters: list[dict[str, float]]


def sides_of(rows: Iterable[Row], value: Callable[[Row], float], *, base: Arm) -> Sides:
    """Average the turns and adapters of each question, over the turns that both arms have.

    A row that comes twice is a bug upstream.
    """
    cells: dict[int, dict[tuple[str, int], float]] = {0: {}}  # 0 is the base arm
    for row in rows:
        if row.arm not in (base, Arm.TUNED):
            continue
        turns = cells.setdefault(0 if row.arm is base else row.adapter, {})
        place = (row.question_id, row.turn if isinstance(row, Answer | Rating) else 1)
        assert place not in turns, (place, row.arm)
        turns[place] = value(row)
    base_cells = cells.pop(0)
    tuned_cells: dict[tuple[str, int], list[float]] = {}
    for _, values in sorted(cells.items()):
        for place, v in values.items():
            if place in base_cells:
                tuned_cells.setdefault(place, []).append(v)
    return Sides(
        base=_by_question({p: base_cells[p] for p in tuned_cells}),
        tuned=_by_question({p: math.fsum(vs) / len(vs) for p, vs in tuned_cells.items()}),
        adapters=[
            _by_question({p: v for p, v in values.items() if p in base_cells})
            for _, values in sorted(cells.items())
        ]
        if len(cells) > 1
        else [],
    )


def _by_question(cells: dict[tuple[str, int], float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for (question, _), value in cells.items():
        found.setdefault(question, []).append(value)
    return {question: math.fsum(vs) / len(vs) for question, vs in found.items()}
