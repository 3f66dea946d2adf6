"""What a run that is not done has for a report: the stages that are missing, with the command that
makes each, and the loss curve of a training that was not ended.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from tuneproof.naming import listed
from tuneproof.records import LossPoint
from tuneproof.results import MissingStage
from tuneproof.train.live import FILE, read_live
from tuneproof.workspace import damaged_output, digest_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from tuneproof.records import Manifest
    from tuneproof.train.live import LiveLine
    from tuneproof.workspace import RunDir

STAGES = ("prepare", "train", "generate", "judge")
"""What a report is made from, in order."""
NEEDED = ("generate", "judge")
"""Judgments cannot be shown without the questions and answers that they are about."""


def missing_stages(run: RunDir) -> tuple[MissingStage, ...]:
    """Those of the stages whose results a report cannot use: they never ran, did not finish, are
    damaged or gone, or are not of what lies in the run now.

    What was made from a result that is gone is there all the same, and its manifest says what it
    was made from: it is shown, and the missing stage names it (``later``). What was made from
    another result than the run holds now is not, nor is what rests on that.
    """
    manifests = {stage: run.manifest(stage) for stage in STAGES}
    why: dict[str, str] = {}
    outdated: set[str] = set()
    for stage, manifest in manifests.items():
        older = _other_input(run, manifests, stage) if manifest is not None else None
        rests = [s for s in _read_by(manifest) if s in outdated or (s, stage) == NEEDED]
        if manifest is None:
            why[stage] = _unfinished(run, stage)
        elif (damage := damaged_output(manifest, run)) is not None:
            why[stage] = damage
        elif older is not None:
            why[stage] = f"{stage} {older}"
        elif behind := next((s for s in rests if s in why), None):
            why[stage] = f"it rests on {behind}"
        if older is not None or outdated.intersection(_read_by(manifest)):
            outdated.add(stage)
    place = shlex.quote(str(run.path))
    found = []
    for stage in (s for s in STAGES if s in why):
        later = tuple(s for s in STAGES if s not in why and STAGES.index(s) > STAGES.index(stage))
        if not (run.stage(stage) / "manifest.json").is_file():
            begun = (run.stage(stage) / "begun.json").is_file()
            if begun and later:
                why[stage] = "its manifest.json is gone"
            elif not begun and any(stage in _read_by(m) for m in manifests.values()):
                why[stage] = "its results are gone"
        found.append(
            MissingStage(
                stage=stage,
                why=why[stage] + _shown(later),
                command=f"tuneproof {stage} {place}/recipe.yaml --run-dir {place}",
                later=later,
            )
        )
    return tuple(found)


def _shown(later: Sequence[str]) -> str:
    if not later:
        return ""
    rest, are = ("rests", "is") if len(later) == 1 else ("rest", "are")
    return f"; {listed(later)}, which {rest} on it, {are} shown as written"


def _read_by(manifest: Manifest | None) -> list[str]:
    """The stages whose outputs a stage read."""
    inputs = manifest.inputs if manifest is not None else ()
    return list(dict.fromkeys(f.path.partition("/")[0] for f in inputs))


def _other_input(run: RunDir, manifests: Mapping[str, Manifest | None], stage: str) -> str | None:
    """The first file that the stage read and that is another now; None where there is none.

    A file that is gone is no other one, but where its stage was begun anew: what comes of that is
    not what was read.
    """
    manifest = manifests[stage]
    assert manifest is not None
    for file in manifest.inputs:
        source = file.path.partition("/")[0]
        made = manifests.get(source)
        if made is not None and file.sha256 not in {
            f.sha256 for f in made.outputs if f.path == file.path
        }:
            return f"read an older {file.path} than there is now"
        path = run.resolve(file.path)
        if path.is_file():
            if path.stat().st_size != file.bytes or digest_file(path) != file.sha256:
                return f"read another {file.path} than there is now"
        elif made is None and (run.stage(source) / "begun.json").is_file():
            return f"read what {source} wrote before it was begun anew"
    return None


def _unfinished(run: RunDir, stage: str) -> str:
    if (run.stage(stage) / "manifest.json").is_file():
        return "its manifest.json cannot be read: it is damaged, or of another version of tuneproof"
    if not (run.stage(stage) / "begun.json").is_file():
        return "it has not been run"
    lines = [line for path in live_files(run) for line in read_live(path)][-1:]
    at = f", and reached step {lines[0].step:,} of {lines[0].steps:,}" if lines else ""
    return f"it began{at if stage == 'train' else ''}, and has not finished"


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


def no_verdict(missing: Sequence[MissingStage]) -> str | None:
    """The sentence in a verdict's place; None where nothing is missing that it would rest on."""
    names = [m.stage for m in missing if not m.later]
    if not names:
        return None
    return f"No verdict yet: {listed(names)} {'have' if names[1:] else 'has'} no result to rest on."
