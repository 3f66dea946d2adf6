"""The records of ``results.json``: every number of a report, as an estimate or a count.

What stages write one a line is in ``records``; reading an older file is the report's business. The
module is long, being the one list of what that file holds.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from tuneproof.records import Arm, Ledger, Preflight, Record, TrainingSummary


class Outcome(StrEnum):
    """What a verdict can say."""

    BETTER = "better"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


class Estimate(Record):
    """The only kind of number a report accepts: value, interval, how much it rests on.

    ``value``, ``low`` and ``high`` are None when nothing (or too little) could be scored, and
    ``note`` then says why. ``n_scored`` counts questions. ``detectable`` is the minimum detectable
    effect: the least true effect that as many questions with this spread show in four cases of
    five; None where the data tell of no spread.
    """

    value: float | None
    low: float | None
    high: float | None
    n_scored: int
    n_unscored: int
    detectable: float | None = Field(default=None, ge=0)
    level: float = 0.95
    unit: str = ""
    method: str = ""
    note: str | None = None

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.value is not None and self.low is not None and self.high is not None:
            slack = 1e-9 * max(1.0, abs(self.value))
            if not self.low - slack <= self.value <= self.high + slack:
                raise ValueError(f"estimate {self.value} is outside [{self.low}, {self.high}]")
        return self

    @property
    def width(self) -> float:
        """High minus low; infinite where there is no interval."""
        if self.low is None or self.high is None:
            return math.inf
        return self.high - self.low


class Verdict(Record):
    """Better, worse or inconclusive; the sentence that says so; the reasons behind it.

    ``benchmark`` is the one whose metric decided, and ``against`` the opponent of a win rate.
    ``second_opinion`` is the same value with an interval of the other kind: from the bootstrap
    where the verdict rests on Student's t, and the other way round. It decides nothing.
    """

    outcome: Outcome
    sentence: str
    reasons: tuple[str, ...]
    metric: str
    benchmark: str | None = None
    against: Arm | None = None
    estimate: Estimate
    second_opinion: Estimate | None = None


class ArmPair(Record):
    """One measure of both arms on the same questions, and the paired difference tuned − base.

    ``base`` is the arm that tuned is compared with, fair-base included. Turns and adapters of a
    question are averaged first.
    """

    base: Estimate
    tuned: Estimate
    difference: Estimate


class HeldoutLoss(ArmPair):
    """Negative log likelihood of the test split's responses, in nats a response token.

    ``eos`` is the mean negative log likelihood of the end-of-sequence token after the response, in
    nats; ``by_category`` is the main measure for the rows of each category, and ``by_adapter`` for
    each adapter, where there are several.
    """

    eos: ArmPair
    by_category: dict[str, ArmPair]
    by_adapter: dict[str, ArmPair] = Field(default_factory=dict)


class Tally(Record):
    """How many were won by tuned, lost and tied (at one half), and how many have no preference."""

    wins: int
    losses: int
    ties: int
    unscored: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.wins + self.losses + self.ties + self.unscored


class AlpacaEvalLine(Record):
    """One model's line of AlpacaEval's leaderboard, in its columns; rates are percentages.

    ``n_total`` counts scored rows, ``n_unscored`` those with both answers and no preference, and
    ``n_without_answers`` the questions on which an answer is missing or failed. ``avg_length`` is
    in characters, over the answers of all rows, scored or not.
    """

    model: str
    reference: str
    adapter: int = Field(default=1, ge=1)
    win_rate: float | None
    standard_error: float | None
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_total: int
    discrete_win_rate: float | None
    avg_length: int | None
    mode: str
    length_controlled_winrate: float | None = None
    lc_standard_error: float | None = None
    n_unscored: int
    n_without_answers: int


class LengthControlled(Record):
    """The win rate at equal length: AlpacaEval's own where it is defined, and one of this match.

    ``official`` is None where the match is not the leaderboard's, and ``reason`` says so; both are
    None where several adapters have one each. ``fitted`` is this project's number, from this match
    alone; ``length_effect`` is its φ (below 0: longer answers are preferred). ``n_longer`` and
    ``n_shorter`` count rows in which the tuned answer is longer, or shorter, than the opponent's.
    """

    official: float | None
    official_standard_error: float | None = None
    source: str | None = None
    reason: str | None = None
    fitted: Estimate
    length_effect: float | None
    n_longer: int
    n_shorter: int


class MtBenchLine(Record):
    """One model's line of FastChat's pairwise table; rates are shares of its matches."""

    model: str
    win: int
    loss: int
    tie: int
    win_rate: float
    loss_rate: float
    win_rate_adjusted: float


class MtBenchMatches(Record):
    """FastChat's pairwise table of one opponent, and what became of the matches.

    ``n_matches`` are in the table, ``n_dropped`` are not (a game without a winner), and
    ``n_without_answers`` were not played; ``n_excluded`` were left out as the recipe says, and are
    in no other count. ``n_inconsistent`` are ties because the two games
    disagree; in ``n_contradictory`` of them each game has another winner. ``n_known_wrong`` matches
    rest on a reference answer that is known to be wrong.
    """

    lines: tuple[MtBenchLine, ...]
    n_matches: int
    n_dropped: int
    n_without_answers: int
    n_excluded: int = 0
    n_inconsistent: int
    n_contradictory: int
    n_known_wrong: int


class Decomposition(Record):
    """Where a win rate's distance from one half comes from, in shares.

    ``whole`` = ``stopping`` + ``length`` + ``remaining``: what the win rate loses when answers are
    cut where they run on into the template, what it loses when both are also cut to equal length,
    and what is left above one half. All rest on the ``n_pairs`` pairs that were scored in all three
    conditions; ``n_left_out`` are unscored in one, ``n_lost_to_cuts`` of them only after a cut.
    ``n_cut_at_stop`` and ``n_cut_to_length`` of the ``n_pairs`` had a text changed by a cut; None
    where that was not recorded. With none, the part is nought and needs no interval.
    ``n_rejudged`` replies were asked for it. ``shortened_*`` count the answers that were cut off
    for equal length.
    """

    whole: Estimate
    stopping: Estimate
    length: Estimate
    remaining: Estimate
    n_pairs: int
    n_left_out: int
    n_lost_to_cuts: int
    n_cut_at_stop: int | None = None
    n_cut_to_length: int | None = None
    n_rejudged: int = 0
    shortened_tuned: int = 0
    shortened_opponent: int = 0
    sentence: str = ""

    @property
    def parts(self) -> tuple[Estimate, Estimate, Estimate]:
        """Stopping, length, what remains."""
        return self.stopping, self.length, self.remaining


class ControlAccuracy(Record):
    """How often the judge named the better answer of control pairs, a share with Wilson's interval.

    Whatever is not right in both orders is wrong: a tie, two orders that contradict each other, a
    reply that could not be read. These are counted apart; the rest named the wrong answer.
    """

    accuracy: Estimate
    n_controls: int
    n_right: int
    n_unparsed: int
    n_contradictions: int
    n_ties: int


class ReplyDrift(Record):
    """Requests that were sent twice: on how many the preferred answer changed, and how far P moved
    (the mean of |difference|; None where no reply was weighed by probabilities)."""

    n_repeated: int
    n_compared: int
    n_changed: int
    mean_shift: float | None


class JudgeCheck(Record):
    """What was found of a judge under one protocol before it was believed.

    ``passes`` is whether the lower bound of ``overall`` reaches the recipe's minimum; None where no
    controls were asked for. ``sentence`` says why or why not, and ``cannot`` which controls could
    not be built. ``self_comparison`` is the A/A test: how often a second answer of the tuned model
    was preferred to its first, one half but for chance.
    """

    protocol: str
    passes: bool | None
    sentence: str
    overall: ControlAccuracy | None = None
    by_kind: dict[str, ControlAccuracy] = Field(default_factory=dict)
    cannot: tuple[str, ...] = ()
    drift: ReplyDrift | None = None
    self_comparison: Estimate | None = None


class Alarm(Record):
    """A sign that a preference for some answers may not mean what it seems to.

    ``count`` of ``of`` answers have what ``text`` says. ``arm`` is whose they are.
    """

    id: str
    benchmark: str | None = None
    arm: str | None = None
    count: int
    of: int
    text: str


class Registered(Record):
    """Whether the verdict is pre-registered: its rule digested before anything was judged, and as
    it was. ``differences`` are what was changed since."""

    registered: bool
    digest: str | None
    sentence: str
    differences: tuple[str, ...] = ()


class PlaceboResult(Record):
    """Tuned and placebo, each against base, in the verdict's metric; above 0 is better.

    ``tuned_gain`` and ``placebo_gain`` are None where tuned and placebo were judged against each
    other alone (a win rate): ``over_placebo`` is then the win rate against the placebo less one
    half. ``beaten`` is whether its whole interval lies beyond the recipe's smallest effect,
    ``placebo_is_better`` the same of ``placebo_gain``.
    """

    metric: str
    tuned_gain: Estimate | None
    placebo_gain: Estimate | None
    over_placebo: Estimate
    beaten: bool
    placebo_is_better: bool | None
    sentence: str


class PairwiseResult(Record):
    """What a judge preferred between tuned and one opponent.

    ``win_rate`` is P(tuned is better), ties counted as one half; turns and adapters of a question
    are averaged, and the question is the unit of its interval. ``questions`` counts by question
    whether that average lies above, below or at one half; ``pairs`` counts the single pairs of
    answers: one for each question, turn and adapter, both orders together. ``order_agreement`` is
    the share of pairs on which both orders gave the same preference; ``first_preferred`` the share
    of decided judgments that preferred the answer shown first. ``n_inconsistent`` pairs have two
    orders that do not prefer the same. ``n_judgments`` are replies; ``n_not_asked`` matches needed
    none, their answers being equal. The ``by_*`` win rates are there where there are several turns,
    categories, bands of tuned's length against the opponent's, or adapters; what is the benchmark's
    own (its columns, its table) where it is judged.
    ``check`` is what control pairs say of the judge under this protocol.
    """

    judge: str
    protocol: str
    opponent: Arm
    orders: int
    win_rate: Estimate
    questions: Tally
    pairs: Tally
    n_inconsistent: int = 0
    n_judgments: int
    n_unparsed: int
    n_not_asked: int = 0
    order_agreement: Estimate
    first_preferred: Estimate
    by_turn: dict[str, Estimate] = Field(default_factory=dict)
    by_category: dict[str, Estimate] = Field(default_factory=dict)
    by_length: dict[str, Estimate] = Field(default_factory=dict)
    by_adapter: dict[str, Estimate] = Field(default_factory=dict)
    alpaca_eval: tuple[AlpacaEvalLine, ...] = ()
    length_controlled: LengthControlled | None = None
    mt_bench: MtBenchMatches | None = None
    decomposition: Decomposition | None = None
    check: JudgeCheck | None = None


class RatingLine(Record):
    """One model's line of FastChat's single-answer table, in points from 1 to 10."""

    model: str
    first_turn: float | None
    second_turn: float | None
    average: float | None
    n_scored: int
    n_unscored: int


class RatingsResult(Record):
    """What a judge gave each answer by itself, in points from 1 to 10.

    ``against`` has, by opponent, its mean rating, tuned's, and the paired difference; turns and
    adapters of a question are averaged first. ``n_ratings`` are replies, ``n_known_wrong`` those
    that rest on a reference answer that is known to be wrong.
    """

    judge: str
    protocol: str
    against: dict[str, ArmPair]
    lines: tuple[RatingLine, ...]
    n_ratings: int
    n_unparsed: int
    n_known_wrong: int


class Measures(Record):
    """What can be measured on the answers of two arms without a judge.

    ``chrf`` is None where no question has a reference, ``exact_match`` where none is checkable.
    """

    stopped: ArmPair
    answer_tokens: ArmPair
    chrf: ArmPair | None
    exact_match: ArmPair | None


class BenchmarkResult(Measures):
    """All measures on one benchmark's questions; None where a measure was not taken.

    Its own ``Measures`` are of base and tuned; ``fair_base`` has those of fair-base and tuned.
    ``pairwise`` is against the recipe's first opponent, ``others`` against the rest, by name.
    ``ratings`` takes their place where answers were rated one by one.
    """

    n_questions: int
    n_turns: int
    n_adapters: int
    fair_base: Measures | None = None
    pairwise: PairwiseResult | None
    others: dict[str, PairwiseResult] = Field(default_factory=dict)
    ratings: RatingsResult | None = None


class JudgeReplies(Record):
    """All replies of one judge under one protocol, those on cut answers (``n_cut``) included.

    ``unparsed`` counts those that could not be read, by reason, the most frequent first.
    """

    judge: str
    protocol: str
    n_replies: int
    n_cut: int
    unparsed: dict[str, int] = Field(default_factory=dict)


class MissingStage(Record):
    """A stage whose results are not there, or are not of what lies there now: why, and the command
    that makes them. ``later`` are the stages whose results rest on it and are shown all the same.
    """

    stage: str
    why: str
    command: str
    later: tuple[str, ...] = ()


class Results(Record):
    """The content of ``results.json``: every number of the report, as an estimate or a count.

    ``training`` is that of the first adapter, ``other_trainings`` those of the others, in order;
    ``missing`` are the stages that the report had to do without. ``preflight`` is None where the
    run kept none.
    """

    format: int = 6
    name: str
    verdict: Verdict
    heldout_loss: HeldoutLoss | None
    benchmarks: dict[str, BenchmarkResult]
    training: TrainingSummary | None
    other_trainings: tuple[TrainingSummary, ...] = ()
    ledger: Ledger | None
    rows: dict[str, int]
    registration: Registered | None = None
    placebo: PlaceboResult | None = None
    replies: tuple[JudgeReplies, ...] = ()
    alarms: tuple[Alarm, ...] = ()
    findings: tuple[str, ...] = ()
    preflight: Preflight | None = None
    missing: tuple[MissingStage, ...] = ()

    @property
    def best_step(self) -> int | None:
        """Where the first adapter's validation loss was lowest."""
        return self.training.best_step if self.training is not None else None
