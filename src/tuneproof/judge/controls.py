"""Controls: pairs whose better answer is known, shown to the judge before it is believed.

Three kinds, each a right answer against a worse one: the right answer to *another* question; the
right answer cut to a third; nothing at all. They are drawn by a named seed, and are to be shown in
both orders through the protocol that the judge is used with. Pure functions: asking is left to
``stage``, and what the judge made of the pairs to ``accuracy``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from tuneproof.judge.cuts import cut_at_word
from tuneproof.judge.similarity import normalise
from tuneproof.recipe import rng
from tuneproof.records import Arm, Match

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof.records import Prompt

KEPT: Final = 1 / 3
"""Of a truncated answer. A half often still holds all that was asked, since answers begin with the
point, and a judge that prefers it as the brief one is not wrong; a few words ask no more of a judge
than the empty answer does. After a third, an answer of any length lacks most of what it said."""

WORDS_TO_TRUNCATE: Final = 24
"""An answer of fewer words may be complete after a third: eight words can name what was asked."""

OPPONENT: Final = Arm.BASE
"""Whose place the wrong answer has in a match; the right one has tuned's."""


class ControlKind(StrEnum):
    """What the right answer is shown against."""

    OTHER_QUESTION = "other-question"
    TRUNCATED = "truncated"
    EMPTY = "empty"


@dataclass(frozen=True, kw_only=True)
class KnownAnswer:
    """A question with an answer that is known to be right: a reference, or a strong stored one."""

    question_id: str
    benchmark: str
    instruction: str
    context: str
    right: str


@dataclass(frozen=True, kw_only=True)
class Control:
    """One pair with a known winner. ``wrong_from`` is the question whose right answer it is."""

    kind: ControlKind
    known: KnownAnswer
    wrong: str
    wrong_from: str | None = None

    @property
    def id(self) -> str:
        """Names the control; its matches have it as their question."""
        return f"control/{self.kind}/{self.known.question_id}"

    def matches(self) -> tuple[Match, Match]:
        """Both orders. The right answer has the place of tuned's, so that tuned should win.

        They have no category: where a protocol has prompts of its own for one (MT-Bench's with
        reference answers), the general prompt is tested.
        """
        return self._match(Arm.TUNED), self._match(OPPONENT)

    def _match(self, first: Arm) -> Match:
        right_first = first is Arm.TUNED
        right, wrong = self.known.right, self.wrong
        return Match(
            question_id=self.id,
            benchmark=self.known.benchmark,
            opponent=OPPONENT,
            instruction=self.known.instruction,
            context=self.known.context,
            first=first,
            answer_a=right if right_first else wrong,
            answer_b=wrong if right_first else right,
        )


@dataclass(frozen=True, kw_only=True)
class CannotBuild:
    """That ``n_missing`` controls of one kind could not be made, and why."""

    kind: ControlKind
    n_missing: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Controls:
    """The controls that could be built, kind by kind, and what could not."""

    controls: tuple[Control, ...]
    cannot: tuple[CannotBuild, ...]


def known_answers(prompts: Sequence[Prompt], stored: Mapping[str, str]) -> list[KnownAnswer]:
    """Of the prompts' first turns, those with an answer known to be right.

    Args:
        prompts: a reference response is the right answer.
        stored: for questions without one, by id: answers of a much better model, such as those of
            a benchmark's baseline.
    """
    found = []
    for p in prompts:
        right = p.reference if p.reference is not None else stored.get(p.question_id)
        if p.turn == 1 and right is not None:
            found.append(
                KnownAnswer(
                    question_id=p.question_id,
                    benchmark=p.benchmark,
                    instruction=p.instruction,
                    context=p.context,
                    right=right,
                )
            )
    return found


def build_controls(known: Sequence[KnownAnswer], *, seed: int, per_kind: int) -> Controls:
    """Draw the controls: ``per_kind`` of each kind, as far as the answers allow.

    Kinds take different questions as long as there are enough, so that their results are
    independent; within a kind a question comes once. The draws are
    ``rng(seed, "judge", "controls", …)``.

    Args:
        known: questions with right answers, in any order; each id once.
        seed: the recipe's.
        per_kind: how many of each kind.
    """
    usable = [k for k in known if k.right.strip() and k.instruction.strip()]
    order = sorted(usable, key=lambda k: k.question_id)
    rng(seed, "judge", "controls").shuffle(order)
    taken: set[str] = set()
    by_kind: dict[ControlKind, list[Control]] = {}
    # The kind that fewest answers are fit for chooses first.
    for kind in (ControlKind.TRUNCATED, ControlKind.OTHER_QUESTION, ControlKind.EMPTY):
        made: list[Control] = []
        # Sorting is stable: questions that no kind has taken come first, in the drawn order.
        for one in sorted(order, key=lambda k: k.question_id in taken):
            if len(made) == per_kind:
                break
            control = _control(kind, one, order, seed=seed)
            if control is not None:
                made.append(control)
        taken.update(c.known.question_id for c in made)
        by_kind[kind] = made
    cannot = [
        CannotBuild(
            kind=kind,
            n_missing=per_kind - len(by_kind[kind]),
            reason=_reason(kind, len(by_kind[kind]), n_known=len(known), n_usable=len(usable)),
        )
        for kind in ControlKind
        if len(by_kind[kind]) < per_kind
    ]
    return Controls(
        controls=tuple(c for kind in ControlKind for c in by_kind[kind]), cannot=tuple(cannot)
    )


def _control(
    kind: ControlKind, known: KnownAnswer, others: Sequence[KnownAnswer], *, seed: int
) -> Control | None:
    if kind is ControlKind.EMPTY:
        return Control(kind=kind, known=known, wrong="")
    if kind is ControlKind.TRUNCATED:
        if len(known.right.split()) < WORDS_TO_TRUNCATE:
            return None
        right = known.right.strip()
        return Control(kind=kind, known=known, wrong=cut_at_word(right, int(len(right) * KEPT)))
    candidates = list(others)
    rng(seed, "judge", "controls", "other", known.question_id).shuffle(candidates)
    for other in candidates:
        if _is_wrong_here(other, known):
            return Control(kind=kind, known=known, wrong=other.right, wrong_from=other.question_id)
    return None


def _is_wrong_here(other: KnownAnswer, known: KnownAnswer) -> bool:
    """Whether the right answer to one question is surely none to the other.

    Not where both ask the same (of other contexts, maybe), nor where one answer is within the
    other: "twelve" and "twelve sheep" may both be right.
    """
    if normalise(other.instruction) == normalise(known.instruction):
        return False
    a, b = (f" {normalise(k.right)} " for k in (other, known))
    return a not in b and b not in a


def _reason(kind: ControlKind, n_made: int, *, n_known: int, n_usable: int) -> str:
    if n_known == 0:
        return "no question has a reference or stored answer that is known to be right"
    if n_usable == 0:
        return f"all {n_known} known answers are empty"
    fit = {
        ControlKind.OTHER_QUESTION: "have one of another question that is surely wrong for them",
        ControlKind.TRUNCATED: f"have at least {WORDS_TO_TRUNCATE} words, as it takes to be "
        "visibly cut",
        ControlKind.EMPTY: "are not empty",
    }[kind]
    return f"only {n_made} of {n_known} known answers {fit}"
