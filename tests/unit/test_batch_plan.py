"""The batch plan: by hand, and as the file that a run follows."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tuneproof.data.questions import Question
from tuneproof.data.templates import parse_template
from tuneproof.generate.answers import Interview, answer_all, make_answer
from tuneproof.generate.asking import TemplateAsking
from tuneproof.generate.plan import BASE, Respondent, Turn, compose, plan_answers
from tuneproof.generate.prompts import benchmark_prompts
from tuneproof.progress import PlainReporter, SilentReporter
from tuneproof.recipe import Generate, Model
from tuneproof.records import Answer, Arm, BatchPlan, Budget, Stop
from tuneproof.train.model import load_tokenizer
from tuneproof.workspace import Journal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tuneproof.generate.batch import Batch

TUNED = Respondent(Arm.TUNED)


def turns(**lengths: int | tuple[int, ...]) -> list[Turn]:
    """Questions by name, each with the lengths of its turns."""
    return [
        Turn(question_id=name, turn=n, length=length)
        for name, given in lengths.items()
        for n, length in enumerate(given if isinstance(given, tuple) else (given,), start=1)
    ]


def names(turns: list[Turn], *, size: int, tokens: int = 1000, new: int = 4) -> list[str]:
    """The batches, each as its questions with their turns."""
    budget = Budget(batch_size=size, batch_tokens=tokens, max_new_tokens=new)
    return [" ".join(f"{t.question_id}{t.turn}" for t in b) for b in compose(turns, budget)]


def test_like_lengths_together_longest_first() -> None:
    single = turns(a=5, b=1, c=9, d=3, e=3)
    assert names(single, size=2) == ["c1 a1", "d1 e1", "b1"]


def test_a_batch_stays_within_its_tokens() -> None:
    """Prompt and new tokens count, each row as long as the batch's longest."""
    single = turns(a=6, b=5, c=4, d=2, e=2, f=1)
    assert names(single, size=64, tokens=20) == ["a1 b1", "c1 d1", "e1 f1"]
    assert names(single, size=64, tokens=8) == ["a1", "b1", "c1", "d1", "e1", "f1"]
    # What is short fits beside a question that others wait for; what is long does not.
    mixed = turns(p=(2, 9), a=8, b=2)
    assert names(mixed, size=64, tokens=14) == ["p1 b1", "p2", "a1"]


def test_second_turns_ride_with_the_first_turns_that_are_left() -> None:
    """Five questions of two turns in fours: not 4, 1, 4, 1, but 4, 4, 2."""
    pairs = turns(a=(3, 9), b=(3, 9), c=(3, 9), d=(3, 9), e=(3, 9))
    assert names(pairs, size=4) == ["a1 b1 c1 d1", "e1 a2 b2 c2", "d2 e2"]
    # Beside another benchmark: its questions fill up, and the longest come before the shorter.
    beside = turns(a=(3, 9), x=7, y=2, z=1)
    assert names(beside, size=2) == ["a1 x1", "a2 y1", "z1"]


def test_every_turn_once_after_the_earlier_ones_whatever_the_order() -> None:
    draw = random.Random(4)
    asked = turns(
        **{f"q{i}": tuple(draw.randint(1, 90) for _ in range(draw.randint(1, 3)))
           for i in range(50)}
    )  # fmt: skip
    budget = Budget(batch_size=7, batch_tokens=500, max_new_tokens=16)
    plan = compose(asked, budget)
    draw.shuffle(asked)
    assert compose(asked, budget) == plan
    seen: set[tuple[str, int]] = set()
    for batch in plan:
        assert len(batch) <= 7
        assert (max(t.length for t in batch) + 16) * len(batch) <= 500
        assert all(t.turn == 1 or (t.question_id, t.turn - 1) in seen for t in batch)
        seen |= {(t.question_id, t.turn) for t in batch}
    assert seen == {(t.question_id, t.turn) for t in asked}
    assert sum(map(len, plan)) == len(asked)


# --- the file --------------------------------------------------------------------------------


class Parrot:
    """Answers with the prompt's length, and counts its batches; dies at one of them if asked."""

    def __init__(self, dies_at: int | None = None) -> None:
        self.sizes: list[int] = []
        self._dies_at = dies_at

    def answer(self, batch: Batch, on_tokens: Callable[[int], None]) -> list[Answer]:
        if len(self.sizes) == self._dies_at:
            raise KeyboardInterrupt
        self.sizes.append(len(batch.asks))
        on_tokens(2 * len(batch.asks))
        return [
            make_answer(batch, a, k, stop=Stop.EOS, text=f"{len(a.token_ids)} red", n_tokens=2)
            for a, k in zip(batch.asks, batch.keys, strict=True)
        ]


@pytest.fixture
def interviews(tiny_model: Path) -> list[Interview]:
    tokenizer = load_tokenizer(Model(id=str(tiny_model)))
    template = parse_template("instruction-context-response")
    questions = [
        Question(id=f"q{i}", benchmark="mt_bench", category="math", turns=("red " * (i + 1), "up"))
        for i in range(5)
    ]
    prompts = tuple(benchmark_prompts(tokenizer, template, questions))
    asking = TemplateAsking(tokenizer, template)
    return [Interview(who=w, asking=asking, prompts=prompts, weights=w.name) for w in (BASE, TUNED)]


def settings(size: int = 4, **more: float) -> Generate:
    return Generate(batch_size=size, max_new_tokens=4, **more)  # type: ignore[arg-type]


def plan(folder: Path, interviews: list[Interview], generate: Generate) -> BatchPlan:
    return plan_answers(
        interviews, generate.budget, file=folder / "plan.json", reporter=PlainReporter()
    )


def ask(
    folder: Path, interviews: list[Interview], generate: Generate, backend: Parrot
) -> list[Answer]:
    return answer_all(
        backend,
        interviews,
        generate,
        plan(folder, interviews, generate),
        seed=1,
        journal_file=folder / "answers.journal.jsonl",
        reporter=SilentReporter(),
    ).rows


def test_the_plan_is_on_disk_before_the_first_answer(
    tmp_path: Path, interviews: list[Interview]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(tmp_path, interviews, settings(), Parrot(dies_at=0))
    assert (tmp_path / "answers.journal.jsonl").read_bytes() == b""
    written = BatchPlan.model_validate_json((tmp_path / "plan.json").read_bytes())
    assert [len(b.turns) for b in written.batches] == [4, 4, 2] * 2
    assert [b.arm for b in written.batches] == [Arm.BASE] * 3 + [Arm.TUNED] * 3
    backend = Parrot()
    rows = ask(tmp_path, interviews, settings(), backend)
    assert backend.sizes == [4, 4, 2] * 2
    # Rows come in the order of the prompts, whatever that of the plan; a second turn's prompt
    # holds the first answer.
    assert [(a.question_id, a.turn) for a in rows[:10]] == [
        (p.question_id, p.turn) for p in interviews[0].prompts
    ]


def test_the_plan_depends_on_prompts_and_budget_alone(
    tmp_path: Path, interviews: list[Interview]
) -> None:
    """Not on the weights, the temperature or the order of the prompts; not on any answer."""
    first = plan(tmp_path / "1", interviews, settings())
    warm = [replace(i, weights="other", prompts=i.prompts[::-1]) for i in interviews]
    assert plan(tmp_path / "2", warm, settings(temperature=0.7)) == first
    bytes_of = [(tmp_path / n / "plan.json").read_bytes() for n in "12"]
    assert bytes_of[0] == bytes_of[1]
    fewer = [replace(i, prompts=i.prompts[:8]) for i in interviews]
    longer = [
        replace(
            i,
            prompts=tuple(
                p.model_copy(update={"instruction": p.instruction + " one"}) for p in i.prompts
            ),
        )
        for i in interviews
    ]
    plans = [
        first,
        plan(tmp_path / "3", interviews, settings(5)),
        plan(tmp_path / "4", interviews, settings(batch_tokens=600)),
        plan(tmp_path / "5", fewer, settings()),
        plan(tmp_path / "6", longer, settings()),
        plan(tmp_path / "7", interviews[:1], settings()),
    ]
    for left, right in itertools.combinations(plans, 2):
        assert left.of != right.of


def test_a_run_that_goes_on_follows_the_written_plan(
    tmp_path: Path, interviews: list[Interview], capsys: pytest.CaptureFixture[str]
) -> None:
    """Even where this version would plan otherwise: here somebody moved a turn to a later batch."""
    made = plan(tmp_path, interviews, settings())
    *firsts, middle, last = made.batches
    moved = (
        middle.model_copy(update={"turns": middle.turns[:-1]}),
        last.model_copy(update={"turns": (*last.turns, middle.turns[-1])}),
    )
    other = made.model_copy(update={"batches": (*firsts, *moved)})
    (tmp_path / "plan.json").write_text(other.model_dump_json())
    assert plan(tmp_path, interviews, settings()) == other
    backend = Parrot()
    ask(tmp_path, interviews, settings(), backend)
    assert backend.sizes == [4, 4, 2, 4, 3, 3]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", ["a turn twice", "a turn missing", "out of order", "no plan"])
def test_a_plan_that_cannot_be_followed_is_made_anew(
    tmp_path: Path, interviews: list[Interview], damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    made = plan(tmp_path, interviews, settings())
    first, *others = made.batches
    wrong = {
        "a turn twice": (first, first, *others),
        "a turn missing": (first.model_copy(update={"turns": first.turns[1:]}), *others),
        "out of order": (*others, first),
        "no plan": (),
    }[damage]
    (tmp_path / "plan.json").write_text(
        made.model_copy(update={"batches": wrong}).model_dump_json() if wrong else '{"of": 3}'
    )
    assert plan(tmp_path, interviews, settings()) == made
    assert (tmp_path / "plan.json").read_text() == made.model_dump_json() + "\n"
    assert "planned anew" in capsys.readouterr().err


def test_a_changed_budget_keeps_the_answers_of_batches_that_stay(
    tmp_path: Path, interviews: list[Interview], capsys: pytest.CaptureFixture[str]
) -> None:
    """Five questions in fives are 5 and 5; in sixes the first batch is the same, and is not asked
    again; in threes nothing is."""
    alone = [replace(i, prompts=tuple(p for p in i.prompts)) for i in interviews]
    ask(tmp_path, interviews, settings(5), Parrot())
    rows = {}
    for size, asked in ((6, []), (3, [3, 3, 3, 1] * 2), (5, [])):
        backend = Parrot()
        rows[size] = ask(tmp_path, interviews, settings(size), backend)
        assert backend.sizes == asked, size
        assert "planned anew" in capsys.readouterr().err
        # The same bytes as in a run that never had another budget.
        other = tmp_path / f"alone-{size}"
        assert ask(other, alone, settings(size), Parrot()) == rows[size]
        capsys.readouterr()
    with Journal(tmp_path / "answers.journal.jsonl", Answer) as journal:
        keys = [a.key for a in journal.records()]
    lines = (tmp_path / "answers.journal.jsonl").read_bytes().splitlines()
    assert len(keys) == len(lines) == 2 * 10 + 2 * 10
