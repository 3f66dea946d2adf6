"""MT-Bench's judge protocols: pairs of answers in two games, and single answers on a scale.

The prompts are FastChat's own and come from its repository (``benchmark_files``); nothing of them
stands here. Math, reasoning and coding are judged beside GPT-4's reference answers.

Source of the rules: FastChat, ``fastchat/llm_judge`` (``common.py``, ``gen_judgment.py``).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tuneproof.data.questions import mt_bench_number
from tuneproof.judge.protocol import Reading, Unparsed
from tuneproof.judge.ratings import read_rating
from tuneproof.records import Arm, Exchange, Match, Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tuneproof import recipe
    from tuneproof.judge.clients import Reply
    from tuneproof.judge.ratings import Rated

REFERENCED: Final = frozenset({"math", "reasoning", "coding"})
"""Categories whose answers are judged beside a reference answer."""

FASTCHAT_MAX_TOKENS: Final = 2048

PAIRWISE: Final = "mt-bench-pairwise"
SINGLE: Final = "mt-bench-single"

NO_VERDICT: Final = "the reply holds none of [[A]], [[B]], [[C]]"


@dataclass(frozen=True, kw_only=True)
class JudgePrompt:
    """One of FastChat's judge prompts."""

    name: str
    system: str
    template: str


@dataclass(frozen=True, kw_only=True)
class MtBenchTexts:
    """FastChat's judge prompts by name, and its reference answers by question number.

    ``max_tokens`` limits a judge's reply.
    """

    prompts: Mapping[str, JudgePrompt]
    references: Mapping[int, tuple[str, ...]]
    max_tokens: int = FASTCHAT_MAX_TOKENS

    @classmethod
    def read(
        cls, prompts: Path, references: Path, *, max_tokens: int = FASTCHAT_MAX_TOKENS
    ) -> MtBenchTexts:
        """From ``judge_prompts.jsonl`` and ``reference_answer/gpt-4.jsonl``."""
        rows = [json.loads(line) for line in prompts.read_text("utf-8").splitlines() if line]
        answers = [json.loads(line) for line in references.read_text("utf-8").splitlines() if line]
        return cls(
            prompts={
                row["name"]: JudgePrompt(
                    name=row["name"], system=row["system_prompt"], template=row["prompt_template"]
                )
                for row in rows
            },
            references={row["question_id"]: tuple(row["choices"][0]["turns"]) for row in answers},
            max_tokens=max_tokens,
        )

    def body(
        self, name: str, fields: Mapping[str, str], judge: recipe.Judge, question_id: str
    ) -> dict[str, Any]:
        """The body of a chat completion with FastChat's settings.

        Args:
            name: the prompt's name.
            fields: what is put into its template, but for the reference answers.
            judge: who is asked.
            question_id: of the question, for its reference answers.
        """
        prompt = self.prompts[name]
        references = {}
        if "math" in name:
            answers = self.references[mt_bench_number(question_id)]
            references = {f"ref_answer_{n}": text for n, text in enumerate(answers, start=1)}
        return {
            "model": judge.model,
            "messages": [
                {"role": "system", "content": prompt.system},
                {"role": "user", "content": fill(prompt.template, {**fields, **references})},
            ],
            "temperature": judge.temperature,
            judge.limit_field: self.max_tokens,
        }


@dataclass(frozen=True, kw_only=True)
class MtBenchPairwise:
    """See ``JudgeProtocol``: two games, the answers swapped in the second."""

    texts: MtBenchTexts
    orders: int = 2
    name: str = PAIRWISE

    def firsts(self, prompt: Prompt, opponent: Arm, *, seed: int) -> tuple[Arm, ...]:
        """Tuned is FastChat's model_1, which is A in the first game."""
        return (Arm.TUNED, opponent)

    def request(self, match: Match, judge: recipe.Judge) -> dict[str, Any]:
        """The body of the chat completion, with FastChat's settings."""
        name = prompt_name("pair", match.category, match.turn)
        return self.texts.body(name, _fields(match), judge, match.question_id)

    def read(self, reply: Reply) -> Reading | Unparsed:
        """The first of ``[[A]]``, ``[[B]]``, ``[[C]]`` that is present, tested in that order."""
        for token, p_first in (("[[A]]", 1.0), ("[[B]]", 0.0), ("[[C]]", 0.5)):
            if token in reply.text:
                return Reading(p_first=p_first)
        return Unparsed(NO_VERDICT)

    def without_asking(self, match: Match) -> float | None:
        """FastChat asks about every pair."""
        return None

    def settle(self, values: Sequence[float]) -> float:
        """What both games agree on; a tie where the first is one, or where they disagree."""
        first, second = values
        return first if first == second else 0.5


@dataclass(frozen=True, kw_only=True)
class MtBenchSingle:
    """See ``RatingProtocol``: FastChat's single-answer grading."""

    texts: MtBenchTexts
    name: str = SINGLE

    def request(self, rated: Rated, judge: recipe.Judge) -> dict[str, Any]:
        """The body of the chat completion, with FastChat's settings."""
        turns = [*rated.earlier, (rated.instruction, rated.answer)]
        if len(turns) == 1:
            fields = {"question": rated.instruction, "answer": rated.answer}
        else:
            fields = {}
            for number, (instruction, answer) in enumerate(turns, start=1):
                fields[f"question_{number}"] = instruction
                fields[f"answer_{number}"] = answer
        name = prompt_name("single", rated.category, rated.turn)
        return self.texts.body(name, fields, judge, rated.question_id)

    def read(self, reply: Reply) -> float | Unparsed:
        """The first ``[[x]]``, else the first ``[x]``."""
        return read_rating(reply.text)


def prompt_name(kind: str, category: str | None, turn: int) -> str:
    """Which of FastChat's prompts judges a turn: by kind (``pair``, ``single``) and category."""
    if category in REFERENCED:
        name = f"{kind}-math-v1"
    else:
        name = "pair-v2" if kind == "pair" else f"{kind}-v1"
    return name if turn == 1 else f"{name}-multi-turn"


def _fields(match: Match) -> dict[str, str]:
    last = Exchange(instruction=match.instruction, answer_a=match.answer_a, answer_b=match.answer_b)
    if not match.earlier:
        return {"question": last.instruction, "answer_a": last.answer_a, "answer_b": last.answer_b}
    fields = {}
    for number, turn in enumerate([*match.earlier, last], start=1):
        fields[f"question_{number}"] = turn.instruction
        fields[f"answer_a_{number}"] = turn.answer_a
        fields[f"answer_b_{number}"] = turn.answer_b
    return fields


_FIELD: Final = re.compile(r"\{(\w+)\}")


def fill(template: str, fields: Mapping[str, str]) -> str:
    """The template with its fields put in, in one pass: what stands in braces in a text stays."""
    return _FIELD.sub(lambda m: fields[m[1]], template)
