"""FastChat's judgments, from the file's rows: pairwise or single, checked and counted.

A winner that is none of the protocol's words is an error: the original would count it as a win of
model_2. A score of −1 is the original's sign for a reply it could not read: unscored here.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tuneproof.errors import DataError
from tuneproof.score.reading import line_rows
from tuneproof.stats.mt_bench import HIGHEST, LOWEST, WINNERS, PairMatch, Score, Winner

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tuneproof.score.reading import JsonRow

Kind = Literal["pairwise", "single"]


@dataclass(frozen=True, kw_only=True)
class Judgments:
    """A file of them: ``matches`` of a pairwise file, ``scores`` of a single one.

    ``repeated`` counts rows whose question, turn, models and judge another row had before.
    """

    kind: Kind
    matches: tuple[PairMatch, ...]
    scores: tuple[Score, ...]
    judges: tuple[str, ...]
    repeated: int


def read_judgments(path: Path) -> Judgments:
    """All rows of a ``<judge>_pair.jsonl`` or ``<judge>_single.jsonl`` (or its .gz).

    Raises:
        DataError: the file is broken, mixes both kinds, lacks a key or has a value that is none of
            the protocol's.
    """
    kind: Kind | None = None
    matches: list[PairMatch] = []
    scores: list[Score] = []
    judges: Counter[str] = Counter()
    seen: set[tuple[object, ...]] = set()
    repeated = 0
    for number, row in line_rows(path):
        place = f"{path}: line {number}"
        mine = _kind(row, place)
        if kind not in (None, mine):
            raise DataError(
                f"a {mine} judgment in a file of {kind} ones",
                place=place,
                remedy="Score the two kinds apart, one file each.",
            )
        kind = mine
        judge = _judge(row, place)
        judges[judge] += 1
        if mine == "pairwise":
            match = _match(row, place)
            matches.append(match)
            models = frozenset((match.model_1, match.model_2))
            key: tuple[object, ...] = (match.question_id, match.turn, models, judge)
        else:
            score = _score(row, place)
            scores.append(score)
            key = (score.question_id, score.turn, score.model, judge)
        repeated += key in seen
        seen.add(key)
    assert kind is not None, "line_rows yields a row or raises"
    return Judgments(
        kind=kind,
        matches=tuple(matches),
        scores=tuple(scores),
        judges=tuple(judges),
        repeated=repeated,
    )


def _kind(row: Mapping[str, object], place: str) -> Kind:
    if "g1_winner" in row or "g2_winner" in row:
        return "pairwise"
    if "score" in row:
        return "single"
    raise DataError(
        "neither a pairwise judgment (g1_winner, g2_winner) nor a single one (score)",
        place=place,
        remedy="Give the .jsonl that FastChat writes under model_judgment/.",
    )


def _match(row: JsonRow, place: str) -> PairMatch:
    return PairMatch(
        question_id=_question(row, place),
        turn=_turn(row, place),
        model_1=_name(row, "model_1", place),
        model_2=_name(row, "model_2", place),
        g1_winner=_winner(row, "g1_winner", place),
        g2_winner=_winner(row, "g2_winner", place),
    )


def _score(row: JsonRow, place: str) -> Score:
    value = row["score"]
    if value is None:
        score = None
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError("expected a number", place=f"{place}: score", value=value)
    elif math.isnan(value) or value == -1:
        score = None
    elif not LOWEST <= value <= HIGHEST:
        raise DataError(
            "is not a score",
            place=f"{place}: score",
            value=value,
            remedy=f"A score is a number from {LOWEST:g} to {HIGHEST:g}, or −1 where the judge's "
            "reply could not be read.",
        )
    else:
        score = float(value)
    return Score(
        question_id=_question(row, place),
        turn=_turn(row, place),
        model=_name(row, "model", place),
        score=score,
    )


def _question(row: JsonRow, place: str) -> int | str:
    value = _required(row, "question_id", place)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise DataError("expected a number or a text", place=f"{place}: question_id", value=value)
    return value


def _turn(row: JsonRow, place: str) -> int:
    value = _required(row, "turn", place)
    if isinstance(value, bool) or not isinstance(value, int) or value not in (1, 2):
        raise DataError("expected 1 or 2", place=f"{place}: turn", value=value)
    return value


def _name(row: JsonRow, key: str, place: str) -> str:
    value = _required(row, key, place)
    if not isinstance(value, str):
        raise DataError("expected a text", place=f"{place}: {key}", value=value)
    return value


def _winner(row: JsonRow, key: str, place: str) -> Winner:
    value = _required(row, key, place)
    for winner in WINNERS:
        if value == winner:
            return winner
    raise DataError(
        "is no outcome of a game",
        place=f"{place}: {key}",
        value=value,
        remedy=f"Expected one of {', '.join(WINNERS)}.",
    )


def _judge(row: JsonRow, place: str) -> str:
    """The judge's name; FastChat writes it with the name of its prompt beside it."""
    value = row.get("judge")
    if isinstance(value, list) and value:
        value = value[0]
    if value is None:
        return "not named"
    if not isinstance(value, str):
        raise DataError("expected a text, or a list of texts", place=f"{place}: judge", value=value)
    return value


def _required(row: JsonRow, key: str, place: str) -> object:
    if key not in row:
        raise DataError(
            f"has no {key}",
            place=place,
            remedy="Give the .jsonl that FastChat writes under model_judgment/.",
        )
    return row[key]
