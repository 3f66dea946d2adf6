"""The five stages: what each reads, what its result depends on, and how it is called.

The thin place where recipe, run folder and the packages that do the work meet; the packages are
imported when their stage runs, so that a run with nothing to do loads none of them. The module is
long, being the one list of what each stage's result depends on.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tuneproof import __version__
from tuneproof.errors import RecipeError
from tuneproof.pipeline import Run, Stage, StageResult, execute
from tuneproof.recipe import Heldout, MtBench
from tuneproof.records import Split
from tuneproof.workspace import digest_file, digest_value, replacing_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof.records import TrainingSummary
    from tuneproof.results import MissingStage


def preflight(run: Run) -> None:
    """Keep in the run what ``tuneproof plan`` finds, for its report."""
    from tuneproof.data.sources import source_digest
    from tuneproof.plan.findings import tally
    from tuneproof.plan.kept import keep_findings

    kept = keep_findings(
        run.dir.preflight_file,
        run.recipe,
        rests_on={
            "source": source_digest(run.recipe.data.source),
            "tokenizer": run.tokenizer_digest,
            "version": __version__,
        },
        prepared=lambda: run.prepared,
    )
    told = f"{tally(kept.findings)}; tuneproof plan tells them" if kept.findings else "no findings"
    run.reporter.stage("preflight", kept.problem or told)


def _prepare_parts(run: Run) -> Mapping[str, object]:
    from tuneproof.data.sources import source_digest

    data = run.recipe.data
    return {
        "source": source_digest(data.source),
        "seed": run.recipe.seed,
        "data": data.model_dump(mode="json", exclude={"source"}),
    }


def _prepare_check(run: Run) -> None:
    from tuneproof.data.prepare import check_data, check_targets

    check_data(run.recipe.data)
    last = run.dir.manifest("prepare")
    check_targets(run.recipe.data, {f.path for f in last.outputs} if last is not None else set())
    _check_questions(run)


def _check_questions(run: Run) -> None:
    """Refuse a verdict on fewer than two questions: nothing has an interval then."""
    rule, chosen = run.recipe.verdict, run.recipe.decisive
    assert chosen is not None, "a recipe without one does not validate"
    n, kind = chosen.questions, "question"
    if isinstance(chosen, Heldout):
        test = run.prepared.splits[Split.TEST][: chosen.questions]
        n = len(test)
        if rule.metric == "exact_match":
            n, kind = sum(e.checkable for e in test), "question with one right answer"
    if n is None or n >= 2:
        return
    remedy = f"Ask more questions of {chosen.benchmark}, or choose another metric."
    if rule.metric == "exact_match" and n == 0:
        remedy = "Name the column that says so in data.columns.checkable, or choose another metric."
    few = "no" if n == 0 else "one"
    raise RecipeError(
        f"{chosen.benchmark} has {few} {kind} for it, and an interval takes two",
        place="verdict.metric",
        value=rule.metric,
        remedy=remedy,
    )


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
    return {
        **_model_parts(run),
        "lora": run.recipe.lora.model_dump(mode="json"),
        "train": train,
        "monitor": run.recipe.monitor.model_dump(mode="json", exclude={"trackers"}),
        # Where there is no placebo, what was trained before there could be one is still fresh.
        **({"verdict.beat_placebo": True} if run.recipe.verdict.beat_placebo else {}),
    }


def _model_check(run: Run) -> None:
    from tuneproof.assets import ensure_model, find_asset

    _ = run.model_digest, run.tokenizer_digest
    if run.recipe.model.id.startswith("asset:"):
        ensure_model(find_asset(run.recipe.model.id), run.reporter)


def _train_check(run: Run) -> None:
    from tuneproof.train.check import check_training
    from tuneproof.train.checkpoint import check_half_done

    if run.dir.manifest("train") is None:  # a finished training is replaced
        check_half_done(run.recipe, run.dir.stage("train") / "checkpoints")
    _model_check(run)
    check_training(run.recipe, run.prepared.splits, run.reporter)


def _train_run(run: Run, folder: Path) -> StageResult:
    from tuneproof.train.stage import train_adapters

    trained = train_adapters(
        run.recipe, prepare_dir=run.dir.stage("prepare"), out=folder, reporter=run.reporter
    )
    return StageResult(
        outputs=trained.outputs,
        resumed=trained.resumed,
        ledger=trained.ledger,
        facts={
            "steps": sum(s.steps for s in trained.summaries),
            "tokens": sum(s.tokens for s in trained.summaries),
            **({"placebo steps": trained.placebo.steps} if trained.placebo else {}),
            "packing": "; ".join(sorted({s.packing for s in trained.summaries})),
            "gradient clipped at norm": next((s.max_grad_norm for s in trained.summaries), None),
            **_how_computed(trained.summaries, trained.placebo),
        },
    )


def _how_computed(
    summaries: Sequence[TrainingSummary], placebo: TrainingSummary | None
) -> dict[str, str]:
    """Where settings that change no step were changed on the way: the key has the last ones."""
    found = {
        f"{name}: {'; '.join(s.computed_with)}"
        for name, s in (
            *((f"adapter {n}", s) for n, s in enumerate(summaries, start=1)),
            *([("placebo adapter", placebo)] if placebo else []),
        )
    }
    spans = {span for line in found for span in line.partition(": ")[2].split("; ")}
    return {"computed with": ". ".join(sorted(found))} if len(spans) > 1 else {}


def _train_half_done(run: Run) -> str | None:
    from tuneproof.train.checkpoint import half_done

    return half_done(run.dir.stage("train") / "checkpoints")


def _generate_parts(run: Run) -> Mapping[str, object]:
    judge, again = run.recipe.judge, run.recipe.asked_twice
    twice = None
    if judge is not None and again is not None:
        twice = {"benchmark": again.benchmark, "questions": judge.checks.self_comparisons}
    return {
        **_model_parts(run),
        # How fast a server is asked, and where the key is, changes no answer.
        "generate": run.recipe.generate.model_dump(
            mode="json", exclude={"server": {"api_key_env", "concurrency", "timeout_s"}}
        ),
        "evaluate": {
            e.benchmark: {
                "questions": e.questions,
                "selection": None if isinstance(e, Heldout) else e.selection,
                "fair-base": "fair-base" in e.against,
                "baseline": "baseline" in e.against,
                "temperatures": e.temperatures if isinstance(e, MtBench) else "recipe",
            }
            for e in run.recipe.evaluate
        },
        # A placebo enters by its adapter's bytes.
        **({"answered twice": twice} if twice is not None else {}),
    }


def _generate_check(run: Run) -> None:
    from tuneproof.data.questions import selected_questions

    _model_check(run)
    if run.recipe.generate.server is not None:
        from tuneproof.generate.completions import check_server

        check_server(run.recipe)
    if run.recipe.generate.backend == "vllm":
        from tuneproof.generate.vllm_backend import check_vllm

        check_vllm(run.recipe)
    assets = run.recipe.assets
    if assets is not None and not Path(assets).is_dir():
        raise RecipeError(
            "no such folder",
            place="assets",
            value=assets,
            remedy="Relative paths start at the working directory.",
        )
    for evaluation in run.recipe.evaluate:
        if not isinstance(evaluation, Heldout):
            questions = selected_questions(evaluation, seed=run.recipe.seed, assets=assets)
            if evaluation is run.recipe.asked_twice:
                from tuneproof.generate.samples import check_samples

                check_samples(run.recipe, questions)


_ADAPTER_FILE = re.compile(r"train/(?P<folder>adapter(?:-(?P<mark>\d+|placebo))?)/")


def _generate_run(run: Run, folder: Path) -> StageResult:
    from tuneproof.generate.stage import Adapter, generate_answers
    from tuneproof.train.model import arithmetic

    trained = run.dir.manifest("train")
    assert trained is not None
    base = digest_value([run.model_digest, run.tokenizer_digest, arithmetic(run.recipe.model)])
    files: dict[tuple[str, str], dict[str, str]] = {}
    for file in trained.outputs:
        found = _ADAPTER_FILE.match(file.path)
        if found:
            place = (found["mark"] or "1", found["folder"])
            files.setdefault(place, {})[file.path] = file.sha256
    adapters = {
        mark: Adapter(folder=run.dir.stage("train") / name, weights=digest_value([base, digests]))
        for (mark, name), digests in files.items()
    }
    placebo = adapters.pop("placebo", None)
    made = generate_answers(
        run.recipe,
        prepare_dir=run.dir.stage("prepare"),
        base_weights=base,
        adapters=[adapters[mark] for mark in sorted(adapters, key=int)],
        placebo=placebo,
        out=folder,
        reporter=run.reporter,
    )
    return StageResult(
        outputs=made.outputs, resumed=made.resumed, unfinished=made.unfinished, facts=made.facts
    )


_MONEY = {"prices", "budget_usd", "batch_api"}


def _judge_parts(run: Run) -> Mapping[str, object]:
    judge = run.recipe.judge
    # How fast we ask, what it costs and where the key is changes no reply.
    how = {"concurrency", "timeout_s", "api_key_env", "journal", "limit_field", *_MONEY}
    if judge is None:
        return {"seed": run.recipe.seed, "journal": None, "judge": None}
    from tuneproof.judge.clients import ratings_beside

    journal = Path(judge.journal) if judge.journal is not None else None
    beside = ratings_beside(journal) if journal is not None else None
    return {
        "seed": run.recipe.seed,
        "journal": digest_file(journal) if journal is not None and journal.is_file() else None,
        "ratings journal": digest_file(beside) if beside is not None else None,
        "judge": judge.model_dump(mode="json", exclude=how),
        "against": {e.benchmark: e.against for e in run.recipe.evaluate},
        # As they are on this machine: getting a benchmark's files changes how it is judged.
        "protocol": _protocols(run),
        "placebo": run.recipe.verdict.beat_placebo,
        # Where an answer is cut that ran on into the template.
        "data.template": run.recipe.data.template,
        "mt_bench": [
            e.model_dump(mode="json", include={"exclude_known_wrong", "max_tokens"})
            for e in run.recipe.evaluate
            if isinstance(e, MtBench)
        ],
    }


def _protocols(run: Run) -> dict[str, str]:
    """The name of each benchmark's protocol, by what is on this machine."""
    from tuneproof.judge.choice import choose

    judge, assets = run.recipe.judge, run.recipe.assets
    if judge is None:
        return {}
    return {e.benchmark: choose(e, judge, assets=assets).name for e in run.recipe.evaluate}


def _judge_check(run: Run) -> None:
    if run.recipe.judge is not None:
        from tuneproof.judge.choice import fetch_files
        from tuneproof.judge.clients import check

        check(run.recipe.judge)
        for evaluation in run.recipe.evaluate:
            fetch_files(evaluation, assets=run.recipe.assets)


def _judge_run(run: Run, folder: Path) -> StageResult:
    from tuneproof.judge.registering import REGISTRATIONS
    from tuneproof.judge.stage import OUTPUTS, judge_answers

    judged = judge_answers(
        run.recipe,
        prepare_dir=run.dir.stage("prepare"),
        generate_dir=run.dir.stage("generate"),
        out=folder,
        reporter=run.reporter,
    )
    return StageResult(
        outputs=[*(folder / f"{name}.jsonl" for name in OUTPUTS), folder / REGISTRATIONS],
        resumed=judged.n_from_journal,
        unfinished=judged.n_failed,
        facts={
            **{f"protocol of {name}": used for name, used in _protocols(run).items()},
            "registration": judged.registration,
            "matches": judged.n_matches,
            "ratings": judged.n_ratings,
            "judged again": judged.n_rejudged,
            "checks": judged.n_checks,
            "refused": ", ".join(judged.refused),
            "requests": judged.n_requests,
            "unparsed": judged.n_unparsed,
            "failed": judged.n_failed,
            "not asked": judged.n_not_asked,
            "skipped pairs": sum(judged.skipped.values()),
            "excluded": judged.n_excluded,
            "prompt tokens": judged.prompt_tokens,
            "completion tokens": judged.completion_tokens,
            **{f"sent again: {reason}": n for reason, n in sorted(judged.resent.items())},
            "usd": None if judged.usd is None else round(judged.usd, 6),
            "usd, unsure": None if judged.unsure_usd is None else round(judged.unsure_usd, 6),
        },
    )


def _report_parts(run: Run) -> Mapping[str, object]:
    from tuneproof.report.code import code_digest

    prepared, judged = run.dir.manifest("prepare"), run.dir.manifest("judge")
    found = run.dir.preflight_file
    ledger = prepared.ledger if prepared is not None else None
    return {
        "recipe": run.recipe.model_dump(
            mode="json", exclude={"assets": True, "judge": {"api_key_env"}}
        ),
        # Printed in the report, and in no file that it reads.
        "ledger": ledger.model_dump(mode="json") if ledger is not None else None,
        "unfinished": judged.unfinished if judged is not None else None,
        "preflight": digest_file(found) if found.is_file() else None,
        "code": code_digest(),
    }


def _report_run(run: Run, folder: Path) -> StageResult:
    return StageResult(outputs=_new_report(run, folder))


def _new_report(run: Run, folder: Path, *, missing: Sequence[MissingStage] = ()) -> list[Path]:
    """Make the report beside the folder, and put it in its place: the last good one stays where
    none can be made."""
    from tuneproof.report.stage import report_run

    with replacing_folder(folder) as partial:
        files = report_run(run.recipe, run.dir, out=partial, missing=missing)
    return [folder / file.relative_to(partial) for file in files]


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
        check=_train_check,
        run=_train_run,
        scratch=("checkpoints",),
        joint=True,
        half_done=_train_half_done,
        less_memory="Lower train.token_budget or set train.gradient_checkpointing=true, and give "
        "the command again: they change no optimizer step, and it goes on from the last "
        "checkpoint.",
    ),
    Stage(
        name="generate",
        version=5,
        reads=("prepare/examples.jsonl", "train/adapter*"),
        parts=_generate_parts,
        check=_generate_check,
        run=_generate_run,
        less_memory="Lower generate.batch_tokens. Answers of batches that stay the same are kept.",
    ),
    Stage(
        name="judge",
        version=5,
        reads=("prepare/examples.jsonl", "generate/prompts.jsonl", "generate/answers.jsonl"),
        parts=_judge_parts,
        check=_judge_check,
        run=_judge_run,
    ),
    Stage(
        name="report",
        version=5,
        reads=(
            "prepare/examples.jsonl",
            "train/loss.jsonl",
            "train/summary*",
            "generate/",
            "judge/",
        ),
        parts=_report_parts,
        check=_nothing_to_check,
        run=_report_run,
        replaces=True,
    ),
)
"""In the order in which they run."""


def report_what_there_is(run: Run) -> tuple[MissingStage, ...]:
    """Make the report of what the run holds now, and run no other stage; returns what is missing.

    With nothing missing it is the report stage itself. Otherwise its result gets no manifest, so
    that the stage is still to be run.

    Raises:
        StageError: a file of the run is not what its stage wrote.
    """
    from tuneproof.report.unfinished import missing_stages

    missing = missing_stages(run.dir)
    if not missing:
        execute(run, STAGES[-1:])
        return ()
    with run.dir.locked():
        _new_report(run, run.dir.stage("report"), missing=missing)
    for m in missing:
        run.reporter.stage(m.stage, f"missing: {m.why}")
    return missing


def stages_until(name: str) -> tuple[Stage, ...]:
    """The stages up to and including the named one."""
    names = [stage.name for stage in STAGES]
    return STAGES[: names.index(name) + 1]
