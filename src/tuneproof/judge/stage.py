"""The judge stage's shell: reads prompts and answers, asks the judge, writes what came of it.

Files in: ``prompts.jsonl`` and ``answers.jsonl`` of the generate stage. Files out:
``similarity.jsonl``, ``judgments.jsonl`` (in the order of the matches), ``preferences.jsonl`` (in
the order of the pairs), ``ratings.jsonl`` (in the order of the answers), and two journals of all
replies, which ``asking`` keeps. Matches whose requests are the same (two adapters may give the same
answer) share one reply. What the numbers mean is left to ``tuneproof.stats``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from tuneproof.data.questions import KNOWN_WRONG_REFERENCES, mt_bench_number
from tuneproof.judge.alpaca_eval import WEIGHTED
from tuneproof.judge.asking import Journals, Request, ask_all
from tuneproof.judge.choice import choose
from tuneproof.judge.clients import RATINGS_JOURNAL, Reply, endpoint
from tuneproof.judge.matches import Pair, build_matches, build_pairs, preferences
from tuneproof.judge.protocol import JudgeProtocol, Unparsed, request_key
from tuneproof.judge.ratings import Rated, RatingProtocol, answers_to_rate, rating_key
from tuneproof.judge.similarity import similarity
from tuneproof.recipe import MtBench
from tuneproof.records import (
    Answer,
    Arm,
    Judgment,
    Match,
    Preference,
    Prompt,
    Rating,
    preferred,
)
from tuneproof.workspace import Journal, read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tuneproof.progress import Reporter
    from tuneproof.recipe import Evaluation, Judge, Recipe


@dataclass(frozen=True, kw_only=True)
class JudgeFacts:
    """Counts of one judge stage; nothing that was lost is missing from them.

    ``n_matches`` + ``n_ratings`` = ``n_requests`` + ``n_from_journal`` + ``n_shared`` +
    ``n_not_asked``: shared are those with the same request as another; the last needed no judge.
    ``n_failed`` of the requests got no reply, by reason in ``failures``; for a replay, a request is
    a look-up in the recorded journal. ``n_unparsed`` counts matches and ratings whose reply could
    not be read, by reason in ``unparsed``; ``skipped`` counts pairs and answers that were not
    judged, by reason; ``n_excluded`` those left out because the recipe says so. The tokens are
    those of all replies, journaled ones included and each once, as far as the endpoint told them.
    ``resent`` counts what was sent again, by the reason why; ``usd`` is what all replies cost that
    are in the journals, and ``unsure_usd`` at most what tries cost whose price was not told.
    """

    n_similarities: int
    n_matches: int = 0
    n_ratings: int = 0
    n_requests: int = 0
    n_from_journal: int = 0
    n_shared: int = 0
    n_not_asked: int = 0
    n_unparsed: int = 0
    n_failed: int = 0
    n_excluded: int = 0
    unparsed: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    resent: dict[str, int] = field(default_factory=dict)
    usd: float | None = None
    unsure_usd: float | None = None


def judge_answers(
    recipe: Recipe, *, generate_dir: Path, out: Path, reporter: Reporter
) -> JudgeFacts:
    """Compare all answers with their references and, if the recipe has a judge, with each other.

    On each benchmark every adapter's answers meet those of every opponent that the recipe lists;
    in MT-Bench's mode ``single`` all of them are rated one by one instead.

    Nothing is asked, and no key needed, where the journals already hold every reply.

    Raises:
        StageError: an input file is missing or malformed.
        AssetError: a benchmark's file on this machine is not what it should be.
        CredentialError, EndpointError, RecipeError: see ``asking.ask_all``.
    """
    prompts = read_records(generate_dir / "prompts.jsonl", Prompt)
    answers = read_records(generate_dir / "answers.jsonl", Answer)
    out.mkdir(parents=True, exist_ok=True)
    near = similarity(prompts, answers)
    write_records(out / "similarity.jsonl", near)
    if recipe.judge is None:
        for name in ("judgments", "preferences", "ratings"):
            write_records(out / f"{name}.jsonl", [])
        return JudgeFacts(n_similarities=len(near))

    judge = recipe.judge
    rounds = [
        _round(index, e, recipe, judge, prompts, answers, reporter)
        for index, e in enumerate(recipe.evaluate)
    ]
    skipped: Counter[str] = sum((r.skipped for r in rounds), Counter())
    for reason, count in skipped.items():
        reporter.say(f"  not judged: {count} ({reason})")
    requests = [request for r in rounds for request in r.requests(judge)]
    known = [judgment for r in rounds for judgment in r.known(judge)]
    with (
        Journal(out / "journal.jsonl", Judgment) as journal,
        Journal(out / RATINGS_JOURNAL, Rating) as ratings_journal,
    ):
        journals = Journals(judgments=journal, ratings=ratings_journal)
        asked = ask_all(judge, requests, journals, reporter)
    # By what they are about: requests that are the same share a key, but each has its own row.
    rows = [r.row(asked.replies[r.key]) for r in requests if r.key in asked.replies]
    ratings = [row for row in rows if isinstance(row, Rating)]
    judgments = _in_order(
        [m for r in rounds for m in r.matches],
        [*known, *(row for row in rows if isinstance(row, Judgment))],
    )
    write_records(out / "judgments.jsonl", judgments)
    write_records(out / "ratings.jsonl", ratings)
    write_records(out / "preferences.jsonl", [p for r in rounds for p in r.settled(judgments)])
    reasons = [j.unparsed for j in judgments] + [r.unparsed for r in ratings]
    unparsed = Counter(reason for reason in reasons if reason is not None)
    for reason, count in unparsed.items():
        reporter.say(f"  not read: {count} of {len(rows)} replies ({reason})")
    n_keys = len({request.key for request in requests})
    return JudgeFacts(
        n_similarities=len(near),
        n_matches=sum(len(r.matches) for r in rounds),
        n_ratings=sum(len(r.rated) for r in rounds),
        n_requests=asked.n_requests,
        n_from_journal=n_keys - asked.n_requests,
        n_shared=len(requests) - n_keys,
        n_not_asked=len(known),
        n_unparsed=unparsed.total(),
        n_failed=asked.failures.total(),
        n_excluded=sum(r.n_excluded for r in rounds),
        unparsed=dict(unparsed),
        failures=dict(asked.failures),
        skipped=dict(skipped),
        prompt_tokens=sum(r.prompt_tokens or 0 for r in asked.replies.values()),
        completion_tokens=sum(r.completion_tokens or 0 for r in asked.replies.values()),
        resent=dict(asked.resent),
        usd=asked.usd,
        unsure_usd=asked.unsure_usd,
    )


@dataclass(frozen=True, kw_only=True)
class _Round:
    """All that is judged of one benchmark: pairs in matches, or answers one by one."""

    protocol: JudgeProtocol
    pairs: list[Pair]
    matches: list[Match]
    skipped: Counter[str]
    place: str
    n_excluded: int = 0
    rating: RatingProtocol | None = None
    rated: list[Rated] = field(default_factory=list)

    def requests(self, judge: Judge) -> list[Request]:
        """What the judge is asked: all but what is known without it."""
        weighted_by = f"{self.place}.protocol" if self.protocol.name == WEIGHTED else None
        games = []
        for match in self.matches:
            if self.protocol.without_asking(match) is None:
                key = request_key(match, judge, self.protocol, endpoint=endpoint(judge))
                games.append(
                    Request(
                        key=key,
                        body=partial(self.protocol.request, match, judge),
                        row=partial(_judgment, match, self.protocol, judge, key),
                        weighted_by=weighted_by,
                    )
                )
        if self.rating is None:
            return games
        for rated in self.rated:
            key = rating_key(rated, judge, self.rating, endpoint=endpoint(judge))
            games.append(
                Request(
                    key=key,
                    body=partial(self.rating.request, rated, judge),
                    row=partial(_rating, rated, self.rating, judge, key),
                )
            )
        return games

    def known(self, judge: Judge) -> list[Judgment]:
        """The judgments that need no judge."""
        return [
            _judgment(
                match,
                self.protocol,
                judge,
                request_key(match, judge, self.protocol, endpoint=endpoint(judge)),
                None,
            )
            for match in self.matches
            if self.protocol.without_asking(match) is not None
        ]

    def settled(self, judgments: Sequence[Judgment]) -> list[Preference]:
        """The preferences of this benchmark's pairs, from the judgments of all benchmarks."""
        benchmarks = {pair.prompt.benchmark for pair in self.pairs}
        mine = [j for j in judgments if j.benchmark in benchmarks]
        return preferences(mine, self.pairs, self.protocol)


def _round(
    index: int,
    evaluation: Evaluation,
    recipe: Recipe,
    judge: Judge,
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    reporter: Reporter,
) -> _Round:
    chosen = choose(evaluation, judge, assets=recipe.assets)
    if chosen.notice is not None:
        reporter.say(f"  {evaluation.benchmark}: {chosen.notice}")
    asked = [p for p in prompts if p.benchmark == evaluation.benchmark]
    left = [p for p in asked if not _is_excluded(p, evaluation)]
    against = [Arm(opponent) for opponent in evaluation.against]
    place = f"evaluate.{index}"
    if chosen.ratings is not None:
        arms = [*against, Arm.TUNED]
        rated, skipped = answers_to_rate(left, answers, arms=arms)
        return _Round(
            protocol=chosen.pairwise,
            pairs=[],
            matches=[],
            skipped=Counter(skipped),
            place=place,
            n_excluded=len(answers_to_rate(asked, answers, arms=arms)[0]) - len(rated),
            rating=chosen.ratings,
            rated=rated,
        )
    pairs = build_pairs(left, answers, against=against)
    matches, skipped = build_matches(pairs, answers, chosen.pairwise, seed=recipe.seed)
    return _Round(
        protocol=chosen.pairwise,
        pairs=pairs,
        matches=matches,
        skipped=Counter(skipped),
        place=place,
        n_excluded=len(build_pairs(asked, answers, against=against)) - len(pairs),
    )


def _is_excluded(prompt: Prompt, evaluation: Evaluation) -> bool:
    return (
        isinstance(evaluation, MtBench)
        and evaluation.exclude_known_wrong
        and mt_bench_number(prompt.question_id) in KNOWN_WRONG_REFERENCES
    )


def _judgment(
    match: Match, protocol: JudgeProtocol, judge: Judge, key: str, reply: Reply | None
) -> Judgment:
    """The row of a reply, or of a match whose result is known without one."""
    unparsed, p_first = None, protocol.without_asking(match)
    if reply is not None:
        said = protocol.read(reply)
        if isinstance(said, Unparsed):
            unparsed, p_first = said.reason, None
        else:
            p_first = said.p_first
    return Judgment(
        key=key,
        question_id=match.question_id,
        benchmark=match.benchmark,
        turn=match.turn,
        opponent=match.opponent,
        adapter=match.adapter,
        protocol=protocol.name,
        judge=judge.model,
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


def _rating(rated: Rated, protocol: RatingProtocol, judge: Judge, key: str, reply: Reply) -> Rating:
    said = protocol.read(reply)
    return Rating(
        key=key,
        question_id=rated.question_id,
        benchmark=rated.benchmark,
        category=rated.category,
        turn=rated.turn,
        arm=rated.arm,
        adapter=rated.adapter,
        protocol=protocol.name,
        judge=judge.model,
        score=None if isinstance(said, Unparsed) else said,
        unparsed=said.reason if isinstance(said, Unparsed) else None,
        reply=reply.text,
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )


def _in_order(matches: Sequence[Match], judgments: Sequence[Judgment]) -> list[Judgment]:
    """The judgments in the order of the matches that they are about."""

    def place(row: Match | Judgment) -> tuple[str, str, int, Arm, int, Arm]:
        return row.benchmark, row.question_id, row.turn, row.opponent, row.adapter, row.first

    order = {place(match): i for i, match in enumerate(matches)}
    return sorted(judgments, key=lambda j: order[place(j)])
