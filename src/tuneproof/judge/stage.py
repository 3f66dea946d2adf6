"""The judge stage's shell: reads prompts and answers, asks the judge, writes what came of it.

Files in: ``prompts.jsonl`` and ``answers.jsonl`` of the generate stage, ``examples.jsonl`` of the
prepare stage (right answers for the control pairs). Files out: ``similarity.jsonl``,
``judgments.jsonl`` (in the order of the matches), ``preferences.jsonl`` (in the order of the
pairs), ``ratings.jsonl`` (in the order of the answers); of the judge itself ``controls.jsonl``,
``checks.jsonl``, ``repeats.jsonl`` and ``self_preferences.jsonl``; of the answers cut
``cut_judgments.jsonl`` and ``cut_preferences.jsonl``; the registrations, first of all; and two
journals of all replies, which ``asking`` keeps. Matches whose requests are the same (two adapters
may give the same answer) share one reply. What the numbers mean is left to ``tuneproof.stats``.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from tuneproof.data.sections import section_starts
from tuneproof.data.templates import parse_template
from tuneproof.judge.asking import Asked, Journals, ask_all
from tuneproof.judge.checks import (
    UNTESTED,
    ControlRound,
    SelfRound,
    control_check,
    control_round,
    known_to_be_right,
    repeated,
    repeated_replies,
    self_preferences,
    self_round,
)
from tuneproof.judge.clients import RATINGS_JOURNAL
from tuneproof.judge.games import judgments, requests
from tuneproof.judge.registering import append_registration
from tuneproof.judge.rejudging import cut_preferences
from tuneproof.judge.rounds import Round, make_round
from tuneproof.judge.similarity import similarity
from tuneproof.records import (
    Answer,
    Judgment,
    PreparedRow,
    Prompt,
    Rating,
    Record,
    Stop,
    first_samples,
)
from tuneproof.results import JudgeCheck
from tuneproof.workspace import Journal, read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tuneproof.progress import Reporter
    from tuneproof.recipe import Judge, Recipe
    from tuneproof.records import ControlOutcome

OUTPUTS: Final = (
    "similarity",
    "judgments",
    "preferences",
    "ratings",
    "controls",
    "checks",
    "repeats",
    "self_preferences",
    "cut_judgments",
    "cut_preferences",
)
"""The JSONL files that the stage writes; those of what was not asked for are empty."""


@dataclass(frozen=True, kw_only=True)
class JudgeFacts:
    """Counts of one judge stage; nothing that was lost is missing from them.

    ``n_matches`` + ``n_ratings`` + ``n_rejudged`` + ``n_checks`` = ``n_requests`` +
    ``n_from_journal`` + ``n_shared`` + ``n_not_asked``: ``n_rejudged`` are games of answers that a
    cut changed, ``n_checks`` games of control pairs, of one model against itself, and requests sent
    a second time; shared are those with the same request as another; the last needed no judge.
    ``n_failed`` of the requests got no reply, by reason in ``failures``; for a replay, a request is
    a look-up in the recorded journal. ``n_unparsed`` counts replies of any kind that could not be
    read, by reason in ``unparsed``; ``skipped`` counts pairs and answers that were not judged, by
    reason; ``n_excluded`` those left out because the recipe says so. The tokens are those of all
    replies, journaled ones included and each once, as far as the endpoint told them.
    ``registration`` is the digest of what was fixed before judging. ``resent`` counts what was sent
    again, by the reason why; ``usd`` is what all replies cost that are in the journals, those of
    other judges included as far as their price is known, and ``unsure_usd`` at most what was not
    told, or what replies cost that are in no journal.
    """

    n_similarities: int
    registration: str
    n_matches: int = 0
    n_ratings: int = 0
    n_rejudged: int = 0
    n_checks: int = 0
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
    refused: tuple[str, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    resent: dict[str, int] = field(default_factory=dict)
    usd: float | None = None
    unsure_usd: float | None = None


def judge_answers(
    recipe: Recipe, *, prepare_dir: Path, generate_dir: Path, out: Path, reporter: Reporter
) -> JudgeFacts:
    """Compare all answers with their references and, if the recipe has a judge, with each other.

    On each benchmark every adapter's answers meet those of every opponent that the recipe lists
    (and of the placebo, where the verdict asks to beat it); in MT-Bench's mode ``single`` all of
    them are rated one by one instead. The control pairs are asked first: under a protocol where the
    judge fails them, nothing else is.

    Nothing is asked, and no key needed, where the journals already hold every reply.

    Raises:
        StageError: an input file is missing or malformed.
        AssetError: a benchmark's file on this machine is not what it should be.
        CredentialError, EndpointError, RecipeError: see ``asking.ask_all``.
    """
    prompts = read_records(generate_dir / "prompts.jsonl", Prompt)
    every_answer = read_records(generate_dir / "answers.jsonl", Answer)
    answers = first_samples(every_answer)
    out.mkdir(parents=True, exist_ok=True)
    judge = recipe.judge
    rounds = (
        [
            make_round(index, e, recipe, judge, prompts, answers, reporter)
            for index, e in enumerate(recipe.evaluate)
        ]
        if judge is not None
        else []
    )
    rows: dict[str, Sequence[Record]] = {name: [] for name in OUTPUTS}
    with contextlib.ExitStack() as files:
        journals = None
        if judge is not None:
            journals = Journals(
                judgments=files.enter_context(Journal(out / "journal.jsonl", Judgment)),
                ratings=files.enter_context(Journal(out / RATINGS_JOURNAL, Rating)),
            )
        # What counts is fixed before anything is judged, with or without a judge.
        registered = append_registration(
            recipe,
            prompts,
            {r.benchmark: r.name for r in rounds},
            folder=out,
            n_replies=len(journals) if journals is not None else 0,
        )
        rows["similarity"] = near = similarity(prompts, answers)
        facts = JudgeFacts(n_similarities=len(near), registration=registered.digest)
        if judge is not None and journals is not None:
            facts = _ask(
                recipe,
                judge,
                rounds,
                journals,
                facts,
                rows,
                prompts=prompts,
                every_answer=every_answer,
                prepared=prepare_dir / "examples.jsonl",
                reporter=reporter,
            )
    for name, found in rows.items():
        write_records(out / f"{name}.jsonl", found)
    return facts


def _ask(
    recipe: Recipe,
    judge: Judge,
    rounds: Sequence[Round],
    journals: Journals,
    facts: JudgeFacts,
    rows: dict[str, Sequence[Record]],
    *,
    prompts: Sequence[Prompt],
    every_answer: Sequence[Answer],
    prepared: Path,
    reporter: Reporter,
) -> JudgeFacts:
    """Ask the controls, then all that the judge may decide; fill ``rows``, and count."""
    controls = _control_rounds(recipe, judge, rounds, every_answer, prepared)
    control_games = [game for one in controls for game in one.games]
    first = ask_all(judge, requests(control_games), journals, reporter)
    checks, outcomes = _checks(recipe, judge, rounds, controls, first)
    refused = {check.protocol for check in checks if check.passes is False}
    for check in checks:
        if check.passes is not None:
            reporter.say(f"  {check.sentence}")
    rounds = [r.refused() if r.protocol.name in refused and r.pairs else r for r in rounds]

    games = [game for r in rounds for game in r.games]
    ratings = [request for r in rounds for request in r.rating_requests(judge)]
    again = repeated(games, n=judge.checks.repeats, seed=recipe.seed)
    itself = _self_rounds(recipe, judge, rounds, prompts, every_answer)
    markers = section_starts(parse_template(recipe.data.template))
    cuts = [r.cut(markers) if judge.decompose else [] for r in rounds]
    cut_games = [g for each in cuts for pair in each for gs in pair.games.values() for g in gs]
    check_games = [*again, *(game for one in itself for game in one.games)]
    everything = [*requests(games), *ratings, *requests([*check_games, *cut_games])]
    second = ask_all(judge, everything, journals, reporter)
    replies = {**first.replies, **second.replies}

    said = judgments(games, replies)
    settled = [r.settled(said) for r in rounds]
    cut_rows, cut_said = [], []
    for cut, whole in zip(cuts, settled, strict=True):
        if cut:
            kept = {(c.pair.place) for c in cut}
            mine = [p for p in whole if (p.question_id, p.turn, p.opponent, p.adapter) in kept]
            found, found_said = cut_preferences(cut, mine, replies)
            cut_rows += found
            cut_said += found_said
    rated = [
        row
        for r in ratings
        if r.key in replies and isinstance(row := r.row(replies[r.key]), Rating)
    ]
    again_rows = repeated_replies(again, replies)
    rows["judgments"] = said
    rows["preferences"] = [p for each in settled for p in each]
    rows["ratings"] = rated
    rows["controls"] = outcomes
    rows["checks"] = checks
    rows["repeats"] = again_rows
    rows["self_preferences"] = [p for one in itself for p in self_preferences(one, replies)]
    rows["cut_preferences"] = cut_rows
    rows["cut_judgments"] = cut_said

    skipped: Counter[str] = sum((r.skipped for r in rounds), Counter())
    for reason, count in skipped.items():
        reporter.say(f"  not judged: {count} ({reason})")
    other = judgments([*control_games, *check_games], replies)
    reasons = [j.unparsed for j in (*said, *cut_said, *other)] + [r.unparsed for r in rated]
    unparsed = Counter(reason for reason in reasons if reason is not None)
    for reason, count in unparsed.items():
        reporter.say(f"  not read: {count} of {len(reasons)} replies ({reason})")
    all_games = [*control_games, *games, *check_games, *cut_games]
    asked = [*requests(control_games), *everything]
    n_keys = len({request.key for request in asked})
    n_requests = first.n_requests + second.n_requests
    return replace(
        facts,
        n_matches=len(games),
        n_ratings=len(ratings),
        n_rejudged=len(cut_games),
        n_checks=len(control_games) + len(check_games),
        n_requests=n_requests,
        n_from_journal=n_keys - n_requests,
        n_shared=len(asked) - n_keys,
        n_not_asked=sum(not game.is_asked for game in all_games),
        n_unparsed=unparsed.total(),
        n_failed=first.failures.total() + second.failures.total(),
        n_excluded=sum(r.n_excluded for r in rounds),
        unparsed=dict(unparsed),
        failures=dict(first.failures + second.failures),
        skipped=dict(skipped),
        refused=tuple(sorted(refused)),
        prompt_tokens=sum(r.prompt_tokens or 0 for r in replies.values()),
        completion_tokens=sum(r.completion_tokens or 0 for r in replies.values()),
        resent=dict(first.resent + second.resent),
        # Of the journals: the second asking's count holds the first's.
        usd=second.usd,
        unsure_usd=second.unsure_usd,
    )


# --- the judge itself ------------------------------------------------------------------------


def _control_rounds(
    recipe: Recipe,
    judge: Judge,
    rounds: Sequence[Round],
    answers: Sequence[Answer],
    prepared: Path,
) -> list[ControlRound]:
    """One for each protocol that judges pairs."""
    if not judge.checks.controls:
        return []
    stored = {a.question_id: a.text for a in answers if a.stop is Stop.GIVEN}
    rows = read_records(prepared, PreparedRow)
    made = []
    for name in dict.fromkeys(r.protocol.name for r in rounds if r.pairs):
        mine = [r for r in rounds if r.pairs and r.protocol.name == name]
        known = known_to_be_right(
            [pair.prompt for r in mine for pair in r.pairs],
            rows,
            stored=stored,
            enough=3 * judge.checks.controls,
        )
        one = mine[0]
        made.append(control_round(known, one.protocol, judge, seed=recipe.seed, place=one.place))
    return made


def _checks(
    recipe: Recipe,
    judge: Judge,
    rounds: Sequence[Round],
    controls: Sequence[ControlRound],
    asked: Asked,
) -> tuple[list[JudgeCheck], list[ControlOutcome]]:
    """One check for each protocol that judges pairs, and the outcome of every control."""
    if not judge.checks.controls:
        names = dict.fromkeys(r.protocol.name for r in rounds if r.pairs)
        return [JudgeCheck(protocol=n, passes=None, sentence=UNTESTED) for n in names], []
    checks, outcomes = [], []
    for one in controls:
        check, found = control_check(
            one,
            asked.replies,
            minimum=judge.checks.min_accuracy,
            level=recipe.verdict.level,
        )
        checks.append(check)
        outcomes += found
    return checks, outcomes


def _self_rounds(
    recipe: Recipe,
    judge: Judge,
    rounds: Sequence[Round],
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
) -> list[SelfRound]:
    """Those of the rounds whose questions the tuned model answered twice."""
    made = []
    for r in rounds:
        if r.matches:
            mine = [p for p in prompts if p.benchmark == r.benchmark]
            found = self_round(mine, answers, r.protocol, judge, seed=recipe.seed, place=r.place)
            if found.games:
                made.append(found)
    return made
