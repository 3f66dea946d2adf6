"""What a run that is not done has for a report: the stages that are missing, with the command that
makes each, and the loss curve of a training that was not ended.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tuneproof.records import LossPoint
from tuneproof.results import MissingStage
from tuneproof.train.live import FILE, read_live
from tuneproof.workspace import damaged_output

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tuneproof.train.live import LiveLine
    from tuneproof.workspace import RunDir

STAGES = ("prepare", "train", "generate", "judge")
"""What a report is made from, in order."""


def missing_stages(run: RunDir) -> tuple[MissingStage, ...]:
    """Those of the stages whose results a report cannot use: they never ran, did not finish, are
    damaged, or are not of what lies in the run now."""
    why = run.overtaken(STAGES)
    for stage in STAGES:
        manifest = run.manifest(stage)
        damage = damaged_output(manifest, run) if manifest is not None else None
        if damage is not None:
            why[stage] = damage
        elif manifest is None:
            why[stage] = _unfinished(run, stage)
        elif stage not in why:
            rests = [s for s in why if any(f.path.startswith(f"{s}/") for f in manifest.inputs)]
            if rests:
                why[stage] = f"it rests on {rests[0]}"
    place = shlex.quote(str(run.path))
    return tuple(
        MissingStage(
            stage=stage,
            why=why[stage],
            command=f"tuneproof {stage} {place}/recipe.yaml --run-dir {place}",
        )
        for stage in STAGES
        if stage in why
    )


def _unfinished(run: RunDir, stage: str) -> str:
    if (run.stage(stage) / "manifest.json").is_file():
        return "its manifest.json cannot be read: it is damaged, or of another version of tuneproof"
    if not (run.stage(stage) / "begun.json").is_file():
        return "it has not been run"
    lines = [line for path in live_files(run) for line in read_live(path)][-1:]
    at = f", and reached step {lines[0].step:,} of {lines[0].steps:,}"
    return f"it began{at if stage == 'train' and lines else ''}, and has not finished"


def live_files(run: RunDir) -> list[Path]:
    """Where trainings say how far they are; the one heard of last comes last."""
    found = run.stage("train").glob(f"checkpoints/*/{FILE}")
    return sorted(found, key=lambda path: path.stat().st_mtime)


def live_points(lines: Iterable[LiveLine]) -> list[LossPoint]:
    """The loss curve that the lines tell, in step order. Where a training was taken up again at an
    earlier step, what came after that step counts no more."""
    points: dict[int, LossPoint] = {}
    for line in lines:
        if line.train_loss is None and line.eval_loss is None:
            points = {step: p for step, p in points.items() if step <= line.step}
            continue
        told = {"train_loss": line.train_loss, "eval_loss": line.eval_loss}
        new = {name: value for name, value in told.items() if value is not None}
        before = points.get(line.step, LossPoint(step=line.step, epoch=None))
        points[line.step] = before.model_copy(update=new)
    return [points[step] for step in sorted(points)]


def no_verdict(missing: Sequence[MissingStage]) -> str:
    """The sentence in a verdict's place."""
    names = [m.stage for m in missing]
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"No verdict yet: {listed} {'have' if len(names) > 1 else 'has'} no result to rest on."
