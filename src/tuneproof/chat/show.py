"""The terminal of a conversation: both answers side by side as they come; plain blocks in a pipe.

Model text is made visible first: no control character of it reaches the terminal.
"""

from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from tuneproof.chat.session import Said
from tuneproof.progress import printable
from tuneproof.records import Arm
from tuneproof.report.untrusted import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from tuneproof.chat.session import Session

_ENDS = {
    "eos": "ended by itself",
    "length": "ran into the limit",
    "interrupted": "interrupted",
    None: "…",
}


class Screen:
    """Standard output, whichever it is."""

    def __init__(self, *, silent: bool = False) -> None:
        from rich.console import Console

        self._console = Console(highlight=False, markup=False, emoji=False, quiet=silent)
        self._plain = silent or not self._console.is_terminal
        self._silent = silent

    def line(self, text: str) -> None:
        """Show a line of our own."""
        self._console.print(printable(text), style="dim", soft_wrap=self._plain)

    def answers(self, stream: Iterator[dict[Arm, Said]]) -> dict[Arm, Said]:
        """Show them until both have ended, or Ctrl-C; the last state.

        Raises:
            KeyboardInterrupt: on a silent screen, where nobody sees that an answer was ended.
        """
        said = {Arm.BASE: Said(), Arm.TUNED: Said()}
        if self._plain:
            try:
                for latest in stream:
                    said = latest
            except KeyboardInterrupt:
                if self._silent:
                    raise
                said = _interrupted(said)
            for arm, one in said.items():
                self._console.print(f"{arm} ({_note(one)})")
                self._console.print(visible(one.text.strip()), soft_wrap=True)
            return said
        from rich.live import Live

        with Live(
            self._table(said), console=self._console, refresh_per_second=12, transient=True
        ) as live:
            try:
                for latest in stream:
                    said = latest
                    live.update(self._table(said))
            except KeyboardInterrupt:
                said = _interrupted(said)
        # Whole, however long it is; what was live is cut at the terminal's height.
        self._console.print(self._table(said))
        return said

    def _table(self, said: dict[Arm, Said]) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, expand=True, pad_edge=False, padding=(0, 2, 0, 0))
        styles = {Arm.BASE: "bold", Arm.TUNED: "bold cyan"}
        for arm, one in said.items():
            head = Text.assemble((arm.value, styles[arm]), (f"  {_note(one)}", "dim"))
            table.add_column(head, ratio=1, overflow="fold", vertical="top")
        table.add_row(*(Text(visible(one.text.strip())) for one in said.values()))
        return table


def _interrupted(said: dict[Arm, Said]) -> dict[Arm, Said]:
    """Whichever had not ended yet was ended by Ctrl-C."""
    return {arm: replace(one, end=one.end or "interrupted") for arm, one in said.items()}


def _note(said: Said) -> str:
    return f"{said.n_tokens:,} token{'s' * (said.n_tokens != 1)}, {_ENDS[said.end]}"


def converse(session: Session, screen: Screen) -> None:
    """Read lines from standard input until the conversation is over."""
    asked = sys.stdin.isatty()
    if asked:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  (editing and history come with it)
        screen.line("Base and tuned, asked alike. /help tells the commands.")
    while True:
        try:
            line = input("\n> " if asked else "")
        except (EOFError, KeyboardInterrupt):
            return
        if not session.say(line):
            return
