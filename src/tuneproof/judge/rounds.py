"""A round: all that is judged of one benchmark, and what its judgments come to.

Chooses the benchmark's protocol, the pairs and their matches, or the answers that are rated one by
one; in which order things are asked, and what is asked of the judge itself, is left to ``stage``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Final

from tuneproof.data.questions import is_left_out
from tuneproof.judge.asking import Request
from tuneproof.judge.choice import choose
from tuneproof.judge.clients import Reply, endpoint
from tuneproof.judge.games import Game
from tuneproof.judge.matches import Pair, build_matches, build_pairs, preferences
from tuneproof.judge.protocol import JudgeProtocol, Unparsed
from tuneproof.judge.ratings import Rated, RatingProtocol, answers_to_rate, rating_key
from tuneproof.judge.reference import ReferencePairwise
from tuneproof.judge.rejudging import CutPair, cut_pairs
from tuneproof.records import Arm, Match, Rating

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.progress import Reporter
    from tuneproof.recipe import Evaluation, Judge, Recipe
    from tuneproof.records import Answer, Judgment, Preference, Prompt

REFUSED: Final = "the judge is refused"
"""Why pairs were not judged, where the judge failed its control pairs."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """All that is judged of one benchmark: pairs in matches, or answers one by one."""

    benchmark: str
    judge: Judge
    protocol: JudgeProtocol
    pairs: list[Pair]
    matches: list[Match]
    skipped: Counter[str]
    place: str
    n_excluded: int = 0
    rating: RatingProtocol | None = None
    rated: list[Rated] = field(default_factory=list)

    def refused(self) -> Round:
        """The same without a match: the judge may not decide."""
        return replace(self, matches=[], skipped=self.skipped + Counter({REFUSED: len(self.pairs)}))

    @property
    def name(self) -> str:
        """Of the protocol that is used."""
        return self.protocol.name if self.rating is None else self.rating.name

    @property
    def games(self) -> list[Game]:
        """One for each match, in their order."""
        return [
            Game(match=m, protocol=self.protocol, judge=self.judge, place=self.place)
            for m in self.matches
        ]

    def cut(self, markers: Sequence[str]) -> list[CutPair]:
        """All pairs but the placebo's, their answers cut."""
        return cut_pairs(
            [p for p in self.pairs if p.opponent is not Arm.PLACEBO],
            [g for g in self.games if g.match.opponent is not Arm.PLACEBO],
            markers=markers,
        )

    def rating_requests(self, judge: Judge) -> list[Request]:
        """What the judge is asked about single answers."""
        if self.rating is None:
            return []
        made = []
        for rated in self.rated:
            key = rating_key(rated, judge, self.rating, endpoint=endpoint(judge))
            made.append(
                Request(
                    key=key,
                    body=partial(self.rating.request, rated, judge),
                    row=partial(_rating, rated, self.rating, judge, key),
                )
            )
        return made

    def settled(self, judgments: Sequence[Judgment]) -> list[Preference]:
        """The preferences of this benchmark's pairs, from the judgments of all benchmarks."""
        benchmarks = {pair.prompt.benchmark for pair in self.pairs}
        mine = [j for j in judgments if j.benchmark in benchmarks]
        return preferences(mine, self.pairs, self.protocol)


def make_round(
    index: int,
    evaluation: Evaluation,
    recipe: Recipe,
    judge: Judge,
    prompts: Sequence[Prompt],
    answers: Sequence[Answer],
    reporter: Reporter,
) -> Round:
    """Choose how a benchmark is judged, and lay out what that takes.

    Args:
        index: the benchmark's place under ``evaluate``.
        evaluation: its section.
        recipe: the whole recipe.
        judge: the recipe's judge.
        prompts: of all benchmarks.
        answers: of all arms, one for each prompt, arm and adapter.
        reporter: told where the project's own prompt takes the official one's place.

    Raises:
        AssetError: a benchmark's file on this machine is not what it should be.
        StageError: answers that contradict each other; see ``build_pairs`` and ``build_matches``.
    """
    chosen = choose(evaluation, judge, assets=recipe.assets)
    if chosen.notice is not None:
        reporter.say(f"  {evaluation.benchmark}: {chosen.notice}")
    asked = [p for p in prompts if p.benchmark == evaluation.benchmark]
    left = [p for p in asked if not is_left_out(evaluation, p.question_id)]
    against = [Arm(opponent) for opponent in evaluation.against]
    place = f"evaluate.{index}"
    if chosen.ratings is not None:
        arms = [*against, Arm.TUNED]
        rated, skipped = answers_to_rate(left, answers, arms=arms)
        return Round(
            benchmark=evaluation.benchmark,
            judge=judge,
            protocol=chosen.pairwise,
            pairs=[],
            matches=[],
            skipped=Counter(skipped),
            place=place,
            n_excluded=len(answers_to_rate(asked, answers, arms=arms)[0]) - len(rated),
            rating=chosen.ratings,
            rated=rated,
        )
    if beaten_here(recipe, evaluation):
        against.append(Arm.PLACEBO)
    protocol = chosen.pairwise
    if isinstance(protocol, ReferencePairwise):
        protocol = ReferencePairwise(
            references={p.question_id: p.reference for p in left if p.reference is not None}
        )
    pairs = build_pairs(left, answers, against=against)
    matches, skipped = build_matches(pairs, answers, protocol, seed=recipe.seed)
    return Round(
        benchmark=evaluation.benchmark,
        judge=judge,
        protocol=protocol,
        pairs=pairs,
        matches=matches,
        skipped=Counter(skipped),
        place=place,
        n_excluded=len(build_pairs(asked, answers, against=against)) - len(pairs),
    )


def beaten_here(recipe: Recipe, evaluation: Evaluation) -> bool:
    """Whether tuned meets the placebo on this benchmark: where a win rate of it is the verdict."""
    rule = recipe.verdict
    return rule.beat_placebo and rule.metric == "win_rate" and evaluation == recipe.decisive


def _rating(rated: Rated, protocol: RatingProtocol, judge: Judge, key: str, reply: Reply) -> Rating:
    said = protocol.read(reply)
    return Rating(
        key=key,
        question_id=rated.question_id,
        benchmark=rated.benchmark,
        category=rated.category,
        turn=rated.turn,
        arm=rated.arm,
        adapter=rated.adapter,
        protocol=protocol.name,
        judge=judge.name,
        score=None if isinstance(said, Unparsed) else said,
        unparsed=said.reason if isinstance(said, Unparsed) else None,
        reply=reply.text,
        finish_reason=reply.finish_reason,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
    )
