"""Asking everyone everything, turn after turn, with a journal of the answers.

A later turn can be asked only when the earlier one has been answered, so each respondent answers
all first turns, then all second ones. The plan of a turn follows from the answers before it, and
those are the same in every run: a killed run plans the same batches and goes on with the first one
that is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tuneproof.generate.asking import Asked
from tuneproof.generate.plan import Ask, plan_batches
from tuneproof.records import Answer, Prompt, Stop
from tuneproof.train.memory import trim_heap
from tuneproof.workspace import Journal, digest_value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tuneproof.generate.asking import Asking
    from tuneproof.generate.plan import Batch, Respondent
    from tuneproof.progress import Reporter
    from tuneproof.recipe import Generate


class Backend(Protocol):
    """Answers batches in this process."""

    def answer(self, batch: Batch) -> list[Answer]:
        """The answers to a batch, in its order."""


@dataclass(frozen=True, kw_only=True)
class Interview:
    """One respondent, how it is asked, and what: the questions' prompts, all turns, in order.

    ``weights`` identifies the weights that answer. ``sample`` 2 asks for second answers, drawn
    independently of the first. With ``by_category``, MT-Bench's categories have temperatures of
    their own.
    """

    who: Respondent
    asking: Asking
    prompts: tuple[Prompt, ...]
    weights: str
    sample: int = 1
    by_category: bool = False


@dataclass(frozen=True, kw_only=True)
class Answers:
    """All answers, interview by interview, in the order of the prompts.

    ``resumed`` of them were there already; ``failed`` may succeed when they are asked again.
    """

    rows: list[Answer]
    resumed: int
    failed: int = 0


def answer_all(
    backend: Backend,
    interviews: Sequence[Interview],
    generate: Generate,
    *,
    seed: int,
    journal_file: Path,
    reporter: Reporter,
) -> Answers:
    """Hold the interviews one after another; nothing is asked twice."""
    total = sum(len(i.prompts) for i in interviews)
    rows: list[Answer] = []
    resumed = 0
    with (
        Journal(journal_file, Answer) as journal,
        reporter.task("answers", total, unit="answers") as task,
    ):
        for interview in interviews:
            said: dict[tuple[str, int], Answer] = {}
            for turn in sorted({p.turn for p in interview.prompts}):
                prompts = [p for p in interview.prompts if p.turn == turn]
                asks, failed = turn_asks(interview, prompts, said)
                said.update({(a.question_id, a.turn): a for a in failed})
                for batch in plan_batches(
                    asks,
                    generate,
                    who=interview.who,
                    weights=interview.weights,
                    stops=interview.asking.stops,
                    seed=seed,
                    sample=interview.sample,
                    by_category=interview.by_category,
                ):
                    known = sum(key in journal for key in batch.keys)
                    if known < len(batch.keys):
                        journal.append(backend.answer(batch))
                        trim_heap()
                    resumed += known
                    said.update({(a.question_id, a.turn): a for a in _of(batch, journal)})
                    task.advance(len(batch.keys), note=interview.who.name)
                if failed:
                    task.advance(len(failed))
            rows.extend(said[p.question_id, p.turn] for p in interview.prompts)
    return Answers(rows=rows, resumed=resumed)


def _of(batch: Batch, journal: Journal[Answer]) -> list[Answer]:
    found = [journal.get(key) for key in batch.keys]
    return [answer for answer in found if answer is not None]


def turn_asks(
    interview: Interview, prompts: Sequence[Prompt], said: dict[tuple[str, int], Answer]
) -> tuple[list[Ask], list[Answer]]:
    """The prompts of one turn as this respondent is asked them, and those that cannot be asked.

    A turn whose conversation has a failed answer in it is itself a failed answer that says so: it
    is never asked with something else in that place.

    Args:
        said: this respondent's answers to the earlier turns, by question and turn.
    """
    before = {(p.question_id, p.turn): p for p in interview.prompts}
    can: list[Prompt] = []
    asked: list[Asked] = []
    failed: list[Answer] = []
    for prompt in prompts:
        places = [(prompt.question_id, turn) for turn in range(1, prompt.turn)]
        broken = [said[place] for place in places if said[place].stop is Stop.ERROR]
        if broken:
            failed.append(_unasked(interview, prompt, broken[0]))
            continue
        can.append(prompt)
        asked.append(
            Asked(
                instruction=prompt.instruction,
                context=prompt.context,
                earlier=tuple((before[place].instruction, said[place].text) for place in places),
            )
        )
    encoded = interview.asking.encode(asked)
    asks = [Ask(prompt=p, token_ids=tuple(ids)) for p, ids in zip(can, encoded, strict=True)]
    return asks, failed


def _unasked(interview: Interview, prompt: Prompt, cause: Answer) -> Answer:
    return make_answer(
        interview,
        Ask(prompt=prompt, token_ids=()),
        digest_value([cause.key, "turn", prompt.turn]),
        stop=Stop.ERROR,
        error=f"not asked: the answer to turn {cause.turn} failed ({cause.error})",
    )


def make_answer(
    asked: Interview | Batch,
    ask: Ask,
    key: str,
    *,
    stop: Stop,
    text: str = "",
    n_tokens: int = 0,
    error: str | None = None,
) -> Answer:
    """The record of what a respondent said to one prompt."""
    return Answer(
        key=key,
        question_id=ask.prompt.question_id,
        benchmark=ask.prompt.benchmark,
        turn=ask.prompt.turn,
        arm=asked.who.arm,
        adapter=asked.who.adapter,
        sample=asked.sample,
        text=text,
        stop=stop,
        n_prompt_tokens=len(ask.token_ids),
        n_tokens=n_tokens,
        error=error,
    )
