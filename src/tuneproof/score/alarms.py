"""Answers that were made for the judge: constant ones, and ones that carry the judge's markup.

A constant answer that imitates the judge's prompt reached first place of AlpacaEval's leaderboard
(X. Zheng et al., "Cheating Automatic LLM Benchmarks", arXiv 2410.07137). An alarm does not change
a number; it says that the number may not mean what it seems to.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

OPENING = 200
"""Characters. Honest answers to different questions do not share so long a beginning or end."""

SHARE_ALIKE = 0.02
LEAST_ALIKE = 3

_JUDGE_MARKUP = (
    "<|im_start|>",
    "<|im_end|>",
    "model_identifier",
    "## Model Outputs",
    "## Best Model Identifier",
)
_VERDICT = re.compile(r"\[\[(?:A|B|C|\d+(?:\.\d+)?)\]\]")
_SPECIAL_TOKENS = ("</s>", "<|endoftext|>", "<|eot_id|>", "[INST]", "[/INST]")


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """``count`` of ``of`` answers have what ``text`` says."""

    id: str
    count: int
    of: int
    text: str


class AnswerWatch:
    """Sees the model's answers one by one and keeps counts and digests, not the texts."""

    def __init__(self) -> None:
        self._n = 0
        self._empty = 0
        self._markup = 0
        self._special = 0
        self._whole: Counter[int] = Counter()
        self._ends: tuple[Counter[int], Counter[int]] = (Counter(), Counter())

    def see(self, answer: str, *, instruction: str) -> None:
        """One answer. Markup that the instruction has too is not held against it."""
        self._n += 1
        text = answer.strip()
        if not text:
            self._empty += 1
            return
        self._whole[hash(text)] += 1
        if len(text) > OPENING:
            self._ends[0][hash(text[:OPENING])] += 1
            self._ends[1][hash(text[-OPENING:])] += 1
        self._markup += _has_markup(answer) and not _has_markup(instruction)
        self._special += _holds(answer, _SPECIAL_TOKENS) and not _holds(
            instruction, _SPECIAL_TOKENS
        )

    def alarms(self) -> tuple[Alarm, ...]:
        """What is to be reported of all answers seen."""
        few = max(LEAST_ALIKE, SHARE_ALIKE * self._n)
        same = max(self._whole.values(), default=0)
        alike = max((v for ends in self._ends for v in ends.values()), default=0)
        found = [
            ("constant-answers", same if same >= few else 0, "are one and the same answer"),
            (
                "near-constant-answers",
                alike if alike >= few and alike > same else 0,
                f"begin or end with the same {OPENING} characters",
            ),
            ("judge-markup", self._markup, "hold markup of a judge's prompt or verdict"),
            ("special-tokens", self._special, "hold a chat template's special tokens"),
            ("empty-answers", self._empty, "are empty"),
        ]
        return tuple(
            Alarm(id=name, count=n, of=self._n, text=f"{n} of {self._n} answers {text}")
            for name, n, text in found
            if n
        )


def _holds(text: str, marks: tuple[str, ...]) -> bool:
    return any(mark in text for mark in marks)


def _has_markup(text: str) -> bool:
    return _holds(text, _JUDGE_MARKUP) or ("[[" in text and _VERDICT.search(text) is not None)
