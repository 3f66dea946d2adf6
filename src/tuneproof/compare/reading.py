"""What a run holds that can be compared with another's; a stage that is missing is a reason."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tuneproof.errors import StageError
from tuneproof.recipe_file import load_recipe
from tuneproof.records import (
    Answer,
    Judgment,
    Preference,
    PreparedRow,
    Prompt,
    Rating,
    SequenceLoss,
    Similarity,
    Split,
    first_samples,
)
from tuneproof.report.results_file import read_results
from tuneproof.workspace import RunDir, read_records

if TYPE_CHECKING:
    from pathlib import Path

    from tuneproof.recipe import Recipe
    from tuneproof.records import Manifest
    from tuneproof.results import Verdict

STAGES = ("prepare", "train", "generate", "judge")


@dataclass(frozen=True, kw_only=True)
class RunRead:
    """One run's records. ``label`` is what it is called; ``absent`` says of each stage that cannot
    be used why. ``recipe`` is the one it was made by, and ``verdict`` the run's own, where it has a
    report; ``trained_on`` has the (instruction, context) of every training row."""

    label: str
    path: Path
    recipe: Recipe
    verdict: Verdict | None
    manifests: dict[str, Manifest]
    absent: dict[str, str]
    prompts: list[Prompt]
    answers: list[Answer]
    losses: list[SequenceLoss]
    similarities: list[Similarity] = field(default_factory=list)
    preferences: list[Preference] = field(default_factory=list)
    judgments: list[Judgment] = field(default_factory=list)
    ratings: list[Rating] = field(default_factory=list)
    trained_on: frozenset[tuple[str, str]] = frozenset()

    def setting(self, stage: str, name: str) -> object:
        """A part of a stage's key, such as ``generate.max_new_tokens``; None where it has none."""
        manifest = self.manifests.get(stage)
        text = manifest.key_parts.get(name) if manifest is not None else None
        return None if text is None else json.loads(text)


def read_run(path: Path, *, label: str) -> RunRead:
    """Read a run.

    Raises:
        RunDirError: the folder is no run.
        RecipeError: its recipe cannot be read.
        StageError: it has no answers yet, or a file of it cannot be read: it is damaged, or was
            written by another version.
    """
    run = RunDir(path)
    run.must_be_run()
    manifests = {s: m for s in STAGES if (m := run.manifest(s)) is not None}
    generated, judged = run.stage("generate"), run.stage("judge")
    if "generate" not in manifests:
        raise StageError(
            "generate has not finished, so there are no answers to compare",
            place=str(path),
            remedy=f"Finish it: tuneproof generate RECIPE --run-dir {path}",
        )
    absent = run.overtaken(("generate", "judge"))
    results = run.stage("report") / "results.json"
    prepared = run.stage("prepare") / "examples.jsonl"
    whole = RunRead(
        label=label,
        path=path,
        recipe=load_recipe(run.recipe_file),
        verdict=read_results(results).verdict if results.is_file() else None,
        manifests=manifests,
        absent=absent,
        prompts=read_records(generated / "prompts.jsonl", Prompt),
        answers=first_samples(read_records(generated / "answers.jsonl", Answer)),
        losses=read_records(generated / "heldout_loss.jsonl", SequenceLoss),
        trained_on=_trained_on(prepared) if prepared.is_file() else frozenset(),
    )
    if "judge" in absent:
        return whole
    return replace(
        whole,
        similarities=read_records(judged / "similarity.jsonl", Similarity),
        preferences=read_records(judged / "preferences.jsonl", Preference),
        judgments=read_records(judged / "judgments.jsonl", Judgment),
        ratings=read_records(judged / "ratings.jsonl", Rating),
    )


def _trained_on(prepared: Path) -> frozenset[tuple[str, str]]:
    rows = read_records(prepared, PreparedRow)
    return frozenset(
        (row.example.instruction, row.example.context) for row in rows if row.split is Split.TRAIN
    )


def labels(paths: list[Path]) -> list[str]:
    """What the runs are called: the recipe's name, and where that is not enough the folder's."""
    names = []
    for path in paths:
        run = RunDir(path)
        run.must_be_run()
        names.append(run.owner)
    for other in ([p.name for p in paths], [str(p) for p in paths]):
        if len(set(names)) == len(names):
            break
        names = [o if names.count(n) > 1 else n for n, o in zip(names, other, strict=True)]
    return names
