"""Progress: one ``Reporter``, two voices. Bars and curves on a terminal, plain lines elsewhere.

All output meant for people goes to standard error through here; standard output is left to results
(``--json``). Text that came from a model or a file is stripped of control characters first.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

    from tuneproof.loss_chart import Curve


def printable(text: str) -> str:
    """The text with control characters replaced, so that it cannot drive a terminal."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )


class Task(Protocol):
    """One counted piece of work."""

    def advance(self, n: float = 1, *, note: str = "") -> None:
        """Count ``n`` more as done and show ``note`` beside the count."""

    def skip(self, n: float) -> None:
        """Count ``n`` as done by an earlier run: they say nothing of how long the rest takes."""

    def tokens(self, n: int) -> None:
        """Count ``n`` more tokens that were read or written; their rate is shown."""

    def plot(
        self,
        step: int,
        *,
        steps: int,
        train: float | None = None,
        validation: float | None = None,
    ) -> None:
        """Add a point to the loss curve that is drawn below the count, up to step ``steps``."""


class Reporter(Protocol):
    """What stages tell people while they work."""

    def say(self, text: str) -> None:
        """One line."""

    def stage(self, name: str, text: str) -> None:
        """One line about a stage as a whole."""

    @contextmanager
    def task(self, title: str, total: float, *, unit: str = "", done: float = 0) -> Iterator[Task]:
        """A counted piece of work of ``total`` units, ``done`` of which are behind us."""
        yield SilentTask()


class SilentTask:
    """Counts nothing aloud."""

    def advance(self, n: float = 1, *, note: str = "") -> None:
        """Nothing to show."""

    def skip(self, n: float) -> None:
        """Nothing to show."""

    def tokens(self, n: int) -> None:
        """Nothing to show."""

    def plot(
        self,
        step: int,
        *,
        steps: int,
        train: float | None = None,
        validation: float | None = None,
    ) -> None:
        """Nothing to show."""


class SilentReporter:
    """For ``--quiet`` and for tests."""

    def say(self, text: str) -> None:
        """Nothing to show."""

    def stage(self, name: str, text: str) -> None:
        """Nothing to show."""

    @contextmanager
    def task(self, title: str, total: float, *, unit: str = "", done: float = 0) -> Iterator[Task]:
        """Nothing to show."""
        yield SilentTask()


class TokenRate:
    """Tokens a second since the start."""

    def __init__(self) -> None:
        self._start, self._n = time.monotonic(), 0

    def count(self, n: int) -> None:
        """``n`` more."""
        self._n += n

    def shown(self) -> str:
        """``183 tokens/s``; nothing before the first."""
        elapsed = time.monotonic() - self._start
        return f"{self._n / elapsed:,.0f} tokens/s" if self._n and elapsed > 0 else ""


class _PlainTask(SilentTask):
    """A line every ``every_s`` seconds and one at the end."""

    every_s = 10.0

    def __init__(self, title: str, total: float, unit: str, done: float) -> None:
        self._title, self._total, self._unit = title, total, unit
        self._start = self._last = time.monotonic()
        self.done = self._before = done
        self._note = ""
        self._shown: float | None = None
        self._tokens = TokenRate()

    def advance(self, n: float = 1, *, note: str = "") -> None:
        self.done += n
        self._note = note or self._note
        self._show_now_and_then()

    def skip(self, n: float) -> None:
        self.done += n
        self._before += n

    def tokens(self, n: int) -> None:
        self._tokens.count(n)
        self._show_now_and_then()

    def _show_now_and_then(self) -> None:
        if self.done < self._total and time.monotonic() - self._last >= self.every_s:
            self._last = time.monotonic()
            self.show()

    def close(self) -> None:
        """The last line, unless it stands there."""
        if self._total and self._shown != self.done:
            self.show(ended=True)

    def show(self, *, ended: bool = False) -> None:
        self._shown = self.done
        elapsed = time.monotonic() - self._start
        rate = (self.done - self._before) / elapsed if elapsed > 0 else 0.0
        left = f", {(self._total - self.done) / rate:.0f} s left" if rate > 0 else ""
        if ended or self.done >= self._total:
            left = f", {elapsed:.0f} s"
        unit = f" {self._unit}" if self._unit else ""
        speed = f", {tokens}" if (tokens := self._tokens.shown()) else ""
        note = f"  {printable(self._note)}" if self._note else ""
        print(  # noqa: T201
            f"    {self._title}: {self.done:g}/{self._total:g}{unit}{speed}{left}{note}",
            file=sys.stderr,
            flush=True,
        )


class PlainReporter:
    """Lines without colour, for logs and pipes."""

    def say(self, text: str) -> None:
        """One line."""
        print(printable(text), file=sys.stderr, flush=True)  # noqa: T201

    def stage(self, name: str, text: str) -> None:
        """One line, the stage's name in a column of its own."""
        self.say(f"{name:<9} {text}")

    @contextmanager
    def task(self, title: str, total: float, *, unit: str = "", done: float = 0) -> Iterator[Task]:
        """A line now and then, and one at the end."""
        task = _PlainTask(title, total, unit, done)
        yield task
        task.close()


class RichReporter:
    """Bars and colour on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(printable(text), markup=False)

    def stage(self, name: str, text: str) -> None:
        """One line, the stage's name in a column of its own."""
        from rich.text import Text

        self._console.print(Text.assemble((f"{name:<9} ", "bold cyan"), printable(text)))

    @contextmanager
    def task(self, title: str, total: float, *, unit: str = "", done: float = 0) -> Iterator[Task]:
        """A bar with count, rate and time left."""
        from rich.live import Live

        drawn = _RichTask(title, total, unit, done, width=self._console.width)
        with Live(drawn, console=self._console, refresh_per_second=4):
            yield drawn


class _RichTask:
    """A bar; below it the loss curve, once there are points, and the note.

    Beside the bar the note would take the counts' room, which nothing gives back on 80 columns.
    """

    def __init__(self, title: str, total: float, unit: str, done: float, *, width: int) -> None:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            TextColumn("  {task.description}", markup=False),
            BarColumn(bar_width=max(8, min(30, width - 72))),
            MofNCompleteColumn(),
            TextColumn(unit, markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[tokens]}", markup=False),
            get_time=time.monotonic,
        )
        self._bar = self._progress.add_task(title, total=total, completed=int(done), tokens="")
        self._done = done
        self._tokens = TokenRate()
        self._curve: Curve | None = None
        self._note = ""

    def advance(self, n: float = 1, *, note: str = "") -> None:
        self._note = printable(note) or self._note
        self._done += n
        self._progress.update(self._bar, advance=n)

    def skip(self, n: float) -> None:
        if n:
            # The library's own estimate forgets what came before a reset, and so does its clock.
            self._done += n
            self._progress.reset(self._bar, completed=int(self._done))

    def tokens(self, n: int) -> None:
        self._tokens.count(n)
        self._progress.update(self._bar, tokens=self._tokens.shown())

    def plot(
        self,
        step: int,
        *,
        steps: int,
        train: float | None = None,
        validation: float | None = None,
    ) -> None:
        from tuneproof.loss_chart import Curve

        if self._curve is None:
            self._curve = Curve(steps=steps)
        self._curve.add(step, train=train, validation=validation)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        from rich.text import Text

        yield self._progress
        if self._curve is not None:
            yield from curve_lines(self._curve, width=options.max_width, below=self._note)
        elif self._note:
            yield Text(f"  {self._note}", no_wrap=True, overflow="ellipsis")


_CURVE_STYLES = {"axis": "dim", "train": "cyan", "validation": "bold yellow"}


def curve_lines(curve: Curve, *, width: int, below: str = "") -> list[Text]:
    """A loss curve and its last values for a terminal of that width; ``below`` is said last."""
    from rich.text import Text

    from tuneproof.loss_chart import chart, told

    lines = [
        Text.assemble(*((text, _CURVE_STYLES[role]) for text, role in line))
        for line in chart(curve, width=width)
    ]
    return lines + [Text(f"  {printable(text)}") for text in (told(curve), below) if text]


def hush_transformers() -> None:
    """Keep transformers from drawing bars and lines of its own into ours."""
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]


def make_reporter(*, quiet: bool = False) -> Reporter:
    """The reporter that suits where standard error goes."""
    if quiet:
        return SilentReporter()
    return RichReporter() if sys.stderr.isatty() else PlainReporter()
