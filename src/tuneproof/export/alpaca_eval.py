"""AlpacaEval's files: ``model_outputs.json`` of each model, ``annotations.json`` of each match.

The keys, and the form of a completion, are those of the files that alpaca_eval 0.6.6 writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuneproof.judge.alpaca_eval import annotator_name
from tuneproof.records import Arm, Stop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof.recipe import Recipe
    from tuneproof.records import Answer, Judgment, Prompt
    from tuneproof.stats.leaderboards import Pair

JsonRow = dict[str, Any]


def model_outputs(
    prompts: Sequence[Prompt], answers: Sequence[Answer], *, model: str
) -> list[JsonRow]:
    """The answers of one model in the order of the prompts; failed ones are left out."""
    said = {a.question_id: a for a in answers if a.stop is not Stop.ERROR}
    return [
        {
            "dataset": p.category,
            "instruction": p.instruction,
            "output": said[p.question_id].text,
            "generator": model,
        }
        for p in prompts
        if p.question_id in said
    ]


def annotation_rows(
    pairs: Sequence[Pair], judgments: Sequence[Judgment], recipe: Recipe
) -> list[JsonRow]:
    """One row for each pair of answers: output_1 is the opponent's, output_2 tuned's.

    A preference is 1 + P(tuned is better), and null where there is none. With both orders judged it
    is that of both, and ``raw_completion`` a list.
    """
    assert recipe.judge is not None
    replies: dict[tuple[str, Arm, int], list[Judgment]] = {}
    for judgment in judgments:
        place = (judgment.question_id, judgment.opponent, judgment.adapter)
        replies.setdefault(place, []).append(judgment)
    rows = []
    for pair in pairs:
        value = pair.preference.value
        mine = replies.get((pair.prompt.question_id, pair.opponent, pair.adapter), [])
        completions = [_completion(j) for j in mine if j.asked]
        rows.append(
            {
                "instruction": pair.prompt.instruction,
                "output_1": pair.theirs.text,
                "generator_1": recipe.model_name(pair.opponent),
                "dataset": pair.prompt.category,
                "output_2": pair.ours.text,
                "generator_2": recipe.model_name(Arm.TUNED, pair.adapter),
                "annotator": annotator_name(
                    pair.preference.protocol, recipe.judge.model, pair.preference.orders
                ),
                "preference": None if value is None else 1 + value,
                "price_per_example": None,
                "time_per_example": None,
                "raw_completion": _one_or_all(completions),
            }
        )
    return rows


def _one_or_all(completions: list[JsonRow]) -> JsonRow | list[JsonRow] | None:
    if not completions:
        return None
    return completions[0] if len(completions) == 1 else completions


def _completion(judgment: Judgment) -> JsonRow:
    """A reply as alpaca_eval keeps it: the choice of the chat completion, and its tokens."""
    known = (judgment.prompt_tokens, judgment.completion_tokens)
    return {
        "finish_reason": judgment.finish_reason,
        "index": 0,
        "logprobs": _logprobs(judgment),
        "message": {
            "content": judgment.reply,
            "role": "assistant",
            "function_call": None,
            "tool_calls": None,
        },
        "text": judgment.reply,
        "total_tokens": None if None in known else float(sum(n or 0 for n in known)),
    }


def _logprobs(judgment: Judgment) -> Mapping[str, Any] | None:
    if judgment.top_logprobs is None:
        return None
    likely = [
        {"token": token, "bytes": list(token.encode()), "logprob": logprob}
        for token, logprob in judgment.top_logprobs
    ]
    said = next((t for t in likely if t["token"] == judgment.reply), None)
    first = said or {"token": judgment.reply, "bytes": None, "logprob": None}
    return {"content": [{**first, "top_logprobs": likely}]}
