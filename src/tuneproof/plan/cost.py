"""What judging takes: calls of every kind, the tokens that they read and write, and their price.

Nobody has answered yet: tokens are expected by stated assumptions, and at most what the recipe's
limits allow. The requests are the protocols' own. What is asked is counted in ``judging``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneproof.data.encode import token_ids
from tuneproof.judge.prices import Price, price_of
from tuneproof.judge.refusals import limit_field_warning
from tuneproof.plan.judging import (
    answers,
    compared_with_itself,
    decisive,
    is_pairwise,
    judge_calls,
    placebo_calls,
)
from tuneproof.records import Arm, Exchange, Match, Record

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from tuneproof.plan.controls import PlannedControls
    from tuneproof.plan.judging import Asked
    from tuneproof.recipe import Judge, Opponent, Recipe


class TokenBill(Record):
    """Tokens that the judge reads and writes, and their price; None where it is not known."""

    prompt_tokens: int
    completion_tokens: int
    usd: float | None


class CheckCalls(Record):
    """Judge calls beside the benchmarks' matches.

    ``controls`` are those about pairs with a known winner, by protocol; ``repeats`` requests are
    sent a second time; ``self_comparison`` shows two answers of the tuned model to one question, in
    both orders; ``placebo`` are the matches of tuned and placebo.
    """

    controls: dict[str, int]
    repeats: int
    self_comparison: int
    placebo: int

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.controls.values()) + self.repeats + self.self_comparison + self.placebo


NO_CHECKS = CheckCalls(controls={}, repeats=0, self_comparison=0, placebo=0)


class Cost(Record):
    """Answers to generate, judge calls, and what the calls cost.

    Of the ``answers``, ``placebo_answers`` are the placebo adapter's and ``second_answers`` second
    ones of the tuned model. ``judge_calls`` has the matches and ratings of each benchmark,
    ``check_calls`` those beside them, ``judge_calls_total`` both. ``rejudged_at_most`` come on top
    where answers are judged again, cut: how many, only the answers can show, and none is expected.
    ``prompt_tokens``, ``completion_tokens`` and ``usd`` are those expected; ``upper`` has every
    answer and every reply at its limit, and every cut answer judged again. ``how`` states the
    assumptions.
    """

    answers: int
    placebo_answers: int
    second_answers: int
    judge_calls: dict[str, int]
    check_calls: CheckCalls
    judge_calls_total: int
    rejudged_at_most: int
    prompt_tokens: int
    completion_tokens: int
    usd: float | None
    upper: TokenBill
    price: Price | None
    how: str


@dataclass(frozen=True, kw_only=True)
class AnswerTokens:
    """How long answers are taken to be, in tokens: by arm, and at most.

    The placebo's are as long as tuned's: it learned to stop from the same responses.
    """

    tuned: float
    base: float
    fair_base: float
    limit: int

    def of(self, opponent: Opponent | Arm) -> float:
        """The opponent's."""
        if opponent in (Arm.TUNED, Arm.PLACEBO):
            return self.tuned
        if opponent == Arm.BASELINE:
            return BASELINE_TOKENS
        return self.base if opponent == Arm.BASE else self.fair_base


BASELINE_TOKENS = 525.0
"""Mean Llama-2 tokens of the stored answers to AlpacaEval's questions."""

REPLY_TOKENS = 100
"""What a judge is taken to write where it may: a reason of one to three sentences and a verdict."""

SAMPLE = 100
"""Questions of a benchmark whose requests are counted, evenly spread; the rest are like them."""

CUTS = 2
"""How often answers are cut and judged again: at the first marker, and to equal length as well."""

# Mean Llama-2 tokens of the questions by turn, where their file is not here.
_QUESTION_TOKENS = {"alpaca_eval": (41,), "mt_bench": (78, 25)}


@dataclass(frozen=True, kw_only=True)
class _Tokens:
    """Of some calls: what is read and written, as expected and at most."""

    calls: int = 0
    read: float = 0.0
    written: float = 0.0
    most_read: float = 0.0
    most_written: float = 0.0

    def __add__(self, other: _Tokens) -> _Tokens:
        return _Tokens(
            calls=self.calls + other.calls,
            read=self.read + other.read,
            written=self.written + other.written,
            most_read=self.most_read + other.most_read,
            most_written=self.most_written + other.most_written,
        )

    def mean(self, calls: int) -> _Tokens:
        """Of so many calls that are like these on the mean."""
        share = calls / self.calls if self.calls else 0.0
        return _Tokens(
            calls=calls,
            read=share * self.read,
            written=share * self.written,
            most_read=share * self.most_read,
            most_written=share * self.most_written,
        )


def plan_cost(
    recipe: Recipe,
    asked: Sequence[Asked],
    tokenizer: PreTrainedTokenizerBase,
    lengths: AnswerTokens,
    *,
    controls: Sequence[PlannedControls] = (),
) -> tuple[Cost, list[str]]:
    """Calls, tokens and dollars, and notes on what is not known.

    Args:
        recipe: the recipe.
        asked: what its benchmarks ask.
        tokenizer: the model's; a judge's own counts a little otherwise.
        lengths: of the answers.
        controls: those that can be built, by protocol.
    """
    itself = compared_with_itself(recipe, asked)
    second = itself[1] if itself is not None else 0
    placebo = sum(a.n_prompts for a in asked) if recipe.verdict.beat_placebo else 0
    n_answers = sum(answers(a, seeds=recipe.train.seeds) for a in asked) + placebo + second
    judge = recipe.judge
    if judge is None or judge.kind == "reference":
        nothing = TokenBill(prompt_tokens=0, completion_tokens=0, usd=0.0)
        return Cost(
            answers=n_answers,
            placebo_answers=placebo,
            second_answers=second,
            judge_calls={},
            check_calls=NO_CHECKS,
            judge_calls_total=0,
            rejudged_at_most=0,
            **nothing.model_dump(),
            upper=nothing,
            price=None,
            how="the recipe has no judge"
            if judge is None
            else "the judge is no model: it compares answers with the references, and asks nobody",
        ), []
    bare = {a.name: _request_tokens(a, judge, tokenizer) for a in asked}
    games = _Tokens()  # matches alone: what can be cut, or sent again
    rated = _Tokens()
    for a in asked:
        calls = judge_calls(a, judge, seeds=recipe.train.seeds)
        of_it = _calls(a.opponents, calls, *bare[a.name], lengths)
        if is_pairwise(a):
            games += of_it
        else:
            rated += of_it
    where = decisive(recipe, asked)
    n_placebo = placebo_calls(recipe, asked)
    if where is not None and n_placebo:
        games += _calls((Arm.PLACEBO,), n_placebo, *bare[where.name], lengths)
    checks = rated
    n_repeats = min(judge.checks.repeats, games.calls)
    checks += games.mean(n_repeats)
    if itself is not None:
        a, n = itself
        means, most = bare[a.name]
        checks += _calls((Arm.TUNED,), 2 * n, means[:1], most, lengths)
    control_calls = {}
    for planned in controls:
        of_it = _control_calls(planned, judge, tokenizer)
        control_calls[planned.name] = of_it.calls
        checks += of_it
    again = CUTS * games.calls if judge.decompose else 0
    by_benchmark = {a.name: judge_calls(a, judge, seeds=recipe.train.seeds) for a in asked}
    check_calls = CheckCalls(
        controls=control_calls,
        repeats=n_repeats,
        self_comparison=2 * second,
        placebo=n_placebo,
    )
    price, why_not = price_of(judge)
    total, most_again = games + checks, games.mean(again)
    expected = _bill(total.read, total.written, price)
    upper = _bill(
        total.most_read + most_again.most_read, total.most_written + most_again.most_written, price
    )
    notices = [(a.name, a.chosen(judge).notice) for a in asked]
    return Cost(
        answers=n_answers,
        placebo_answers=placebo,
        second_answers=second,
        judge_calls=by_benchmark,
        check_calls=check_calls,
        judge_calls_total=sum(by_benchmark.values()) + check_calls.total,
        rejudged_at_most=again,
        **expected.model_dump(),
        upper=upper,
        price=price,
        how=f"answers of {lengths.tuned:.0f} tokens (tuned), {lengths.base:.0f} (base) and "
        f"{lengths.fair_base:.0f} (fair-base): a model that learned to stop answers as long as the "
        f"training responses, another to the limit of {lengths.limit}; replies of {REPLY_TOKENS} "
        "tokens, where the protocol allows them; by the model's tokenizer"
        + ("; nothing judged again for cut answers" if again else ""),
    ), [
        *(f"{name} is counted as {notice} on this machine." for name, notice in notices if notice),
        *([] if why_not is None else [why_not]),
        *([] if (warning := limit_field_warning(judge)) is None else [warning]),
    ]


def _request_tokens(
    asked: Asked, judge: Judge, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[float], int]:
    """For each turn the mean tokens of a request without its answers; and the reply's limit.

    The requests are the protocol's own, made with empty answers.
    """
    protocol = asked.protocol(judge)
    questions: Sequence[tuple[str, ...]] = asked.turns or [("",) * asked.n_turns]
    sample = questions[:: max(1, math.ceil(len(questions) / SAMPLE))]
    means, limit = [], judge.max_tokens
    for turn in range(1, asked.n_turns + 1):
        requests = [protocol.request(_match(asked, said[:turn]), judge) for said in sample]
        limit = requests[0].get(judge.limit_field, limit)
        known = 0 if asked.turns else sum(_QUESTION_TOKENS[asked.name][:turn])
        means.append(_read(requests, tokenizer) / len(sample) + known)
    return means, limit


def _read(requests: Sequence[dict[str, Any]], tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of the messages of all these requests."""
    texts = [message["content"] for body in requests for message in body["messages"]]
    return sum(len(ids) for ids in token_ids(tokenizer, texts))


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


def _calls(
    opponents: Sequence[Opponent | Arm],
    calls: int,
    bare: Sequence[float],
    most_written: int,
    lengths: AnswerTokens,
) -> _Tokens:
    """So many calls, shared evenly by these opponents and turns.

    In a later turn the judge also reads the answers before it.
    """

    def read(*, at_most: bool) -> float:
        of = _at_most(lengths) if at_most else lengths
        pairs = [of.tuned + of.of(opponent) for opponent in opponents]
        kinds = [r + turn * pair for pair in pairs for turn, r in enumerate(bare, start=1)]
        return calls * sum(kinds) / len(kinds)

    return _Tokens(
        calls=calls,
        read=read(at_most=False),
        most_read=read(at_most=True),
        written=calls * min(REPLY_TOKENS, most_written),
        most_written=calls * most_written,
    )


def _at_most(lengths: AnswerTokens) -> AnswerTokens:
    limit = lengths.limit
    return AnswerTokens(tuned=limit, base=limit, fair_base=limit, limit=limit)


def _control_calls(
    planned: PlannedControls, judge: Judge, tokenizer: PreTrainedTokenizerBase
) -> _Tokens:
    """Both orders of every control. Their answers are known, so what is read is exact."""
    requests = [
        planned.protocol.request(match, judge)
        for control in planned.built.controls
        for match in control.matches()
    ]
    if not requests:
        return _Tokens()
    read = float(_read(requests, tokenizer))
    limits = [int(body.get(judge.limit_field, judge.max_tokens)) for body in requests]
    return _Tokens(
        calls=len(requests),
        read=read,
        most_read=read,
        written=sum(min(REPLY_TOKENS, limit) for limit in limits),
        most_written=sum(limits),
    )


def _bill(prompt: float, completion: float, price: Price | None) -> TokenBill:
    usd = None
    if price is not None:
        usd = round((prompt * price.input + completion * price.output) / 1e6, 4)
    return TokenBill(prompt_tokens=round(prompt), completion_tokens=round(completion), usd=usd)
