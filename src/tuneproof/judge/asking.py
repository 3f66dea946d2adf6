"""Asking the judge everything that no journal holds yet: many requests at once, replies kept.

Every reply goes to its journal the moment it comes: a killed run loses the requests in flight and
no other. Requests that failed are in no journal, so the next run asks again; nor are replies
without token probabilities where an endpoint never gives any. How many requests run at once, and
which are sent again, is decided in ``endpoint.pacing``; what they cost, in ``meter``; the Batch
API's way of asking stands in ``batch``. What is asked, and what a reply says, is left to the
caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import TYPE_CHECKING, Any, Final

from tuneproof.endpoint.pacing import Pace, Tries
from tuneproof.errors import TuneproofError
from tuneproof.judge.clients import Client, Reply, check, make_client, recorded_reply
from tuneproof.judge.intake import (
    ENOUGH_WITHOUT_PROBABILITIES,
    MAX_CONSECUTIVE_FAILURES,
    Asked,
    Intake,
    Journals,
    Request,
    gave_up,
    has_probabilities,
    no_probabilities,
)
from tuneproof.judge.meter import Meter, spent_usd
from tuneproof.judge.prices import price_of, recorded_price
from tuneproof.records import UnsureTry
from tuneproof.workspace import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from tuneproof.endpoint.transport import Failed
    from tuneproof.progress import Reporter
    from tuneproof.recipe import Judge

__all__ = ["ENOUGH_WITHOUT_PROBABILITIES", "Asked", "Journals", "Request", "ask_all"]

PATIENCE_S: Final = 600.0
"""An endpoint that only turns requests away for so long is given up."""

UNSURE_JOURNAL: Final = "unsure.journal.jsonl"
"""Tries whose price nobody told; beside the journals of replies."""

DRAIN_S: Final = 10.0
"""How long replies in flight, which may have to be paid for, are waited for after an error that
ends the stage."""

TELL_S: Final = 5.0
"""Between two looks at what goes on while nothing comes."""


def ask_all(
    judge: Judge, requests: Sequence[Request], journals: Journals, reporter: Reporter
) -> Asked:
    """The replies to all requests, from the journals or the judge; equal keys share one.

    Raises:
        CredentialError: the judge's key is absent or refused.
        EndpointError: the endpoint cannot be reached, does not know the model, or asks for money
            that is not there; all requests failed, or 20 one after another; it gives no token
            probabilities where they are asked for. Other replies that came before are kept.
        ModelError: the local judge cannot be loaded.
        RecipeError: the journal to replay does not exist, or a budget has no prices.
        StageError: ``judge.budget_usd`` is used up; the replies until then are kept.
    """
    # A replay answers for itself: replies once copied here would outlive a change of its journal.
    replay = judge.kind == "replay"
    asked = Asked(replies={})
    to_ask: dict[str, Request] = {}
    for request in requests:
        known = None if replay else journals.get(request.key)
        if known is None:
            to_ask.setdefault(request.key, request)
            continue
        # Read again: what a reply says is up to today's parser, not to that of the first run.
        reply = recorded_reply(known)
        asked.replies[request.key] = reply
        asked.gives_probabilities |= request.weighted_by is not None and has_probabilities(reply)
    asked.n_requests = len(to_ask)
    n_known = len(asked.replies)
    if to_ask:
        check(judge)
    with contextlib.ExitStack() as files:
        meter, n_before = _meter(judge, None if replay else journals, files, to_ask, reporter)
        if to_ask:
            task = files.enter_context(
                reporter.task("judge", n_known + len(to_ask), unit="replies", done=n_known)
            )
            intake = Intake(
                judge=judge,
                journals=None if replay else journals,
                asked=asked,
                meter=meter,
                task=task,
                n_before=n_before,
            )
            try:
                if judge.batch_api:
                    from tuneproof.judge.batch import ask_in_batches

                    asyncio.run(ask_in_batches(list(to_ask.values()), intake, reporter))
                else:
                    asyncio.run(_ask_concurrently(list(to_ask.values()), intake))
            finally:
                # Paid for, and in no journal of replies: the next run's budget has to know.
                meter.note_unkept(reply for _, reply in asked.held)
        if meter.knows_price:
            asked.usd, asked.unsure_usd = meter.usd, meter.unsure_usd
    if not to_ask:
        return asked
    if n_known == 0 and asked.failures.total() == len(to_ask):
        raise gave_up(judge, asked, f"all {len(to_ask)} requests failed")
    if asked.held:
        raise no_probabilities(judge, asked)
    if asked.last_failure is not None:
        last = asked.last_failure
        shown = f"{last.reason}: {last.detail}" if last.detail else last.reason
        reporter.say(
            f"  {asked.failures.total()} of {len(to_ask)} requests failed, and their questions are "
            f"unscored; run again to ask them again. The last: {shown}"
        )
    return asked


def _meter(
    judge: Judge,
    journals: Journals | None,
    files: contextlib.ExitStack,
    to_ask: Container[str],
    reporter: Reporter,
) -> tuple[Meter, int]:
    """The meter, with what the journals' replies cost; and how many those are."""
    price, _ = price_of(judge)
    if journals is None:
        return Meter(judge, price), 0
    from tuneproof.judge.batch import batches_so_far, check_not_in_a_batch

    batches = batches_so_far(journals)
    if not judge.batch_api:
        check_not_in_a_batch(batches, to_ask, journals)
    others_usd = batches.not_among(to_ask)
    if others_usd and to_ask:
        n = len(others_usd)
        reporter.say(
            f"  the replies of {n} earlier {'batch' if n == 1 else 'batches'} are not taken in: "
            "until they are, they count at their worst price"
        )
    before = spent_usd(
        [*journals.judgments.records(), *journals.ratings.records()],
        price=lambda name, batched: recorded_price(judge, name, batched=batched),
        in_batches=batches.answered,
    )
    if price is not None and to_ask:
        for name, n in before.unpriced.items():
            reporter.say(f"  not counted: what {n:,} earlier replies of {name} cost is not known")
    unsure = files.enter_context(
        Journal(journals.judgments.path.with_name(UNSURE_JOURNAL), UnsureTry)
    )
    meter = Meter(judge, price, before_usd=before.usd, unsure=unsure)
    meter.unsure_usd += math.fsum(others_usd.values())
    return meter, before.n


# --- many at once ----------------------------------------------------------------------------


async def _ask_concurrently(to_ask: Sequence[Request], intake: Intake) -> None:
    """Ask all; the first error ends it, when replies in flight had ``DRAIN_S`` to come home."""
    judge = intake.judge
    client = make_client(judge)
    intake.pace = pace = Pace(
        1 if judge.kind == "local" else judge.concurrency, slow_s=judge.timeout_s / 4
    )
    asking = _Asking(client, intake, pace)
    admission = asyncio.create_task(asking.admit(to_ask))
    telling = asyncio.create_task(_tell(intake))
    asking.when_failed = admission.cancel
    try:
        try:
            await admission
        except asyncio.CancelledError:
            if asking.error is None:
                raise
        while asking.tasks and asking.error is None:
            await asyncio.wait(asking.tasks, return_when=asyncio.FIRST_COMPLETED)
        if asking.tasks:
            await asyncio.wait(asking.tasks, timeout=DRAIN_S)
    finally:
        begun = (admission, telling, *asking.tasks)
        for task in begun:
            task.cancel()
        await asyncio.gather(*begun, return_exceptions=True)
        await client.close()
    if asking.error is not None:
        raise asking.error


async def _tell(intake: Intake) -> None:
    """Keep the line of progress true while nothing comes."""
    while True:
        await asyncio.sleep(TELL_S)
        intake.still_at_it()


class _Asking:
    """Requests in flight, a task each. ``error`` is the first that ends them all."""

    def __init__(self, client: Client, intake: Intake, pace: Pace) -> None:
        self._client, self._intake, self._pace = client, intake, pace
        self._meter = intake.meter
        self._ended = asyncio.Event()
        self._tries_in_a_row = 0
        self._last_reply = time.monotonic()
        self.tasks: set[asyncio.Task[None]] = set()
        self.error: BaseException | None = None
        self.when_failed: Callable[[], object] = lambda: None

    async def admit(self, to_ask: Sequence[Request]) -> None:
        """Begin one request after another, as places and budget allow."""
        for request in to_ask:
            await self._pace.enter()
            body = request.body()
            worst = self._meter.worst_usd(body)
            if not await self._meter.hold(worst):
                raise self._intake.used_up()
            task = asyncio.create_task(self._ask(request, body, worst))
            self.tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        """Whatever a request's task raised ends them all; it is raised where the stage waits."""
        self.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and self.error is None:
            self.error = error
            self._ended.set()
            self.when_failed()
        # Last: the place must not be taken by another request.
        self._pace.leave()

    async def _ask(self, request: Request, body: dict[str, Any], worst: float) -> None:
        outcome = await self._try_until(request, body, worst)
        if isinstance(outcome, Reply):
            self._intake.take(request, outcome)
        else:
            self._intake.fail(outcome)

    async def _try_until(
        self, request: Request, body: dict[str, Any], worst: float
    ) -> Reply | Failed:
        """Send a request until it has a reply, or has failed for good."""
        tries = Tries(request.key)
        while True:
            sent = time.monotonic()
            outcome = await self._ask_once(request.key, body, worst)
            if isinstance(outcome, Reply):
                self._tries_in_a_row, self._last_reply = 0, time.monotonic()
                self._pace.replied(self._last_reply - sent)
                return outcome
            # An endpoint that does not come to answer is as busy as one that says so; how much it
            # can take is nothing that other failures tell.
            if outcome.turned_away or outcome.timed_out:
                self._pace.refused()
            self._tries_in_a_row += 1
            self._check_patience(outcome)
            pause_s = tries.pause_s(outcome)
            if pause_s is None:
                return outcome
            with self._intake.pause(request.key, outcome, pause_s):
                if await self._ended_within(pause_s):
                    return outcome
            if not await self._meter.hold(worst):
                return outcome
            self._intake.asked.resent[outcome.reason] += 1

    async def _ask_once(self, key: str, body: dict[str, Any], worst: float) -> Reply | Failed:
        """One try; what it cost takes the place of its worst case, however it ends."""
        reply: Reply | None = None
        may_cost = True  # until the endpoint has said otherwise: this may be stopped
        try:
            outcome = await self._client.ask(body, key=key)
            if isinstance(outcome, Reply):
                reply = outcome
            else:
                may_cost = outcome.may_cost
        except TuneproofError:
            may_cost = False  # it was refused
            raise
        finally:
            self._meter.release(worst, reply, may_cost=may_cost)
        return outcome

    def _check_patience(self, failed: Failed) -> None:
        waited = time.monotonic() - self._last_reply
        if self._tries_in_a_row >= MAX_CONSECUTIVE_FAILURES and waited > PATIENCE_S:
            self._intake.asked.last_failure = failed
            raise gave_up(
                self._intake.judge, self._intake.asked, f"no reply for {waited / 60:.0f} minutes"
            )

    async def _ended_within(self, seconds: float) -> bool:
        """Whether an error has ended all, at the latest after so many seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)
        return self._ended.is_set()
