"""What is asked, and where replies and failures go: journals, counts, the line of progress.

How requests get to the judge is left to ``asking`` and ``batch``.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tuneproof.errors import EndpointError
from tuneproof.judge.clients import Reply, endpoint
from tuneproof.records import Judgment, Rating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tuneproof.endpoint.pacing import Pace
    from tuneproof.endpoint.transport import Failed
    from tuneproof.errors import StageError
    from tuneproof.judge.meter import Meter
    from tuneproof.progress import Task
    from tuneproof.recipe import Judge
    from tuneproof.workspace import Journal

MAX_CONSECUTIVE_FAILURES: Final = 20

ENOUGH_WITHOUT_PROBABILITIES: Final = 8
"""So many replies without token probabilities, and none with, and the endpoint gives none."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request: the key of its reply, its body, and the row that a reply becomes.

    ``weighted_by`` is the recipe's key that asks for token probabilities; None where it does not.
    """

    key: str
    body: Callable[[], dict[str, Any]]
    row: Callable[[Reply], Judgment | Rating]
    weighted_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class Journals:
    """Where replies are kept: those about matches, and those about single answers."""

    judgments: Journal[Judgment]
    ratings: Journal[Rating]

    def get(self, key: str) -> Judgment | Rating | None:
        """What is known under a key."""
        return self.judgments.get(key) or self.ratings.get(key)

    def __len__(self) -> int:
        return len(self.judgments) + len(self.ratings)

    def append(self, row: Judgment | Rating) -> None:
        """Keep a row; it is on disk when this returns."""
        if isinstance(row, Judgment):
            self.judgments.append([row])
        else:
            self.ratings.append([row])


@dataclass
class Asked:
    """What has come back so far, by the request's key.

    ``n_requests`` had to be asked; ``resent`` counts what was sent again, by the reason. ``usd`` is
    what the journals' replies cost in all runs so far, and ``unsure_usd`` at most all others; None
    where the price of a token is not known. ``held`` are replies that lack the probabilities that
    were asked for, until another has them.
    """

    replies: dict[str, Reply]
    n_requests: int = 0
    n_unparsed: int = 0
    resent: Counter[str] = field(default_factory=Counter)
    usd: float | None = None
    unsure_usd: float | None = None
    failures: Counter[str] = field(default_factory=Counter)
    failed_in_a_row: int = 0
    last_failure: Failed | None = None
    gives_probabilities: bool = False
    held: list[tuple[Request, Reply]] = field(default_factory=list)


@dataclass
class Intake:
    """Where replies and failures go: the journals, the counts, the bar.

    ``journals`` is None for a replay, which keeps nothing; ``n_before`` counts the replies that the
    meter's spending began with. ``pace`` is there where many requests are in flight.
    """

    judge: Judge
    journals: Journals | None
    asked: Asked
    meter: Meter
    task: Task
    n_before: int = 0
    pace: Pace | None = None
    _n_taken: int = 0
    # When, and the tokens until then; the first is the start.
    _came: deque[tuple[float, int]] = field(
        default_factory=lambda: deque([(time.monotonic(), 0)], maxlen=200)
    )
    # By request that waits for its next try: until when, and why.
    _waiting: dict[str, tuple[float, str]] = field(default_factory=dict)

    def take(self, request: Request, reply: Reply) -> None:
        """Keep a reply; one without the probabilities asked for waits until it is known why.

        Raises:
            EndpointError: the endpoint gives no token probabilities.
        """
        asked = self.asked
        asked.failed_in_a_row = 0
        self._n_taken += 1
        self._came.append((time.monotonic(), self.meter.tokens))
        came = [(request, reply)]
        if request.weighted_by is not None and not asked.gives_probabilities:
            if not has_probabilities(reply):
                asked.held += came
                if len(asked.held) >= ENOUGH_WITHOUT_PROBABILITIES:
                    raise no_probabilities(self.judge, asked)
                self.task.advance(note=self._note())
                return
            asked.gives_probabilities = True
            came += asked.held
            asked.held = []
        for one, its_reply in came:
            row = one.row(its_reply)
            asked.n_unparsed += row.unparsed is not None
            if self.journals is not None:
                self.journals.append(row)
            asked.replies[one.key] = its_reply
        self.task.advance(note=self._note())

    def fail(self, failed: Failed) -> None:
        """Count a request that got no reply, for good.

        Raises:
            EndpointError: too many have failed in a row.
        """
        self.count_failure(failed)
        asked = self.asked
        asked.failed_in_a_row += 1
        if self.journals is not None and asked.failed_in_a_row >= MAX_CONSECUTIVE_FAILURES:
            raise gave_up(self.judge, asked, f"{asked.failed_in_a_row} requests in a row failed")

    def count_failure(self, failed: Failed) -> None:
        """Count a request that got no reply, whatever became of those before it."""
        self.asked.failures[failed.reason] += 1
        self.asked.last_failure = failed
        self.task.advance(0, note=self._note())

    @contextlib.contextmanager
    def pause(self, key: str, failed: Failed, seconds: float) -> Iterator[None]:
        """Around the pause of a request before its next try: the line of progress tells of it."""
        self._waiting[key] = (time.monotonic() + seconds, failed.reason)
        self.still_at_it()
        try:
            yield
        finally:
            del self._waiting[key]

    def still_at_it(self) -> None:
        """Show what goes on though nothing came."""
        self.task.advance(0, note=self._note())

    def used_up(self) -> StageError:
        """That the budget ends the stage."""
        asked, meter = self.asked, self.meter
        return meter.used_up(
            n_asked=asked.n_requests, n_left=self.n_left, n_replies=self.n_before + self._n_taken
        )

    @property
    def n_left(self) -> int:
        """Requests of this run without a reply, those that failed among them."""
        return self.asked.n_requests - self._n_taken

    def _note(self) -> str:
        """What goes on, in a line: how fast, for how much, and what went wrong."""
        asked, now = self.asked, time.monotonic()
        parts = []
        in_flight = self.pace.in_flight if self.pace is not None else 0
        if self._waiting and len(self._waiting) >= in_flight:  # nothing is at work
            until, why = min(self._waiting.values())
            parts.append(f"waiting {max(until - now, 1):.0f} s: {why}")
        if len(self._came) > 1:
            start, before = self._came[0]
            seconds = max(now - start, 1e-3)
            parts.append(f"{(len(self._came) - 1) / seconds:.1f}/s")
            if self._came[-1][1] > before:
                parts.append(f"{(self._came[-1][1] - before) / seconds:,.0f} tokens/s")
        if spent := self.meter.shown():
            parts.append(spent)
        n_failed = asked.failures.total()
        for count, what in (
            (asked.n_unparsed, "unparsed"),
            (n_failed, "failed"),
            (asked.resent.total(), "sent again"),
        ):
            if count:
                parts.append(f"{count:,} {what}")
        if in_flight and self.n_left > n_failed:  # beside the last, none is there to tell of
            parts.append(f"{in_flight} at once")
        return " · ".join(parts)


# --- what ends a stage -----------------------------------------------------------------------


def has_probabilities(reply: Reply) -> bool:
    """Whether the endpoint gave any."""
    return reply.top_logprobs is not None


def no_probabilities(judge: Judge, asked: Asked) -> EndpointError:
    """That the endpoint gives none, though they were asked for."""
    key = asked.held[0][0].weighted_by
    return EndpointError(
        f"gives no token probabilities: none of {len(asked.held)} replies has the logprobs that "
        "were asked for",
        place=endpoint(judge),
        remedy=f"Ask another endpoint, or read the judge's word alone: --set {key}=binary",
    )


def gave_up(judge: Judge, asked: Asked, problem: str) -> EndpointError:
    """That too much failed to go on."""
    last = asked.last_failure
    shown = ""
    if last is not None:
        shown = f"; the last: {last.reason}" + (f", {last.detail}" if last.detail else "")
    if judge.kind == "replay":
        return EndpointError(
            f"{problem}{shown}",
            place="judge.journal",
            value=judge.journal,
            remedy="It was recorded with other answers, or with another model, base_url or prompt.",
        )
    return EndpointError(
        f"{problem}{shown}",
        place=endpoint(judge),
        remedy="Replies that came before are kept. Put the endpoint right and run again; a lower "
        "judge.concurrency or a higher judge.timeout_s may help.",
    )
