"""The preflight's findings as a run keeps them, for its report.

``plan`` itself writes nothing; this is what a run that is about to train calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from tuneproof.errors import TuneproofError
from tuneproof.plan.build import make_plan
from tuneproof.records import Preflight
from tuneproof.workspace import digest_value, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tuneproof.data.prepare import Prepared
    from tuneproof.recipe import Recipe


def keep_findings(
    path: Path,
    recipe: Recipe,
    *,
    rests_on: Mapping[str, object],
    prepared: Callable[[], Prepared],
) -> Preflight:
    """Write what the plan finds, unless the file has it already; returns what it has.

    A plan that cannot be made stops no run: what the run needs, it refuses by itself.

    Args:
        path: the file.
        recipe: the recipe, whole.
        rests_on: what the findings depend on beside the recipe; with the same, they are kept.
        prepared: gives the recipe's data, where they have to be made.
    """
    key = digest_value({"recipe": recipe.model_dump(mode="json"), **rests_on})
    if path.is_file():
        try:
            kept = Preflight.model_validate_json(path.read_bytes())
        except ValidationError:
            kept = None  # of another version, or damaged: it is made again
        if kept is not None and kept.key == key:
            return kept
    try:
        plan = make_plan(recipe, prepared=prepared())
        made = Preflight(key=key, findings=plan.findings, notes=plan.notes)
    except TuneproofError as error:
        made = Preflight(key=key, problem=str(error))
    write_atomic(path, made.model_dump_json(indent=2) + "\n")
    return made
