"""Games: a match as a request to the judge, and the row that its reply becomes.

Shared by everything that is asked about two answers: the matches themselves, the same ones with
their answers cut, control pairs, and requests sent twice. A game that the protocol decides without
a judge has its row at once.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tuneproof.judge.alpaca_eval import WEIGHTED
from tuneproof.judge.asking import Request
from tuneproof.judge.clients import endpoint
from tuneproof.judge.protocol import JudgeProtocol, Unparsed, request_key
from tuneproof.records import Condition, Judgment, preferred
from tuneproof.workspace import digest_value

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tuneproof.judge.clients import Reply
    from tuneproof.recipe import Judge
    from tuneproof.records import Match


@dataclass(frozen=True, kw_only=True)
class Game:
    """One match as one protocol has it judged. ``place`` is the recipe's key of its benchmark.

    ``again`` is a request that was made before, sent another time: its key differs, and nothing
    else.
    """

    match: Match
    protocol: JudgeProtocol
    judge: Judge
    place: str
    condition: Condition = Condition.AS_ANSWERED
    again: bool = False

    @functools.cached_property
    def key(self) -> str:
        """Of the reply."""
        key = request_key(self.match, self.judge, self.protocol, endpoint=endpoint(self.judge))
        return digest_value([key, "again"]) if self.again else key

    @property
    def is_asked(self) -> bool:
        """Whether it takes a judge."""
        return self.protocol.without_asking(self.match) is None

    def request(self) -> Request:
        """What the judge is asked."""
        weighted = self.protocol.name == WEIGHTED
        return Request(
            key=self.key,
            body=partial(self.protocol.request, self.match, self.judge),
            row=self.row,
            weighted_by=f"{self.place}.protocol" if weighted else None,
        )

    def row(self, reply: Reply | None) -> Judgment:
        """The judgment that a reply is, or that is known without one."""
        match = self.match
        unparsed, p_first = None, self.protocol.without_asking(match)
        if reply is not None:
            said = self.protocol.read(reply)
            if isinstance(said, Unparsed):
                unparsed, p_first = said.reason, None
            else:
                p_first = said.p_first
        return Judgment(
            key=self.key,
            question_id=match.question_id,
            benchmark=match.benchmark,
            turn=match.turn,
            opponent=match.opponent,
            adapter=match.adapter,
            condition=self.condition,
            protocol=self.protocol.name,
            judge=self.judge.name,
            first=match.first,
            prefers=preferred(p_first),
            p_first=p_first,
            unparsed=unparsed,
            asked=reply is not None,
            reply=reply.text if reply is not None else "",
            finish_reason=reply.finish_reason if reply is not None else None,
            top_logprobs=reply.top_logprobs if reply is not None else None,
            prompt_tokens=reply.prompt_tokens if reply is not None else None,
            completion_tokens=reply.completion_tokens if reply is not None else None,
        )


def requests(games: Iterable[Game]) -> list[Request]:
    """Of the games that take a judge."""
    return [game.request() for game in games if game.is_asked]


def judgments(games: Iterable[Game], replies: Mapping[str, Reply]) -> list[Judgment]:
    """The rows of all games that have one, in their order; a failed request has none."""
    rows = []
    for game in games:
        if not game.is_asked:
            rows.append(game.row(None))
        elif game.key in replies:
            rows.append(game.row(replies[game.key]))
    return rows
