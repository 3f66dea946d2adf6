"""The application, the options that verbs share, and how a verb gets at its run."""

from __future__ import annotations

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
RunArg = Annotated[Path, typer.Argument(help="A run's folder.", metavar="RUN")]


def run_of(recipe: Recipe, run_dir: Path | None, *, quiet: bool) -> Run:
    """A recipe at work in its folder."""
    from tuneproof.pipeline import Run
    from tuneproof.progress import make_reporter
    from tuneproof.workspace import RunDir

    folder = run_dir if run_dir is not None else Path("runs") / recipe.name
    return Run(recipe, RunDir(folder), make_reporter(quiet=quiet or rank() > 0))
