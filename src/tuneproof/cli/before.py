"""The verbs that look before anything is trained: plan, preview, audit."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 (typer reads annotations at run time)
from typing import Annotated

import typer

from tuneproof.cli.app import JsonOption, RecipeArg, RunDirOption, SetOption, app


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
