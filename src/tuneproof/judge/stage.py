"""The judge stage's shell: reads prompts and answers, asks the judge, writes what came of it.

Files in: ``prompts.jsonl`` and ``answers.jsonl`` of the generate stage. Files out:
``similarity.jsonl``, ``judgments.jsonl`` (in the order of the matches), ``preferences.jsonl`` (in
the order of the questions), and ``journal.jsonl``, to which every reply goes the moment it comes:
a killed run loses the requests in flight and no other. Requests that failed are in no file, so the
next run asks again. What the numbers mean is left to ``tuneproof.stats``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tuneproof.errors import EndpointError
from tuneproof.judge import protocol
from tuneproof.judge.clients import (
    Client,
    Failed,
    Reply,
    check,
    endpoint,
    make_client,
    recorded_reply,
)
from tuneproof.judge.similarity import similarity
from tuneproof.records import Answer, Judgment, Match, Prompt
from tuneproof.workspace import Journal, read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tuneproof.progress import Reporter, Task
    from tuneproof.recipe import Judge, Recipe

MAX_CONSECUTIVE_FAILURES: Final = 20


@dataclass(frozen=True, kw_only=True)
class JudgeFacts:
    """Counts of one judge stage; nothing that was lost is missing from them.

    ``n_matches`` = ``n_requests`` + ``n_from_journal``; ``n_failed`` of the requests got no reply,
    by reason in ``failures``; for a replay, a request is a look-up in the recorded journal.
    ``n_unparsed`` counts replies that could not be read, by reason in
    ``unparsed``; ``skipped`` counts questions that had no match, by reason. The tokens are those
    of all replies, journaled ones included, as far as the endpoint told them.
    """

    n_similarities: int
    n_matches: int = 0
    n_requests: int = 0
    n_from_journal: int = 0
    n_unparsed: int = 0
    n_failed: int = 0
    unparsed: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0


def judge_answers(
    recipe: Recipe, *, generate_dir: Path, out: Path, reporter: Reporter
) -> JudgeFacts:
    """Compare all answers with their references and, if the recipe has a judge, with each other.

    Nothing is asked, and no key needed, where the journal already holds every reply.

    Raises:
        StageError: an input file is missing or malformed.
        CredentialError: the judge's key is absent or refused.
        EndpointError: the endpoint cannot be reached or does not know the model; all requests
            failed, or 20 one after another. Replies that came before are kept.
        RecipeError: the journal to replay does not exist.
    """
    prompts = read_records(generate_dir / "prompts.jsonl", Prompt)
    answers = read_records(generate_dir / "answers.jsonl", Answer)
    out.mkdir(parents=True, exist_ok=True)
    near = similarity(prompts, answers)
    write_records(out / "similarity.jsonl", near)
    if recipe.judge is None:
        write_records(out / "judgments.jsonl", [])
        write_records(out / "preferences.jsonl", [])
        return JudgeFacts(n_similarities=len(near))

    judge = recipe.judge
    matches, skipped = protocol.build_matches(
        prompts, answers, orders=judge.orders, seed=recipe.seed
    )
    for reason, count in skipped.items():
        reporter.say(f"  not judged: {count} questions ({reason})")
    url = endpoint(judge)
    keyed = [(protocol.request_key(m, judge, endpoint=url), m) for m in matches]
    with Journal(out / "journal.jsonl", Judgment) as journal:
        asked = _ask_all(judge, keyed, journal, reporter)
    judgments = [asked.judgments[key] for key, _ in keyed if key in asked.judgments]
    questions = [p.question_id for p in prompts]
    write_records(out / "judgments.jsonl", judgments)
    write_records(
        out / "preferences.jsonl",
        protocol.preferences(judgments, questions, orders=judge.orders),
    )
    unparsed = Counter(j.unparsed for j in judgments if j.unparsed is not None)
    for reason, count in unparsed.items():
        reporter.say(f"  not read: {count} of {len(judgments)} replies ({reason})")
    return JudgeFacts(
        n_similarities=len(near),
        n_matches=len(matches),
        n_requests=asked.n_requests,
        n_from_journal=len(matches) - asked.n_requests,
        n_unparsed=unparsed.total(),
        n_failed=asked.failures.total(),
        unparsed=dict(unparsed),
        failures=dict(asked.failures),
        skipped=skipped,
        prompt_tokens=sum(j.prompt_tokens or 0 for j in judgments),
        completion_tokens=sum(j.completion_tokens or 0 for j in judgments),
    )


@dataclass
class _Asked:
    """What has come back so far."""

    judgments: dict[str, Judgment]
    n_requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    failed_in_a_row: int = 0
    last_failure: Failed | None = None


def _ask_all(
    judge: Judge,
    keyed: Sequence[tuple[str, Match]],
    journal: Journal[Judgment],
    reporter: Reporter,
) -> _Asked:
    # A replay answers for itself: replies once copied here would outlive a change of its journal.
    replay = judge.kind == "replay"
    asked = _Asked(judgments={})
    to_ask = []
    for key, match in keyed:
        known = None if replay else journal.get(key)
        if known is None:
            to_ask.append((key, match))
        else:
            # Read again: what a reply says is up to today's parser, not to that of the first run.
            asked.judgments[key] = _judgment(match, key, judge, recorded_reply(known))
    asked.n_requests = len(to_ask)
    if not to_ask:
        return asked
    check(judge)
    n_known = len(asked.judgments)
    with reporter.task("judge", len(keyed), unit="judgments", done=n_known) as task:
        asyncio.run(_ask_concurrently(judge, to_ask, None if replay else journal, asked, task))
    if n_known == 0 and asked.failures.total() == len(to_ask):
        raise _gave_up(judge, asked, f"all {len(to_ask)} requests failed")
    if asked.last_failure is not None:
        last = asked.last_failure
        shown = f"{last.reason}: {last.detail}" if last.detail else last.reason
        reporter.say(
            f"  {asked.failures.total()} of {len(to_ask)} requests failed, and their questions are "
            f"unscored; run again to ask them again. The last: {shown}"
        )
    return asked


async def _ask_concurrently(
    judge: Judge,
    to_ask: Sequence[tuple[str, Match]],
    journal: Journal[Judgment] | None,
    asked: _Asked,
    task: Task,
) -> None:
    """Let ``judge.concurrency`` workers share the requests; the first error ends them all."""
    client = make_client(judge)
    queue = iter(to_ask)
    workers = [
        asyncio.create_task(_work(client, judge, queue, journal, asked, task))
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
    queue: Iterator[tuple[str, Match]],
    journal: Journal[Judgment] | None,
    asked: _Asked,
    task: Task,
) -> None:
    for key, match in queue:
        reply = await client.ask(protocol.request(match, judge), key=key)
        if isinstance(reply, Failed):
            asked.failures[reply.reason] += 1
            asked.last_failure = reply
            asked.failed_in_a_row += 1
            if journal is not None and asked.failed_in_a_row >= MAX_CONSECUTIVE_FAILURES:
                raise _gave_up(judge, asked, f"{asked.failed_in_a_row} requests in a row failed")
        else:
            asked.failed_in_a_row = 0
            judgment = _judgment(match, key, judge, reply)
            if journal is not None:
                journal.append([judgment])
            asked.judgments[key] = judgment
        failed = asked.failures.total()
        task.advance(note=f"{failed} failed" if failed else "")


def _judgment(match: Match, key: str, judge: Judge, reply: Reply) -> Judgment:
    verdict = protocol.parse(reply.text, finish_reason=reply.finish_reason)
    unparsed = verdict.reason if isinstance(verdict, protocol.Unparsed) else None
    return Judgment(
        key=key,
        question_id=match.question_id,
        benchmark=match.benchmark,
        judge=judge.model,
        first=match.first,
        prefers=None if isinstance(verdict, protocol.Unparsed) else verdict,
        unparsed=unparsed,
        reply=reply.text,
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )


def _gave_up(judge: Judge, asked: _Asked, problem: str) -> EndpointError:
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
