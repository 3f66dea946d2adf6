"""AlpacaEval's annotations, from the file's rows: checked, counted, no more than is needed kept.

A row that has no preference is unscored and counted by reason, as the original's ``get_winrate``
leaves it out of every mean. A preference that is none of the protocol's values is an error: the
original drops such rows without a word. Answers are kept as lengths and digests, so that a file of
any size can be read.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tuneproof.errors import DataError
from tuneproof.score.reading import array_rows
from tuneproof.stats.alarms import AnswerWatch
from tuneproof.stats.alpaca_eval import share_of

if TYPE_CHECKING:
    from pathlib import Path

    from tuneproof.results import Alarm
    from tuneproof.score.reading import JsonRow

MISSING = "has no preference"
NULL = "preference is null"
NAN = "preference is NaN"

_REMEDY = (
    "A preference is a number from 1 (output_1 is better) to 2 (output_2 is), 0 for a tie, or null."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """One row. ``preference`` is q = P(output_2 is better), or None where it is unscored.

    ``question`` is the instruction, or the row's number where it has none. Lengths are those of
    output_1 and output_2 in characters; ``reference_digest`` is output_1's, of this process.
    ``predicted`` is the original's own prediction at equal length (``glm_preference``), where the
    row holds one.
    """

    question: str
    dataset: str | None
    reference_length: int | None
    reference_digest: int | None
    model_length: int | None
    preference: float | None
    predicted: float | None


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """A file of them, and what its rows name. ``unscored`` counts rows by reason."""

    rows: tuple[Annotation, ...]
    references: tuple[str, ...]
    models: tuple[str, ...]
    judges: tuple[str, ...]
    unscored: dict[str, int]
    lacking: dict[str, int]
    alarms: tuple[Alarm, ...]


@dataclass
class _Seen:
    """Names and counts gathered over the rows."""

    names: dict[str, Counter[str]] = field(
        default_factory=lambda: {k: Counter() for k in ("generator_1", "generator_2", "annotator")}
    )
    unscored: Counter[str] = field(default_factory=Counter)
    lacking: Counter[str] = field(default_factory=Counter)


def read_annotations(path: Path) -> Annotations:
    """All rows of an ``annotations.json`` (or its .gz).

    Raises:
        DataError: the file is broken, no row has a preference key, or a value is of a wrong kind.
    """
    seen = _Seen()
    watch = AnswerWatch()
    rows = []
    instructions: dict[str, str] = {}
    for number, row in array_rows(path):
        place = f"{path}: row {number}"
        instruction = _text(row, "instruction", seen, place)
        reference = _text(row, "output_1", seen, place)
        answer = _text(row, "output_2", seen, place)
        for key, names in seen.names.items():
            name = _text(row, key, seen, place)
            if name is not None:
                names[name] += 1
        preference = _preference(row, seen, place)
        if answer is not None:
            watch.see(answer, instruction=instruction or "")
        question = f"row {number}" if instruction is None else instruction
        rows.append(
            Annotation(
                # One string for an instruction that comes often.
                question=instructions.setdefault(question, question),
                dataset=_optional_text(row, "dataset", place),
                reference_length=None if reference is None else len(reference),
                reference_digest=None if reference is None else hash(reference),
                model_length=None if answer is None else len(answer),
                preference=preference,
                predicted=_predicted(row),
            )
        )
    if seen.unscored[MISSING] == len(rows):
        raise DataError(
            "no row has the key preference",
            place=str(path),
            remedy="Give the annotations.json that alpaca_eval writes; the keys of a row are "
            "instruction, output_1, output_2, generator_1, generator_2, annotator, preference.",
        )
    return Annotations(
        rows=tuple(rows),
        references=tuple(seen.names["generator_1"]),
        models=tuple(seen.names["generator_2"]),
        judges=tuple(seen.names["annotator"]),
        unscored=dict(seen.unscored),
        lacking=dict(seen.lacking),
        alarms=watch.alarms(),
    )


def _preference(row: JsonRow, seen: _Seen, place: str) -> float | None:
    if "preference" not in row:
        seen.unscored[MISSING] += 1
        return None
    value = row["preference"]
    if value is None:
        seen.unscored[NULL] += 1
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(
            "expected a number", place=f"{place}: preference", value=value, remedy=_REMEDY
        )
    if math.isnan(value):
        seen.unscored[NAN] += 1
        return None
    share = share_of(value)
    if share is None:
        raise DataError(
            "is not a preference", place=f"{place}: preference", value=value, remedy=_REMEDY
        )
    return share


def _text(row: JsonRow, key: str, seen: _Seen, place: str) -> str | None:
    """A string; None, counted as lacking, where the key is absent or null."""
    value = _optional_text(row, key, place)
    if value is None:
        seen.lacking[key] += 1
    return value


def _optional_text(row: JsonRow, key: str, place: str) -> str | None:
    value = row.get(key)
    if value is not None and not isinstance(value, str):
        raise DataError("expected a text", place=f"{place}: {key}", value=value)
    return value


def _predicted(row: JsonRow) -> float | None:
    value = row.get("glm_preference")
    known = isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool))
    return float(value) if known and 0 <= value <= 1 else None  # type: ignore[operator,arg-type]
