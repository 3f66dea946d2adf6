"""MT-Bench's tables, from games and scores.

The rules are those of FastChat's ``show_result`` (https://github.com/lm-sys/FastChat). A match is
two games about one question and turn, with the answers shown in either order. A match of which
either game has no winner is dropped; where both games name the same model it has won; everything
else is a tie. Rates are shares. Reading files is left to ``score``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tuneproof.stats.estimates import SHARE, mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tuneproof.results import Estimate

Winner = Literal["model_1", "model_2", "tie", "error"]
WINNERS: tuple[Winner, ...] = ("model_1", "model_2", "tie", "error")
"""What a game can have come to; ``error`` stands for a reply that could not be read."""

CATEGORIES = (
    "writing",
    "roleplay",
    "reasoning",
    "math",
    "coding",
    "extraction",
    "stem",
    "humanities",
)
"""Of the official questions, ten each, in the order of their numbers from 81 to 160."""

LOWEST, HIGHEST = 0.0, 10.0
"""Scores go from 1 to 10 by the judge's prompt; replies below 1 have been seen."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PairMatch:
    """Two games about one question and turn. In the second game model_2 was shown first."""

    question_id: int | str
    turn: int
    model_1: str
    model_2: str
    g1_winner: Winner
    g2_winner: Winner

    @property
    def dropped(self) -> bool:
        """Whether either game has no winner."""
        return "error" in (self.g1_winner, self.g2_winner)

    @property
    def inconsistent(self) -> bool:
        """Whether the two games disagree, which makes a tie."""
        return not self.dropped and self.g1_winner != self.g2_winner

    @property
    def contradictory(self) -> bool:
        """Whether the judge preferred one model in one order and the other in the other."""
        return {self.g1_winner, self.g2_winner} == {"model_1", "model_2"}

    @property
    def winner(self) -> Literal["model_1", "model_2"] | None:
        """The side that won; None for a tie. Of matches that were not dropped."""
        first = self.g1_winner
        if first != self.g2_winner or first == "tie" or first == "error":
            return None
        return first


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """One model's line of the table. ``interval`` is of win_rate_adjusted, by question.

    ``sign_test_p`` is the two-sided sign test over questions: whether a question's matches gave
    the model more than half of their points, or less.
    """

    win: int
    loss: int
    tie: int
    win_rate: float
    loss_rate: float
    win_rate_adjusted: float
    interval: Estimate
    sign_test_p: float


@dataclass(frozen=True, kw_only=True)
class PairTable:
    """The table by model, best first, and what became of the matches.

    ``n_matches`` were counted; ``n_inconsistent`` of them are ties because the two games disagree,
    and in ``n_contradictory`` of those each game had another winner.
    """

    models: dict[str, PairRow]
    n_matches: int
    n_dropped: int
    n_inconsistent: int
    n_contradictory: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """One graded answer. ``score`` is None where the judge's reply could not be read."""

    question_id: int | str
    turn: int
    model: str
    score: float | None


@dataclass(frozen=True, kw_only=True)
class SingleRow:
    """One model's mean scores. ``average`` is over all scores, not over the two turns' means."""

    first_turn: float | None
    second_turn: float | None
    average: float | None
    n_scored: int
    n_unscored: int
    interval: Estimate


@dataclass
class _Points:
    """A model's results, in the order of the matches."""

    points: list[float] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)


def category_of(question_id: int | str) -> str | None:
    """The category of an official question; None for an id that is not one."""
    if not isinstance(question_id, int) or not 81 <= question_id <= 160:
        return None
    return CATEGORIES[(question_id - 81) // 10]


def pair_table(
    matches: Iterable[PairMatch], *, level: float, baseline: str | None = None
) -> PairTable:
    """Wins, losses and ties by model.

    win_rate = W/N, loss_rate = L/N, win_rate_adjusted = (W + T/2)/N with N = W + L + T.

    Args:
        matches: all of them, in any order; one that comes twice counts twice, as in FastChat.
        level: the confidence level of the intervals.
        baseline: only matches with this model count, and it has no line of its own.
    """
    chosen = [m for m in matches if baseline is None or baseline in (m.model_1, m.model_2)]
    counted = [m for m in chosen if not m.dropped]
    points: dict[str, _Points] = defaultdict(_Points)
    for match in counted:
        winner = match.winner
        for side, model in (("model_1", match.model_1), ("model_2", match.model_2)):
            mine = points[model]
            mine.points.append(0.5 if winner is None else float(winner == side))
            mine.questions.append(str(match.question_id))
    rows = {name: _pair_row(p, level=level) for name, p in points.items() if name != baseline}
    order = sorted(rows, key=lambda name: (-rows[name].win_rate_adjusted, name))
    return PairTable(
        models={name: rows[name] for name in order},
        n_matches=len(counted),
        n_dropped=len(chosen) - len(counted),
        n_inconsistent=sum(m.inconsistent for m in counted),
        n_contradictory=sum(m.contradictory for m in counted),
    )


def _pair_row(mine: _Points, *, level: float) -> PairRow:
    n = len(mine.points)
    wins = sum(p == 1.0 for p in mine.points)
    losses = sum(p == 0.0 for p in mine.points)
    ties = n - wins - losses
    by_question: dict[str, float] = defaultdict(float)
    for question, p in zip(mine.questions, mine.points, strict=True):
        by_question[question] += p - 0.5
    return PairRow(
        win=wins,
        loss=losses,
        tie=ties,
        win_rate=wins / n,
        loss_rate=losses / n,
        win_rate_adjusted=(wins + 0.5 * ties) / n,
        interval=mean(mine.points, mine.questions, level=level, bounds=SHARE),
        sign_test_p=sign_test(
            sum(v > 0 for v in by_question.values()), sum(v < 0 for v in by_question.values())
        ),
    )


def sign_test(above: int, below: int) -> float:
    """The two-sided p of so uneven a split or a more uneven one, were either side as likely.

    P = 2·P(X ≤ min(above, below)) for X of the binomial distribution with above + below trials at
    one half, at most 1; ties are left out (W. J. Dixon and A. M. Mood, JASA 41, 1946).
    """
    from scipy.special import bdtr

    n = above + below
    return min(1.0, 2 * float(bdtr(min(above, below), n, 0.5))) if n else 1.0


def single_table(scores: Iterable[Score], *, level: float) -> dict[str, SingleRow]:
    """Mean scores by model, best first; unscored rows count in ``n_unscored`` alone.

    Args:
        scores: all of them, in any order.
        level: the confidence level of the average's interval, clustered by question.
    """
    by_model: dict[str, list[Score]] = defaultdict(list)
    for score in scores:
        by_model[score.model].append(score)
    rows = {name: _single_row(own, level=level) for name, own in by_model.items()}
    order = sorted(rows, key=lambda name: (-(rows[name].average or 0.0), name))
    return {name: rows[name] for name in order}


def _single_row(scores: Sequence[Score], *, level: float) -> SingleRow:
    found = [(s.score, s) for s in scores if s.score is not None]

    def mean_of(turn: int) -> float | None:
        values = [value for value, s in found if s.turn == turn]
        return sum(values) / len(values) if values else None

    values = [value for value, _ in found]
    questions = [str(s.question_id) for _, s in found]
    n_unscored = len({s.question_id for s in scores}) - len(set(questions))
    return SingleRow(
        first_turn=mean_of(1),
        second_turn=mean_of(2),
        average=sum(values) / len(values) if values else None,
        n_scored=len(values),
        n_unscored=len(scores) - len(values),
        interval=mean(
            values, questions, level=level, n_unscored=n_unscored, bounds=(LOWEST, HIGHEST)
        ),
    )
