"""The judge that is no model: it prefers the answer nearer the reference response.

Deterministic and free. It says of two answers which shares more with the one right response that
is known (chrF), and knows nothing of other right ones: a yardstick for data where answers are short
and given, for trying an experiment out, and for tests. The protocol decides every match by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tuneproof.judge.similarity import nearness

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof import recipe
    from tuneproof.judge.clients import Reply
    from tuneproof.judge.protocol import Reading, Unparsed
    from tuneproof.records import Arm, Match, Prompt

SAME: Final = 0.01
"""A difference in chrF up to which neither answer is nearer: one character in a hundred or so."""


@dataclass(frozen=True, kw_only=True)
class ReferencePairwise:
    """See ``JudgeProtocol``. ``references`` holds the right response by question.

    One order is shown: it decides nothing here.
    """

    references: Mapping[str, str]
    name: str = "reference-chrf"
    orders: int = 1

    def firsts(self, prompt: Prompt, opponent: Arm, *, seed: int) -> tuple[Arm, ...]:
        """The opponent's answer."""
        return (opponent,)

    def request(self, match: Match, judge: recipe.Judge) -> dict[str, Any]:
        """What a match is decided by: it names the row, and is sent nowhere."""
        return {
            "reference": self.references[match.question_id],
            "answers": [match.answer_a, match.answer_b],
        }

    def read(self, reply: Reply) -> Reading | Unparsed:
        """Nobody replies."""
        raise AssertionError("the reference judge asks nobody")

    def without_asking(self, match: Match) -> float | None:
        """1, 0 or one half: which of the two is nearer by more than ``SAME``."""
        reference = self.references[match.question_id]
        a, b = (nearness(text, reference) for text in (match.answer_a, match.answer_b))
        return 0.5 if abs(a - b) <= SAME else float(a > b)

    def settle(self, values: Sequence[float]) -> float:
        """The one value there is."""
        return math.fsum(values) / len(values)
