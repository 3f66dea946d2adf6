"""Stages: what each depends on, whether it is fresh and why not, and running what is not.

A stage's key is a digest of named parts: its name and version, the recipe sections that matter to
it, the seed, what identifies model and data, and the digests of the files it reads. Equal key and
intact outputs mean that the stage has nothing to do. Since inputs enter by their bytes, an upstream
stage that was run again and wrote the same bytes leaves everything after it fresh.
"""

from __future__ import annotations

import functools
import json
import shutil
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tuneproof import __version__
from tuneproof.errors import UsageError
from tuneproof.recipe import Recipe, dump_recipe
from tuneproof.records import Arm, Ledger, Manifest, OutputFile
from tuneproof.workspace import (
    RunDir,
    damaged_output,
    describe_file,
    digest_value,
    empty_stage,
    flatten,
    git_state,
    package_versions,
    write_atomic,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tuneproof.data.prepare import Prepared
    from tuneproof.progress import Reporter

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

    ``reads`` names files (or folders, with a final slash) that earlier stages wrote; ``parts``
    gives the other named parts of the key; ``check`` refuses what cannot work before anything is
    written; ``scratch`` folders go once the manifest is written.
    """

    name: str
    version: int
    reads: tuple[str, ...]
    parts: Callable[[Run], Mapping[str, object]]
    check: Callable[[Run], None]
    run: Callable[[Run, Path], StageResult]
    scratch: tuple[str, ...] = ()


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
            if f.path == wanted or (wanted.endswith("/") and f.path.startswith(wanted))
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
        return StageStatus(stage=stage.name, state="missing")
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


def run_status(run: Run) -> list[StageStatus]:
    """The status of every stage; one after a stage that is not fresh waits for it."""
    statuses: list[StageStatus] = []
    blocked: str | None = None
    for stage in STAGES:
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


def execute(run: Run, *, until: str = "report") -> list[StageStatus]:
    """Run every stage up to ``until`` that is not fresh; what is fresh is left alone.

    Everything that can be refused is refused before anything is written.

    Raises:
        UsageError: the recipe, data, model, endpoint or run folder cannot be used.
        StageError: a stage began and could not finish; the next run goes on from there.
    """
    run.dir.check_owner(run.recipe.name)
    names = [s.name for s in STAGES]
    wanted = STAGES[: names.index(until) + 1]
    existed = run.dir.path.exists()
    before = {s.stage: s for s in run_status(run)} if run.dir.recipe_file.exists() else {}
    for stage in wanted:
        if stage.name not in before or before[stage.name].state != "fresh":
            stage.check(run)
    done = []
    with run.dir.locked():
        try:
            run.dir.claim(run.recipe.name, dump_recipe(run.recipe))
            for stage in wanted:
                status = status_of(stage, run)
                assert status.state != "waits", f"{stage.name} waits: {status.reasons}"
                done.append(status)
                if status.state == "fresh":
                    run.reporter.stage(stage.name, "fresh")
                else:
                    _execute_stage(stage, run, status)
        except UsageError:
            if not existed and run.dir.manifest(STAGES[0].name) is None:
                shutil.rmtree(run.dir.path, ignore_errors=True)
            raise
    return done


def _execute_stage(stage: Stage, run: Run, status: StageStatus) -> None:
    inputs = _input_files(stage, run)
    assert not isinstance(inputs, str)
    parts = _key_parts(stage, run, inputs)
    key = digest_value(parts)
    folder = run.dir.stage(stage.name)
    begun = folder / "begun.json"
    # Half-done work of the same key is gone on with; that of another key is no use.
    same = begun.is_file() and json.loads(begun.read_text("utf-8")).get("key") == key
    (folder / "manifest.json").unlink(missing_ok=True)
    if not same:
        empty_stage(folder)
        write_atomic(begun, json.dumps({"key": key}) + "\n")
    why = f" ({'; '.join(status.reasons[:3])})" if status.reasons else ""
    run.reporter.stage(stage.name, f"{'going on' if same else 'starting'}{why}")

    started, clock = datetime.now(UTC), time.monotonic()
    result = stage.run(run, folder)
    duration = time.monotonic() - clock
    commit, dirty = git_state(Path(__file__).parent)
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


def _device() -> str:
    """The device as the stage saw it; a stage that did not load torch ran on the CPU."""
    if "torch" not in sys.modules:
        return "cpu"
    from tuneproof.train.stage import describe_device

    return describe_device()


# --- the stages ------------------------------------------------------------------------------


def _prepare_parts(run: Run) -> Mapping[str, object]:
    from tuneproof.data.sources import source_digest

    data = run.recipe.data
    return {
        "source": source_digest(data.source),
        "seed": run.recipe.seed,
        "data": data.model_dump(mode="json", exclude={"source"}),
    }


def _prepare_check(run: Run) -> None:
    from tuneproof.data.prepare import check_data

    check_data(run.recipe.data)
    _ = run.prepared


def _prepare_run(run: Run, folder: Path) -> StageResult:
    from tuneproof.data.prepare import write_prepared
    from tuneproof.data.templates import parse_template

    data = run.recipe.data
    text_dir = Path(data.output_dir).absolute() if data.output_dir else folder
    outputs = write_prepared(
        run.prepared,
        parse_template(data.template),
        text_dir=text_dir,
        sidecar=folder / "examples.jsonl",
    )
    rows = run.prepared.rows()
    ledger = run.prepared.ledger
    lost = ", ".join(f"{n} {reason}" for reason, n in ledger.dropped.items())
    run.reporter.stage(
        "prepare",
        f"{ledger.read:,} rows read, {ledger.kept:,} kept{f' (dropped: {lost})' if lost else ''}: "
        + ", ".join(f"{n:,} {split}" for split, n in rows.items()),
    )
    return StageResult(outputs=outputs, ledger=ledger, facts={**rows})


def _model_parts(run: Run) -> dict[str, object]:
    model = run.recipe.model
    return {
        "model": run.model_digest,
        "model.dtype": model.dtype,
        "model.tf32": model.tf32,
        "tokenizer": run.tokenizer_digest,
        "data.template": run.recipe.data.template,
        "seed": run.recipe.seed,
    }


def _train_parts(run: Run) -> Mapping[str, object]:
    # Loader workers change how fast batches come, not what they hold.
    train = run.recipe.train.model_dump(mode="json", exclude={"loader_workers"})
    return {**_model_parts(run), "lora": run.recipe.lora.model_dump(mode="json"), "train": train}


def _model_check(run: Run) -> None:
    from tuneproof.assets import ensure_model, find_asset

    _ = run.model_digest, run.tokenizer_digest
    if run.recipe.model.id.startswith("asset:"):
        ensure_model(find_asset(run.recipe.model.id), run.reporter)


def _train_run(run: Run, folder: Path) -> StageResult:
    from tuneproof.train.stage import train_adapter

    trained = train_adapter(
        run.recipe, prepare_dir=run.dir.stage("prepare"), out=folder, reporter=run.reporter
    )
    return StageResult(
        outputs=trained.outputs,
        resumed=trained.resumed,
        ledger=trained.ledger,
        facts={"steps": trained.summary.steps, "tokens": trained.summary.tokens},
    )


def _generate_parts(run: Run) -> Mapping[str, object]:
    return {
        **_model_parts(run),
        "generate": run.recipe.generate.model_dump(mode="json"),
        "evaluate": {
            e.benchmark: e.model_dump(mode="json", exclude={"benchmark"})
            for e in run.recipe.evaluate
        },
    }


def _generate_run(run: Run, folder: Path) -> StageResult:
    from tuneproof.generate.stage import generate_answers

    trained = run.dir.manifest("train")
    assert trained is not None
    adapter = {f.path: f.sha256 for f in trained.outputs if f.path.startswith("train/adapter/")}
    base = digest_value([run.model_digest, run.tokenizer_digest, run.recipe.model.dtype])
    made = generate_answers(
        run.recipe,
        prepare_dir=run.dir.stage("prepare"),
        adapter=run.dir.stage("train") / "adapter",
        weights={Arm.BASE: base, Arm.TUNED: digest_value([base, adapter])},
        out=folder,
        reporter=run.reporter,
    )
    return StageResult(outputs=made.outputs, resumed=made.resumed, facts=made.facts)


def _judge_parts(run: Run) -> Mapping[str, object]:
    judge = run.recipe.judge
    # How fast we ask, and where the key is, changes no reply.
    how = {"concurrency", "timeout_s", "api_key_env"}
    return {
        "seed": run.recipe.seed,
        "judge": judge.model_dump(mode="json", exclude=how) if judge else None,
    }


def _judge_check(run: Run) -> None:
    if run.recipe.judge is not None:
        from tuneproof.judge.clients import check

        check(run.recipe.judge)


def _judge_run(run: Run, folder: Path) -> StageResult:
    from tuneproof.judge.stage import judge_answers

    judged = judge_answers(
        run.recipe, generate_dir=run.dir.stage("generate"), out=folder, reporter=run.reporter
    )
    return StageResult(
        outputs=[folder / f"{n}.jsonl" for n in ("similarity", "judgments", "preferences")],
        resumed=judged.n_from_journal,
        unfinished=judged.n_failed,
        facts={
            "matches": judged.n_matches,
            "requests": judged.n_requests,
            "unparsed": judged.n_unparsed,
            "failed": judged.n_failed,
            "skipped questions": sum(judged.skipped.values()),
            "prompt tokens": judged.prompt_tokens,
            "completion tokens": judged.completion_tokens,
        },
    )


def _report_parts(run: Run) -> Mapping[str, object]:
    return {"recipe": run.recipe.model_dump(mode="json", exclude={"judge": {"api_key_env"}})}


def _report_run(run: Run, folder: Path) -> StageResult:
    from tuneproof.report.stage import report_run

    return StageResult(outputs=report_run(run.recipe, run.dir, out=folder))


def _nothing_to_check(run: Run) -> None:
    """The stage can always be tried."""


STAGES = (
    Stage(
        name="prepare",
        version=1,
        reads=(),
        parts=_prepare_parts,
        check=_prepare_check,
        run=_prepare_run,
    ),
    Stage(
        name="train",
        version=1,
        reads=("prepare/examples.jsonl",),
        parts=_train_parts,
        check=_model_check,
        run=_train_run,
        scratch=("checkpoints",),
    ),
    Stage(
        name="generate",
        version=1,
        reads=("prepare/examples.jsonl", "train/adapter/"),
        parts=_generate_parts,
        check=_model_check,
        run=_generate_run,
    ),
    Stage(
        name="judge",
        version=1,
        reads=("generate/prompts.jsonl", "generate/answers.jsonl"),
        parts=_judge_parts,
        check=_judge_check,
        run=_judge_run,
    ),
    Stage(
        name="report",
        version=1,
        reads=(
            "prepare/examples.jsonl",
            "train/loss.jsonl",
            "train/summary.json",
            "generate/",
            "judge/",
        ),
        parts=_report_parts,
        check=_nothing_to_check,
        run=_report_run,
    ),
)
"""In the order in which they run."""
