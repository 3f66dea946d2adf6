"""One conversation with base and tuned: each goes on from its own answers; what is kept of it.

A line is a prompt, or a command that begins with a slash. ``/save`` writes the conversation so far
into the run, one JSON object a turn. How it looks is left to ``show``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, Protocol

from tuneproof.errors import UsageError
from tuneproof.generate.asking import Asked
from tuneproof.records import Arm, Record
from tuneproof.report.untrusted import encodable
from tuneproof.workspace import write_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tuneproof.recipe import Generate

HELP = """\
A line is asked of both models; each goes on from its own answers.
  /new    begin a new conversation
  /save   keep this conversation in the run, as JSONL under chat/
  /help   this
  /quit   leave (so does Ctrl-D); Ctrl-C ends an answer"""


End = Literal["eos", "length", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one model has said so far; ``end`` is None while it goes on."""

    text: str = ""
    n_tokens: int = 0
    end: End | None = None


class Speaks(Protocol):
    """What ``pair.Pair`` does."""

    settings: Generate

    def stream(self, asked: Mapping[Arm, Asked], *, turn: int) -> Iterator[dict[Arm, Said]]:
        """What both have said, after every token of each."""


class Shows(Protocol):
    """What ``show`` does: the answers as they come, and a line."""

    def answers(self, stream: Iterator[dict[Arm, Said]]) -> dict[Arm, Said]:
        """Show them until both have ended or somebody has had enough; what was said."""

    def line(self, text: str) -> None:
        """Show a line of our own."""


class ChatAnswer(Record):
    """One model's answer; ``end`` as in ``Said``."""

    text: str
    n_tokens: int
    end: End


class ChatTurn(Record):
    """One turn of a saved conversation, as asked and answered, with the settings."""

    turn: int
    instruction: str
    base: ChatAnswer
    tuned: ChatAnswer
    max_new_tokens: int
    temperature: float
    top_p: float


@dataclass
class Session:
    """A conversation in ``folder`` (of the run), shown on ``screen``."""

    pair: Speaks
    screen: Shows
    folder: Path
    turns: list[ChatTurn] = field(default_factory=list)
    _file: Path | None = None

    def say(self, line: str) -> bool:
        """Take a line; False when the conversation is over."""
        text = line.strip()
        if text in ("/quit", "/exit"):
            return False
        if text == "/help":
            self.screen.line(HELP)
        elif text == "/new":
            self.turns, self._file = [], None
            self.screen.line("a new conversation")
        elif text == "/save":
            self._save()
        elif text.startswith("/"):
            self.screen.line(
                f"no such command: {text.split()[0]}; there are /new /save /help /quit"
            )
        elif text:
            try:
                self.ask(text)
            except UsageError as error:
                self.screen.line(f"error: {error}")
        return True

    def ask(self, instruction: str) -> ChatTurn:
        """Ask both models, and keep the turn."""
        instruction = encodable(instruction)
        asked = {
            arm: Asked(
                instruction=instruction,
                context="",
                earlier=tuple((t.instruction, _text(t, arm)) for t in self.turns),
            )
            for arm in (Arm.BASE, Arm.TUNED)
        }
        number = len(self.turns) + 1
        said = self.screen.answers(self.pair.stream(asked, turn=number))
        settings = self.pair.settings
        turn = ChatTurn(
            turn=number,
            instruction=instruction,
            base=_answer(said[Arm.BASE]),
            tuned=_answer(said[Arm.TUNED]),
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            top_p=settings.top_p,
        )
        self.turns.append(turn)
        return turn

    def _save(self) -> None:
        if not self.turns:
            self.screen.line("nothing was asked yet")
            return
        if self._file is None:
            name = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S-%f")
            self._file = self.folder / f"{name}.jsonl"
        write_records(self._file, self.turns)
        n = len(self.turns)
        self.screen.line(f"saved {n} turn{'s' * (n > 1)}: {self._file}")


def _text(turn: ChatTurn, arm: Arm) -> str:
    return (turn.base if arm is Arm.BASE else turn.tuned).text.strip()


def _answer(said: Said) -> ChatAnswer:
    return ChatAnswer(
        text=encodable(said.text), n_tokens=said.n_tokens, end=said.end or "interrupted"
    )
