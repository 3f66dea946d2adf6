"""The command line: a verb a stage. Parses, calls, prints; nothing is decided here.

It is long because every verb stands here with its help; none has logic of its own.

Exit codes: 0 done, 1 failed, 2 bad usage, recipe or input. Results go to standard output, progress
to standard error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuneproof.processes import rank

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
score_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Score files that the original tools wrote. Example: tuneproof score mt-bench FILE",
)
app.add_typer(score_app, name="score")

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
    return Run(recipe, RunDir(folder), make_reporter(quiet=quiet or rank() > 0))


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
    if rank() > 0:
        return  # the first of several processes speaks for all
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
def export(
    run_dir: Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Where to write [default: RUN/export].")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """A judged run as the files that AlpacaEval and FastChat (MT-Bench) write.

    Example: tuneproof export runs/smollm2-dolly --out exported
    """
    from tuneproof.export.write import export_run
    from tuneproof.workspace import RunDir

    made = export_run(RunDir(run_dir), out if out is not None else run_dir / "export")
    left_out = {reason: n for reason, n in made.left_out.items() if n}
    if as_json:
        files = [str(path) for path in made.files]
        typer.echo(json.dumps({"files": files, "left_out": left_out}, indent=2))
        return
    for path in made.files:
        typer.echo(path)
    for reason, n in left_out.items():
        typer.echo(f"left out: {n} ({reason})")
    if not made.files:
        typer.echo("nothing to export: the recipe asks neither alpaca_eval nor mt_bench")


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
    run_dir: RunDirOption = None,
    overrides: SetOption = None,
    tokens_per_s: Annotated[
        float | None,
        typer.Option(min=0.001, help="Real training tokens a second, where you know it."),
    ] = None,
    usd_per_gpu_hour: Annotated[
        float | None, typer.Option(min=0, help="What an hour of the GPU costs.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 1 if a finding is an error.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """What the recipe would do and take, and what looks wrong with it; nothing is trained.

    Example: tuneproof plan recipes/llama2-7b-dolly15k.yaml --json
    """
    from tuneproof.plan import make_plan, show_plan
    from tuneproof.recipe_file import load_recipe

    made = make_plan(
        load_recipe(recipe, overrides or ()),
        run_dir=run_dir,
        tokens_per_s=tokens_per_s,
        usd_per_gpu_hour=usd_per_gpu_hour,
    )
    if as_json:
        typer.echo(made.model_dump_json(indent=2))
    else:
        show_plan(made)
    if strict and any(f.severity == "error" for f in made.findings):
        raise typer.Exit(1)


@app.command()
def preview(
    recipe: RecipeArg,
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many rows.")] = 5,
    split: Annotated[str, typer.Option("--split", help="train or validation.")] = "train",
    long: Annotated[bool, typer.Option("--long", help="Every token of long rows.")] = False,
    row: Annotated[
        list[str] | None,
        typer.Option("--row", metavar="ID", help="This row; can be given several times."),
    ] = None,
    overrides: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Some rows as the model will see them, token by token: supervised, masked, cut, EOS.

    Example: tuneproof preview recipes/smollm2-dolly.yaml --rows 3
    """
    from tuneproof.preview.rows import make_preview
    from tuneproof.preview.show import print_preview
    from tuneproof.recipe_file import load_recipe

    made = make_preview(
        load_recipe(recipe, overrides or ()), n_rows=rows, split=split, row_ids=row or ()
    )
    if as_json:
        typer.echo(json.dumps(made.to_json(), indent=1, ensure_ascii=False))
    else:
        print_preview(made, long=long)


@app.command()
def audit(
    file: Annotated[Path, typer.Argument(help="CSV, Markdown or text.", metavar="FILE")],
    as_json: JsonOption = False,
) -> None:
    """Check printed tables of AlpacaEval or MT-Bench results against their own arithmetic.

    Counts must sum, rates follow from counts, two models' rows mirror each other, and the standard
    error follow, all to the digits that are printed. What disagrees is traced to the one cell whose
    change mends everything, or to those that could be it. Tables may be CSV, tab-separated or
    Markdown, with any text around them; columns are those of the original tools (win_rate,
    standard_error, n_wins_base, …; win, loss, tie, …).

    Exit codes: 0 nothing is wrong, 1 a cell is, 2 there is no such table.

    Example: tuneproof audit results.csv
    """
    from tuneproof.audit.audit import audit_file
    from tuneproof.audit.wording import audit_lines
    from tuneproof.progress import printable

    made = audit_file(file)
    if as_json:
        typer.echo(json.dumps(made.to_json(), indent=2))
    else:
        typer.echo("\n".join(printable(line) for line in audit_lines(made)))
    if made.problems:
        raise typer.Exit(1)


@score_app.command("alpaca-eval")
def score_alpaca_eval_file(
    file: Annotated[
        Path, typer.Argument(help="alpaca_eval's annotations.json, or its .gz.", metavar="FILE")
    ],
    mode: Annotated[
        str | None,
        typer.Option(help="The leaderboard's word: minimal, verified, community or dev."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The leaderboard's numbers of an AlpacaEval annotations file, with intervals and alarms.

    Example: tuneproof score alpaca-eval annotations.json --mode community --json
    """
    from tuneproof.errors import UsageError
    from tuneproof.progress import printable
    from tuneproof.score.alpaca_eval import MODES, score_alpaca_eval, score_lines

    if mode is not None and mode not in MODES:
        raise UsageError(f"expected one of {', '.join(MODES)}", place="--mode", value=mode)
    score = score_alpaca_eval(file, mode=mode)
    if as_json:
        typer.echo(json.dumps(score.as_dict(), indent=2))
    else:
        typer.echo("\n".join(printable(line) for line in score_lines(score)))


@score_app.command("mt-bench")
def score_mt_bench_file(
    file: Annotated[
        Path,
        typer.Argument(help="FastChat's JUDGE_pair.jsonl or JUDGE_single.jsonl.", metavar="FILE"),
    ],
    baseline: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Only matches with this model (pairwise-baseline)."),
    ] = None,
    exclude_known_wrong_references: Annotated[
        bool,
        typer.Option(
            "--exclude-known-wrong-references",
            help="Leave out the 13 questions whose reference answer is wrong.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """FastChat's tables of an MT-Bench judgments file, with intervals and what was dropped.

    Example: tuneproof score mt-bench model_judgment/gpt-4_pair.jsonl
    """
    from tuneproof.progress import printable
    from tuneproof.score.mt_bench import score_lines, score_mt_bench

    score = score_mt_bench(
        file,
        baseline=baseline,
        exclude_known_wrong_references=exclude_known_wrong_references,
    )
    if as_json:
        typer.echo(json.dumps(score.as_dict(), indent=2))
    else:
        typer.echo("\n".join(printable(line) for line in score_lines(score)))


@assets_app.command("list")
def assets_list(as_json: JsonOption = False) -> None:
    """Every asset: origin, licence, digest, and where on this machine it is.

    Example: tuneproof assets list --json
    """
    from tuneproof.assets import ASSETS, cached_folder, is_cached
    from tuneproof.benchmark_files import BENCHMARK_FILES, local_path

    rows = [
        {
            "id": asset.id,
            "origin": asset.origin,
            "licence": asset.licence,
            "bytes": asset.bytes,
            "sha256": asset.sha256,
            "cached": str(cached_folder(asset)) if is_cached(asset) else None,
        }
        for asset in ASSETS
    ] + [
        {
            "id": file.name,
            "origin": file.origin,
            "licence": file.licence,
            "bytes": file.bytes,
            "sha256": file.sha256,
            "cached": None if (path := local_path(file)) is None else str(path),
        }
        for file in BENCHMARK_FILES
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
    from tuneproof.benchmark_files import ensure_file, find_benchmark_file
    from tuneproof.errors import UsageError
    from tuneproof.progress import make_reporter

    benchmark_file = find_benchmark_file(name)
    if benchmark_file is not None:
        typer.echo(ensure_file(benchmark_file))
    elif "/" in name:
        raise UsageError(
            "no such file of a benchmark",
            place="asset",
            value=name,
            remedy="All assets: tuneproof assets list",
        )
    else:
        typer.echo(ensure_model(find_asset(name), make_reporter(quiet=quiet)))


@assets_app.command("verify")
def assets_verify() -> None:
    """Compare every asset on this machine with its digest; a damaged cached copy is removed.

    Example: tuneproof assets verify
    """
    from tuneproof.assets import ASSETS, damage, forget, is_cached
    from tuneproof.benchmark_files import BENCHMARK_FILES, verified
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
    for file in BENCHMARK_FILES:
        typer.echo(f"{file.name}  {'intact' if verified(file) else 'not cached'}")


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
