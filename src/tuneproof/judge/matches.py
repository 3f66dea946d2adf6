"""Which answers meet, and what their judgments come to: pairs, matches, preferences.

A pair is the answers of an opponent and of one adapter to one turn of a question; a match shows it
in one order. Pure functions over records: how a pair is judged is the protocol's business, and
intervals are that of ``tuneproof.stats``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.errors import StageError
from tuneproof.records import (
    Answer,
    Arm,
    Exchange,
    Judgment,
    Match,
    Preference,
    Prompt,
    Stop,
    preferred,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof.judge.protocol import JudgeProtocol

Place = tuple[str, int, Arm, int]
"""Question, turn, arm and adapter: where an answer belongs. Of a pair, the arm is the opponent."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Whose answers to one prompt are compared: the opponent's, and those of one adapter."""

    prompt: Prompt
    opponent: Arm
    adapter: int

    @property
    def place(self) -> Place:
        """What names the pair."""
        return self.prompt.question_id, self.prompt.turn, self.opponent, self.adapter


def build_pairs(
    prompts: Sequence[Prompt], answers: Sequence[Answer], *, against: Sequence[Arm]
) -> list[Pair]:
    """On every prompt, every adapter that answered anything meets every opponent.

    Raises:
        StageError: two prompts of one question and turn.
    """
    adapters = sorted({a.adapter for a in answers if a.arm is Arm.TUNED} or {1})
    seen: set[tuple[str, int]] = set()
    for prompt in prompts:
        if (prompt.question_id, prompt.turn) in seen:
            raise StageError(
                "two prompts of one question", place="prompts", value=prompt.question_id
            )
        seen.add((prompt.question_id, prompt.turn))
    return [
        Pair(prompt=prompt, opponent=opponent, adapter=adapter)
        for prompt in prompts
        for opponent in against
        for adapter in adapters
    ]


def build_matches(
    pairs: Sequence[Pair], answers: Sequence[Answer], protocol: JudgeProtocol, *, seed: int
) -> tuple[list[Match], dict[str, int]]:
    """Show each pair in the orders of the protocol; of a later turn, with the turns before it.

    Args:
        pairs: in the order in which the matches come; with a later turn, also the earlier ones.
        answers: at most one for each question, turn, arm and adapter.
        seed: the recipe's seed.

    Returns:
        The matches, and the number of pairs that could not be judged, by reason. A pair lacks its
        matches as a whole: there is never one order of it only.

    Raises:
        StageError: two answers of one arm to one prompt.
    """
    said = _by_place(answers)
    prompts = {(pair.prompt.question_id, pair.prompt.turn): pair.prompt for pair in pairs}
    matches: list[Match] = []
    skipped: Counter[str] = Counter()
    for pair in pairs:
        prompt, opponent = pair.prompt, pair.opponent
        question = prompt.question_id
        # What each of the two said, turn by turn, the last one last.
        told = [
            {
                opponent: said.get((question, turn, opponent, 1)),
                Arm.TUNED: said.get((question, turn, Arm.TUNED, pair.adapter)),
            }
            for turn in range(1, prompt.turn + 1)
        ]
        problem = next((p for p in map(_why_not, reversed(told)) if p is not None), None)
        if problem is not None:
            skipped[problem] += 1
            continue
        for first in protocol.firsts(prompt, opponent, seed=seed):
            second = opponent if first is Arm.TUNED else Arm.TUNED
            *earlier, last = [(_text(t[first]), _text(t[second])) for t in told]
            matches.append(
                Match(
                    question_id=question,
                    benchmark=prompt.benchmark,
                    category=prompt.category,
                    turn=prompt.turn,
                    opponent=opponent,
                    adapter=pair.adapter,
                    instruction=prompt.instruction,
                    context=prompt.context,
                    first=first,
                    answer_a=last[0],
                    answer_b=last[1],
                    earlier=tuple(
                        Exchange(
                            instruction=prompts[question, turn].instruction,
                            answer_a=a,
                            answer_b=b,
                        )
                        for turn, (a, b) in enumerate(earlier, start=1)
                    ),
                )
            )
    return matches, dict(skipped)


def _text(answer: Answer | None) -> str:
    assert answer is not None
    return answer.text


def _by_place(answers: Sequence[Answer]) -> dict[Place, Answer]:
    found: dict[Place, Answer] = {}
    for answer in answers:
        place = (answer.question_id, answer.turn, answer.arm, answer.adapter)
        if place in found:
            raise StageError(
                f"two answers of the {answer.arm} model to one question",
                place="answers",
                value=answer.question_id,
            )
        found[place] = answer
    return found


def _why_not(sides: Mapping[Arm, Answer | None]) -> str | None:
    """Why the answers of one turn cannot be compared; None where they can."""
    missing = [arm for arm, answer in sides.items() if answer is None]
    if missing:
        return "no answer of either model" if len(missing) == 2 else f"no {missing[0]} answer"
    failed = [arm for arm, answer in sides.items() if answer and answer.stop is Stop.ERROR]
    if failed:
        return "both answers failed" if len(failed) == 2 else f"{failed[0]} answer failed"
    return None


# --- from judgments to preferences -----------------------------------------------------------


def preferences(
    judgments: Sequence[Judgment], pairs: Sequence[Pair], protocol: JudgeProtocol
) -> list[Preference]:
    """For each pair, P(tuned is better), from all judgments of it.

    A judgment counts as its probability that the tuned answer is better (1, 0 and one half where
    the judge says a word); the protocol makes one number of the orders. With two orders a pair is
    scored only if *both* were judged and could be read: one order alone would bring back the
    position bias that the other is there to cancel. ``orders_agree`` is True where both orders
    prefer the same arm, or both neither; it is None where there are no two readable replies.

    Args:
        judgments: in any order; at most one for each pair and order.
        pairs: all pairs, judged or not; the result has one row for each, in this order.

    Raises:
        StageError: two judgments of one pair in one order.
    """
    by_pair: dict[Place, dict[Arm, Judgment]] = {pair.place: {} for pair in pairs}
    for judgment in judgments:
        place = (judgment.question_id, judgment.turn, judgment.opponent, judgment.adapter)
        shown = by_pair.setdefault(place, {})
        if judgment.first in shown:
            raise StageError(
                f"two judgments with the {judgment.first} answer first",
                place="judgments",
                value=judgment.question_id,
            )
        shown[judgment.first] = judgment
    return [_preference(pair, list(by_pair[pair.place].values()), protocol) for pair in pairs]


def _preference(pair: Pair, judgments: list[Judgment], protocol: JudgeProtocol) -> Preference:
    values = [v for v in map(tuned_is_better, judgments) if v is not None]
    complete = len(values) == protocol.orders
    return Preference(
        question_id=pair.prompt.question_id,
        benchmark=pair.prompt.benchmark,
        turn=pair.prompt.turn,
        opponent=pair.opponent,
        adapter=pair.adapter,
        protocol=protocol.name,
        orders=protocol.orders,
        value=protocol.settle(values) if complete else None,
        n_judgments=len(judgments),
        n_unparsed=len(judgments) - len(values),
        orders_agree=preferred(values[0]) == preferred(values[1])
        if complete and protocol.orders == 2 and all(j.asked for j in judgments)
        else None,
    )


def tuned_is_better(judgment: Judgment) -> float | None:
    """P(the tuned answer is better) by one judgment; None where it could not be read."""
    if judgment.p_first is None:
        return None
    return judgment.p_first if judgment.first is Arm.TUNED else 1 - judgment.p_first
