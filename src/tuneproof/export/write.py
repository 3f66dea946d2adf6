"""Reads a run and writes the original tools' files of it.

``alpaca_eval/<model>/model_outputs.json`` and ``…/against-<opponent>/annotations.json``;
``mt_bench/model_answer/<model>.jsonl`` and ``mt_bench/model_judgment/<judge>_pair.jsonl`` (or
``_single.jsonl``). What cannot stand in them is counted.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from tuneproof.errors import MissingAssetError, StageError
from tuneproof.export import alpaca_eval, mt_bench
from tuneproof.judge.choice import Chosen, choose
from tuneproof.judge.matches import build_matches, build_pairs
from tuneproof.judge.ratings import answers_to_rate
from tuneproof.recipe_file import load_recipe
from tuneproof.records import (
    Answer,
    Arm,
    Judgment,
    Preference,
    Prompt,
    Rating,
    first_samples,
)
from tuneproof.stats.leaderboards import answered_pairs
from tuneproof.workspace import read_records, write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tuneproof.recipe import Evaluation, Recipe
    from tuneproof.records import Manifest
    from tuneproof.workspace import RunDir


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The files that were written, and how many rows are in none of them, by reason."""

    files: tuple[Path, ...]
    left_out: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What a run holds of one benchmark. The placebo is a control of this run and in no file."""

    recipe: Recipe
    prompts: list[Prompt]
    answers: list[Answer]
    judgments: list[Judgment]
    preferences: list[Preference]
    ratings: list[Rating]
    generated_at: float
    judged_at: float

    def of(self, evaluation: Evaluation) -> _Read:
        """The rows of one benchmark."""
        name = evaluation.benchmark
        return _Read(
            recipe=self.recipe,
            prompts=[p for p in self.prompts if p.benchmark == name],
            answers=[a for a in self.answers if a.benchmark == name],
            judgments=[j for j in self.judgments if j.benchmark == name],
            preferences=[p for p in self.preferences if p.benchmark == name],
            ratings=[r for r in self.ratings if r.benchmark == name],
            generated_at=self.generated_at,
            judged_at=self.judged_at,
        )

    def models(self) -> list[tuple[Arm, int]]:
        """Who answered, tuned first."""
        who = dict.fromkeys((a.arm, a.adapter) for a in self.answers)
        return sorted(who, key=lambda it: (it[0] is not Arm.TUNED, it[0], it[1]))

    def said_by(self, arm: Arm, adapter: int) -> list[Answer]:
        """One model's answers."""
        return [a for a in self.answers if (a.arm, a.adapter) == (arm, adapter)]


def export_run(run: RunDir, out: Path) -> Exported:
    """Write the files of all benchmarks that the run was judged on.

    Raises:
        RunDirError: the folder is no run.
        StageError: the run was not judged yet, or a file of it is missing.
        AssetError: a file of a benchmark's protocol is not on this machine, or another one.
    """
    run.must_be_run()
    recipe = load_recipe(run.recipe_file)
    generated, judged = _finished(run, "generate"), _finished(run, "judge")
    folders = run.stage("generate"), run.stage("judge")
    whole = _Read(
        recipe=recipe,
        prompts=read_records(folders[0] / "prompts.jsonl", Prompt),
        answers=[
            a
            for a in first_samples(read_records(folders[0] / "answers.jsonl", Answer))
            if a.arm is not Arm.PLACEBO
        ],
        judgments=read_records(folders[1] / "judgments.jsonl", Judgment),
        preferences=[
            p
            for p in read_records(folders[1] / "preferences.jsonl", Preference)
            if p.opponent is not Arm.PLACEBO
        ],
        ratings=read_records(folders[1] / "ratings.jsonl", Rating),
        generated_at=_time(generated),
        judged_at=_time(judged),
    )
    texts: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for evaluation in recipe.evaluate:
        rows = whole.of(evaluation)
        if evaluation.benchmark == "alpaca_eval":
            _alpaca_eval(rows, texts, left_out)
        elif evaluation.benchmark == "mt_bench":
            _mt_bench(rows, evaluation, texts, left_out)
    for name, text in texts.items():
        write_atomic(out / name, text)
    return Exported(files=tuple(out / name for name in texts), left_out=dict(left_out))


def _finished(run: RunDir, stage: str) -> Manifest:
    manifest = run.manifest(stage)
    if manifest is None:
        raise StageError(
            f"{stage} has not finished",
            place=str(run.path),
            remedy=f"Finish it: tuneproof run RECIPE --run-dir {run.path}",
        )
    return manifest


def _time(manifest: Manifest) -> float:
    return datetime.fromisoformat(manifest.started).timestamp()


def _alpaca_eval(rows: _Read, texts: dict[str, str], left_out: Counter[str]) -> None:
    recipe = rows.recipe
    for arm, adapter in rows.models():
        model = recipe.model_name(arm, adapter)
        outputs = alpaca_eval.model_outputs(rows.prompts, rows.said_by(arm, adapter), model=model)
        texts[f"alpaca_eval/{model}/model_outputs.json"] = _array(outputs)
        left_out[f"alpaca_eval: answers of {model} that failed"] += len(rows.prompts) - len(outputs)
    if recipe.judge is None:
        return
    for opponent, adapter in dict.fromkeys((p.opponent, p.adapter) for p in rows.preferences):
        mine = [p for p in rows.preferences if (p.opponent, p.adapter) == (opponent, adapter)]
        pairs, n_without = answered_pairs(rows.prompts, rows.answers, mine)
        model = recipe.model_name(Arm.TUNED, adapter)
        name = f"alpaca_eval/{model}/against-{recipe.model_name(opponent)}/annotations.json"
        texts[name] = _array(alpaca_eval.annotation_rows(pairs, rows.judgments, recipe))
        left_out[f"alpaca_eval: pairs of {model} without two answers"] += n_without


def _mt_bench(
    rows: _Read, evaluation: Evaluation, texts: dict[str, str], left_out: Counter[str]
) -> None:
    recipe = rows.recipe
    for arm, adapter in rows.models():
        model = recipe.model_name(arm, adapter)
        answered, n_without = mt_bench.model_answer(
            rows.prompts, rows.said_by(arm, adapter), model=model, tstamp=rows.generated_at
        )
        texts[f"mt_bench/model_answer/{model}.jsonl"] = _lines(answered)
        left_out[f"mt_bench: questions that {model} did not answer in all turns"] += n_without
    judge = recipe.judge
    if judge is None:
        return
    chosen = _as_judged(rows, choose(evaluation, judge, assets=recipe.assets))
    folder = f"mt_bench/model_judgment/{mt_bench.judge_in_file_name(judge)}"
    against = [Arm(opponent) for opponent in evaluation.against]
    if chosen.ratings is not None:
        rated, _ = answers_to_rate(rows.prompts, rows.answers, arms=[Arm.TUNED, *against])
        singles = mt_bench.single_judgments(
            rated, rows.ratings, recipe, chosen.ratings, tstamp=rows.judged_at
        )
        texts[f"{folder}_single.jsonl"] = _lines(singles)
        return
    judged = {p.question_id for p in rows.preferences}
    prompts = [p for p in rows.prompts if p.question_id in judged]
    pairs = build_pairs(prompts, rows.answers, against=against)
    matches, skipped = build_matches(pairs, rows.answers, chosen.pairwise, seed=recipe.seed)
    games = mt_bench.pair_judgments(
        matches, rows.judgments, recipe, chosen.pairwise, tstamp=rows.judged_at
    )
    texts[f"{folder}_pair.jsonl"] = _lines(games)
    left_out["mt_bench: pairs without two answers"] += sum(skipped.values())


def _as_judged(rows: _Read, chosen: Chosen) -> Chosen:
    """The protocol, if it is the one that the run was judged with.

    Raises:
        StageError: the benchmark's files came after the run was judged.
        MissingAssetError: they were there then, and are gone.
    """
    used = {p.protocol for p in rows.preferences} | {r.protocol for r in rows.ratings}
    used -= {chosen.name}
    if not used:
        return chosen
    if chosen.missing:
        raise MissingAssetError(
            f"the run was judged with {', '.join(sorted(used))}, whose prompts are needed again",
            place=" and ".join(chosen.missing),
            remedy="Fetch them (tuneproof assets fetch NAME), or set TUNEPROOF_ASSETS to a folder "
            "that has them.",
        )
    raise StageError(
        f"was judged with {', '.join(sorted(used))}, and would now be with {chosen.name}",
        place="judge",
        remedy="Judge it again: tuneproof judge RECIPE",
    )


def _array(rows: Sequence[alpaca_eval.JsonRow]) -> str:
    return json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _lines(rows: Sequence[mt_bench.JsonRow]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
