"""What a judge is asked before and beside the matches, to know what its word is worth.

Control pairs with a known winner come first: a judge that cannot tell them is refused. Beside the
matches come requests that are sent a second time, and pairs of answers that one model gave twice
(A/A). Which games that takes and what they come to; asking is left to ``stage``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tuneproof.judge.accuracy import control_result, judge_accuracy
from tuneproof.judge.controls import Control, Controls, KnownAnswer, build_controls, known_answers
from tuneproof.judge.games import Game, judgments
from tuneproof.judge.matches import build_matches, build_pairs, preferences
from tuneproof.judge.reference import ReferencePairwise
from tuneproof.recipe import rng
from tuneproof.records import Arm, ControlOutcome, RepeatedReply, Split
from tuneproof.results import JudgeCheck

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof.judge.clients import Reply
    from tuneproof.judge.protocol import JudgeProtocol
    from tuneproof.recipe import Judge
    from tuneproof.records import Answer, Preference, PreparedRow, Prompt

UNTESTED = (
    "The judge was not tested on pairs with a known winner: the recipe asks for none "
    "(judge.checks.controls)."
)


# --- control pairs ---------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class ControlRound:
    """The control pairs that one protocol is tested with, and their games, two a control."""

    controls: Controls
    games: tuple[Game, ...]
    protocol: JudgeProtocol


def known_to_be_right(
    prompts: Sequence[Prompt],
    rows: Sequence[PreparedRow],
    *,
    stored: Mapping[str, str],
    enough: int,
) -> list[KnownAnswer]:
    """Questions with right answers: the benchmarks' own, and where these are few the test split's.

    Args:
        prompts: what the protocol judges.
        rows: of the prepared data. Rows with a context are left out where the prompts have none,
            since a benchmark's prompt need not have a place for one.
        stored: right answers by question, where the prompts have no references.
        enough: so many of its own, and a protocol needs none of the test split's.
    """
    own = known_answers(prompts, stored)
    if len(own) >= enough:
        return own
    asked = {known.question_id for known in own}
    with_context = any(p.context for p in prompts)
    examples = [
        row.example
        for row in rows
        if row.split is Split.TEST and (with_context or not row.example.context)
    ]
    return own + [
        KnownAnswer(
            question_id=e.id,
            benchmark=prompts[0].benchmark,
            instruction=e.instruction,
            context=e.context,
            right=e.response,
        )
        for e in examples
        if e.id not in asked
    ]


def control_round(
    known: Sequence[KnownAnswer],
    protocol: JudgeProtocol,
    judge: Judge,
    *,
    seed: int,
    place: str,
) -> ControlRound:
    """Build the controls of one protocol and show each in both orders."""
    built = build_controls(known, seed=seed, per_kind=judge.checks.controls)
    if isinstance(protocol, ReferencePairwise):
        protocol = ReferencePairwise(references={c.id: c.known.right for c in built.controls})
    return ControlRound(
        controls=built,
        games=tuple(
            Game(match=match, protocol=protocol, judge=judge, place=place)
            for control in built.controls
            for match in control.matches()
        ),
        protocol=protocol,
    )


def control_check(
    found: ControlRound, replies: Mapping[str, Reply], *, minimum: float, level: float
) -> tuple[JudgeCheck, list[ControlOutcome]]:
    """Whether the judge may decide, and what it said of each control."""
    said: dict[str, dict[Arm, float | None]] = {}
    for row in judgments(found.games, replies):
        said.setdefault(row.question_id, {})[row.first] = row.p_first
    results = [control_result(c, said.get(c.id, {})) for c in found.controls.controls]
    accuracy = judge_accuracy(results, level=level)
    gate = accuracy.gate(minimum)
    cannot = tuple(f"{c.n_missing} {c.kind}: {c.reason}" for c in found.controls.cannot)
    check = JudgeCheck(
        protocol=found.protocol.name,
        passes=gate.passes,
        sentence=gate.sentence,
        overall=accuracy.overall,
        by_kind={kind.value: of for kind, of in accuracy.by_kind.items()},
        cannot=cannot,
    )
    return check, [_outcome(c, said.get(c.id, {}), found) for c in found.controls.controls]


def _outcome(
    control: Control, said: Mapping[Arm, float | None], found: ControlRound
) -> ControlOutcome:
    second = said.get(Arm.BASE)
    return ControlOutcome(
        id=control.id,
        kind=control.kind.value,
        protocol=found.protocol.name,
        benchmark=control.known.benchmark,
        instruction=control.known.instruction,
        context=control.known.context,
        right=control.known.right,
        wrong=control.wrong,
        p_right_first=said.get(Arm.TUNED),
        p_right_second=None if second is None else 1 - second,
    )


# --- the same request twice ------------------------------------------------------------------


def repeated(games: Sequence[Game], *, n: int, seed: int) -> list[Game]:
    """The games to be asked again: a draw of ``n``, or all there are."""
    asked = [game for game in games if game.is_asked]
    chosen = rng(seed, "judge", "repeats").sample(asked, min(n, len(asked)))
    return [replace(game, again=True) for game in chosen]


def repeated_replies(again: Sequence[Game], replies: Mapping[str, Reply]) -> list[RepeatedReply]:
    """What was said the first time and the second."""

    def said(game: Game) -> float | None:
        rows = judgments([game], replies)
        return rows[0].p_first if rows else None

    return [
        RepeatedReply(
            question_id=game.match.question_id,
            benchmark=game.match.benchmark,
            opponent=game.match.opponent,
            first=game.match.first,
            p_first=said(replace(game, again=False)),
            p_again=said(game),
        )
        for game in again
    ]


# --- one model against itself ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class SelfRound:
    """Two answers of one model to the same questions. In a game the first stands for the opponent,
    the second for tuned."""

    prompts: tuple[Prompt, ...]
    games: tuple[Game, ...]
    protocol: JudgeProtocol


def self_round(
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    protocol: JudgeProtocol,
    judge: Judge,
    *,
    seed: int,
    place: str,
) -> SelfRound:
    """The games of every prompt that the tuned model answered twice."""
    twice = {(a.question_id, a.turn) for a in answers if a.sample == 2}
    asked = tuple(p for p in prompts if (p.question_id, p.turn) in twice)
    sides = [
        a.model_copy(update={"arm": Arm.TUNED if a.sample == 2 else Arm.BASE, "sample": 1})
        for a in answers
        if a.arm is Arm.TUNED and a.adapter == 1 and (a.question_id, a.turn) in twice
    ]
    matches, _ = build_matches(
        build_pairs(asked, sides, against=[Arm.BASE]), sides, protocol, seed=seed
    )
    return SelfRound(
        prompts=asked,
        games=tuple(Game(match=m, protocol=protocol, judge=judge, place=place) for m in matches),
        protocol=protocol,
    )


def self_preferences(found: SelfRound, replies: Mapping[str, Reply]) -> list[Preference]:
    """P(the second answer is better) by question; the opponent is then tuned itself."""
    pairs = build_pairs(found.prompts, [], against=[Arm.BASE])
    rows = preferences(judgments(found.games, replies), pairs, found.protocol)
    return [row.model_copy(update={"opponent": Arm.TUNED}) for row in rows]
