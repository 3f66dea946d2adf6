"""``tuneproof score``: files that the original tools wrote."""

from __future__ import annotations

import json
from pathlib import Path  # noqa: TC003 (typer reads annotations at run time)
from typing import Annotated

import typer

from tuneproof.cli.app import JsonOption, app

score_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Score files that the original tools wrote. Example: tuneproof score mt-bench FILE",
)
app.add_typer(score_app, name="score")
app.add_typer(score_app, name="score")


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
