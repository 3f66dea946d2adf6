"""What judging costs while it goes on: tokens, dollars, and a budget that is never exceeded.

Before a request is sent its worst case is set aside: as many prompt tokens as its messages have
bytes (a token of a byte-level vocabulary is at least one byte), and all the tokens that it may
write. When its reply comes, what it really cost takes that place. The prices are those of
``prices``; who sends is left to ``asking`` and ``batch``.
"""

from __future__ import annotations

import asyncio
import functools
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tuneproof.errors import StageError
from tuneproof.records import UnsureTry

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from tuneproof.judge.clients import Reply
    from tuneproof.judge.prices import Price
    from tuneproof.recipe import Judge
    from tuneproof.records import Judgment, Rating
    from tuneproof.workspace import Journal

TOKENS_A_MESSAGE: Final = 16
"""More than any chat template puts around a message of the models whose price is known."""


class Meter:
    """Tokens and dollars of one judge.

    Args:
        judge: whose ``budget_usd`` holds; None for no limit.
        price: of a million tokens; None where it is not known (and then there is no budget).
        before_usd: what the replies of earlier runs cost.
        unsure: where it is kept what replies may cost that are not; None to keep nothing.

    ``usd`` is what replies cost, those of earlier runs included. ``unsure_usd`` is the worst case
    of tries whose price nobody told (no reply in time, a connection that was lost, a run that was
    stopped, a reply without counts of its tokens) and what replies cost that earlier runs could not
    keep: it counts against the budget. Both are of all judges that were asked in this folder.
    """

    def __init__(
        self,
        judge: Judge,
        price: Price | None,
        *,
        before_usd: float = 0.0,
        unsure: Journal[UnsureTry] | None = None,
    ) -> None:
        assert price is not None or judge.budget_usd is None, "check() lets no such recipe through"
        self._judge, self._price, self._budget = judge, price, judge.budget_usd
        self._held_usd = 0.0
        self._n_held = 0
        self._changed = asyncio.Event()
        self.usd = before_usd
        self._unsure = unsure
        before = unsure.records() if unsure is not None else ()
        self.unsure_usd = math.fsum(t.usd for t in before)
        self.tokens = 0

    @property
    def knows_price(self) -> bool:
        """Whether dollars can be told."""
        return self._price is not None

    def cost_usd(self, prompt_tokens: float, completion_tokens: float) -> float:
        """The price of so many tokens; 0 where it is not known."""
        if self._price is None:
            return 0.0
        return (prompt_tokens * self._price.input + completion_tokens * self._price.output) / 1e6

    def worst_usd(self, body: Mapping[str, Any]) -> float:
        """The most that a request can cost."""
        reads = sum(
            len(str(m["content"]).encode("utf-8")) + TOKENS_A_MESSAGE for m in body["messages"]
        )
        return self.cost_usd(reads, body.get("max_tokens", self._judge.max_tokens))

    def fits(self, usd: float) -> bool:
        """Whether the budget covers so much more."""
        if self._budget is None:
            return True
        return self.usd + self.unsure_usd + self._held_usd + usd <= self._budget * (1 + 1e-9)

    async def hold(self, usd: float) -> bool:
        """Set a worst case aside, as soon as it fits.

        Returns:
            False where it does not, even when all that are held have come back.
        """
        while not self.fits(usd):
            if self._n_held == 0:
                return False
            self._changed.clear()
            await self._changed.wait()
        self.hold_at_once(usd)
        return True

    def hold_at_once(self, usd: float) -> None:
        """Set a worst case aside that fits, or that was agreed to in an earlier run."""
        self._held_usd += usd
        self._n_held += 1

    def release(self, usd: float, reply: Reply | None, *, may_cost: bool = False) -> None:
        """Put what a try cost in the place of what was held for it.

        Args:
            usd: what was held.
            reply: what came; None for nothing.
            may_cost: nothing came, but the endpoint may have worked.
        """
        self._n_held -= 1
        self._held_usd = self._held_usd - usd if self._n_held else 0.0
        if reply is None:
            if may_cost:
                self._note_unsure(usd)
        elif reply.prompt_tokens is None or reply.completion_tokens is None:
            self._note_unsure(usd)
        else:
            self.usd += self.cost_usd(reply.prompt_tokens, reply.completion_tokens)
            self.tokens += reply.prompt_tokens + reply.completion_tokens
        self._changed.set()

    def note_unkept(self, replies: Iterable[Reply]) -> None:
        """Keep for later runs what replies cost that are in no journal."""
        for reply in replies:
            if reply.prompt_tokens is not None and reply.completion_tokens is not None:
                self._keep(self.cost_usd(reply.prompt_tokens, reply.completion_tokens))

    def note_foreign(self, reply: Reply) -> None:
        """Count a reply that came for a request which is not of this run."""
        if reply.prompt_tokens is not None and reply.completion_tokens is not None:
            self._note_unsure(self.cost_usd(reply.prompt_tokens, reply.completion_tokens))

    def _note_unsure(self, usd: float) -> None:
        self.unsure_usd += usd
        self._keep(usd)

    def _keep(self, usd: float) -> None:
        if usd and self._unsure is not None:
            key = str(len(self._unsure))
            self._unsure.append([UnsureTry(key=key, judge=self._judge.name, usd=usd)])

    def shown(self) -> str:
        """The spending in a few words; empty where nothing has a price."""
        if self._price is None or self._price.input == self._price.output == 0:
            return ""
        of = f" of ${self._budget:g}" if self._budget is not None else ""
        return f"${self.usd:.4f}{of}"

    def used_up(self, *, n_asked: int, n_left: int, n_replies: int) -> StageError:
        """That the budget ends the stage here: what was spent, what is left, how to go on.

        Args:
            n_asked: requests of this run, with those that are left.
            n_left: those of them without a reply.
            n_replies: replies that ``usd`` paid for, in this and earlier runs.
        """
        unsure = ""
        if self.unsure_usd:
            unsure = f", and up to ${self.unsure_usd:.4f} for tries whose price was not told"
        more = ""
        if n_replies and self.usd:
            rest = self.usd / n_replies * n_left
            more = f"; at ${self.usd / n_replies:.6f} a reply the rest would cost ${rest:.4f}"
        return StageError(
            f"the next request could exceed it: ${self.usd:.4f} spent on {n_replies} "
            f"{'reply' if n_replies == 1 else 'replies'}{unsure}; {n_left} of {n_asked} requests "
            f"are left to ask{more}",
            place="judge.budget_usd",
            value=self._budget,
            remedy="Every reply so far is kept. Raise the budget and run again to go on "
            "(--set judge.budget_usd=…), or ask fewer questions.",
        )


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What ``n`` recorded replies cost; by judge, how many have no known price."""

    usd: float
    n: int
    unpriced: dict[str, int]


def spent_usd(
    rows: Iterable[Judgment | Rating],
    *,
    price: Callable[[str, bool], Price | None],
    in_batches: Container[str],
) -> Spent:
    """What recorded replies cost, whoever gave them.

    Args:
        rows: of the journals.
        price: of a judge, by its name and whether it was asked through the Batch API; None where it
            is not known.
        in_batches: the keys of the requests that went through it.
    """
    known = functools.cache(price)
    usd, n = 0.0, 0
    unpriced: Counter[str] = Counter()
    for row in rows:
        at = known(row.judge, row.key in in_batches)
        if at is None:
            unpriced[row.judge] += 1
            continue
        n += 1
        usd += (row.prompt_tokens or 0) * at.input / 1e6
        usd += (row.completion_tokens or 0) * at.output / 1e6
    return Spent(usd=usd, n=n, unpriced=dict(unpriced))
