"""Asking everyone everything by the batch plan, with a journal of the answers.

The prompt of a later turn holds the answers before it, and those are the same in every run of the
plan: a killed run follows it again and goes on with the first batch that is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tuneproof.generate.asking import Asked
from tuneproof.generate.batch import Ask, make_batch
from tuneproof.generate.plan import Respondent
from tuneproof.records import Answer, Prompt, Stop
from tuneproof.train.memory import trim_heap
from tuneproof.workspace import Journal, digest_value

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tuneproof.generate.asking import Asking
    from tuneproof.generate.batch import Batch
    from tuneproof.progress import Reporter
    from tuneproof.recipe import Generate
    from tuneproof.records import BatchPlan


class Backend(Protocol):
    """Answers batches in this process."""

    def answer(self, batch: Batch, on_tokens: Callable[[int], None]) -> list[Answer]:
        """The answers to a batch, in its order; ``on_tokens`` hears how many more were written."""


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
    plan: BatchPlan,
    *,
    seed: int,
    journal_file: Path,
    reporter: Reporter,
) -> Answers:
    """Answer the plan's batches in their order; nothing is asked twice."""
    held = {(i.who, i.sample): i for i in interviews}
    said: dict[tuple[Respondent, int], dict[tuple[str, int], Answer]] = {who: {} for who in held}
    resumed = 0
    with (
        Journal(journal_file, Answer) as journal,
        reporter.task("answers", sum(len(i.prompts) for i in interviews), unit="answers") as task,
    ):
        for planned in plan.batches:
            who = Respondent(planned.arm, planned.adapter), planned.sample
            interview = held[who]
            prompts = {(p.question_id, p.turn): p for p in interview.prompts}
            asks, failed = turn_asks(interview, [prompts[t] for t in planned.turns], said[who])
            said[who].update({(a.question_id, a.turn): a for a in failed})
            known = 0
            if asks:
                batch = make_batch(
                    asks,
                    generate,
                    who=interview.who,
                    weights=interview.weights,
                    stops=interview.asking.stops,
                    seed=seed,
                    sample=interview.sample,
                    by_category=interview.by_category,
                )
                known = sum(key in journal for key in batch.keys)
                if known < len(batch.keys):
                    task.advance(0, note=interview.who.name)
                    journal.append(backend.answer(batch, task.tokens))
                    trim_heap()
                resumed += known
                task.skip(known)
                said[who].update({(a.question_id, a.turn): a for a in _of(batch, journal)})
            task.advance(len(planned.turns) - known, note=interview.who.name)
    rows = [said[i.who, i.sample][p.question_id, p.turn] for i in interviews for p in i.prompts]
    return Answers(rows=rows, resumed=resumed)


def _of(batch: Batch, journal: Journal[Answer]) -> list[Answer]:
    found = [journal.get(key) for key in batch.keys]
    return [answer for answer in found if answer is not None]


def turn_asks(
    interview: Interview, prompts: Sequence[Prompt], said: dict[tuple[str, int], Answer]
) -> tuple[list[Ask], list[Answer]]:
    """Prompts as this respondent is asked them, and those that cannot be asked.

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
