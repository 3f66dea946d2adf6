"""The verbs that look at what runs have made."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 (typer reads annotations at run time)
from typing import Annotated

import typer

from tuneproof.cli.app import JsonOption, RunArg, app


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(help="Two runs' folders or more.", metavar="RUN RUN...")
    ],
    html: Annotated[
        Path | None, typer.Option("--html", help="Also write it as one HTML page.", metavar="FILE")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """The tuned models of several runs on the same questions; the others against the first.

    Each difference is paired by question and has an interval; p values are corrected for all of
    them (Holm). A measure that does not mean the same in both runs (another judge, tokenizer or
    limit) is left out with its reason.

    Example: tuneproof compare runs/demo runs/demo-r4 --html compared.html
    """
    from tuneproof.compare.comparison import compare_runs
    from tuneproof.compare.page import render_comparison
    from tuneproof.compare.text import print_comparison
    from tuneproof.workspace import write_atomic

    made = compare_runs(runs)
    if html is not None:
        write_atomic(html, render_comparison(made))
    if as_json:
        typer.echo(made.model_dump_json(indent=2))
    else:
        print_comparison(made)


@app.command()
def export(
    run_dir: RunArg,
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
