"""The questions of the report, each with both answers, its scores and the judge's replies.

Joins records by question; scores nothing. Which arm a question favours is read off what was scored:
exact match where the two differ in it, else the judge where all its readable replies agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tuneproof.records import Arm, Stop
from tuneproof.report.numbers import count, number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.records import Answer, Judgment, Prompt, Similarity

_STOPS = {
    Stop.EOS: "stopped by itself",
    Stop.LENGTH: "cut at the token limit",
    Stop.ERROR: "failed",
}


@dataclass(frozen=True, kw_only=True)
class Side:
    """One arm's answer to one question; where ``text`` is None, ``problem`` says why."""

    arm: str
    text: str | None
    problem: str
    stop: str
    length: str
    exact: bool | None
    chrf: str


@dataclass(frozen=True, kw_only=True)
class Reply:
    """One judgment: who was shown first, whom the judge preferred (or why nobody knows)."""

    judge: str
    first: str
    says: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question with both answers."""

    number: int
    question_id: str
    benchmark: str
    category: str
    instruction: str
    context: str
    reference: str | None
    base: Side
    tuned: Side
    replies: tuple[Reply, ...]
    differs: bool
    favours: Literal["tuned", "base", ""]


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


def build_cases(
    prompts: Sequence[Prompt],
    *,
    answers: Sequence[Answer],
    similarities: Sequence[Similarity],
    judgments: Sequence[Judgment],
) -> Cases:
    """Join the records of each prompt."""
    answer_of = {(a.benchmark, a.question_id, a.arm): a for a in answers}
    similar_of = {(s.question_id, s.arm): s for s in similarities}
    judged: dict[tuple[str, str], list[Judgment]] = {}
    for j in judgments:
        judged.setdefault((j.benchmark, j.question_id), []).append(j)
    cases = []
    for position, prompt in enumerate(prompts, start=1):
        question = (prompt.benchmark, prompt.question_id)
        base, tuned = (
            _side(arm, answer_of.get((*question, arm)), similar_of.get((prompt.question_id, arm)))
            for arm in (Arm.BASE, Arm.TUNED)
        )
        about = sorted(judged.get(question, []), key=lambda j: (j.judge, j.first))
        differs, favours = _favours(base, tuned, about)
        cases.append(
            Case(
                number=position,
                question_id=prompt.question_id,
                benchmark=prompt.benchmark,
                category=prompt.category or "",
                instruction=prompt.instruction,
                context=prompt.context,
                reference=prompt.reference,
                base=base,
                tuned=tuned,
                replies=tuple(_reply(j) for j in about),
                differs=differs,
                favours=favours,
            )
        )
    known = {(p.benchmark, p.question_id) for p in prompts}
    orphans = sum((a.benchmark, a.question_id) not in known for a in answers)
    return Cases(cases=tuple(cases), n_orphans=orphans)


def _side(arm: Arm, answer: Answer | None, similarity: Similarity | None) -> Side:
    failed = answer is not None and answer.stop is Stop.ERROR
    problem = ""
    if answer is None:
        problem = "no answer was recorded"
    elif failed:
        problem = f"failed: {answer.error or 'no reason was recorded'}"
    return Side(
        arm=arm.value,
        text=None if answer is None or failed else answer.text,
        problem=problem,
        stop=_STOPS[answer.stop] if answer else "",
        length=_tokens(answer.n_tokens) if answer and not failed else "",
        exact=similarity.exact if similarity else None,
        chrf=f"chrF {number(similarity.chrf * 100, digits=1)} %" if similarity else "",
    )


def _tokens(n: int) -> str:
    return f"{count(n)} token{'' if n == 1 else 's'}"


def _preferred(judgment: Judgment) -> Arm | Literal["tie"] | None:
    if judgment.prefers is None or judgment.prefers == "tie":
        return judgment.prefers
    if judgment.prefers == "A":
        return judgment.first
    return Arm.TUNED if judgment.first is Arm.BASE else Arm.BASE


def _reply(judgment: Judgment) -> Reply:
    preferred = _preferred(judgment)
    if preferred is None:
        says = f"unparsed: {judgment.unparsed}"
    elif isinstance(preferred, Arm):
        says = f"prefers {preferred.value}"
    else:
        says = "tie"
    return Reply(judge=judgment.judge, first=judgment.first.value, says=says, text=judgment.reply)


def _favours(
    base: Side, tuned: Side, judgments: Sequence[Judgment]
) -> tuple[bool, Literal["tuned", "base", ""]]:
    """Whether the two differ in exact match or a judge's preference, and whom that favours."""
    if base.exact is not None and tuned.exact is not None and base.exact != tuned.exact:
        return True, "tuned" if tuned.exact else "base"
    said = {_preferred(j) for j in judgments} - {None}
    if said == {Arm.TUNED}:
        return True, "tuned"
    if said == {Arm.BASE}:
        return True, "base"
    return bool(said - {"tie"}), ""
