"""The judge stage's shell: reads prompts and answers, asks the judge, writes what came of it.

Files in: ``prompts.jsonl`` and ``answers.jsonl`` of the generate stage. Files out:
``similarity.jsonl``, ``judgments.jsonl`` (in the order of the matches), ``preferences.jsonl`` (in
the order of the pairs), and ``journal.jsonl``, to which every reply goes the moment it comes: a
killed run loses the requests in flight and no other. Requests that failed are in no file, so the
next run asks again. Matches whose requests are the same (two adapters may give the same answer)
share one reply. What the numbers mean is left to ``tuneproof.stats``.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

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
from tuneproof.judge.matches import Pair, build_matches, build_pairs, preferences
from tuneproof.judge.own import OwnPairwise
from tuneproof.judge.protocol import JudgeProtocol, Unparsed, request_key
from tuneproof.judge.similarity import similarity
from tuneproof.records import Answer, Arm, Judgment, Match, Preference, Prompt
from tuneproof.workspace import Journal, read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tuneproof.progress import Reporter, Task
    from tuneproof.recipe import Evaluation, Judge, Recipe

MAX_CONSECUTIVE_FAILURES: Final = 20


@dataclass(frozen=True, kw_only=True)
class JudgeFacts:
    """Counts of one judge stage; nothing that was lost is missing from them.

    ``n_matches`` = ``n_requests`` + ``n_from_journal`` + ``n_shared``: the last had the same
    request as another match. ``n_failed`` of the requests got no reply, by reason in ``failures``;
    for a replay, a request is a look-up in the recorded journal. ``n_unparsed`` counts matches
    whose reply could not be read, by reason in ``unparsed``; ``skipped`` counts pairs of answers
    that had no match, by reason. The tokens are those of all replies, journaled ones included and
    each once, as far as the endpoint told them.
    """

    n_similarities: int
    n_matches: int = 0
    n_requests: int = 0
    n_from_journal: int = 0
    n_shared: int = 0
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

    On each benchmark every adapter's answers meet those of every opponent that the recipe lists.

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
    url = endpoint(judge)
    rounds = [_round(e, judge, prompts, answers, seed=recipe.seed) for e in recipe.evaluate]
    skipped: Counter[str] = sum((r.skipped for r in rounds), Counter())
    for reason, count in skipped.items():
        reporter.say(f"  not judged: {count} pairs of answers ({reason})")
    games = [
        _Game(request_key(m, judge, r.protocol, endpoint=url), m, r.protocol)
        for r in rounds
        for m in r.matches
    ]
    with Journal(out / "journal.jsonl", Judgment) as journal:
        asked = _ask_all(judge, games, journal, reporter)
    judgments = [
        _judgment(game, judge, asked.replies[game.key])
        for game in games
        if game.key in asked.replies
    ]
    write_records(out / "judgments.jsonl", judgments)
    write_records(out / "preferences.jsonl", [p for r in rounds for p in r.settled(judgments)])
    unparsed = Counter(j.unparsed for j in judgments if j.unparsed is not None)
    for reason, count in unparsed.items():
        reporter.say(f"  not read: {count} of {len(judgments)} replies ({reason})")
    n_keys = len({game.key for game in games})
    return JudgeFacts(
        n_similarities=len(near),
        n_matches=len(games),
        n_requests=asked.n_requests,
        n_from_journal=n_keys - asked.n_requests,
        n_shared=len(games) - n_keys,
        n_unparsed=unparsed.total(),
        n_failed=asked.failures.total(),
        unparsed=dict(unparsed),
        failures=dict(asked.failures),
        skipped=dict(skipped),
        prompt_tokens=sum(r.prompt_tokens or 0 for r in asked.replies.values()),
        completion_tokens=sum(r.completion_tokens or 0 for r in asked.replies.values()),
    )


def protocol_of(evaluation: Evaluation, judge: Judge) -> JudgeProtocol:
    """The protocol that judges a benchmark: ours; MT-Bench's pairs always play both games."""
    return OwnPairwise(orders=2 if evaluation.benchmark == "mt_bench" else judge.orders)


@dataclass(frozen=True, kw_only=True)
class _Round:
    """All that is judged of one benchmark."""

    protocol: JudgeProtocol
    pairs: list[Pair]
    matches: list[Match]
    skipped: Counter[str]

    def settled(self, judgments: Sequence[Judgment]) -> list[Preference]:
        """The preferences of this benchmark's pairs, from the judgments of all benchmarks."""
        benchmarks = {pair.prompt.benchmark for pair in self.pairs}
        mine = [j for j in judgments if j.benchmark in benchmarks]
        return preferences(mine, self.pairs, self.protocol)


def _round(
    evaluation: Evaluation,
    judge: Judge,
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    *,
    seed: int,
) -> _Round:
    protocol = protocol_of(evaluation, judge)
    pairs = build_pairs(
        [p for p in prompts if p.benchmark == evaluation.benchmark],
        answers,
        against=[Arm(opponent) for opponent in evaluation.against],
    )
    matches, skipped = build_matches(pairs, answers, protocol, seed=seed)
    return _Round(protocol=protocol, pairs=pairs, matches=matches, skipped=Counter(skipped))


@dataclass(frozen=True)
class _Game:
    """One match, how it is judged, and the key of its request."""

    key: str
    match: Match
    protocol: JudgeProtocol


@dataclass
class _Asked:
    """What has come back so far, by the request's key."""

    replies: dict[str, Reply]
    n_requests: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    failed_in_a_row: int = 0
    last_failure: Failed | None = None


def _ask_all(
    judge: Judge,
    games: Sequence[_Game],
    journal: Journal[Judgment],
    reporter: Reporter,
) -> _Asked:
    # A replay answers for itself: replies once copied here would outlive a change of its journal.
    replay = judge.kind == "replay"
    asked = _Asked(replies={})
    to_ask: dict[str, _Game] = {}
    for game in games:
        known = None if replay else journal.get(game.key)
        if known is None:
            to_ask.setdefault(game.key, game)
        else:
            # Read again: what a reply says is up to today's parser, not to that of the first run.
            asked.replies[game.key] = recorded_reply(known)
    asked.n_requests = len(to_ask)
    if not to_ask:
        return asked
    check(judge)
    n_known = len(asked.replies)
    with reporter.task("judge", n_known + len(to_ask), unit="replies", done=n_known) as task:
        kept = None if replay else journal
        asyncio.run(_ask_concurrently(judge, list(to_ask.values()), kept, asked, task))
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
    to_ask: Sequence[_Game],
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
    queue: Iterator[_Game],
    journal: Journal[Judgment] | None,
    asked: _Asked,
    task: Task,
) -> None:
    for game in queue:
        reply = await client.ask(game.protocol.request(game.match, judge), key=game.key)
        if isinstance(reply, Failed):
            asked.failures[reply.reason] += 1
            asked.last_failure = reply
            asked.failed_in_a_row += 1
            if journal is not None and asked.failed_in_a_row >= MAX_CONSECUTIVE_FAILURES:
                raise _gave_up(judge, asked, f"{asked.failed_in_a_row} requests in a row failed")
        else:
            asked.failed_in_a_row = 0
            if journal is not None:
                journal.append([_judgment(game, judge, reply)])
            asked.replies[game.key] = reply
        failed = asked.failures.total()
        task.advance(note=f"{failed} failed" if failed else "")


def _judgment(game: _Game, judge: Judge, reply: Reply) -> Judgment:
    match, verdict = game.match, game.protocol.read(reply)
    return Judgment(
        key=game.key,
        question_id=match.question_id,
        benchmark=match.benchmark,
        turn=match.turn,
        opponent=match.opponent,
        adapter=match.adapter,
        protocol=game.protocol.name,
        judge=judge.model,
        first=match.first,
        prefers=None if isinstance(verdict, Unparsed) else verdict,
        unparsed=verdict.reason if isinstance(verdict, Unparsed) else None,
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
