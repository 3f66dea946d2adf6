"""What a judge's protocol is: who is shown when, what is asked, how a reply is read and settled.

A protocol is a value behind this one interface, so that ours and those of the benchmarks stand side
by side. Which one serves which benchmark is chosen in ``choice``; which answers meet is decided in
``matches``; who answers (an endpoint, a recorded journal) is left to ``clients``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

from tuneproof.records import preferred
from tuneproof.workspace import digest_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof import recipe
    from tuneproof.judge.clients import Reply
    from tuneproof.records import Arm, Match, Prompt

VerdictToken = Literal["A", "B", "tie"]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a reply says: P(the answer shown first is better), in [0, 1]."""

    p_first: float

    @property
    def token(self) -> VerdictToken:
        """The answer that it prefers."""
        token = preferred(self.p_first)
        assert token is not None
        return token


@dataclass(frozen=True)
class Unparsed:
    """A reply without a verdict that can be read, and why."""

    reason: str


class JudgeProtocol(Protocol):
    """How pairs of answers are judged. Pure: asks nobody, reads no file.

    ``name`` is recorded with every judgment; ``orders`` says in how many orders a pair is shown.
    """

    @property
    def name(self) -> str:
        """What records and reports call it."""

    @property
    def orders(self) -> int:
        """1 or 2."""

    def firsts(self, prompt: Prompt, opponent: Arm, *, seed: int) -> tuple[Arm, ...]:
        """Who is shown first in each of a pair's games: ``orders`` arms, of tuned and opponent."""

    def request(self, match: Match, judge: recipe.Judge) -> dict[str, Any]:
        """The body of the chat completion that asks about one game."""

    def read(self, reply: Reply) -> Reading | Unparsed:
        """What the judge says."""

    def without_asking(self, match: Match) -> float | None:
        """P(first is better) where the protocol knows it without a judge; else None."""

    def settle(self, values: Sequence[float]) -> float:
        """The pair's preference, from its games' ones (1 where tuned won, 0 where it lost)."""


def request_key(
    match: Match, judge: recipe.Judge, protocol: JudgeProtocol, *, endpoint: str
) -> str:
    """The digest under which the reply is journaled: endpoint, whole request, question, order."""
    return digest_value(
        {
            "endpoint": endpoint,
            "request": protocol.request(match, judge),
            "question_id": match.question_id,
            "first": match.first.value,
        }
    )
