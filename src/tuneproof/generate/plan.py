"""The batch plan: which prompts are answered together, by whom, and in which order. Pure.

It is made, and written, before the first answer, from the prompts and the budget alone: no device,
number type, thread or clock has a part in it, nor has anything that was answered. A later turn,
whose prompt is not there yet, counts as long as it can get. Batches mix the benchmarks, and later
turns with the first turns that are left. How a batch is answered is left to ``batch`` and to the
back ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from tuneproof.generate.asking import Asked
from tuneproof.records import Arm, BatchPlan, PlannedBatch
from tuneproof.workspace import digest_value, write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tuneproof.generate.answers import Interview
    from tuneproof.progress import Reporter
    from tuneproof.records import Budget

PLAN_FILE = "plan.json"


@dataclass(frozen=True)
class Respondent:
    """Who answers: an arm, and for tuned which of the trained adapters, counted from 1."""

    arm: Arm
    adapter: int = 1

    @property
    def name(self) -> str:
        """What progress lines call it."""
        return f"{self.arm} {self.adapter}" if self.adapter > 1 else self.arm.value


BASE = Respondent(Arm.BASE)
FAIR_BASE = Respondent(Arm.FAIR_BASE)
PLACEBO = Respondent(Arm.PLACEBO)


@dataclass(frozen=True, kw_only=True)
class Turn:
    """One turn that is to be asked, and the most tokens that its prompt can have."""

    question_id: str
    turn: int
    length: int


def chunk_by_tokens(rows: Sequence[Sequence[int]], budget: int) -> list[list[int]]:
    """Indices of rows in chunks of like length, longest first, within ``budget`` padded tokens.

    A row that is longer than the budget is a chunk of its own.
    """
    chunks: list[list[int]] = []
    for i in sorted(range(len(rows)), key=lambda i: (-len(rows[i]), i)):
        # Rows come longest first, so a chunk's first row is its width.
        if chunks and len(rows[chunks[-1][0]]) * (len(chunks[-1]) + 1) <= budget:
            chunks[-1].append(i)
        else:
            chunks.append([i])
    return chunks


def compose(turns: Iterable[Turn], budget: Budget) -> list[list[Turn]]:
    """The turns of one respondent in batches; a turn comes after the earlier ones of its question.

    A batch has at most ``budget.batch_size`` prompts and, each counted as long as the longest and
    with ``max_new_tokens``, ``budget.batch_tokens`` tokens; a prompt that is longer than that is a
    batch of its own. First come turns that others wait for, and beside them the longest: so all
    batches are full but the last, and the longest are not left for the end.
    """
    later: dict[str, list[Turn]] = {}
    for turn in sorted(turns, key=lambda t: t.turn):
        later.setdefault(turn.question_id, []).append(turn)
    able = [waiting.pop(0) for waiting in later.values()]
    batches = []
    while able:
        able.sort(key=lambda t: (-len(later[t.question_id]), -t.length, t.question_id))
        batch: list[Turn] = []
        left: list[Turn] = []
        width = 0
        for turn in able:
            wider, more = max(width, turn.length), len(batch) + 1
            if not batch or (
                more <= budget.batch_size
                and (wider + budget.max_new_tokens) * more <= budget.batch_tokens
            ):
                batch.append(turn)
                width = wider
            else:
                left.append(turn)
        batches.append(batch)
        freed = [later[t.question_id].pop(0) for t in batch if later[t.question_id]]
        able = left + freed
    return batches


def plan_answers(
    interviews: Sequence[Interview], budget: Budget, *, file: Path, reporter: Reporter
) -> BatchPlan:
    """The plan of these interviews: the one in ``file`` if it is theirs, else made and written.

    A plan is theirs if it was made of the same prompts and budget and has every turn once, after
    the earlier ones. So a run that goes on follows what it began with.
    """
    expected = [expected_turns(i, max_new_tokens=budget.max_new_tokens) for i in interviews]
    of = digest_value(
        [
            budget.model_dump(),
            [
                [i.who.arm, i.who.adapter, i.sample, prompts]
                for i, (_, prompts) in zip(interviews, expected, strict=True)
            ],
        ]
    )
    found = _read(file)
    if found is not None and found.of == of and _is_whole(found, interviews):
        return found
    if file.exists():
        reporter.say(
            f"    {file.name} is not the plan of these prompts and this budget: planned anew; the "
            "answers of batches that stay the same are kept"
        )
    plan = BatchPlan(
        of=of,
        budget=budget,
        batches=tuple(
            PlannedBatch(
                arm=interview.who.arm,
                adapter=interview.who.adapter,
                sample=interview.sample,
                turns=tuple((t.question_id, t.turn) for t in batch),
            )
            for interview, (turns, _) in zip(interviews, expected, strict=True)
            for batch in compose(turns, budget)
        ),
    )
    write_atomic(file, plan.model_dump_json() + "\n")
    return plan


def expected_turns(
    interview: Interview, *, max_new_tokens: int
) -> tuple[list[Turn], list[tuple[str, int, list[int]]]]:
    """An interview's turns, and the token ids that they rest on.

    Those are of a prompt whose earlier answers are empty; each of these can get ``max_new_tokens``
    long.
    """
    before = {(p.question_id, p.turn): p.instruction for p in interview.prompts}
    encoded = interview.asking.encode(
        [
            Asked(
                instruction=p.instruction,
                context=p.context,
                earlier=tuple((before[p.question_id, n], "") for n in range(1, p.turn)),
            )
            for p in interview.prompts
        ]
    )
    turns, prompts = [], []
    for prompt, ids in zip(interview.prompts, encoded, strict=True):
        length = len(ids) + (prompt.turn - 1) * max_new_tokens
        turns.append(Turn(question_id=prompt.question_id, turn=prompt.turn, length=length))
        prompts.append((prompt.question_id, prompt.turn, list(ids)))
    return turns, sorted(prompts)


def _read(file: Path) -> BatchPlan | None:
    """The plan in the file; None where there is none, or what is there is no plan."""
    try:
        return BatchPlan.model_validate_json(file.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _is_whole(plan: BatchPlan, interviews: Sequence[Interview]) -> bool:
    wanted = {
        (i.who.arm, i.who.adapter, i.sample, p.question_id, p.turn)
        for i in interviews
        for p in i.prompts
    }
    seen: set[tuple[Arm, int, int, str, int]] = set()
    for batch in plan.batches:
        who = (batch.arm, batch.adapter, batch.sample)
        turns = {(*who, question, turn) for question, turn in batch.turns}
        ready = all(n == 1 or (*who, question, n - 1) in seen for question, n in batch.turns)
        if len(turns) < len(batch.turns) or not ready or turns & seen:
            return False
        seen |= turns
    return seen == wanted
