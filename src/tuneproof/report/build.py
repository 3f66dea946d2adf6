"""Writes the report's files from finished records.

The same records give the same bytes: nothing here asks for the time, the machine or a random
number. When and whether to write is the pipeline's business.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from tuneproof.report.behaviour import behaviours
from tuneproof.report.cases import build_cases
from tuneproof.report.content import pairwise_results
from tuneproof.report.figures import loss_figure
from tuneproof.report.markdown import render_markdown
from tuneproof.report.page import render_page
from tuneproof.report.pairwise import alpaca_eval_row, mt_bench_row, ratings_table
from tuneproof.report.tables import alpaca_eval_table, mt_bench_table, to_csv
from tuneproof.report.untrusted import encodable
from tuneproof.workspace import write_atomic, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tuneproof.recipe import Recipe
    from tuneproof.records import (
        Answer,
        Judgment,
        LossPoint,
        Manifest,
        Preference,
        Prompt,
        Similarity,
    )
    from tuneproof.report.tables import Table
    from tuneproof.results import MtBenchLine, Results


def write_report(
    results: Results,
    *,
    recipe: Recipe,
    recipe_text: str,
    curve: Sequence[LossPoint],
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    similarities: Sequence[Similarity],
    judgments: Sequence[Judgment],
    preferences: Sequence[Preference],
    manifests: Mapping[str, Manifest],
    findings: Sequence[str],
    out: Path,
) -> list[Path]:
    """Write the report into the folder ``out`` and return the files' paths.

    Args:
        results: every number of the report.
        recipe: the recipe, for the verdict's rule and the token limit.
        recipe_text: the resolved recipe as YAML, shown as it is.
        curve: the loss curve.
        prompts: the questions, in the order in which they are shown.
        answers: both arms' answers.
        similarities: exact match and chrF of each answer.
        judgments: the judge's replies.
        preferences: what they come to for each pair of answers, as the tables count it.
        manifests: stage name to manifest, in the order in which the stages ran.
        findings: sentences that a reader should keep in mind.
        out: the folder; made if it is absent.
    """
    cases = build_cases(
        prompts,
        answers=answers,
        similarities=similarities,
        judgments=judgments,
        preferences=preferences,
    )
    loss = loss_figure(curve, best_step=results.best_step)
    markdown = render_markdown(
        results,
        recipe=recipe,
        recipe_text=recipe_text,
        cases=cases,
        manifests=manifests,
        findings=findings,
    )
    page = render_page(
        results,
        recipe=recipe,
        recipe_text=recipe_text,
        curve=curve,
        cases=cases,
        behaviours=behaviours(prompts, answers),
        manifests=manifests,
        findings=findings,
    )
    numbers = out / "results.json"
    write_json(numbers, _encodable(results.model_dump(mode="json")))
    contents: dict[str, str | bytes] = {
        "report.md": markdown,
        "index.html": page,
        "loss.csv": loss_csv(curve),
        "loss.svg": loss.svg,
        "loss.png": loss.png,
        **{f"{name}.csv": to_csv(table) for name, table in own_tables(results).items()},
    }
    for name, content in contents.items():
        write_atomic(out / name, content)
    return [numbers, *(out / name for name in contents)]


def own_tables(results: Results) -> dict[str, Table]:
    """The benchmarks' own tables by name, each with all of its opponents."""
    tables = {}
    for name, result in results.benchmarks.items():
        found = pairwise_results(result)
        several = len(found) > 1
        lines = [alpaca_eval_row(line, against=several) for r in found for line in r.alpaca_eval]
        if lines:
            tables[name] = alpaca_eval_table(lines)
        matches = [
            mt_bench_row(line, against=_other(line, r.mt_bench.lines) if several else None)
            for r in found
            if r.mt_bench is not None
            for line in r.mt_bench.lines
        ]
        if matches:
            tables[name] = mt_bench_table(matches)
        if result.ratings is not None:
            tables[name] = ratings_table(result.ratings)
    return tables


def _other(line: MtBenchLine, lines: Sequence[MtBenchLine]) -> str:
    """Whom a line's model met: the opponent's line is the last one."""
    return lines[-1].model if line is not lines[-1] else "tuned"


def loss_csv(curve: Sequence[LossPoint]) -> str:
    """The loss curve as CSV, one line a point; what was not logged at a step is empty."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("step", "epoch", "train_loss", "eval_loss", "learning_rate", "grad_norm"))
    for p in curve:
        table.writerow((p.step, p.epoch, p.train_loss, p.eval_loss, p.learning_rate, p.grad_norm))
    return text.getvalue()


def _encodable(value: object) -> object:
    """The value with lone surrogates replaced in its texts."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, dict):
        return {encodable(str(k)): _encodable(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_encodable(v) for v in value]
    return value
