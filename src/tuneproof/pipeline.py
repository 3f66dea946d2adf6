"""Stages: what each depends on, whether it is fresh and why not, and running what is not.

A stage's key is a digest of named parts: its name and version, the recipe sections that matter to
it, the seed, what identifies model and data, and the digests of the files it reads. Equal key and
intact outputs mean that the stage has nothing to do. Since inputs enter by their bytes, an upstream
stage that was run again and wrote the same bytes leaves everything after it fresh.

Which stages there are, and what they do, stands in ``stages``.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from tuneproof import __version__, processes
from tuneproof.errors import StageError, TuneproofError, UsageError
from tuneproof.recipe_file import dump_recipe
from tuneproof.records import Ledger, Manifest, OutputFile
from tuneproof.workspace import (
    RunDir,
    damaged_output,
    describe_file,
    digest_value,
    empty_stage,
    flatten,
    git_state,
    package_versions,
    remove_damaged,
    sweep,
    write_atomic,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from tuneproof.data.prepare import Prepared
    from tuneproof.progress import Reporter
    from tuneproof.recipe import Recipe

Facts = dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Run:
    """One recipe at work in one folder."""

    recipe: Recipe
    dir: RunDir
    reporter: Reporter

    @functools.cached_property
    def prepared(self) -> Prepared:
        """The prepared data; made once, by the check before anything is written."""
        from tuneproof.data.prepare import prepare

        return prepare(self.recipe.data, self.recipe.seed)

    @functools.cached_property
    def model_digest(self) -> str:
        """What identifies the base model's weights."""
        from tuneproof.train.model import resolve_model

        return resolve_model(self.recipe.model).digest

    @functools.cached_property
    def tokenizer_digest(self) -> str:
        """What identifies the tokenizer."""
        if self.recipe.model.tokenizer is None:
            return self.model_digest
        from tuneproof.train.model import resolve_tokenizer

        return resolve_tokenizer(self.recipe.model).digest


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a stage wrote; how many results were there already; counts for the manifest.

    ``unfinished`` counts what failed and may succeed when tried again: the stage is then done, so
    that a report can be made, but not fresh.
    """

    outputs: Sequence[Path]
    resumed: int = 0
    unfinished: int = 0
    ledger: Ledger | None = None
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of the pipeline.

    ``reads`` names files that earlier stages wrote, or with a final slash a folder, or with a final
    star all whose paths begin so; at least one file must be there for each name. ``parts``
    gives the other named parts of the key; ``check`` refuses what cannot work before anything is
    written; ``scratch`` folders go once the manifest is written. ``joint`` stages are run by all
    processes where there are several; the others by the first alone. ``replaces`` is said of one
    that puts a whole new folder in the place of its own when it has succeeded: until then the old
    one stays. ``less_memory`` is what to do where the machine's does not suffice. ``half_done``
    says how far the work is that a run left which did not finish: it is gone on with under another
    key too, and the stage itself refuses what it cannot go on with (``check``, ``run``). Without
    it, half-done work of another key goes.
    """

    name: str
    version: int
    reads: tuple[str, ...]
    parts: Callable[[Run], Mapping[str, object]]
    check: Callable[[Run], None]
    run: Callable[[Run, Path], StageResult]
    scratch: tuple[str, ...] = ()
    joint: bool = False
    replaces: bool = False
    half_done: Callable[[Run], str | None] | None = None
    less_memory: str = "Run on a machine with more of it."


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """Whether a stage has something to do, and why."""

    stage: str
    state: Literal["fresh", "stale", "missing", "waits"]
    reasons: tuple[str, ...] = ()


# --- freshness -------------------------------------------------------------------------------


def _input_files(stage: Stage, run: Run) -> list[OutputFile] | str:
    """The manifests' entries of what the stage reads, or the name of a stage it waits for."""
    files: list[OutputFile] = []
    for wanted in stage.reads:
        source = wanted.partition("/")[0]
        manifest = run.dir.manifest(source)
        found = [
            f
            for f in (manifest.outputs if manifest is not None else ())
            if f.path == wanted
            or (wanted.endswith(("/", "*")) and f.path.startswith(wanted.removesuffix("*")))
        ]
        if not found:
            return source
        files.extend(found)
    return files


def _key_parts(stage: Stage, run: Run, inputs: Sequence[OutputFile]) -> dict[str, str]:
    parts = {"stage": stage.name, "version": str(stage.version)}
    parts.update(flatten("", dict(stage.parts(run))))
    parts.update({f"input {f.path}": f.sha256 for f in inputs})
    return parts


def status_of(stage: Stage, run: Run) -> StageStatus:
    """Fresh, stale (with each part that changed), missing, or waiting for an earlier stage."""
    inputs = _input_files(stage, run)
    if isinstance(inputs, str):
        return StageStatus(stage=stage.name, state="waits", reasons=(f"{inputs} has not finished",))
    manifest = run.dir.manifest(stage.name)
    if manifest is None:
        left = stage.half_done(run) if stage.half_done is not None else None
        reasons = () if left is None else (f"it has not finished ({left})",)
        return StageStatus(stage=stage.name, state="missing", reasons=reasons)
    parts = _key_parts(stage, run, inputs)
    if digest_value(parts) != manifest.key:
        return StageStatus(
            stage=stage.name, state="stale", reasons=tuple(_differences(manifest.key_parts, parts))
        )
    if manifest.unfinished:
        again = f"{manifest.unfinished} requests failed and can be tried again"
        return StageStatus(stage=stage.name, state="stale", reasons=(again,))
    damage = damaged_output(manifest, run.dir)
    if damage is not None:
        return StageStatus(stage=stage.name, state="stale", reasons=(damage,))
    return StageStatus(stage=stage.name, state="fresh")


def _differences(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    reasons = []
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if name.startswith("input "):
            reasons.append(f"{name.removeprefix('input ')} changed")
        elif old is None or new is None:
            reasons.append(f"{name} is {'new' if old is None else 'gone'}")
        elif max(len(old), len(new)) > 48:
            reasons.append(f"{name} changed")
        else:
            reasons.append(f"{name} was {old}, is {new}")
    return reasons


def run_status(run: Run, stages: Sequence[Stage]) -> list[StageStatus]:
    """The status of each stage, in order; what comes after one that is not fresh waits for it."""
    statuses: list[StageStatus] = []
    blocked: str | None = None
    for stage in stages:
        status = status_of(stage, run)
        if blocked is not None and status.state == "fresh":
            status = StageStatus(
                stage=stage.name, state="waits", reasons=(f"{blocked} is not fresh",)
            )
        statuses.append(status)
        if status.state != "fresh" and blocked is None:
            blocked = stage.name
    return statuses


# --- running ---------------------------------------------------------------------------------


def execute(
    run: Run, stages: Sequence[Stage], *, first: Callable[[Run], None] | None = None
) -> list[StageStatus]:
    """Run each of the stages that is not fresh, in their order; what is fresh is left alone.

    Everything that can be refused is refused before anything is written. ``first`` is called then,
    in the run's own folder.

    Raises:
        UsageError: the recipe, data, model, endpoint or run folder cannot be used. Its exit code is
            1 where a stage met it that had begun, and kept what it did until then.
        StageError: a stage began and could not finish; the next run goes on from there.
    """
    if processes.rank() > 0:
        return [_take_part(stage, run) for stage in stages if stage.joint]
    run.dir.check_owner(run.recipe.name)
    existed = run.dir.path.exists()
    before = {s.stage: s for s in run_status(run, stages)} if run.dir.recipe_file.exists() else {}
    for stage in stages:
        if stage.name not in before or before[stage.name].state != "fresh":
            stage.check(run)
    done = []
    with run.dir.locked():
        try:
            sweep(run.dir.path)
            run.dir.claim(run.recipe.name, dump_recipe(run.recipe))
            if first is not None:
                first(run)
            for stage in stages:
                status = status_of(stage, run)
                assert status.state != "waits", f"{stage.name} waits: {status.reasons}"
                done.append(status)
                if status.state == "fresh":
                    run.reporter.stage(stage.name, "fresh")
                else:
                    with _lacking(stage, run.dir.stage(stage.name)):
                        _execute_stage(stage, run, status)
        except UsageError as error:
            if not existed and run.dir.manifest(stages[0].name) is None:
                shutil.rmtree(run.dir.path, ignore_errors=True)
            elif done:  # a stage has begun: what it met is no matter of usage alone
                error.exit_code = StageError.exit_code
            raise
    return done


def _take_part(stage: Stage, run: Run) -> StageStatus:
    """As a process that is not the first: run the stage once the first begins it, if it does.

    The first process writes everything. If it fails, whatever launched the processes ends this one.
    """
    begun = run.dir.stage(stage.name) / "begun.json"
    while True:
        status = status_of(stage, run)
        if status.state == "fresh":
            return status
        inputs = _input_files(stage, run)
        idle = (begun.parent / "manifest.json").is_file()
        if not isinstance(inputs, str) and begun.is_file() and not idle:
            key = digest_value(_key_parts(stage, run, inputs))
            if json.loads(begun.read_text("utf-8")).get("key") == key:
                with _lacking(stage, run.dir.stage(stage.name)):
                    stage.run(run, run.dir.stage(stage.name))
                return status
        time.sleep(0.5)


def _execute_stage(stage: Stage, run: Run, status: StageStatus) -> None:
    inputs = _input_files(stage, run)
    assert not isinstance(inputs, str)
    parts = _key_parts(stage, run, inputs)
    key = digest_value(parts)
    folder = run.dir.stage(stage.name)
    goes_on = not stage.replaces and _begin(stage, run, key)
    why = f" ({'; '.join(status.reasons[:3])})" if status.reasons else ""
    run.reporter.stage(stage.name, f"{'going on' if goes_on else 'starting'}{why}")

    started, clock = datetime.now(UTC), time.monotonic()
    result = stage.run(run, folder)
    duration = time.monotonic() - clock
    commit, dirty = git_state(Path(__file__))
    run.dir.write_manifest(
        Manifest(
            stage=stage.name,
            version=stage.version,
            key=key,
            key_parts=parts,
            inputs=tuple(inputs),
            outputs=tuple(describe_file(p, run.dir.path) for p in result.outputs),
            packages=package_versions(),
            tuneproof=__version__,
            commit=commit,
            dirty=dirty,
            python=sys.version.split()[0],
            device=_device(),
            started=started.isoformat(timespec="seconds"),
            duration_s=round(duration, 2),
            resumed=result.resumed,
            unfinished=result.unfinished,
            ledger=result.ledger,
            facts=result.facts,
        )
    )
    for name in stage.scratch:
        shutil.rmtree(folder / name, ignore_errors=True)
    run.reporter.stage(stage.name, f"done in {duration:.1f} s")


def _begin(stage: Stage, run: Run, key: str) -> bool:
    """Make a stage's folder ready for work of that key; returns whether some of it is there."""
    folder = run.dir.stage(stage.name)
    begun = folder / "begun.json"
    # Half-done work of the same key is gone on with; that of another key is mostly no use.
    same = begun.is_file() and json.loads(begun.read_text("utf-8")).get("key") == key
    finished = (folder / "manifest.json").is_file()
    usable = stage.half_done is not None and not finished and stage.half_done(run) is not None
    manifest = run.dir.manifest(stage.name)
    if manifest is not None:
        remove_damaged(manifest, run.dir)
    # From here on the other processes may begin.
    (folder / "manifest.json").unlink(missing_ok=True)
    sweep(folder)
    if not (same or usable):
        empty_stage(folder)
    if not same:
        write_atomic(begun, json.dumps({"key": key}) + "\n")
    return same or usable


@contextlib.contextmanager
def _lacking(stage: Stage, folder: Path) -> Iterator[None]:
    """Say what the machine has too little of: memory or disk.

    Raises:
        StageError: in the place of PyTorch's, Python's or the system's own error.
    """
    try:
        yield
    except TuneproofError:
        raise
    except Exception as error:
        if _is_full_disk(error, folder):
            raise StageError(
                "there is no space left on the disk",
                place=str(getattr(error, "filename", None) or folder),
                remedy="Make room and give the same command again: it goes on from what was "
                "finished.",
            ) from error
        if _is_out_of_memory(error):
            # On a CPU PyTorch says first where in its code.
            said = (str(error) or "MemoryError").rpartition("DefaultCPUAllocator: ")[2]
            said = said.partition("\n")[0].partition(". ")[0]
            raise StageError(
                f"there is too little memory ({said})",
                place=stage.name,
                remedy=stage.less_memory,
            ) from error
        raise


FULL_BYTES: Final = 2**18
"""A disk with less than this is full for all that a run writes."""


def _is_full_disk(error: BaseException, folder: Path) -> bool:
    """By the system's error; where a library hides it (PyTorch's writer does), by the disk."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, ExceptionGroup):
        return any(_is_full_disk(e, folder) for e in error.exceptions)
    # A stage that replaces its folder has none at first.
    return shutil.disk_usage(folder if folder.is_dir() else folder.parent).free < FULL_BYTES


def _is_out_of_memory(error: Exception) -> bool:
    """Also where it is PyTorch's, whose error on a CPU has no class of its own."""
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in str(error):
        return True
    if "torch" not in sys.modules:
        return False
    import torch

    return isinstance(error, torch.OutOfMemoryError)


def _device() -> str:
    """The device as the stage saw it; a stage that did not load torch ran on the CPU."""
    if "torch" not in sys.modules:
        return "cpu"
    from tuneproof.train.hardware import describe_device

    return describe_device()
