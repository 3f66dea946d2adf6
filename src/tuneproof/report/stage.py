"""The report stage: what the other stages wrote → estimates → verdict → report."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tuneproof.recipe_file import dump_recipe
from tuneproof.records import (
    Answer,
    Arm,
    CutPreference,
    JudgeCheck,
    Judgment,
    Ledger,
    LossPoint,
    Manifest,
    Preference,
    Prompt,
    Rating,
    RepeatedReply,
    Results,
    SequenceLoss,
    Similarity,
    Stop,
    TrainingSummary,
    first_samples,
)
from tuneproof.report.benchmarks import finished, judging_findings
from tuneproof.report.build import write_report
from tuneproof.report.judging import alarms, registration, with_checks
from tuneproof.stats.placebo import placebo_result
from tuneproof.stats.second_opinion import second_opinion
from tuneproof.stats.summary import summarize
from tuneproof.stats.verdict import decide
from tuneproof.workspace import RunDir, read_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tuneproof.recipe import Recipe

STAGES = ("prepare", "train", "generate", "judge")

PROMPT_DIFFERS = "prompt tokens differ from the prompt alone"
"""As the train stage's ledger counts it."""


def report_run(recipe: Recipe, run: RunDir, *, out: Path) -> list[Path]:
    """Read the run's records, estimate, decide and write the report; returns its files.

    Raises:
        StageError: a file that an earlier stage wrote is missing or is not what it wrote.
    """
    generated, judged = run.stage("generate"), run.stage("judge")
    prompts = read_records(generated / "prompts.jsonl", Prompt)
    # The second answers of the A/A test are in no estimate but that one's, which has its own rows.
    answers = first_samples(read_records(generated / "answers.jsonl", Answer))
    preferences = read_records(judged / "preferences.jsonl", Preference)
    similarities = read_records(judged / "similarity.jsonl", Similarity)
    judgments = read_records(judged / "judgments.jsonl", Judgment)
    losses = read_records(generated / "heldout_loss.jsonl", SequenceLoss)
    ratings = read_records(judged / "ratings.jsonl", Rating)
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
        cuts=read_records(judged / "cut_preferences.jsonl", CutPreference),
        cut_judgments=read_records(judged / "cut_judgments.jsonl", Judgment),
        model_name=recipe.model_name,
    )
    benchmarks = with_checks(
        {
            name: finished(
                recipe, result, prompts=prompts, answers=answers, preferences=preferences
            )
            for name, result in summary.benchmarks.items()
        },
        read_records(judged / "checks.jsonl", JudgeCheck),
        read_records(judged / "repeats.jsonl", RepeatedReply),
        read_records(judged / "self_preferences.jsonl", Preference),
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
        if rule.beat_placebo
        else None
    )
    manifests = {n: m for n in STAGES if (m := run.manifest(n)) is not None}
    training, *other_trainings = _trainings(manifests["train"], run)
    found = findings(
        recipe, training=training, prompts=prompts, answers=answers, manifests=manifests
    ) + judging_findings(recipe, benchmarks)
    ledger = manifests["prepare"].ledger
    assert ledger is not None, "prepare always writes a ledger"
    verdict = decide(
        rule,
        summary.heldout_loss,
        benchmarks,
        seeds=1 + len(other_trainings),
        placebo=placebo,
    )
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
        other_trainings=tuple(other_trainings),
        ledger=ledger,
        registration=registration(recipe, prompts, preferences, ratings, judge_dir=judged),
        placebo=placebo,
        alarms=tuple(alarms(prompts, answers)),
        findings=tuple(found),
        rows={s: int(manifests["prepare"].facts[s] or 0) for s in ("train", "validation", "test")},
    )
    return write_report(
        results,
        recipe=recipe,
        recipe_text=dump_recipe(recipe),
        curve=read_records(run.stage("train") / "loss.jsonl", LossPoint),
        prompts=prompts,
        answers=answers,
        similarities=similarities,
        judgments=judgments,
        manifests=manifests,
        findings=found,
        out=out,
    )


_SUMMARY = re.compile(r"train/summary(?:-(\d+))?\.json")


def _trainings(train: Manifest, run: RunDir) -> list[TrainingSummary]:
    """The summaries of all adapters, in the order of their numbers."""
    found = [(m, f) for f in train.outputs if (m := _SUMMARY.fullmatch(f.path))]
    return [
        TrainingSummary.model_validate_json(run.resolve(file.path).read_bytes())
        for _, file in sorted(found, key=lambda it: int(it[0][1] or 1))
    ]


def findings(
    recipe: Recipe,
    *,
    training: TrainingSummary,
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    manifests: Mapping[str, Manifest],
) -> list[str]:
    """What a reader should keep in mind, each as a sentence with its count."""
    found = []
    if training.eos_supervised_rows == 0:
        found.append(
            "No training row ends in the end-of-sequence token, so the tuned model was never "
            "taught to stop (train.append_eos)."
        )
    mismatched = (manifests["train"].ledger or Ledger(read=0, kept=0)).cut.get(PROMPT_DIFFERS, 0)
    if mismatched:
        found.append(
            f"In {mismatched:,} training rows the prompt's tokens are not those of the prompt "
            "alone: the tokenizer merges across the template's boundary."
        )
    if training.rows_cut:
        found.append(
            f"{training.rows_cut:,} training rows were cut at {recipe.train.max_length} tokens; "
            f"{training.responses_lost:,} of them lost their whole response."
        )
    if any(a.arm is Arm.FAIR_BASE for a in answers):
        how = manifests["generate"].facts.get("fair-base asked with")
        found.append(f"Fair-base, the base model at its best, was asked with {how}.")
    failed = sum(a.stop is Stop.ERROR for a in answers)
    if failed:
        found.append(f"{failed} answers failed and are not scored.")
    beyond = manifests["generate"].facts.get("rows beyond the context")
    if beyond:
        found.append(f"{beyond} held-out rows exceed the model's context; their loss is unscored.")
    judged = manifests["judge"]
    if judged.unfinished:
        found.append(
            f"{judged.unfinished} requests to the judge failed; running again asks them again."
        )
    if manifests["train"].dirty:
        found.append("The code that trained had uncommitted changes.")
    return found
