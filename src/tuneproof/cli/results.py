"""The verbs that look at what runs have made."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 (typer reads annotations at run time)
from typing import Annotated

import typer

from tuneproof.cli.app import JsonOption, RunArg, app


@app.command()
def watch(
    run_dir: RunArg,
    once: Annotated[bool, typer.Option("--once", help="One look, and no more.")] = False,
) -> None:
    """The loss curve of a training that runs elsewhere, or that has ended.

    Rests on what the training has written into the run, and says which file that is. Ends with the
    training, or with Ctrl-C; changes nothing.

    Example: tuneproof watch runs/demo
    """
    import contextlib

    from tuneproof.watch import watch as watch_run
    from tuneproof.workspace import RunDir

    with contextlib.suppress(KeyboardInterrupt):
        watch_run(RunDir(run_dir), once=once)


@app.command()
def chat(
    run_dir: RunArg,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="Ask this once, and leave.", metavar="TEXT")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Base and tuned side by side: one prompt, or a conversation; /save keeps it in the run.

    Both are asked with the run's template and settings; of several adapters, the first.

    Example: tuneproof chat runs/demo --prompt "Where is Oskerry?"
    """
    from tuneproof.chat.pair import load_pair
    from tuneproof.chat.session import Session
    from tuneproof.chat.show import Screen, converse
    from tuneproof.errors import UsageError
    from tuneproof.progress import make_reporter
    from tuneproof.recipe_file import load_recipe
    from tuneproof.workspace import RunDir

    if as_json and prompt is None:
        raise UsageError("is for --prompt: a conversation is not JSON", place="--json")
    run = RunDir(run_dir)
    run.must_be_run()
    reporter = make_reporter(quiet=as_json)
    pair = load_pair(load_recipe(run.recipe_file), run, reporter)
    screen = Screen(silent=as_json)
    session = Session(pair, screen, run.path / "chat")
    if prompt is None:
        converse(session, screen)
        return
    turn = session.ask(prompt)
    if as_json:
        typer.echo(turn.model_dump_json(indent=2))


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
    from tuneproof.errors import UsageError
    from tuneproof.workspace import write_atomic

    if html is not None and (html.is_dir() or not html.parent.is_dir()):
        raise UsageError(
            "is a folder" if html.is_dir() else f"there is no folder {html.parent}",
            place="--html",
            value=str(html),
            remedy="Name a file in a folder that is there.",
        )
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
    """A run for others: adapter with model card, tables and figures, the benchmarks' own files.

    adapter/ is a folder as a model hub takes it; paper/ has LaTeX tables (booktabs) and figures as
    SVG, PDF and PNG; alpaca_eval/ and mt_bench/ are the files that AlpacaEval and FastChat write.

    Example: tuneproof export runs/smollm2-dolly --out exported
    """
    from tuneproof.export.run import export_all
    from tuneproof.workspace import RunDir

    made = export_all(RunDir(run_dir), out if out is not None else run_dir / "export")
    left_out = {reason: n for reason, n in made.left_out.items() if n}
    if as_json:
        files = [str(path) for path in made.files]
        shown = {"files": files, "left_out": left_out, "missing": made.missing}
        typer.echo(json.dumps(shown, indent=2))
        return
    for path in made.files:
        typer.echo(path)
    for reason, n in left_out.items():
        typer.echo(f"left out: {n} ({reason})")
    for reason in made.missing:
        typer.echo(f"not yet: {reason}")
