"""What is asked after training: questions, answers, judge calls, their tokens and their price.

The counts are exact. Tokens are an estimate, since nobody has answered yet: ``expected`` by stated
assumptions, ``upper`` by the limits in the recipe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof import recipe as recipes
from tuneproof.data.encode import token_ids
from tuneproof.data.questions import selected_questions
from tuneproof.errors import AssetError
from tuneproof.judge.choice import protocol_of
from tuneproof.judge.prices import Price, price_of
from tuneproof.records import Arm, Exchange, Match, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.questions import Question
    from tuneproof.recipe import Evaluation, Judge, Opponent, Recipe
    from tuneproof.records import Example


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What one benchmark of a recipe asks. ``index`` is its place under ``evaluate``.

    ``available`` counts the questions that the benchmark has, ``n_questions`` those asked.
    ``turns`` holds the texts of each question, and is None where the benchmark's file could not be
    had: ``n_questions`` is then by the benchmark's known size, and ``missing`` says why.
    """

    index: int
    evaluation: Evaluation
    available: int
    n_questions: int
    n_turns: int
    turns: tuple[tuple[str, ...], ...] | None
    questions: tuple[Question, ...] = ()
    missing: str | None = None

    @property
    def name(self) -> str:
        """The benchmark's name."""
        return self.evaluation.benchmark

    @property
    def opponents(self) -> tuple[Opponent, ...]:
        """Whom the tuned model is compared with."""
        return self.evaluation.against

    @property
    def n_prompts(self) -> int:
        """Questions times turns."""
        return self.n_questions * self.n_turns


_SIZES = {"alpaca_eval": (805, 1), "mt_bench": (80, 2)}


def asked_questions(recipe: Recipe, test: Sequence[Example]) -> list[Asked]:
    """What each benchmark asks.

    Raises:
        RecipeError: the recipe asks for more questions than there are.
    """
    return [_asked(i, e, recipe, test) for i, e in enumerate(recipe.evaluate)]


def _asked(index: int, evaluation: Evaluation, recipe: Recipe, test: Sequence[Example]) -> Asked:
    if isinstance(evaluation, recipes.Heldout):
        rows = test[: evaluation.questions]
        texts = tuple((f"{e.instruction}\n{e.context}".strip(),) for e in rows)
        return Asked(
            index=index,
            evaluation=evaluation,
            available=len(test),
            n_questions=len(rows),
            n_turns=1,
            turns=texts,
        )
    size, n_turns = _SIZES[evaluation.benchmark]
    try:
        questions = selected_questions(evaluation, seed=recipe.seed, assets=recipe.assets)
    except AssetError as error:
        return Asked(
            index=index,
            evaluation=evaluation,
            available=size,
            n_questions=min(evaluation.questions or size, size),
            n_turns=n_turns,
            turns=None,
            missing=f"{error.place} {error.problem}",
        )
    return Asked(
        index=index,
        evaluation=evaluation,
        available=size,
        n_questions=len(questions),
        n_turns=n_turns,
        turns=tuple(q.turns for q in questions),
        questions=tuple(questions),
    )


# --- counts ----------------------------------------------------------------------------------


def games_of(asked: Asked, judge: Judge) -> int:
    """How often one pair of answers is judged, by the benchmark's protocol."""
    return protocol_of(asked.evaluation, judge).orders


def judge_calls(asked: Asked, judge: Judge, *, seeds: int) -> int:
    """Questions × turns × games × opponents × adapters; where answers are rated one by one, those
    of every opponent and adapter once."""
    if isinstance(asked.evaluation, recipes.MtBench) and asked.evaluation.mode == "single":
        return asked.n_prompts * (len(asked.opponents) + seeds)
    return asked.n_prompts * games_of(asked, judge) * len(asked.opponents) * seeds


def answers(asked: Asked, *, seeds: int) -> int:
    """One answer of each opponent and of each adapter to every prompt; a baseline's are there."""
    asks = [opponent for opponent in asked.opponents if opponent != "baseline"]
    return asked.n_prompts * (len(asks) + seeds)


# --- tokens and dollars ----------------------------------------------------------------------


class TokenBill(Record):
    """Tokens that the judge reads and writes, and their price; None where it is not known."""

    prompt_tokens: int
    completion_tokens: int
    usd: float | None


class Cost(Record):
    """Answers to generate, judge calls by benchmark, and what the calls cost.

    ``prompt_tokens``, ``completion_tokens`` and ``usd`` are those expected; ``upper`` has every
    answer and every reply at its limit. ``how`` states the assumptions.
    """

    answers: int
    judge_calls: dict[str, int]
    judge_calls_total: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    upper: TokenBill
    price: Price | None
    how: str


@dataclass(frozen=True, kw_only=True)
class AnswerTokens:
    """How long answers are taken to be, in tokens: by arm, and at most."""

    tuned: float
    base: float
    fair_base: float
    limit: int

    def of(self, opponent: Opponent) -> float:
        """The opponent's."""
        if opponent == "baseline":
            return BASELINE_TOKENS
        return self.base if opponent == "base" else self.fair_base


BASELINE_TOKENS = 525.0
"""Mean Llama-2 tokens of the stored answers to AlpacaEval's questions."""


REPLY_TOKENS = 100
"""What a judge is taken to write where it may: a reason of one to three sentences and a verdict."""

SAMPLE = 100
"""Questions of a benchmark whose requests are counted, evenly spread; the rest are like them."""

# Mean Llama-2 tokens of the questions by turn, where their file is not here.
_QUESTION_TOKENS = {"alpaca_eval": (41,), "mt_bench": (78, 25)}


def plan_cost(
    recipe: Recipe,
    asked: Sequence[Asked],
    tokenizer: PreTrainedTokenizerBase,
    lengths: AnswerTokens,
) -> tuple[Cost, list[str]]:
    """Calls, tokens and dollars, and notes on what is not known."""
    seeds = recipe.train.seeds
    n_answers = sum(answers(a, seeds=seeds) for a in asked)
    if recipe.judge is None:
        nothing = TokenBill(prompt_tokens=0, completion_tokens=0, usd=0.0)
        return Cost(
            answers=n_answers,
            judge_calls={},
            judge_calls_total=0,
            **nothing.model_dump(),
            upper=nothing,
            price=None,
            how="the recipe has no judge",
        ), []
    judge = recipe.judge
    calls = {a.name: judge_calls(a, judge, seeds=seeds) for a in asked}
    price, why_not = price_of(judge)
    at_most = AnswerTokens(
        tuned=lengths.limit, base=lengths.limit, fair_base=lengths.limit, limit=lengths.limit
    )
    expected_read = upper_read = expected_written = upper_written = 0.0
    for a in asked:
        bare, most_written = _request_tokens(a, judge, tokenizer)
        expected_read += _read_tokens(a, bare, judge, lengths, seeds=seeds)
        upper_read += _read_tokens(a, bare, judge, at_most, seeds=seeds)
        expected_written += calls[a.name] * min(REPLY_TOKENS, most_written)
        upper_written += calls[a.name] * most_written
    expected = _bill(expected_read, expected_written, price)
    upper = _bill(upper_read, upper_written, price)
    return Cost(
        answers=n_answers,
        judge_calls=calls,
        judge_calls_total=sum(calls.values()),
        **expected.model_dump(),
        upper=upper,
        price=price,
        how=f"answers of {lengths.tuned:.0f} tokens (tuned), {lengths.base:.0f} (base) and "
        f"{lengths.fair_base:.0f} (fair-base): a model that learned to stop answers as long as the "
        f"training responses, another to the limit of {lengths.limit}; replies of {REPLY_TOKENS} "
        "tokens, where the protocol allows them; by the model's tokenizer",
    ), [] if why_not is None else [why_not]


def _request_tokens(
    asked: Asked, judge: Judge, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[float], int]:
    """For each turn the mean tokens of a request without its answers; and the reply's limit.

    The requests are the protocol's own, made with empty answers.
    """
    protocol = protocol_of(asked.evaluation, judge)
    questions: Sequence[tuple[str, ...]] = asked.turns or [("",) * asked.n_turns]
    sample = questions[:: max(1, math.ceil(len(questions) / SAMPLE))]
    means, limit = [], judge.max_tokens
    for turn in range(1, asked.n_turns + 1):
        requests = [protocol.request(_match(asked, said[:turn]), judge) for said in sample]
        limit = requests[0].get("max_tokens", limit)
        texts = [message["content"] for body in requests for message in body["messages"]]
        total = sum(len(ids) for ids in token_ids(tokenizer, texts))
        known = 0 if asked.turns else sum(_QUESTION_TOKENS[asked.name][:turn])
        means.append(total / len(sample) + known)
    return means, limit


def _match(asked: Asked, said: Sequence[str]) -> Match:
    """A match of that many turns whose answers are empty."""
    return Match(
        question_id="",
        benchmark=asked.name,
        turn=len(said),
        opponent=Arm.BASE,
        instruction=said[-1],
        context="",
        first=Arm.BASE,
        answer_a="",
        answer_b="",
        earlier=tuple(Exchange(instruction=s, answer_a="", answer_b="") for s in said[:-1]),
    )


def _read_tokens(
    asked: Asked, bare: Sequence[float], judge: Judge, lengths: AnswerTokens, *, seeds: int
) -> float:
    """Tokens that the judge reads: in a later turn also the answers before it."""
    total = 0.0
    for opponent in asked.opponents:
        pair = lengths.tuned + lengths.of(opponent)
        total += sum(request + turn * pair for turn, request in enumerate(bare, start=1))
    return total * asked.n_questions * games_of(asked, judge) * seeds


def _bill(prompt: float, completion: float, price: Price | None) -> TokenBill:
    usd = None
    if price is not None:
        usd = round((prompt * price.input + completion * price.output) / 1e6, 4)
    return TokenBill(prompt_tokens=round(prompt), completion_tokens=round(completion), usd=usd)
