"""What a verdict rests on beside its estimate: registration, the judge's checks, alarms.

Puts the rows that the judge stage wrote about itself into the results' records; the estimates and
sentences are those of ``stats``, ``judge.accuracy`` and ``registration``.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from tuneproof.judge.registering import registered, registration_of
from tuneproof.records import Arm, Stop, preferred
from tuneproof.registration import standing
from tuneproof.results import Alarm, JudgeReplies, ReplyDrift
from tuneproof.stats.alarms import AnswerWatch, length_drift, unstopped
from tuneproof.stats.pairwise import win_rate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from tuneproof.recipe import Recipe
    from tuneproof.records import Answer, Judgment, Preference, Prompt, Rating, RepeatedReply
    from tuneproof.results import (
        BenchmarkResult,
        JudgeCheck,
        PairwiseResult,
        Registered,
    )


def registration(
    recipe: Recipe,
    prompts: Sequence[Prompt],
    preferences: Sequence[Preference],
    ratings: Sequence[Rating],
    *,
    judge_dir: Path,
) -> Registered:
    """Whether what counts now is what was fixed before anything was judged."""
    then = registered(judge_dir)
    used = {p.benchmark: p.protocol for p in preferences}
    used |= {r.benchmark: r.protocol for r in ratings}
    # A benchmark on which nothing could be judged has no row to tell its protocol.
    known = {e.benchmark for e in recipe.evaluate}
    planned = {k: v for k, v in (then.protocols if then else {}).items() if k in known}
    now = registration_of(recipe, prompts, planned | used, made_before_judging=False)
    return standing(then, now)


# --- the judge -------------------------------------------------------------------------------


def with_checks(
    benchmarks: Mapping[str, BenchmarkResult],
    checks: Sequence[JudgeCheck],
    repeats: Sequence[RepeatedReply],
    itself: Sequence[Preference],
    *,
    level: float,
    seed: int,
) -> dict[str, BenchmarkResult]:
    """The results, each pairwise one with what was found of its judge."""
    by_protocol = {check.protocol: check for check in checks}

    def checked(found: PairwiseResult, benchmark: str) -> PairwiseResult:
        check = by_protocol.get(found.protocol)
        if check is None:
            return found
        mine = [p for p in itself if p.protocol == found.protocol]
        questions = list(dict.fromkeys(p.question_id for p in mine))
        more = {
            "drift": drift([r for r in repeats if r.benchmark == benchmark]),
            "self_comparison": win_rate(mine, questions, level=level, seed=seed) if mine else None,
        }
        return found.model_copy(update={"check": check.model_copy(update=more)})

    return {
        name: result.model_copy(
            update={
                "pairwise": checked(result.pairwise, name) if result.pairwise else None,
                "others": {k: checked(r, name) for k, r in result.others.items()},
            }
        )
        for name, result in benchmarks.items()
    }


def replies(
    judgments: Sequence[Judgment], cut_judgments: Sequence[Judgment], ratings: Sequence[Rating]
) -> list[JudgeReplies]:
    """What became of every judge's replies; of what needed none, nothing."""
    groups: dict[tuple[str, str], list[Judgment | Rating]] = {}
    cut: Counter[tuple[str, str]] = Counter()
    asked: list[Judgment | Rating] = [j for j in (*judgments, *cut_judgments) if j.asked]
    for told in [*asked, *ratings]:
        groups.setdefault((told.judge, told.protocol), []).append(told)
    cut.update((j.judge, j.protocol) for j in cut_judgments if j.asked)
    return [
        JudgeReplies(
            judge=judge,
            protocol=protocol,
            n_replies=len(told_by),
            n_cut=cut[judge, protocol],
            unparsed=dict(
                sorted(
                    Counter(t.unparsed for t in told_by if t.unparsed is not None).items(),
                    key=lambda it: (-it[1], it[0]),
                )
            ),
        )
        for (judge, protocol), told_by in groups.items()
    ]


def drift(repeats: Sequence[RepeatedReply]) -> ReplyDrift | None:
    """How far the second replies to the same requests are from the first; None without any."""
    if not repeats:
        return None
    both = [(r.p_first, r.p_again) for r in repeats]
    known = [(a, b) for a, b in both if a is not None and b is not None]
    # A judge that says a word has no probabilities that could move.
    weighed = any(p not in (0.0, 0.5, 1.0) for pair in known for p in pair)
    return ReplyDrift(
        n_repeated=len(repeats),
        n_compared=len(known),
        n_changed=sum(preferred(a) != preferred(b) for a, b in known),
        mean_shift=math.fsum(abs(a - b) for a, b in known) / len(known) if weighed else None,
    )


# --- alarms ----------------------------------------------------------------------------------

WATCHED = (Arm.TUNED, Arm.BASE, Arm.FAIR_BASE, Arm.PLACEBO)


def alarms(prompts: Sequence[Prompt], answers: Sequence[Answer]) -> list[Alarm]:
    """What is to be said of the answers of every generated arm, by benchmark."""
    found: list[Alarm] = []
    for benchmark in dict.fromkeys(p.benchmark for p in prompts):
        instructions = {
            (p.question_id, p.turn): p.instruction for p in prompts if p.benchmark == benchmark
        }
        said = {
            arm: [
                a
                for a in answers
                if a.arm is arm
                and (a.question_id, a.turn) in instructions
                and a.stop is not Stop.ERROR
            ]
            for arm in WATCHED
        }
        for arm, mine in said.items():
            for alarm in _of_one(mine, instructions):
                found.append(alarm.model_copy(update={"benchmark": benchmark, "arm": arm.value}))
        lengths = {arm: _lengths(mine) for arm, mine in said.items()}
        for opponent in (Arm.BASE, Arm.FAIR_BASE):
            apart = length_drift(lengths[opponent], lengths[Arm.TUNED])
            if apart is not None:
                update = {"benchmark": benchmark, "arm": f"tuned and {opponent}"}
                found.append(apart.model_copy(update=update))
    return found


def _of_one(
    answers: Sequence[Answer], instructions: Mapping[tuple[str, int], str]
) -> Iterator[Alarm]:
    watch = AnswerWatch()
    for a in answers:
        watch.see(a.text, instruction=instructions[a.question_id, a.turn])
    yield from watch.alarms()
    stopped = unstopped(
        n_at_limit=sum(a.stop is Stop.LENGTH for a in answers),
        n_answers=len(answers),
    )
    if stopped is not None:
        yield stopped


def _lengths(answers: Sequence[Answer]) -> dict[str, float]:
    """Tokens by question, all turns and adapters averaged."""
    found: dict[str, list[int]] = {}
    for a in answers:
        found.setdefault(a.question_id, []).append(a.n_tokens)
    return {question: sum(ns) / len(ns) for question, ns in found.items()}
