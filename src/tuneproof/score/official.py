"""Whether AlpacaEval's official length-controlled rate applies to a file, and what it is.

The official rate belongs to one match: the 805 instructions, each once, against the answers of
gpt-4-1106-preview, judged by the default annotator. For that match it is had in one of two ways:
from the file itself, where the original wrote its predictions beside the preferences
(``glm_preference``), or by the original's fit, which needs its file of gamed rows. For any other
match there is none, and the reason is given.
"""

from __future__ import annotations

import csv
import importlib.util
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.benchmark_files import ALPACA_EVAL_GAMED, ALPACA_EVAL_QUESTIONS, find_file
from tuneproof.errors import AssetError
from tuneproof.stats.length_control import (
    DifficultyRow,
    GamedRow,
    OfficialRate,
    official_fit,
    official_rate,
    rate_of_predictions,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tuneproof.score.annotations import Annotations

N_INSTRUCTIONS = 805
DEFAULT_JUDGE = "weighted_alpaca_eval_gpt4_turbo"

FROM_FILE = "the original's predictions in the file (glm_preference)"
FROM_FIT = "the original's fit, with df_gamed.csv"


@dataclass(frozen=True, kw_only=True)
class LengthControl:
    """The official rate and its source, or the reason why there is none."""

    rate: OfficialRate | None
    source: str | None = None
    reason: str | None = None


def official_length_control(annotations: Annotations, assets: str | None = None) -> LengthControl:
    """The official rate of a file's match. Nothing is fetched.

    Args:
        annotations: the rows of the match.
        assets: a folder of benchmark files, as a recipe may name one.

    Raises:
        AssetError: a file of the benchmark that is on this machine is not the right one.
    """
    reason = other_match(annotations, assets)
    if reason is not None:
        return LengthControl(rate=None, reason=reason)
    predictions = [r.predicted for r in annotations.rows if r.predicted is not None]
    if len(predictions) == len(annotations.rows):
        return LengthControl(rate=rate_of_predictions(predictions), source=FROM_FILE)
    gamed_file = find_file(ALPACA_EVAL_GAMED, assets)
    if gamed_file is None:
        return LengthControl(
            rate=None,
            reason=f"it is fitted with {ALPACA_EVAL_GAMED.name}, which is not on this machine "
            f"(tuneproof assets fetch {ALPACA_EVAL_GAMED.name})",
        )
    if importlib.util.find_spec("sklearn") is None:
        return LengthControl(
            rate=None,
            reason="its fit needs scikit-learn: pip install 'tuneproof[official-length-control]'",
        )
    gamed, difficulties = read_gamed(gamed_file)
    rows = []
    # Difficulties go by position in the official order, whatever the file's own.
    for position, row in zip(_positions(annotations, assets), annotations.rows, strict=True):
        assert row.reference_length is not None, "checked by other_match"
        assert row.model_length is not None, "checked by other_match"
        rows.append(
            DifficultyRow(
                preference=row.preference,
                difference=row.reference_length - row.model_length,
                difficulty=difficulties[position],
            )
        )
    weights = official_fit(rows, gamed)
    return LengthControl(rate=official_rate(weights, [r.difficulty for r in rows]), source=FROM_FIT)


def other_match(annotations: Annotations, assets: str | None = None) -> str | None:
    """Why the official length control is not of this match; None if it is.

    Raises:
        AssetError: the baseline's file on this machine is not the right one.
    """
    rows = annotations.rows
    if set(annotations.models) & set(annotations.references):
        return "both answers are of the same generator: there is no match to control"
    if len(annotations.models) != 1:
        return f"it is of one model; the file names {len(annotations.models) or 'none'}"
    if annotations.judges != (DEFAULT_JUDGE,):
        judges = ", ".join(annotations.judges) or "none"
        return f"it is defined for the judge {DEFAULT_JUDGE}; this file's judge is {judges}"
    if len(rows) != N_INSTRUCTIONS:
        return (
            f"it is defined for all {N_INSTRUCTIONS} instructions; this file has {len(rows)} rows"
        )
    if any(row.model_length is None for row in rows):
        return "it needs the length of every answer; some rows have none"
    baseline_file = find_file(ALPACA_EVAL_QUESTIONS, assets)
    if baseline_file is None:
        return (
            "it is defined for the official match, and whether this is it cannot be checked "
            f"without {ALPACA_EVAL_QUESTIONS.name} (tuneproof assets fetch "
            f"{ALPACA_EVAL_QUESTIONS.name})"
        )
    baseline = {
        row["instruction"]: hash(row["output"])
        for row in json.loads(baseline_file.read_text("utf-8"))
    }
    foreign = sum(row.question not in baseline for row in rows)
    if foreign:
        return f"it is defined for the {N_INSTRUCTIONS} instructions; {foreign} rows ask others"
    repeated = len(rows) - len({row.question for row in rows})
    if repeated:
        return f"it is defined for each instruction once; {repeated} rows repeat one"
    others = sum(row.reference_digest != baseline[row.question] for row in rows)
    if others:
        return (
            "it is defined against the answers of gpt-4-1106-preview; "
            f"{others} rows have another reference answer"
        )
    return None


def _positions(annotations: Annotations, assets: str | None) -> list[int]:
    path = find_file(ALPACA_EVAL_QUESTIONS, assets)
    assert path is not None, "checked by other_match"
    order = {row["instruction"]: i for i, row in enumerate(json.loads(path.read_text("utf-8")))}
    return [order[row.question] for row in annotations.rows]


def read_gamed(path: Path) -> tuple[list[GamedRow], list[float]]:
    """The gamed rows, and each instruction's difficulty by its position in the official order.

    Raises:
        AssetError: the table is not of the expected form.
    """
    gamed = []
    difficulties: dict[int, float] = {}
    with path.open(encoding="utf-8", newline="") as file:
        try:
            for row in csv.DictReader(file):
                difficulty = float(row["instruction_difficulty"])
                difficulties.setdefault(int(row["index"]), difficulty)
                if row["preference"] != "":  # the original leaves unscored rows out
                    gamed.append(
                        GamedRow(
                            preference=float(row["preference"]),
                            difference=float(row["std_delta_len"]),
                            difficulty=difficulty,
                        )
                    )
        except (KeyError, ValueError) as error:
            raise AssetError(
                f"is not a table of gamed rows: {error!r}", place=f"{path}: row {len(gamed) + 1}"
            ) from None
    if sorted(difficulties) != list(range(N_INSTRUCTIONS)):
        raise AssetError(
            f"expected the difficulties of {N_INSTRUCTIONS} instructions",
            place=str(path),
            value=str(len(difficulties)),
        )
    return gamed, [difficulties[i] for i in range(N_INSTRUCTIONS)]
