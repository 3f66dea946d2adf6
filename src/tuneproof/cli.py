"""The command line: a verb a stage. Parses, calls, prints; nothing is decided here.

Exit codes: 0 done, 1 failed, 2 bad usage, recipe or input. Results go to standard output, progress
to standard error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tuneproof.pipeline import Run
    from tuneproof.recipe import Recipe

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    # Rich help would cost every start 0.1 s.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Fine-tune a language model, and prove that it got better.",
)
assets_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Files from elsewhere: list, fetch, verify. Example: tuneproof assets list",
)
app.add_typer(assets_app, name="assets")

RecipeArg = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE")]
RunDirOption = Annotated[
    Path | None, typer.Option("--run-dir", help="The run's folder [default: runs/<recipe name>].")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe: --set train.epochs=1"),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def _run_of(recipe: Recipe, run_dir: Path | None, *, quiet: bool) -> Run:
    from tuneproof.pipeline import Run
    from tuneproof.progress import make_reporter
    from tuneproof.workspace import RunDir

    folder = run_dir if run_dir is not None else Path("runs") / recipe.name
    return Run(recipe, RunDir(folder), make_reporter(quiet=quiet))


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
    from tuneproof.stages import stages_until

    recipe = load_recipe(recipe_file, overrides or ())
    run = _run_of(recipe, run_dir, quiet=quiet)
    statuses = execute(run, stages_until(until))
    if until == "report":
        _print_verdict(run, as_json=as_json)
    elif as_json:
        ran = [s.stage for s in statuses if s.state != "fresh"]
        typer.echo(json.dumps({"run": str(run.dir.path), "ran": ran}))


def _print_verdict(run: Run, *, as_json: bool) -> None:
    from tuneproof.progress import printable
    from tuneproof.records import Results

    folder = run.dir.stage("report")
    text = (folder / "results.json").read_text("utf-8")
    if as_json:
        typer.echo(text, nl=False)
        return
    verdict = Results.model_validate_json(text).verdict
    typer.echo(f"\nverdict   {printable(verdict.sentence)}")
    for reason in verdict.reasons:
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
    here = Path(__file__).parent
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
    recipe: RecipeArg,
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Estimates, verdict and report (and what that needs).

    Example: tuneproof report recipes/demo.yaml
    """
    _execute(recipe, run_dir, overrides, until="report", quiet=quiet, as_json=as_json)


@app.command()
def status(
    run_dir: Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN")],
    as_json: JsonOption = False,
) -> None:
    """Of each stage of a run: fresh, stale (because …), missing.

    Example: tuneproof status runs/demo
    """
    from tuneproof.errors import RunDirError
    from tuneproof.pipeline import run_status
    from tuneproof.recipe_file import load_recipe
    from tuneproof.stages import STAGES

    recipe_file = run_dir / "recipe.yaml"
    if not recipe_file.is_file():
        raise RunDirError(
            "is no run: it holds no recipe.yaml",
            place=str(run_dir),
            remedy="A run is made by: tuneproof run RECIPE [--run-dir DIR]",
        )
    statuses = run_status(_run_of(load_recipe(recipe_file), run_dir, quiet=True), STAGES)
    if as_json:
        rows = [{"stage": s.stage, "state": s.state, "reasons": s.reasons} for s in statuses]
        typer.echo(json.dumps(rows, indent=2))
        return
    for s in statuses:
        because = f"  because {'; '.join(s.reasons)}" if s.reasons else ""
        typer.echo(f"{s.stage:<9} {s.state}{because}")


@app.command()
def plan(
    recipe: RecipeArg,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """What the recipe would do: rows, tokens, parameters, steps; nothing is trained.

    Example: tuneproof plan recipes/smollm2-dolly.yaml --json
    """
    from tuneproof.plan import make_plan, plan_lines
    from tuneproof.recipe_file import load_recipe

    made = make_plan(load_recipe(recipe, overrides or ()))
    if as_json:
        typer.echo(made.model_dump_json(indent=2))
    else:
        typer.echo("\n".join(plan_lines(made)))


@assets_app.command("list")
def assets_list(as_json: JsonOption = False) -> None:
    """Every asset: origin, licence, digest, and whether it is cached.

    Example: tuneproof assets list --json
    """
    from tuneproof.assets import ASSETS, cached_folder, is_cached

    rows = [
        {
            "id": a.id,
            "origin": a.origin,
            "licence": a.licence,
            "bytes": a.bytes,
            "sha256": a.sha256,
            "cached": str(cached_folder(a)) if is_cached(a) else None,
        }
        for a in ASSETS
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        typer.echo(f"{row['id']}\n  from    {row['origin']}\n  licence {row['licence']}")
        typer.echo(f"  sha256  {row['sha256']}\n  cached  {row['cached'] or 'no'}")


@assets_app.command("fetch")
def assets_fetch(
    name: Annotated[str, typer.Argument(help="An asset's name, from assets list.")],
    quiet: QuietOption = False,
) -> None:
    """Fetch, check and cache one asset.

    Example: tuneproof assets fetch smollm2-135m-instruct
    """
    from tuneproof.assets import ensure_model, find_asset
    from tuneproof.progress import make_reporter

    typer.echo(ensure_model(find_asset(name), make_reporter(quiet=quiet)))


@assets_app.command("verify")
def assets_verify() -> None:
    """Compare every cached asset with the digests written when it was made.

    Example: tuneproof assets verify
    """
    from tuneproof.assets import ASSETS, damage, forget, is_cached
    from tuneproof.errors import AssetError

    for asset in ASSETS:
        if not is_cached(asset):
            typer.echo(f"{asset.id}  not cached")
            continue
        wrong = damage(asset)
        if wrong is not None:
            forget(asset)
            raise AssetError(
                f"{wrong}; the cached copy was removed",
                place=asset.id,
                remedy=f"Fetch it again: tuneproof assets fetch {asset.name}",
            )
        typer.echo(f"{asset.id}  intact")


def main() -> None:
    """Run the command line; errors of ours become a message and an exit code."""
    import warnings

    from tuneproof.errors import TuneproofError

    # Deprecations inside other libraries are for developers; tests turn them into errors.
    for kind in (FutureWarning, DeprecationWarning, UserWarning):
        warnings.filterwarnings("ignore", category=kind)
    try:
        app()
    except TuneproofError as error:
        from tuneproof.progress import printable

        typer.echo(f"error: {printable(str(error))}", err=True)
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == 130:  # Ctrl-C, as typer has it
            typer.echo("interrupted; the same command goes on where this one stopped", err=True)
        raise
