"""AlpacaEval 2's judge protocols: the official one that weighs tokens, and the binary one.

The prompt is AlpacaEval's own and comes from its package (``benchmark_files``); nothing of it
stands here. The two answers are labelled ``m`` and ``M``; the judge says one token. The official
protocol reads the probabilities of both tokens; the binary one, which the reference experiment
used, reads the token that was said.

Source of the rules: alpaca_eval 0.6.6, ``evaluators_configs/weighted_alpaca_eval_gpt4_turbo``,
``annotators``, ``processors`` and ``completion_parsers``.
"""

from __future__ import annotations

import math
import random
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from tuneproof.judge.protocol import Reading, Unparsed
from tuneproof.records import Arm, Match, Prompt

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof import recipe
    from tuneproof.judge.clients import Reply

FIRST, SECOND = "m", "M"
"""The judge's names for the answer shown first and the one shown second."""

WEIGHTED: Final = "alpaca-eval-weighted"
BINARY: Final = "alpaca-eval-binary"

NO_PROBABILITIES: Final = "the endpoint gave no token probabilities"
NEITHER: Final = "neither m nor M is among the likeliest tokens"
OTHER_WORD: Final = "the reply is neither m nor M"


@dataclass(frozen=True, kw_only=True)
class AlpacaEvalPairwise:
    """See ``JudgeProtocol``. ``prompt`` is the text of AlpacaEval's ``alpaca_eval_clf.txt``.

    ``orders`` 1 is the official protocol; 2 shows every pair both ways round.
    """

    kind: Literal["weighted", "binary"]
    prompt: str
    orders: int

    @property
    def name(self) -> str:
        """What records and reports call it."""
        return WEIGHTED if self.kind == "weighted" else BINARY

    def firsts(self, prompt: Prompt, opponent: Arm, *, seed: int) -> tuple[Arm, ...]:
        """Both, or the official draw, which depends on the instruction and not on the seed."""
        if self.orders == 2:
            return (opponent, Arm.TUNED)
        return (Arm.TUNED,) if is_switched(prompt.instruction) else (opponent,)

    def request(self, match: Match, judge: recipe.Judge) -> dict[str, Any]:
        """The body of the chat completion; with the official judge's settings where weighted."""
        body: dict[str, Any] = {
            "model": judge.model,
            "messages": messages(self.prompt, match),
            judge.limit_field: 1,
        }
        if self.kind == "weighted":
            # The distribution is read, not a draw from it: 1 leaves it as it is.
            return body | {"temperature": 1, "top_p": 1.0, "logprobs": True, "top_logprobs": 5}
        return body | {"temperature": judge.temperature}

    def read(self, reply: Reply) -> Reading | Unparsed:
        """P(first is better): from the probabilities of both tokens, or from the token said."""
        if self.kind == "binary":
            said = reply.text.strip()
            if said not in (FIRST, SECOND):
                return Unparsed(OTHER_WORD)
            return Reading(p_first=1.0 if said == FIRST else 0.0)
        if reply.top_logprobs is None:
            return Unparsed(NO_PROBABILITIES)
        p_first = weigh(reply.top_logprobs)
        return Unparsed(NEITHER) if p_first is None else Reading(p_first=p_first)

    def without_asking(self, match: Match) -> float | None:
        """One half where both answers are the same text, as AlpacaEval has it."""
        return 0.5 if match.answer_a == match.answer_b else None

    def settle(self, values: Sequence[float]) -> float:
        """The mean of the orders."""
        return math.fsum(values) / len(values)


def is_switched(instruction: str) -> bool:
    """Whether AlpacaEval shows the evaluated model's answer first (its seed is 0)."""
    draw = random.Random("is_switched_outputs" + instruction + "0")
    return draw.choices([False, True], k=1)[0]


def weigh(top_logprobs: Sequence[tuple[str, float]]) -> float | None:
    """P(m) / (P(m) + P(M)) from the likeliest tokens; one that is not among them counts 0.

    Returns None where neither is among them.
    """
    found = {token: p for token, p in top_logprobs if token in (FIRST, SECOND)}
    if not found:
        return None
    first, second = (found.get(token, -math.inf) for token in (FIRST, SECOND))
    # The larger is taken out first, so that no exponential overflows or both vanish.
    most = max(first, second)
    return math.exp(first - most) / (math.exp(first - most) + math.exp(second - most))


_PART: Final = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", re.DOTALL)
_FIELD: Final = re.compile(r"\{(instruction|output_1|output_2)\}")


def messages(template: str, match: Match) -> list[dict[str, str]]:
    """The template's messages with the match's texts put in, in one pass.

    AlpacaEval fills one placeholder after the other and splits afterwards, so that an instruction
    that holds ``{output_1}`` or ``<|im_end|>`` garbles its requests. Here such texts stay what they
    are; all others give the very same messages.
    """
    fields = {
        "instruction": match.instruction,
        "output_1": match.answer_a,
        "output_2": match.answer_b,
    }
    return [
        {"role": role, "content": _FIELD.sub(lambda m: fields[m[1]], content.strip())}
        for role, content in _PART.findall(template)
    ]


_OFFICIAL_ANNOTATORS: Final = {
    "gpt-4-1106-preview": "weighted_alpaca_eval_gpt4_turbo",
    "gpt-4o-mini-2024-07-18": "weighted_alpaca_eval_gpt-4o-mini-2024-07-18",
}
"""AlpacaEval's own configurations that ask with this prompt and read both tokens, by model."""


def annotator_name(protocol: str, judge: str, orders: int) -> str:
    """What AlpacaEval's files call a judge: its own name for it, only where it is that very one.

    Args:
        protocol: the protocol's name.
        judge: the judge's model.
        orders: in how many orders each pair was shown; AlpacaEval shows it in one.
    """
    if protocol == WEIGHTED and orders == 1 and judge in _OFFICIAL_ANNOTATORS:
        return _OFFICIAL_ANNOTATORS[judge]
    return f"{protocol}:{judge}" + (":both-orders" if orders == 2 else "")
