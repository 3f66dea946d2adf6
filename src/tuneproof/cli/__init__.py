"""The command line: a verb a stage. Parses, calls, prints; nothing is decided here.

Each verb stands in one of the modules beside this one, with its help; none has logic of its own.
The order in which they are imported is the order in which ``--help`` lists them.

Exit codes: 0 done, 1 failed, 2 bad usage, recipe or input, found before anything was written,
130 or 143 stopped. Results go to standard output, progress to standard error.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from tuneproof.cli import stages, results, before, assets, score  # isort: skip
from tuneproof.cli.app import app
from tuneproof.processes import count

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["app", "main"]

# Registered by being imported.
VERBS = (stages, results, before, assets, score)


INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of a run that was stopped, as shells have them: by Ctrl-C, and by SIGTERM."""


def main() -> None:
    """Run the command line; errors of ours become a message and an exit code."""
    import warnings

    from tuneproof.errors import TuneproofError

    # Deprecations inside other libraries are for developers; tests turn them into errors.
    for kind in (FutureWarning, DeprecationWarning, UserWarning):
        warnings.filterwarnings("ignore", category=kind)
    terminated = _end_on_sigterm()
    try:
        app()
    except TuneproofError as error:
        from tuneproof.progress import printable

        typer.echo(f"error: {printable(str(error))}", err=True)
        sys.exit(error.exit_code)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:  # as typer has it
            typer.echo("interrupted; the same command goes on where this one stopped", err=True)
        if terminated:
            sys.exit(TERMINATED)
        raise


def _end_on_sigterm() -> list[int]:
    """Have SIGTERM end a run as Ctrl-C does, so that what is in flight is counted.

    Not where several processes train together: the one that started them ends them at once, as a
    process that waits for the others in a collective operation runs no handler.

    Returns:
        A list that holds the signal once it came.
    """
    import signal

    came: list[int] = []

    def end(number: int, frame: FrameType | None) -> None:
        came.append(number)
        on_interrupt = signal.getsignal(signal.SIGINT)  # asyncio has one of its own
        if not callable(on_interrupt):  # a shell's background job ignores Ctrl-C
            on_interrupt = signal.default_int_handler
        on_interrupt(signal.SIGINT, frame)

    if count() == 1:
        signal.signal(signal.SIGTERM, end)
    return came
