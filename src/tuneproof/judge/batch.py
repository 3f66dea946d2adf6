"""OpenAI's Batch API: all requests in one file, the replies within a day, at half the price.

Each batch's life is kept in ``batches.journal.jsonl`` beside the journals of replies: planned,
made, which of its requests will get no reply, and which have one from it. A run that is stopped
while a batch is at work finds it again, days later if need be, and so does one that was killed
between making a batch and writing down its name: batches carry a tag in their metadata. Replies are
taken in as those of single requests are. What a batch is asked is asked nowhere else until it has
ended: it would be paid for twice.

Source: OpenAI's API reference, Batch and Files.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from pydantic import BaseModel, JsonValue, ValidationError

from tuneproof.endpoint.transport import Failed, clean, connect, raise_hopeless
from tuneproof.errors import EndpointError, RecipeError
from tuneproof.judge.clients import Reply, endpoint, endpoint_of
from tuneproof.judge.openai_client import read_completion
from tuneproof.records import BatchEvent
from tuneproof.workspace import Journal, digest_value

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from openai import AsyncOpenAI
    from openai.types import Batch

    from tuneproof.judge.intake import Intake, Journals, Request
    from tuneproof.progress import Reporter

BATCHES_JOURNAL: Final = "batches.journal.jsonl"

MAX_REQUESTS: Final = 50_000
MAX_BYTES: Final = 190_000_000
"""OpenAI's limits of one batch's file: so many requests, and 200 MB."""

MAX_RETRIES: Final = 6
"""Of a look at a batch or its files, by the library; making one is never tried twice."""

POLL_S: Final = (5.0, 60.0)
"""Between two looks at a batch: at first, and at most (half as long again each time)."""

_TAG: Final = "tuneproof"
_FINAL: Final = frozenset({"completed", "expired", "cancelled", "failed"})

_TRANSFER_S: Final = 600.0
_LATER: Final = "Every reply so far is kept, and the batch goes on: run again later."
_LOOK: Final = "Every reply so far is kept. Run again: it is looked up whether the batch was made."
_SINGLY: Final = "Ask one by one: --set judge.batch_api=false"

_ABSENT: Final = frozenset({404, 405, 501})
"""Statuses of an endpoint that does not have what is asked for, rather than not now."""


@dataclass(frozen=True, kw_only=True)
class Batches:
    """What the batches of all runs so far have come to.

    ``answered`` are the keys whose replies came from one. ``open`` are, by the tag of a batch that
    may still be at work, those of its keys without a reply, and ``usd`` the most that it can cost.
    """

    answered: frozenset[str] = frozenset()
    open: dict[str, frozenset[str]] = field(default_factory=dict)
    usd: dict[str, float] = field(default_factory=dict)

    def not_among(self, keys: Container[str]) -> dict[str, float]:
        """Of the open ones that are asked nothing of these, the most they can cost, by tag."""
        return {
            tag: self.usd[tag]
            for tag, mine in self.open.items()
            if not any(key in keys for key in mine)
        }


def batches_so_far(journals: Journals) -> Batches:
    """What the journal of batches tells."""
    path = _path(journals)
    if not path.is_file():
        return Batches()
    answered: set[str] = set()
    ended: set[str] = set()
    usd: dict[str, float] = {}
    with Journal(path, BatchEvent) as log:
        covered = _covered(log)
        for event in log.records():
            if event.event == "ended":
                ended.add(event.tag)
                answered |= set(event.keys)
            elif event.event == "planned":
                usd[event.tag] = event.usd or 0.0
    going = {tag: keys for tag, keys in covered.items() if tag not in ended}
    without = {
        t: frozenset(k for k in keys if journals.get(k) is None) for t, keys in going.items()
    }
    # Until a batch has ended nothing else is asked what it is asked: what is there is from it.
    answered |= {key for tag, keys in going.items() for key in keys - without[tag]}
    return Batches(
        answered=frozenset(answered), open={t: keys for t, keys in without.items() if keys}, usd=usd
    )


def check_not_in_a_batch(so_far: Batches, asked: Container[str], journals: Journals) -> None:
    """Refuse to ask one by one what a batch may be answering at this moment.

    Raises:
        RecipeError: a batch of an earlier run has not ended, and would be paid for too.
    """
    for tag, keys in so_far.open.items():
        n = sum(key in asked for key in keys)
        if n:
            raise RecipeError(
                f"a batch of an earlier run may be at work on {n:,} of the requests, which would "
                "be paid for twice",
                place="judge.batch_api",
                value=False,
                remedy="Take its replies first: --set judge.batch_api=true. "
                + _give_up(tag, _path(journals)),
            )


def _give_up(tag: str, log: Path) -> str:
    return (
        f"To give it up, and ask again what it was asked: delete the lines with {tag} from {log} "
        "(what it costs is then not counted)."
    )


def _path(journals: Journals) -> Path:
    return journals.judgments.path.with_name(BATCHES_JOURNAL)


def _covered(log: Journal[BatchEvent]) -> dict[str, frozenset[str]]:
    """By tag, the requests that a batch answers, or may yet."""
    planned: dict[str, frozenset[str]] = {}
    for event in log.records():
        if event.event == "planned":
            planned[event.tag] = frozenset(event.keys)
        elif event.event == "dropped":
            planned[event.tag] -= frozenset(event.keys)
    return planned


async def ask_in_batches(
    to_ask: Sequence[Request],
    intake: Intake,
    reporter: Reporter,
) -> None:
    """Ask all through the Batch API, beginning with the batches of earlier runs.

    Raises:
        CredentialError, EndpointError: as for single requests; or the endpoint refuses a batch.
        StageError: the budget is used up.
    """
    assert intake.journals is not None
    client = connect(endpoint_of(intake.judge), max_retries=MAX_RETRIES)
    try:
        with Journal(_path(intake.journals), BatchEvent) as log:
            await _Batches(client, log, intake, reporter).ask(to_ask)
    finally:
        await client.close()


class _Batches:
    """The batches of one judge stage."""

    def __init__(
        self,
        client: AsyncOpenAI,
        log: Journal[BatchEvent],
        intake: Intake,
        reporter: Reporter,
    ) -> None:
        self._client, self._log, self._intake, self._reporter = client, log, intake, reporter
        self._judge, self._meter = intake.judge, intake.meter
        self._at = endpoint_of(intake.judge)

    async def ask(self, to_ask: Sequence[Request]) -> None:
        """First what earlier runs began, then the rest, as much at once as limits allow."""
        left = {request.key: request for request in to_ask}
        for tag, keys in _covered(self._log).items():
            mine = {key: left[key] for key in keys if key in left}
            if not mine:
                continue
            batch_id = await self._find(tag)
            if batch_id is None:
                self._drop(tag, keys)  # planned, and never made
                continue
            self._reporter.say(f"  going on with batch {batch_id}: {len(mine):,} requests")
            held = {}
            for key in mine:
                held[key] = self._meter.worst_usd(left.pop(key).body())
                self._meter.hold_at_once(held[key])
            await self._collect(tag, batch_id, mine, held)
        while left:
            lines, held = self._next_file(left.values())
            if not lines:
                raise self._intake.used_up()
            chosen = {key: left.pop(key) for key in held}
            tag = uuid.uuid4().hex
            batch_id = await self._make(tag, held, b"".join(lines))
            self._reporter.say(
                f"  batch {batch_id}: {len(chosen):,} requests, done within a day. This may be "
                "stopped: the batch goes on, and the next run finds it"
            )
            await self._collect(tag, batch_id, chosen, held)

    def _next_file(self, left: Iterable[Request]) -> tuple[list[bytes], dict[str, float]]:
        """The lines of the next file, and what is held for each request, by key."""
        lines: list[bytes] = []
        held: dict[str, float] = {}
        size = 0
        for request in left:
            body = request.body()
            worst = self._meter.worst_usd(body)
            line = {
                "custom_id": request.key,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
            raw = json.dumps(line, ensure_ascii=False).encode("utf-8") + b"\n"
            if (
                len(lines) == MAX_REQUESTS
                or (lines and size + len(raw) > MAX_BYTES)
                or not self._meter.fits(worst)
            ):
                break
            self._meter.hold_at_once(worst)
            held[request.key] = worst
            lines.append(raw)
            size += len(raw)
        return lines, held

    # --- at the endpoint ---

    async def _make(self, tag: str, held: Mapping[str, float], content: bytes) -> str:
        """Upload the file and make the batch; both ends of it are on disk."""
        from openai import APIStatusError

        keys, usd = tuple(held), math.fsum(held.values())
        absent = ("has no Batch API", _SINGLY)
        later = f"Run again later. {_SINGLY}"
        with self._errors("does not take the batch's file", later, absent=absent):
            file = await self._client.with_options(timeout=_TRANSFER_S).files.create(
                file=(f"tuneproof-{tag}.jsonl", content), purpose="batch"
            )
        with self._errors("does not say that it made the batch", _LOOK, absent=absent):
            self._log.append(
                [BatchEvent(key=f"{tag}/planned", tag=tag, event="planned", keys=keys, usd=usd)]
            )
            try:
                # Once: a second try after a lost reply would make, and pay for, a second batch.
                batch = await self._client.with_options(max_retries=0).batches.create(
                    completion_window="24h",
                    endpoint="/v1/chat/completions",
                    input_file_id=file.id,
                    metadata={_TAG: tag},
                )
            except APIStatusError as error:
                if error.status_code in _ABSENT or error.status_code < 500:
                    self._drop(tag, keys)  # it was refused: there is none to look for
                raise
        self._note_made(tag, batch.id)
        return batch.id

    def _note_made(self, tag: str, batch_id: str) -> None:
        self._log.append([BatchEvent(key=f"{tag}/made", tag=tag, event="made", batch_id=batch_id)])

    async def _find(self, tag: str) -> str | None:
        """What the endpoint calls a batch; None where it was never made."""
        made = self._log.get(f"{tag}/made")
        if made is not None:
            return made.batch_id
        unknown = (
            "lists no batches, so that nobody can tell whether one that was asked for was made",
            _give_up(tag, self._log.path),
        )
        with self._errors("does not list its batches", _LOOK, absent=unknown):
            async for batch in self._client.batches.list(limit=100):
                if (batch.metadata or {}).get(_TAG) == tag:
                    self._note_made(tag, batch.id)
                    return batch.id
        return None

    async def _ended(self, tag: str, batch_id: str) -> Batch:
        """Wait for the batch's end."""
        wait_s, most_s = POLL_S
        shown = None
        unknown = (
            f"does not know the batch {batch_id}",
            "The key of another project does not see it: run again with the one that made it. "
            + _give_up(tag, self._log.path),
        )
        while True:
            with self._errors("does not answer for the batch", _LATER, absent=unknown):
                batch = await self._client.batches.retrieve(batch_id)
            if batch.status in _FINAL:
                return batch
            counts = batch.request_counts
            if counts is not None and counts.completed != shown:
                shown = counts.completed
                done = f"{counts.completed:,} of {counts.total:,} done"
                self._intake.task.advance(0, note=f"batch {batch.status}, {done}")
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 1.5, most_s)

    async def _lines(self, file_id: str | None) -> list[bytes]:
        """The lines of one of the batch's files; none where it has none, or not any more."""
        from openai import NotFoundError

        if file_id is None:
            return []
        with self._errors("does not give the batch's file", _LATER):
            try:
                client = self._client.with_options(timeout=_TRANSFER_S)
                return (await client.files.content(file_id)).content.splitlines()
            except NotFoundError:
                return []

    @contextlib.contextmanager
    def _errors(
        self, problem: str, remedy: str, *, absent: tuple[str, str] | None = None
    ) -> Iterator[None]:
        """Say what an error of the endpoint means here.

        Args:
            problem: what it means, as a rule.
            remedy: what to do then.
            absent: both where the endpoint does not have what is asked for.
        """
        from openai import APIConnectionError, APIStatusError

        place, key = endpoint(self._judge), self._client.api_key
        try:
            yield
        except APIStatusError as error:
            status, said = error.status_code, clean(error.message, key)
            if status != 404:
                code = error.code or error.type
                raise_hopeless(self._at, status, code, said, model=self._judge.model)
            if absent is not None and status in _ABSENT:
                problem, remedy = absent
            raise EndpointError(
                f"{problem} (HTTP {status}): {said}", place=place, remedy=remedy
            ) from None
        except APIConnectionError as error:
            said = clean(str(error.__cause__ or error), key)
            raise EndpointError(f"{problem}: {said}", place=place, remedy=remedy) from None

    # --- taking in ---

    async def _collect(
        self, tag: str, batch_id: str, mine: Mapping[str, Request], held: Mapping[str, float]
    ) -> None:
        """Wait for the batch, keep its replies, and count what has none."""
        batch = await self._ended(tag, batch_id)
        lines = await self._lines(batch.output_file_id)
        lines += await self._lines(batch.error_file_id)
        first_time = not self._has_ended(tag)
        open_keys, taken = dict(mine), set(self._taken_before(tag) if first_time else ())
        foreign = _covered(self._log)[tag] - mine.keys() - taken
        failures: dict[str, Failed] = {}
        for line in lines:
            key, outcome = _read_line(line)
            if key not in open_keys:
                if first_time and key in foreign and isinstance(outcome, Reply):
                    self._meter.note_foreign(outcome)
                continue  # of a request that the recipe no longer asks, or a second time
            request = open_keys.pop(key)
            if isinstance(outcome, Reply):
                self._meter.release(held[key], outcome)
                self._intake.take(request, outcome)
                taken.add(key)
            else:
                self._meter.release(held[key], None, may_cost=outcome.may_cost)
                failures[key] = outcome
        for key in open_keys:
            self._meter.release(held[key], None)
            failures[key] = self._why_missing(batch)
        self._drop(tag, failures)
        self._note(tag, "ended", taken)
        for failed in failures.values():
            self._intake.count_failure(failed)
        if batch.status == "failed":
            self._raise_refused(batch)

    def _has_ended(self, tag: str) -> bool:
        return any(e.event == "ended" and e.tag == tag for e in self._log.records())

    def _taken_before(self, tag: str) -> frozenset[str]:
        """What a run that was killed while it took this batch's replies in got hold of."""
        assert self._intake.journals is not None
        get = self._intake.journals.get
        return frozenset(k for k in _covered(self._log)[tag] if get(k) is not None)

    def _drop(self, tag: str, keys: Iterable[str]) -> None:
        """Note that these have no reply in the batch, so that they are asked again."""
        if gone := tuple(keys):
            self._note(tag, "dropped", gone)

    def _note(self, tag: str, event: Literal["dropped", "ended"], keys: Iterable[str]) -> None:
        ordered = tuple(sorted(keys))
        key = f"{tag}/{event}/{digest_value(ordered)[:16]}"
        self._log.append([BatchEvent(key=key, tag=tag, event=event, keys=ordered)])

    def _why_missing(self, batch: Batch) -> Failed:
        if batch.status == "completed":
            return Failed("not in the batch's files")
        return Failed(f"batch {batch.status}")

    def _raise_refused(self, batch: Batch) -> None:
        """Say why the endpoint took no request of a batch."""
        errors = (batch.errors.data or []) if batch.errors is not None else []
        code = next((e.code for e in errors if e.code), None)
        said = "; ".join(
            dict.fromkeys(clean(e.message or "", self._client.api_key) for e in errors)
        )
        raise_hopeless(self._at, None, code, said, model=self._judge.model)
        why = said[:300] or "no reason given"
        raise EndpointError(
            f"refuses the batch {batch.id} ({code or 'no code'}): {why}",
            place=endpoint(self._judge),
            remedy="Put that right and run again. Where too many tokens wait in batches, wait for "
            "the others to end, or ask one by one: --set judge.batch_api=false",
        )


# --- the files ---


class _Response(BaseModel):
    status_code: int
    body: JsonValue = None


class _Error(BaseModel):
    code: str | None = None
    message: str | None = None


class _Line(BaseModel):
    """A line of a batch's output or error file."""

    custom_id: str
    response: _Response | None = None
    error: _Error | None = None


def _read_line(raw: bytes) -> tuple[str | None, Reply | Failed]:
    """A request's key and what became of it; no key where the line cannot be read."""
    try:
        line = _Line.model_validate_json(raw)
    except ValidationError:
        return None, Failed("not a line of a batch's file")
    if line.error is not None and (line.error.code or line.error.message):
        return line.custom_id, Failed(
            f"batch: {line.error.code or 'error'}", (line.error.message or "")[:300]
        )
    if line.response is None:
        return line.custom_id, Failed("batch: no response")
    if line.response.status_code != 200:
        shown = json.dumps(line.response.body, ensure_ascii=False)[:300]
        return line.custom_id, Failed(f"HTTP {line.response.status_code}", shown)
    return line.custom_id, read_completion(json.dumps(line.response.body).encode("utf-8"))
