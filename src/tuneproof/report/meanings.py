"""What each measure of the report means, in a paragraph, for the measures that it shows.

The reader may know none of them. Nothing is computed or escaped here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tuneproof.records import Arm
from tuneproof.report.content import (
    EXACT_MATCH,
    HELDOUT_LOSS,
    RATING,
    SIMILARITY,
    STOPPED,
    WIN_RATE,
    pairwise_results,
)
from tuneproof.report.numbers import count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuneproof.recipe import Recipe
    from tuneproof.results import ArmPair, Estimate, JudgeCheck, Results

_DEGREES = re.compile(r"\bt\(\d+\)")
"""How an interval of Student's t is marked, with its degrees of freedom."""


def meanings(results: Results, recipe: Recipe) -> list[tuple[str, str]]:
    """(Term, meaning) of every measure that the report shows."""
    # Where the trainings are gone, the answers still tell of how many.
    n_adapters = max(
        [1 + len(results.other_trainings), *(b.n_adapters for b in results.benchmarks.values())]
    )
    level = f"{results.verdict.estimate.level * 100:g} %"
    methods = (_DEGREES.sub("Student's t", e.method) for e in _estimates(results))
    found = list(dict.fromkeys(m for m in methods if m not in ("", "none")))
    made_by = f" Made by: {'; '.join(found)}." if found else ""
    seeds = (
        f"Of {n_adapters} adapters, each from a training seed of its own, it also covers what they "
        "differ by. "
        if n_adapters > 1
        else "It does not cover another training seed. "
    )
    fair = any(b.fair_base is not None for b in results.benchmarks.values())
    told = [
        (
            "Interval and n",
            f"“1.20 (1.10 to 1.30, n = 96)” is a value, its {level} interval (unless another "
            "level is named) and the number of questions it rests on. The interval covers the "
            f"chance of having drawn these questions and not others of their kind. {seeds}"
            "Turns and orders of one question count as one. Unscored is a question that was asked "
            "and has no value, since an answer failed or a reply could not be read; it is counted "
            "apart, never as wrong. A tie has a value." + made_by,
        ),
        (
            HELDOUT_LOSS.label,
            "How surprised a model is by the reference responses of the test split, as negative "
            "log likelihood in nats a response token; lower is better. The end-of-sequence token "
            "after the response is counted apart, because a base model need not know where this "
            "template ends. Differences are tuned − base on the same questions.",
        ),
        (
            EXACT_MATCH.label,
            "The share of checkable questions (one right answer) whose answer is that answer.",
        ),
        (
            SIMILARITY.label,
            "chrF: overlap of character sequences with one reference response, from 0 to 100 %. It "
            "measures likeness to that reference. A good answer in other words scores low.",
        ),
        (
            STOPPED.label,
            "The share of answers that ended with the end-of-sequence token and not at the limit "
            f"of {count(recipe.generate.max_new_tokens)} tokens."
            + (
                " An answer of fair-base that was cut where it began a new section or turn counts "
                "as stopped too."
                if fair
                else ""
            ),
        ),
    ]
    if fair:
        told.append(
            (
                "Fair-base",
                "The base model at its best: asked with its own chat template if its tokenizer has "
                "one, else shown three worked examples in the training template, and stopped where "
                "its answer ends. Base is asked exactly like the tuned model, with a template that "
                "it never saw: what tuned wins against base may be no more than knowing where to "
                "stop.",
            )
        )
    opponents = {r.opponent for b in results.benchmarks.values() for r in pairwise_results(b)}
    if opponents:
        whose = {
            frozenset({Arm.BASE}): "the base model's",
            frozenset({Arm.FAIR_BASE}): "fair-base's",
            frozenset({Arm.BASELINE}): "the baseline's",
        }.get(frozenset(opponents), "its opponent's")
        told.append(
            (
                WIN_RATE.label,
                f"How often a judge preferred the tuned model's answer to {whose}, a tie counted "
                "as one half. It is one judge's opinion against this opponent: it cannot be "
                "compared with win rates against other opponents.",
            )
        )
    return told + _of_evidence(results) + _of_benchmarks(results)


def _of_evidence(results: Results) -> list[tuple[str, str]]:
    """What the words for and against the verdict mean, as far as the report says them."""
    told = []
    if any(e.detectable is not None for e in _estimates(results)):
        told.append(
            (
                "Detectable",
                "The minimum detectable effect: the least true difference (of a win rate: from one "
                "half) that as many questions with this spread show in four cases of five. It "
                "tells how fine the measurement is, and nothing of the difference that was found.",
            )
        )
    if results.registration is not None:
        told.append(
            (
                "Pre-registered",
                "The rule of the verdict, the questions, the opponents and the judge's settings "
                "were recorded in the run, with a digest, before anything in it was judged, and "
                "are as they were: they were not chosen after seeing these judgments. Whoever "
                "removes the record and the judgments can begin again, and no run can show that.",
            )
        )
    pairs = [r for b in results.benchmarks.values() for r in pairwise_results(b)]
    if any(r.decomposition is not None for r in pairs):
        told.append(
            (
                "Stopping, length, what remains",
                "The same pairs are judged three times: as answered, with every answer cut where "
                "it runs on into the template, and with both then cut to the length of the "
                "shorter one. What the win rate loses at the first cut is stopping, what it loses "
                "at the second is length, and what is left above one half remains. What stopping "
                "and length do together counts as stopping. Only pairs scored all three times are "
                "in it.",
            )
        )
    checks = [r.check for r in pairs if r.check is not None]
    if any(c.overall is not None for c in checks):
        told.append(
            (
                "Control pairs",
                "A right answer against one that is known to be worse, shown to the same judge in "
                "both orders before anything else. Only what is named better in both orders is "
                "right; a tie, a contradiction and a reply that cannot be read are wrong. A judge "
                "whose accuracy may be under the recipe's least (judge.checks.min_accuracy) may "
                "not decide.",
            )
        )
    if pairs:
        aa = any(c.self_comparison is not None for c in checks)
        told.append(
            (
                "The order of the answers",
                "A judge without a favourite place prefers the answer shown first in one half of "
                "the decided judgments, and the same answer in both orders."
                + (
                    " In the A/A test two answers of the tuned model, drawn independently, meet: "
                    "one half, but for chance."
                    if aa
                    else ""
                ),
            )
        )
    if results.placebo is not None:
        told.append(
            (
                "Placebo",
                "An adapter that went through the same training on the same rows with their "
                "responses shuffled: it can learn format and length, but no answer. Tuned should "
                "be better than it.",
            )
        )
    return told


def _of_benchmarks(results: Results) -> list[tuple[str, str]]:
    """What the benchmarks' own tables say."""
    told = []
    pairs = [r for b in results.benchmarks.values() for r in pairwise_results(b)]
    if any(r.alpaca_eval for r in pairs):
        told.append(
            (
                "AlpacaEval's columns",
                "win_rate is 100 times the mean preference over the scored pairs of answers, "
                "standard_error that of this mean. n_wins, n_wins_base and n_draws count pairs "
                "that the judge finds above, below or at one half, and discrete_win_rate is made "
                "of them, a draw as half. avg_length is the mean number of characters of tuned's "
                "answers. length_controlled_winrate is the leaderboard's, and stands only where "
                "the match is the leaderboard's own; “at equal length, fitted to this match” "
                "estimates from this match alone what the rate would be if both answers were "
                "equally long.",
            )
        )
    if any(r.mt_bench is not None for r in pairs):
        told.append(
            (
                "MT-Bench's table",
                "Each turn of a question is one match of two games, the answers swapped in the "
                "second. It is won by the model that both games prefer; a match whose games "
                "disagree is a tie, and one with a game that has no readable verdict is dropped. "
                "win_rate and loss_rate are shares of the matches; win_rate_adjusted counts a tie "
                "as half.",
            )
        )
    if any(b.ratings is not None for b in results.benchmarks.values()):
        told.append(
            (
                RATING.label,
                "What the judge gave each answer by itself, from 1 to 10. Both turns of a question "
                "are averaged, and the difference is paired by question.",
            )
        )
    return told


def _estimates(results: Results) -> Iterator[Estimate]:
    """All estimates of the results, in the order of the report."""
    yield results.verdict.estimate
    if results.verdict.second_opinion is not None:
        yield results.verdict.second_opinion
    pairs: list[ArmPair | None] = []
    if results.heldout_loss is not None:
        loss = results.heldout_loss
        pairs += [loss, loss.eos, *loss.by_category.values(), *loss.by_adapter.values()]
    for b in results.benchmarks.values():
        for found in (b, b.fair_base):
            if found is not None:
                pairs += [found.exact_match, found.chrf, found.stopped, found.answer_tokens]
        if b.ratings is not None:
            pairs += b.ratings.against.values()
    for pair in pairs:
        if pair is not None:
            yield from (pair.base, pair.tuned, pair.difference)
    for b in results.benchmarks.values():
        for r in pairwise_results(b):
            yield from (r.win_rate, r.order_agreement, r.first_preferred)
            for split in (r.by_turn, r.by_category, r.by_length, r.by_adapter):
                yield from split.values()
            if r.length_controlled is not None:
                yield r.length_controlled.fitted
            if r.decomposition is not None:
                yield from (r.decomposition.whole, *r.decomposition.parts)
            if r.check is not None:
                yield from _of_check(r.check)
    if results.placebo is not None:
        of = results.placebo
        yield from (e for e in (of.tuned_gain, of.placebo_gain, of.over_placebo) if e is not None)


def _of_check(check: JudgeCheck) -> Iterator[Estimate]:
    for controls in (*check.by_kind.values(), check.overall):
        if controls is not None:
            yield controls.accuracy
    if check.self_comparison is not None:
        yield check.self_comparison
