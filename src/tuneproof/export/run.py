"""All that a run can be exported as: an adapter with its card, a paper's tables and figures, and
the benchmarks' own files. What the run does not have yet is said, not an error."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.errors import StageError
from tuneproof.export.model_card import for_publication, model_card
from tuneproof.export.paper import paper_files
from tuneproof.export.write import export_run
from tuneproof.recipe_file import load_recipe
from tuneproof.records import LossPoint, TrainingSummary
from tuneproof.report.experiment import hub_model
from tuneproof.report.results_file import read_results
from tuneproof.report.untrusted import encodable
from tuneproof.workspace import read_record, read_records, replacing_folder, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from tuneproof.recipe import Model, Recipe
    from tuneproof.results import Results
    from tuneproof.workspace import RunDir

STAGES = ("prepare", "train", "generate", "judge", "report")
_ADAPTER = re.compile(r"train/(adapter(?:-(\d+))?)/adapter_config\.json")


@dataclass(frozen=True, kw_only=True)
class Made:
    """The files that were written; rows that are in none of them, by reason; and what could not be
    made yet, each with why."""

    files: tuple[Path, ...]
    left_out: dict[str, int]
    missing: tuple[str, ...]


def export_all(run: RunDir, out: Path) -> Made:
    """Write everything that the run has.

    ``out/adapter/`` (``adapter-2/`` …) is a folder as the hub takes it: PEFT's files and
    ``README.md``. ``out/paper/`` has tables and figures. ``out/alpaca_eval/`` and
    ``out/mt_bench/`` are what ``write`` makes. The placebo is a control of the run, and stays in
    it.

    Raises:
        RunDirError: the folder is no run.
        RecipeError: its recipe cannot be read: it is damaged, or of another version.
        StageError: nothing can be exported yet, or a file of the run cannot be read.
        AssetError: a file of a benchmark's protocol is not on this machine, or another one.
    """
    run.must_be_run()
    recipe = load_recipe(run.recipe_file)
    behind = run.overtaken(STAGES)
    if "train" in behind and "judge" in behind:
        raise StageError(
            f"nothing to export yet: {behind['train']}",
            place=str(run.path),
            remedy=f"Finish it: tuneproof run RECIPE --run-dir {run.path}",
        )
    results = None
    if "report" not in behind:
        results = read_results(run.stage("report") / "results.json")
    files: list[Path] = []
    missing: list[str] = []
    if "train" in behind:
        missing.append(f"adapter and model card: {behind['train']}")
    else:
        files += _adapters(run, recipe, out, results=results, missing=behind.get("report", ""))
    if results is None:
        missing.append(f"tables and figures: {behind['report']}")
    else:
        curve = read_records(run.stage("train") / "loss.jsonl", LossPoint)
        for name, text in paper_files(results, for_publication(recipe), curve).items():
            write_atomic(out / "paper" / name, text)
            files.append(out / "paper" / name)
    left_out: dict[str, int] = {}
    if any(e.benchmark != "heldout" for e in recipe.evaluate):
        if "judge" in behind:
            missing.append(f"AlpacaEval's and FastChat's files: {behind['judge']}")
        else:
            exported = export_run(run, out)
            files += exported.files
            left_out = exported.left_out
    return Made(files=tuple(files), left_out=left_out, missing=tuple(missing))


def _adapters(
    run: RunDir, recipe: Recipe, out: Path, *, results: Results | None, missing: str
) -> list[Path]:
    trained, prepared = run.manifest("train"), run.manifest("prepare")
    assert trained is not None
    files: list[Path] = []
    for found in (_ADAPTER.fullmatch(f.path) for f in trained.outputs):
        if found is None:
            continue
        name, mark = found[1], found[2]
        summary = run.stage("train") / f"summary{'-' + mark if mark else ''}.json"
        card = model_card(
            recipe,
            read_record(summary, TrainingSummary),
            ledger=prepared.ledger if prepared is not None else None,
            results=results,
            missing=missing,
            adapter=int(mark or 1),
        )
        with replacing_folder(out / name) as folder:
            for file in trained.outputs:
                if file.path.startswith(f"train/{name}/"):
                    shutil.copy2(run.resolve(file.path), folder)
            _name_base(folder / "adapter_config.json", for_publication(recipe).model)
            write_atomic(folder / "README.md", encodable(card))
        files += sorted((out / name).iterdir())
    return files


def _name_base(config: Path, model: Model) -> None:
    """Have PEFT's configuration name the base model as the hub does.

    A run's names what its recipe does: an asset, which no tool of the hub resolves, or a folder of
    this machine. The revision is that of the hub's id alone.
    """
    try:
        settings = json.loads(config.read_text("utf-8"))
    except ValueError:
        raise StageError(
            "is no JSON", place=str(config), remedy="Train again: tuneproof train RECIPE"
        ) from None
    settings["base_model_name_or_path"] = hub_model(model) or model.id
    write_atomic(config, json.dumps(settings, indent=2, sort_keys=True) + "\n")
