"""The verbs that run a recipe: all of it, or up to one stage; and what a run's stages are at."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuneproof.cli.app import (
    JsonOption,
    QuietOption,
    RecipeArg,
    RunArg,
    RunDirOption,
    SetOption,
    app,
    run_of,
)
from tuneproof.processes import rank

if TYPE_CHECKING:
    from tuneproof.pipeline import Run


def _execute(
    recipe_file: Path,
    run_dir: Path | None,
    overrides: list[str] | None,
    *,
    until: str,
    quiet: bool,
    as_json: bool,
) -> None:
    from tuneproof.pipeline import execute
    from tuneproof.recipe_file import load_recipe
    from tuneproof.stages import preflight, stages_until

    recipe = load_recipe(recipe_file, overrides or ())
    run = run_of(recipe, run_dir, quiet=quiet)
    # What the preflight looks at has to be there where something is trained.
    first = preflight if until != "prepare" else None
    statuses = execute(run, stages_until(until), first=first)
    if rank() > 0:
        return  # the first of several processes speaks for all
    if until == "report":
        _print_verdict(run, as_json=as_json)
    elif as_json:
        ran = [s.stage for s in statuses if s.state != "fresh"]
        typer.echo(json.dumps({"run": str(run.dir.path), "ran": ran}))


def _print_verdict(run: Run, *, as_json: bool) -> None:
    from tuneproof.progress import printable
    from tuneproof.report.content import reasons
    from tuneproof.results import Results

    folder = run.dir.stage("report")
    text = (folder / "results.json").read_text("utf-8")
    if as_json:
        typer.echo(text, nl=False)
        return
    results = Results.model_validate_json(text)
    typer.echo(f"\nverdict   {printable(results.verdict.sentence)}")
    for reason in reasons(results):
        typer.echo(f"          - {printable(reason)}")
    typer.echo(f"report    {folder / 'index.html'}")


@app.command()
def demo(
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bundled data and a small model, from nothing to a report, on a CPU.

    Example: tuneproof demo
    """
    _execute(
        bundled_recipe("demo"), run_dir, overrides, until="report", quiet=quiet, as_json=as_json
    )


def bundled_recipe(name: str) -> Path:
    """The file of a recipe that comes with tuneproof: in the package, or in the checkout."""
    here = Path(__file__).parents[1]
    installed = here / "recipes" / f"{name}.yaml"
    return installed if installed.is_file() else here.parents[1] / "recipes" / f"{name}.yaml"


@app.command()
def run(
    recipe: RecipeArg,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """The whole recipe; what is fresh is skipped.

    Example: tuneproof run recipes/smollm2-dolly.yaml --set train.max_steps=20
    """
    _execute(recipe, run_dir, overrides, until="report", quiet=quiet, as_json=as_json)


@app.command()
def prepare(
    recipe: RecipeArg,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Records → cleaned, shuffled, split text files.

    Example: tuneproof prepare recipes/demo.yaml
    """
    _execute(recipe, run_dir, overrides, until="prepare", quiet=quiet, as_json=as_json)


@app.command()
def train(
    recipe: RecipeArg,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Text files → a LoRA adapter (and what that needs).

    Example: tuneproof train recipes/demo.yaml --set train.learning_rate=1e-4
    """
    _execute(recipe, run_dir, overrides, until="train", quiet=quiet, as_json=as_json)


@app.command()
def generate(
    recipe: RecipeArg,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Answers and held-out loss of the base and the tuned model (and what that needs).

    Example: tuneproof generate recipes/demo.yaml
    """
    _execute(recipe, run_dir, overrides, until="generate", quiet=quiet, as_json=as_json)


@app.command()
def judge(
    recipe: RecipeArg,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Reference similarity and a judge's preferences (and what that needs).

    Example: tuneproof judge recipes/smollm2-dolly.yaml --set judge.base_url=http://localhost:8000/v1
    """
    _execute(recipe, run_dir, overrides, until="judge", quiet=quiet, as_json=as_json)


@app.command()
def report(
    recipe: Annotated[
        Path, typer.Argument(help="The recipe, or a run's folder.", metavar="RECIPE|RUN")
    ],
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Estimates, verdict and report (and what that needs).

    Given the folder of a run, a report of what the run holds now: no other stage is run, and the
    report says which are missing.

    Example: tuneproof report recipes/demo.yaml
    """
    if recipe.is_dir():
        _report_run(recipe, run_dir, overrides, quiet=quiet, as_json=as_json)
        return
    _execute(recipe, run_dir, overrides, until="report", quiet=quiet, as_json=as_json)


def _report_run(
    folder: Path, run_dir: Path | None, overrides: list[str] | None, *, quiet: bool, as_json: bool
) -> None:
    from tuneproof.errors import UsageError
    from tuneproof.recipe_file import load_recipe
    from tuneproof.stages import report_what_there_is
    from tuneproof.workspace import RunDir

    if run_dir is not None or overrides:
        raise UsageError(
            "is for a recipe: the report of a run is of what it holds",
            place="--run-dir" if run_dir is not None else "--set",
        )
    RunDir(folder).must_be_run()
    run = run_of(load_recipe(RunDir(folder).recipe_file), folder, quiet=quiet)
    report_what_there_is(run)
    _print_verdict(run, as_json=as_json)


@app.command()
def status(
    run_dir: RunArg,
    as_json: JsonOption = False,
) -> None:
    """Of each stage of a run: fresh, stale (because …), missing.

    Example: tuneproof status runs/demo
    """
    from tuneproof.pipeline import run_status
    from tuneproof.recipe_file import load_recipe
    from tuneproof.stages import STAGES
    from tuneproof.workspace import RunDir

    folder = RunDir(run_dir)
    folder.must_be_run()
    recipe = load_recipe(folder.recipe_file)
    statuses = run_status(run_of(recipe, run_dir, quiet=True), STAGES)
    if as_json:
        rows = [{"stage": s.stage, "state": s.state, "reasons": s.reasons} for s in statuses]
        typer.echo(json.dumps(rows, indent=2))
        return
    for s in statuses:
        because = f"  because {'; '.join(s.reasons)}" if s.reasons else ""
        typer.echo(f"{s.stage:<9} {s.state}{because}")
