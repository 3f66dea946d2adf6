"""A comparison on a terminal: one table for each run and benchmark; plain where it is piped.

A terminal's width is kept to by folding; where there is none, lines are as long as they need be.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tuneproof.compare.wording import Against, Block, Line, correction, told
from tuneproof.report.untrusted import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console, RenderableType

    from tuneproof.compare.comparison import Comparison

PIPED_WIDTH = 140
_STYLES = {"better": "green", "worse": "red"}


def print_comparison(comparison: Comparison) -> None:
    """Print it to standard output."""
    from rich.console import Console

    console = Console(
        highlight=False, markup=False, emoji=False,
        width=None if sys.stdout.isatty() else PIPED_WIDTH,
    )  # fmt: skip
    show(comparison, console)


def show(comparison: Comparison, console: Console) -> None:
    """Print it to a console."""
    from rich.text import Text

    for run in comparison.runs:
        outcome = run.sentence or "no report yet"
        console.print(Text.assemble((visible(run.label), "bold"), f"  {visible(outcome)}"))
    for against in told(comparison):
        for part in _against(against, comparison):
            console.print()
            console.print(part)
    console.print()
    console.print(Text(correction(comparison), style="dim"))


def _against(against: Against, comparison: Comparison) -> Iterator[RenderableType]:
    from rich.text import Text

    first = visible(comparison.runs[0].label)
    label = visible(against.label)
    yield Text(f"{label} against {first}", style="bold cyan")
    for block in against.blocks:
        yield Text(f"{visible(block.title)}: {visible(block.questions)}")
        if block.lines:
            yield _table(block, first, label)
        for left in block.left_out:
            yield Text(f"- {visible(left)}")
    if against.differing:
        yield _settings(against, first, label)


def _table(block: Block, first: str, label: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("Measure", first, label):
        table.add_column(
            Text(name), overflow="fold", justify="left" if name == "Measure" else "right"
        )
    for name in ("Difference", "n", "p (Holm)"):
        table.add_column(name, justify="right", overflow="fold")
    for line in block.lines:
        table.add_row(
            Text.assemble(line.label, ("".join(f"\n{it}" for it in _below(line)), "dim")),
            line.first.value,
            line.second.value,
            Text.assemble(
                (line.difference.value, "bold"), (f"\n{line.difference.interval}", "dim")
            ),
            Text.assemble(f"{line.estimate.n_scored:,}", (_unscored(line), "dim")),
            Text.assemble(line.p, (f"\n{visible(line.says)}", _STYLES.get(line.verdict, ""))),
        )
    return table


def _below(line: Line) -> list[str]:
    unit = f"{line.better} is better" if line.better else line.unit
    return [part for part in (unit, line.dropped) if part]


def _unscored(line: Line) -> str:
    n = line.estimate.n_unscored
    return f"\n{n:,} unscored" if n else ""


def _settings(against: Against, first: str, label: str) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left")
    for name in ("What differs", first, label):
        table.add_column(Text(name), overflow="fold")
    for row in against.differing:
        table.add_row(*(Text(visible(cell)) for cell in row))
    return table
