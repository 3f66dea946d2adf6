"""How many requests are in flight at once, whether one is sent again, and when.

Pure but for the clock of the event loop: sends nothing, and knows no endpoint. A request keeps its
place from its first try to its last, the pauses between them included: one that an endpoint turned
away for a second thereby slows the rest down, and an endpoint that turns all away is left in peace
for as long as it asked.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

from tuneproof.recipe import rng

if TYPE_CHECKING:
    from tuneproof.endpoint.transport import Failed

START: Final = 8
"""Requests in flight at first."""

TOLERATED: Final = 0.1
"""The share of tries turned away ("too many requests") that is aimed at: with none one never learns
that more would go, and each one costs a pause."""

_GROWTH_BEFORE, _GROWTH_AFTER = 1.0, 0.25
_MOST, _LEAST = 2.0, 0.7


class Pace:
    """A number of places that grows while the endpoint keeps up, and shrinks when it does not.

    After as many tries as there are places, their number is multiplied by ``1 + g (1 - s / 0.1)``,
    where ``s`` is the share of these tries that were turned away and ``g`` is 1 until the limit of
    the endpoint was first found, and then a quarter: it doubles at first, and later stays where one
    try in ten is too many. The limit counts as found when more are turned away than chance
    makes of a tenth (by two standard deviations); until then ``s`` is lowered by one, since of the
    first eight a single one is more than a tenth.

    A share, and not each refusal by itself (as in TCP's halving), because endpoints refuse a few
    per cent at any speed; the rule is DCTCP's (Alizadeh et al., 2010) with a share to aim at.

    An endpoint that turns nothing away, and lets what it cannot serve wait, would be driven to
    where all time out. So there is no growth while a reply takes more than ``slow_s`` on average,
    and less at once beyond twice that.
    """

    def __init__(self, ceiling: int, *, start: int = START, slow_s: float = math.inf) -> None:
        self._ceiling, self._slow_s = ceiling, slow_s
        self._limit = float(min(start, ceiling))
        self._window = self.limit
        self._found = False
        self._tries = self._turned_away = 0
        self._seconds = 0.0
        self._freed = asyncio.Event()
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """Places."""
        return int(self._limit)

    async def enter(self) -> None:
        """Wait for a place, and take it."""
        while self.in_flight >= self.limit:
            self._freed.clear()
            await self._freed.wait()
        self.in_flight += 1

    def leave(self) -> None:
        """Give a place back."""
        self.in_flight -= 1
        self._freed.set()

    def replied(self, seconds: float) -> None:
        """Count a try that brought a reply, after so long."""
        self._seconds += seconds
        self._tried()

    def refused(self) -> None:
        """Count a try that was turned away."""
        self._turned_away += 1
        self._tried()

    def _tried(self) -> None:
        """After a window, grow or shrink."""
        self._tries += 1
        if self._tries < self._window:
            return
        share = self._turned_away / self._tries
        deviation = math.sqrt(TOLERATED * (1 - TOLERATED) / self._tries)
        self._found |= share > TOLERATED + 2 * deviation
        gain = _GROWTH_AFTER
        if not self._found:
            gain, share = _GROWTH_BEFORE, max(share - deviation, 0.0)
        factor = min(max(1 + gain * (1 - share / TOLERATED), _LEAST), _MOST)
        mean_s = self._seconds / max(self._tries - self._turned_away, 1)
        if mean_s > self._slow_s:
            factor = min(factor, 1.0 if mean_s <= 2 * self._slow_s else _LEAST)
        if factor > 1:
            # From one place a quarter more would still be one.
            factor = max(factor, 1 + 1 / self._limit)
        self._limit = min(max(self._limit * factor, 1.0), float(self._ceiling))
        self._window = self.limit
        self._tries = self._turned_away = 0
        self._seconds = 0.0
        self._freed.set()


MAX_TRIES: Final = 5
"""Of a request, but those that an endpoint turned away, before it counts as failed."""

MAX_TIMEOUTS: Final = 2
"""Tries of a request that may end with no reply in time: each costs ``timeout_s``."""

MAX_TURNED_AWAY: Final = 50
"""Tries of a request that an endpoint may turn away: at its limit it does so now and then."""

MAX_PAUSE_S: Final = 600.0
"""An endpoint that asks for more patience (a daily limit) is not waited for."""

FIRST_PAUSE_S: Final = 0.5
"""Before the second try of a request; doubled with each failure of its kind."""

_LONGEST_OWN_PAUSE_S: Final = 16.0


class Tries:
    """The tries of one request. ``n`` counts them."""

    def __init__(self, key: str) -> None:
        self._key = key
        self.n = self._turned_away = self._timeouts = 0

    def pause_s(self, failed: Failed) -> float | None:
        """How long to wait before the next try; None where the request has failed.

        Half a second, doubled with each failure of its kind up to 16 s, less up to a half; what the
        endpoint asks for, and up to a quarter more, where that is longer (one that is busy and
        asks for no pause at all would else be hammered until every request has failed). The jitter
        keeps requests that failed together from coming again together; it is named by the request,
        and changes no reply.
        """
        self.n += 1
        self._turned_away += failed.turned_away
        self._timeouts += failed.timed_out
        others = self.n - self._turned_away
        if (
            not failed.again
            or others >= MAX_TRIES
            or self._timeouts >= MAX_TIMEOUTS
            or self._turned_away >= MAX_TURNED_AWAY
            or (failed.wait_s or 0.0) > MAX_PAUSE_S
        ):
            return None
        jitter = rng(0, "judge", "pause", self._key, self.n).random()
        alike = self._turned_away if failed.turned_away else others
        own = min(math.ldexp(FIRST_PAUSE_S, alike - 1), _LONGEST_OWN_PAUSE_S) * (1 - jitter / 2)
        return max(own, (failed.wait_s or 0.0) * (1 + jitter / 4))
