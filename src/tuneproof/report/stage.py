"""The report stage: what the other stages wrote → estimates → verdict → report."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

from tuneproof.recipe_file import dump_recipe
from tuneproof.records import (
    Answer,
    Arm,
    CutPreference,
    Judgment,
    LossPoint,
    Manifest,
    Preference,
    Preflight,
    Prompt,
    Rating,
    Record,
    RepeatedReply,
    SequenceLoss,
    Similarity,
    Stop,
    TrainingSummary,
    first_samples,
)
from tuneproof.report.benchmarks import finished, judging_findings
from tuneproof.report.build import write_report
from tuneproof.report.judging import alarms, registration, replies, with_checks
from tuneproof.report.unfinished import STAGES, live_files, live_points, no_verdict
from tuneproof.results import JudgeCheck, Results
from tuneproof.stats.placebo import placebo_result
from tuneproof.stats.second_opinion import second_opinion
from tuneproof.stats.summary import summarize
from tuneproof.stats.verdict import decide
from tuneproof.train.live import read_live
from tuneproof.workspace import RunDir, read_record, read_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tuneproof.recipe import Recipe, VerdictRule
    from tuneproof.results import MissingStage

R = TypeVar("R", bound=Record)

PROMPT_DIFFERS = "prompt tokens differ from the prompt alone"
"""As the train stage's ledger counts it."""


def report_run(
    recipe: Recipe, run: RunDir, *, out: Path, missing: Sequence[MissingStage] = ()
) -> list[Path]:
    """Read the run's records, estimate, decide and write the report; returns its files.

    Nothing is read of the stages that are ``missing``.

    Raises:
        StageError: a file that an earlier stage wrote is missing or is not what it wrote.
    """
    without = {m.stage for m in missing}

    def rows(path: str, kind: type[R]) -> list[R]:
        if path.partition("/")[0] in without:
            return []
        return read_records(run.resolve(path), kind)

    prompts = rows("generate/prompts.jsonl", Prompt)
    # The second answers of the A/A test are in no estimate but that one's, which has its own rows.
    answers = first_samples(rows("generate/answers.jsonl", Answer))
    preferences = rows("judge/preferences.jsonl", Preference)
    similarities = rows("judge/similarity.jsonl", Similarity)
    judgments = rows("judge/judgments.jsonl", Judgment)
    cut_judgments = rows("judge/cut_judgments.jsonl", Judgment)
    losses = rows("generate/heldout_loss.jsonl", SequenceLoss)
    ratings = rows("judge/ratings.jsonl", Rating)
    rule = recipe.verdict
    summary = summarize(
        losses=losses,
        prompts=prompts,
        answers=answers,
        similarities=similarities,
        judgments=judgments,
        preferences=preferences,
        judge=recipe.judge,
        level=rule.level,
        ratings=ratings,
        seed=recipe.seed,
        cuts=rows("judge/cut_preferences.jsonl", CutPreference),
        cut_judgments=cut_judgments,
        model_name=recipe.model_name,
    )
    benchmarks = with_checks(
        {
            name: finished(
                recipe, result, prompts=prompts, answers=answers, preferences=preferences
            )
            for name, result in summary.benchmarks.items()
        },
        rows("judge/checks.jsonl", JudgeCheck),
        rows("judge/repeats.jsonl", RepeatedReply),
        rows("judge/self_preferences.jsonl", Preference),
        level=rule.level,
        seed=recipe.seed,
    )
    placebo = (
        placebo_result(
            rule,
            losses=losses,
            prompts=[p for p in prompts if p.benchmark == "heldout"],
            similarities=similarities,
            benchmarks=benchmarks,
        )
        if rule.beat_placebo and not without & _rests_on(rule)
        else None
    )
    manifests = {s: m for s in STAGES if s not in without and (m := run.manifest(s)) is not None}
    trainings = _trainings(manifests.get("train"), run)
    training = trainings[0] if trainings else None
    # Where the trainings are gone, the answers still tell how many there were.
    adapters = {a.adapter for a in answers if a.arm is Arm.TUNED}
    found = findings(
        recipe, training=training, prompts=prompts, answers=answers, manifests=manifests
    ) + judging_findings(recipe, benchmarks)
    prepared = manifests.get("prepare")
    assert prepared is None or prepared.ledger is not None, "prepare always writes a ledger"
    verdict = decide(
        rule,
        summary.heldout_loss,
        benchmarks,
        seeds=max(1, len(trainings) or len(adapters)),
        placebo=placebo,
    )
    none_yet = no_verdict(missing)
    if none_yet is not None and verdict.estimate.value is None:
        verdict = verdict.model_copy(update={"sentence": none_yet, "reasons": ()})
    other = second_opinion(
        rule,
        verdict,
        losses=losses,
        similarities=similarities,
        preferences=preferences,
        seed=recipe.seed,
    )
    results = Results(
        name=recipe.name,
        verdict=verdict.model_copy(update={"second_opinion": other}),
        heldout_loss=summary.heldout_loss,
        benchmarks=benchmarks,
        training=training,
        other_trainings=tuple(trainings[1:]),
        ledger=prepared.ledger if prepared is not None else None,
        registration=None
        if "judge" in without
        else registration(recipe, prompts, preferences, ratings, judge_dir=run.stage("judge")),
        placebo=placebo,
        replies=tuple(replies(judgments, cut_judgments, ratings)),
        alarms=tuple(alarms(prompts, answers)),
        findings=tuple(found),
        preflight=_preflight(run),
        missing=tuple(missing),
        rows={}
        if prepared is None
        else {s: int(prepared.facts[s] or 0) for s in ("train", "validation", "test")},
    )
    return write_report(
        results,
        recipe=recipe,
        recipe_text=dump_recipe(recipe),
        curve=_curve(run) if "train" in without else rows("train/loss.jsonl", LossPoint),
        prompts=prompts,
        answers=answers,
        similarities=similarities,
        judgments=judgments,
        preferences=preferences,
        manifests=manifests,
        findings=found,
        out=out,
    )


def _rests_on(rule: VerdictRule) -> set[str]:
    """The stages whose records the verdict's metric is made of."""
    return {"generate"} if rule.metric == "heldout_loss" else {"generate", "judge"}


def _curve(run: RunDir) -> list[LossPoint]:
    """Of a training that was not ended, as far as it came."""
    return live_points(line for path in live_files(run)[-1:] for line in read_live(path))


def _preflight(run: RunDir) -> Preflight | None:
    return read_record(run.preflight_file, Preflight) if run.preflight_file.is_file() else None


_SUMMARY = re.compile(r"train/summary(?:-(\d+))?\.json")


def _trainings(train: Manifest | None, run: RunDir) -> list[TrainingSummary]:
    """The summaries of all adapters, in the order of their numbers."""
    outputs = train.outputs if train is not None else ()
    found = [(m, f) for f in outputs if (m := _SUMMARY.fullmatch(f.path))]
    return [
        read_record(run.resolve(file.path), TrainingSummary)
        for _, file in sorted(found, key=lambda it: int(it[0][1] or 1))
    ]


def findings(
    recipe: Recipe,
    *,
    training: TrainingSummary | None,
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    manifests: Mapping[str, Manifest],
) -> list[str]:
    """What a reader should keep in mind, each as a sentence with its count."""
    found = []
    trained, generated, judged = (manifests.get(s) for s in ("train", "generate", "judge"))
    if training is not None and training.eos_supervised_rows == 0:
        found.append(
            "No training row ends in the end-of-sequence token, so the tuned model was never "
            "taught to stop (train.append_eos)."
        )
    ledger = trained.ledger if trained is not None else None
    mismatched = ledger.cut.get(PROMPT_DIFFERS, 0) if ledger is not None else 0
    if mismatched:
        found.append(
            f"In {mismatched:,} training rows the prompt's tokens are not those of the prompt "
            "alone: the tokenizer merges across the template's boundary."
        )
    if training is not None and training.rows_cut:
        found.append(
            f"{training.rows_cut:,} training rows were cut at {recipe.train.max_length} tokens; "
            f"{training.responses_lost:,} of them lost their whole response."
        )
    if generated is not None and any(a.arm is Arm.FAIR_BASE for a in answers):
        how = generated.facts.get("fair-base asked with")
        found.append(f"Fair-base, the base model at its best, was asked with {how}.")
    failed = sum(a.stop is Stop.ERROR for a in answers)
    if failed:
        found.append(f"{failed} answers failed and are not scored.")
    beyond = generated.facts.get("rows beyond the context") if generated is not None else 0
    if beyond:
        found.append(f"{beyond} held-out rows exceed the model's context; their loss is unscored.")
    if judged is not None and judged.unfinished:
        found.append(
            f"{judged.unfinished} requests to the judge failed; running again asks them again."
        )
    if trained is not None and trained.dirty:
        found.append("The code that trained had uncommitted changes.")
    return found
