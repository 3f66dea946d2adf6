"""The questions of the report, each with its answers, their scores and the judge's replies.

Joins records by question and turn; scores nothing. Which arm a question favours is its scored
preference, counted as the tables count it, so that what a filter leaves is what a table says. That
is asked of each opponent and adapter by itself: a *view* of the question.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tuneproof.records import Arm, Stop
from tuneproof.report.numbers import count, number
from tuneproof.report.pairwise import not_asked
from tuneproof.stats.lengths import length_band

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.records import Answer, Judgment, Preference, Prompt, Similarity

STOPS = {
    Stop.EOS: "stopped by itself",
    Stop.STOP_STRING: "stopped at a stop string",
    Stop.LENGTH: "cut at the token limit",
    Stop.GIVEN: "stored answer",
    Stop.ERROR: "failed",
}
"""Why an answer ended, in words."""
Result = Literal["tuned", "opponent", "tie", "unscored", "none"]
"""Whom a question favours. ``unscored``: it was judged and has no value; ``none``: it was not."""


@dataclass(frozen=True, kw_only=True)
class Side:
    """One arm's answer at one turn; where ``text`` is None, ``problem`` says why.

    ``adapter`` is 0 where there is only one, and for arms without.
    """

    arm: str
    adapter: int
    text: str | None
    problem: str
    ended: Stop | None
    length: str
    exact: bool | None
    chrf: str

    @property
    def name(self) -> str:
        """What it is called above its answer."""
        return f"{self.arm}, adapter {self.adapter}" if self.adapter else self.arm

    @property
    def stop(self) -> str:
        """Why it ended, in words; empty where there is no answer."""
        return STOPS[self.ended] if self.ended else ""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One judgment: who was shown first, whom the judge preferred (or why nobody knows).

    ``against`` is the opponent; ``adapter`` as in ``Side``.
    """

    judge: str
    against: str
    adapter: int
    first: str
    says: str
    text: str

    @property
    def about(self) -> str:
        """Who was compared, in a few words."""
        tuned = f"tuned (adapter {self.adapter})" if self.adapter else "tuned"
        return f"{tuned} against {self.against}"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn: what was asked, what everyone answered, what the judge said of it."""

    number: int
    instruction: str
    context: str
    reference: str | None
    sides: tuple[Side, ...]
    replies: tuple[Reply, ...]

    def side(self, arm: Arm, adapter: int = 0) -> Side:
        """The answer of an arm (and adapter, where there are several)."""
        name = arm.value
        return next(s for s in self.sides if (s.arm, s.adapter) == (name, adapter))


@dataclass(frozen=True, kw_only=True)
class View:
    """One opponent and adapter on a question: whom it favours, and what it can be searched by.

    ``orders_disagree`` is whether, at any turn, both orders do not prefer the same. ``length`` is
    the band of tuned's length (see ``length_band``), all turns together; empty where an answer is
    missing.
    """

    against: str
    adapter: int
    result: Result
    orders_disagree: bool
    length: str

    @property
    def said(self) -> str:
        """``favours tuned``, ``favours base``, ``tie``, ``not scored`` or ``not compared``."""
        return {
            "tuned": "favours tuned",
            "opponent": f"favours {self.against}",
            "tie": "tie",
            "unscored": "not scored",
            "none": "not compared",
        }[self.result]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question with all that was said to it; ``number`` is its place in the report."""

    number: int
    question_id: str
    benchmark: str
    category: str
    turns: tuple[Turn, ...]
    views: tuple[View, ...]


@dataclass(frozen=True, kw_only=True)
class Cases:
    """All cases, in the order of the prompts, and how many answers belong to none."""

    cases: tuple[Case, ...]
    n_orphans: int

    def sample(self, n: int) -> tuple[Case, ...]:
        """At most ``n`` cases, evenly spaced, so that nobody chose them by their result."""
        if len(self.cases) <= n:
            return self.cases
        return tuple(self.cases[k * len(self.cases) // n] for k in range(n))

    @property
    def categories(self) -> list[str]:
        """The categories that occur, sorted."""
        return sorted({c.category for c in self.cases if c.category})

    @property
    def benchmarks(self) -> list[str]:
        """The benchmarks, in the order of their first questions."""
        return list(dict.fromkeys(c.benchmark for c in self.cases))

    @property
    def opponents(self) -> list[str]:
        """Whom tuned is set against in any case; base first."""
        return list(dict.fromkeys(v.against for c in self.cases for v in c.views))

    @property
    def adapters(self) -> list[int]:
        """The adapters' numbers where there are several; else nothing."""
        return sorted({v.adapter for c in self.cases for v in c.views} - {0})

    @property
    def stops(self) -> list[Stop]:
        """Why answers ended, as far as it occurs; the usual end first."""
        sides = [s for c in self.cases for t in c.turns for s in t.sides]
        found = {s.ended for s in sides}
        return [stop for stop in Stop if stop in found]


def build_cases(
    prompts: Sequence[Prompt],
    *,
    answers: Sequence[Answer],
    similarities: Sequence[Similarity],
    judgments: Sequence[Judgment],
    preferences: Sequence[Preference],
) -> Cases:
    """Join the records of each question; its turns follow one another in ``prompts``."""
    joined = _Joined(answers, similarities, judgments, preferences)
    questions: dict[tuple[str, str], list[Prompt]] = {}
    for prompt in prompts:
        questions.setdefault((prompt.benchmark, prompt.question_id), []).append(prompt)
    known = {(p.question_id, p.turn) for p in prompts}
    return Cases(
        cases=tuple(
            _case(position, turns, joined)
            for position, turns in enumerate(questions.values(), start=1)
        ),
        n_orphans=sum((a.question_id, a.turn) not in known for a in answers),
    )


class _Joined:
    """Records by the place they belong to."""

    def __init__(
        self,
        answers: Sequence[Answer],
        similarities: Sequence[Similarity],
        judgments: Sequence[Judgment],
        preferences: Sequence[Preference],
    ) -> None:
        self.answers = {(a.question_id, a.turn, a.arm, a.adapter): a for a in answers}
        self.similarities = {(s.question_id, s.arm, s.adapter): s for s in similarities}
        self.judgments: dict[tuple[str, int], list[Judgment]] = {}
        for j in judgments:
            self.judgments.setdefault((j.question_id, j.turn), []).append(j)
        self.preferences: dict[tuple[str, Arm, int], list[Preference]] = {}
        for p in preferences:
            self.preferences.setdefault((p.question_id, p.opponent, p.adapter), []).append(p)
        self.compared = {(p.benchmark, p.opponent) for p in preferences}
        self.adapters = sorted({a.adapter for a in answers if a.arm is Arm.TUNED} or {1})
        self.by_arm = {
            arm: {a.question_id for a in answers if a.arm is arm}
            for arm in (Arm.FAIR_BASE, Arm.BASELINE)
        }

    def shown_as(self, adapter: int) -> int:
        """The adapter's number, or 0 where it is the only one."""
        return adapter if len(self.adapters) > 1 else 0


def _case(position: int, prompts: Sequence[Prompt], joined: _Joined) -> Case:
    first = prompts[0]
    others = [arm for arm, asked in joined.by_arm.items() if first.question_id in asked]
    opponents = [Arm.BASE, *others]
    turns = tuple(_turn(prompt, opponents, joined) for prompt in prompts)
    return Case(
        number=position,
        question_id=first.question_id,
        benchmark=first.benchmark,
        category=first.category or "",
        turns=turns,
        views=tuple(
            _view(
                opponent,
                joined.shown_as(adapter),
                turns,
                joined.preferences.get((first.question_id, opponent, adapter), []),
                compared=(first.benchmark, opponent) in joined.compared,
            )
            for opponent in opponents
            for adapter in joined.adapters
        ),
    )


def _turn(prompt: Prompt, opponents: Sequence[Arm], joined: _Joined) -> Turn:
    who = [*((arm, 1) for arm in opponents), *((Arm.TUNED, n) for n in joined.adapters)]
    arms = list(Arm)
    about = sorted(
        joined.judgments.get((prompt.question_id, prompt.turn), []),
        key=lambda j: (arms.index(j.opponent), j.adapter, j.judge, arms.index(j.first)),
    )
    return Turn(
        number=prompt.turn,
        instruction=prompt.instruction,
        context=prompt.context,
        reference=prompt.reference,
        sides=tuple(
            _side(
                arm,
                joined.shown_as(adapter) if arm is Arm.TUNED else 0,
                joined.answers.get((prompt.question_id, prompt.turn, arm, adapter)),
                joined.similarities.get((prompt.question_id, arm, adapter))
                if prompt.reference is not None
                else None,
            )
            for arm, adapter in who
        ),
        replies=tuple(_reply(j, joined.shown_as(j.adapter)) for j in about),
    )


def _side(arm: Arm, adapter: int, answer: Answer | None, similarity: Similarity | None) -> Side:
    failed = answer is not None and answer.stop is Stop.ERROR
    problem = ""
    if answer is None:
        problem = "no answer was recorded"
    elif failed:
        problem = f"failed: {answer.error or 'no reason was recorded'}"
    return Side(
        arm=arm.value,
        adapter=adapter,
        text=None if answer is None or failed else answer.text,
        problem=problem,
        ended=answer.stop if answer else None,
        length=_length(answer) if answer and not failed else "",
        exact=similarity.exact if similarity else None,
        chrf=f"chrF {number(similarity.chrf * 100, digits=1)} %" if similarity else "",
    )


def _length(answer: Answer) -> str:
    """In tokens; a stored answer has none that we know."""
    n, unit = answer.n_tokens, "token"
    if answer.stop is Stop.GIVEN:
        n, unit = len(answer.text), "character"
    return f"{count(n)} {unit}{'' if n == 1 else 's'}"


def _preferred(judgment: Judgment) -> Arm | Literal["tie"] | None:
    if judgment.prefers is None or judgment.prefers == "tie":
        return judgment.prefers
    if judgment.prefers == "A":
        return judgment.first
    return judgment.opponent if judgment.first is Arm.TUNED else Arm.TUNED


def _reply(judgment: Judgment, adapter: int) -> Reply:
    preferred = _preferred(judgment)
    if preferred is None:
        says = f"unparsed: {judgment.unparsed}"
    else:
        says = f"prefers {preferred.value}" if isinstance(preferred, Arm) else "tie"
        says += "" if judgment.asked else f" ({not_asked(judgment.protocol)})"
    if judgment.p_first is not None and 0 < judgment.p_first < 1 and judgment.asked:
        says += _how_sure(judgment)
    return Reply(
        judge=judgment.judge,
        against=judgment.opponent.value,
        adapter=adapter,
        first=judgment.first.value,
        says=says,
        text=judgment.reply,
    )


def _how_sure(judgment: Judgment) -> str:
    """P(tuned is better), where the judge's word was weighed."""
    assert judgment.p_first is not None
    if judgment.top_logprobs is None:
        return ""
    p = judgment.p_first if judgment.first is Arm.TUNED else 1 - judgment.p_first
    return f" (tuned {number(100 * p, digits=1)} %)"


def _view(
    opponent: Arm,
    adapter: int,
    turns: Sequence[Turn],
    preferences: Sequence[Preference],
    *,
    compared: bool,
) -> View:
    """``compared`` is whether a judge compared answers of the benchmark with the opponent's."""
    ours = [t.side(Arm.TUNED, adapter) for t in turns]
    theirs = [t.side(opponent) for t in turns]
    exact, other = ours[0].exact, theirs[0].exact
    result: Result = "none"
    if preferences:
        result = _favoured([p.value for p in preferences if p.value is not None])
    elif not compared and exact is not None and other is not None:
        result = "tie" if exact == other else "tuned" if exact else "opponent"
    texts = [[s.text for s in sides if s.text is not None] for sides in (ours, theirs)]
    whole = all(len(said_by) == len(turns) for said_by in texts)
    return View(
        against=opponent.value,
        adapter=adapter,
        result=result,
        orders_disagree=any(p.orders_agree is False for p in preferences),
        length=length_band(*(sum(map(len, said_by)) for said_by in texts)) if whole else "",
    )


def _favoured(values: Sequence[float]) -> Result:
    """By the mean of what was scored, as ``Tally`` counts questions: a tie is one half, exactly."""
    if not values:
        return "unscored"
    mean = math.fsum(values) / len(values)
    return "tie" if mean == 0.5 else "tuned" if mean > 0.5 else "opponent"
