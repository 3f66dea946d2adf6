"""Asking the judge everything that no journal holds yet: many requests at once, replies kept.

Every reply goes to its journal the moment it comes: a killed run loses the requests in flight and
no other. Requests that failed are in no journal, so the next run asks again; nor are replies
without token probabilities where an endpoint never gives any. What is asked, and what a reply says,
is left to the caller.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tuneproof.errors import EndpointError
from tuneproof.judge.clients import (
    Client,
    Failed,
    Reply,
    check,
    endpoint,
    make_client,
    recorded_reply,
)
from tuneproof.records import Judgment, Rating

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tuneproof.progress import Reporter, Task
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

    ``held`` are replies that lack the probabilities that were asked for, until another has them.
    """

    replies: dict[str, Reply]
    n_requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    failed_in_a_row: int = 0
    last_failure: Failed | None = None
    gives_probabilities: bool = False
    held: list[tuple[Request, Reply]] = field(default_factory=list)


def ask_all(
    judge: Judge, requests: Sequence[Request], journals: Journals, reporter: Reporter
) -> Asked:
    """The replies to all requests, from the journals or the judge; equal keys share one.

    Raises:
        CredentialError: the judge's key is absent or refused.
        EndpointError: the endpoint cannot be reached or does not know the model; all requests
            failed, or 20 one after another; it gives no token probabilities where they are asked
            for. Other replies that came before are kept.
        RecipeError: the journal to replay does not exist.
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
        asked.gives_probabilities |= request.weighted_by is not None and _has(reply)
    asked.n_requests = len(to_ask)
    if not to_ask:
        return asked
    check(judge)
    n_known = len(asked.replies)
    with reporter.task("judge", n_known + len(to_ask), unit="replies", done=n_known) as task:
        kept = None if replay else journals
        asyncio.run(_ask_concurrently(judge, list(to_ask.values()), kept, asked, task))
    if n_known == 0 and asked.failures.total() == len(to_ask):
        raise _gave_up(judge, asked, f"all {len(to_ask)} requests failed")
    if asked.held:
        raise _no_probabilities(judge, asked)
    if asked.last_failure is not None:
        last = asked.last_failure
        shown = f"{last.reason}: {last.detail}" if last.detail else last.reason
        reporter.say(
            f"  {asked.failures.total()} of {len(to_ask)} requests failed, and their questions are "
            f"unscored; run again to ask them again. The last: {shown}"
        )
    return asked


def _has(reply: Reply) -> bool:
    return reply.top_logprobs is not None


async def _ask_concurrently(
    judge: Judge, to_ask: Sequence[Request], journals: Journals | None, asked: Asked, task: Task
) -> None:
    """Let ``judge.concurrency`` workers share the requests; the first error ends them all."""
    client = make_client(judge)
    queue = iter(to_ask)
    workers = [
        asyncio.create_task(_work(client, judge, queue, journals, asked, task))
        for _ in range(min(judge.concurrency, len(to_ask)))
    ]
    try:
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        await client.close()


async def _work(
    client: Client,
    judge: Judge,
    queue: Iterator[Request],
    journals: Journals | None,
    asked: Asked,
    task: Task,
) -> None:
    for request in queue:
        reply = await client.ask(request.body(), key=request.key)
        if isinstance(reply, Failed):
            asked.failures[reply.reason] += 1
            asked.last_failure = reply
            asked.failed_in_a_row += 1
            if journals is not None and asked.failed_in_a_row >= MAX_CONSECUTIVE_FAILURES:
                raise _gave_up(judge, asked, f"{asked.failed_in_a_row} requests in a row failed")
        else:
            asked.failed_in_a_row = 0
            _take(judge, request, reply, journals, asked)
        failed = asked.failures.total()
        task.advance(note=f"{failed} failed" if failed else "")


def _take(
    judge: Judge, request: Request, reply: Reply, journals: Journals | None, asked: Asked
) -> None:
    """Keep a reply; one without the probabilities asked for waits until it is known why."""
    came = [(request, reply)]
    if request.weighted_by is not None and not asked.gives_probabilities:
        if not _has(reply):
            asked.held += came
            if len(asked.held) >= ENOUGH_WITHOUT_PROBABILITIES:
                raise _no_probabilities(judge, asked)
            return
        asked.gives_probabilities = True
        came += asked.held
        asked.held = []
    for one, its_reply in came:
        if journals is not None:
            journals.append(one.row(its_reply))
        asked.replies[one.key] = its_reply


def _no_probabilities(judge: Judge, asked: Asked) -> EndpointError:
    key = asked.held[0][0].weighted_by
    return EndpointError(
        f"gives no token probabilities: none of {len(asked.held)} replies has the logprobs that "
        "were asked for",
        place=endpoint(judge),
        remedy=f"Ask another endpoint, or read the judge's word alone: --set {key}=binary",
    )


def _gave_up(judge: Judge, asked: Asked, problem: str) -> EndpointError:
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
