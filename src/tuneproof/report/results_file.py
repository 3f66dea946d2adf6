"""Reading ``results.json`` again: of this version, of an older one, or refused by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tuneproof.errors import StageError
from tuneproof.results import Results

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = int(Results.model_fields["format"].default)
"""What this version writes."""


def read_results(path: Path) -> Results:
    """The content of a run's ``results.json``.

    An older format is read where its fields are still understood: what came later has a default.

    Raises:
        StageError: the file is missing, is no such file, or of a format that is not understood.
    """
    again = "Make it again: tuneproof report RECIPE --run-dir RUN"
    try:
        raw = json.loads(path.read_bytes())
        found = raw["format"]
    except FileNotFoundError:
        raise StageError("the report was not made", place=str(path), remedy=again) from None
    except (ValueError, TypeError, KeyError):
        raise StageError("is no results.json of tuneproof", place=str(path), remedy=again) from None
    if type(found) is not int or found < 1:  # true is an int to Python, and no format
        raise StageError(
            "is no format of tuneproof's results",
            place=f"{path}: format",
            value=json.dumps(found),
            remedy=again,
        )
    if found > FORMAT:
        raise StageError(
            f"is of a newer version of tuneproof: this one reads formats up to {FORMAT}",
            place=f"{path}: format",
            value=found,
            remedy="Use the version that wrote it (its manifest.json names it), or a newer one.",
        )
    try:
        return Results.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StageError(
            f"cannot be read: {where}: {first['msg']} (it is of format {found}, this version "
            f"writes {FORMAT})",
            place=str(path),
            remedy=again,
        ) from None
