"""The command line: a verb a stage. Parses, calls, prints; nothing is decided here.

Each verb stands in one of the modules beside this one, with its help; none has logic of its own.
The order in which they are imported is the order in which ``--help`` lists them.

Exit codes: 0 done, 1 failed, 2 bad usage, recipe or input, found before anything was written.
Results go to standard output, progress to standard error.
"""

from __future__ import annotations

import sys

import typer

from tuneproof.cli import stages, results, before, assets, score  # isort: skip
from tuneproof.cli.app import app

__all__ = ["app", "main"]

# Registered by being imported.
VERBS = (stages, results, before, assets, score)


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
