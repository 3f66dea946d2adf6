"""Every row that touches disk, as a frozen type: one concept, one record.

The words are those of the README's section "Words". A record knows how to be validated and nothing
else: what is computed from records lives with the stage that computes it. The module is long, being
the one list of all that a run's files hold.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterable


class Record(BaseModel):
    """Base of all records: immutable, no unknown field, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Split(StrEnum):
    """The three parts of the data."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Arm(StrEnum):
    """Which model answered: the one we started from, or the one we trained.

    ``base`` and ``tuned`` are asked alike, with the training template. ``fair-base`` is the base
    model at its best: asked in its own way, and stopped where its answer ends. ``baseline`` is the
    model whose answers a benchmark brings along: they are read, not generated. ``placebo`` went
    through the same training as tuned, on the same rows with their responses shuffled.
    """

    BASE = "base"
    FAIR_BASE = "fair-base"
    BASELINE = "baseline"
    PLACEBO = "placebo"
    TUNED = "tuned"


class Stop(StrEnum):
    """Why an answer ended: by itself, at a stop string, at the token limit, or by a failure.

    ``stop-string`` is an end of fair-base alone: it began a new section or turn, which was cut off.
    ``given`` is that of an answer which was read from a file: why it ended is not known.
    """

    EOS = "eos"
    STOP_STRING = "stop-string"
    LENGTH = "length"
    GIVEN = "given"
    ERROR = "error"

    @property
    def by_itself(self) -> bool:
        """Whether the answer came to an end of its own."""
        return self in (Stop.EOS, Stop.STOP_STRING)


class Condition(StrEnum):
    """How answers were shown to the judge: as they are, cut where they run on into the template, or
    there and then both to the length of the shorter one."""

    AS_ANSWERED = "as-answered"
    STOPPED = "stopped"
    EQUAL_LENGTH = "equal-length"


class Outcome(StrEnum):
    """What a verdict can say."""

    BETTER = "better"
    WORSE = "worse"
    INCONCLUSIVE = "inconclusive"


class Example(Record):
    """One instruction/context/response record, cleaned.

    ``id`` is the record's position in the source as read (``row-00017``), so that it can be traced
    to the file it came from. ``checkable`` says that ``response`` is the only right answer, so that
    an answer can be compared with it exactly.
    """

    id: str
    instruction: str
    context: str
    response: str
    category: str | None
    checkable: bool = False


class PreparedRow(Record):
    """One line of the sidecar: which split and line of it an example became."""

    split: Split
    line: int
    example: Example


class Ledger(Record):
    """Counts of rows kept, dropped and cut, by reason. Whatever loses rows returns one."""

    read: int
    kept: int
    dropped: dict[str, int] = Field(default_factory=dict)
    cut: dict[str, int] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _balances(self) -> Self:
        lost = sum(self.dropped.values())
        if self.read != self.kept + lost:
            raise ValueError(f"ledger: {self.read} read, {self.kept} kept + {lost} dropped")
        return self


class Prompt(Record):
    """What is asked of one question at one turn, and where it came from.

    ``question_id`` names the question (the unit of resampling in every interval) and is unique over
    all benchmarks; ``instruction`` is what the user says at this turn, counted from 1.
    ``token_ids`` are what base and tuned are asked at a first turn; None at a later one, since its
    prompt holds each arm's own answers to the earlier turns. ``reference`` is the response to
    compare with where there is one.
    """

    question_id: str
    benchmark: str
    category: str | None
    turn: int = Field(default=1, ge=1)
    instruction: str
    context: str
    token_ids: tuple[int, ...] | None
    reference: str | None
    checkable: bool


class Answer(Record):
    """What one arm said at one turn of a question, and why it stopped.

    ``adapter`` numbers the trained adapters from 1 (always 1 for arms without one). ``sample`` 2 is
    a second, independent answer of the same model to the same prompt, for the judge's A/A test
    alone; everything else rests on sample 1. ``n_tokens``
    counts generated tokens, without the end-of-sequence token and what a stop string cut off; it
    is 0 for an answer that was read.
    ``text`` is empty and ``error`` set when ``stop`` is ``error``: a failure is never stored as an
    answer's text.
    """

    key: str
    question_id: str
    benchmark: str
    turn: int = Field(default=1, ge=1)
    arm: Arm
    adapter: int = Field(default=1, ge=1)
    sample: int = Field(default=1, ge=1, le=2)
    text: str
    stop: Stop
    n_prompt_tokens: int
    n_tokens: int
    error: str | None = None


def first_samples(answers: Iterable[Answer]) -> list[Answer]:
    """The answers that everything rests on but the judge's A/A test, in their order.

    Whoever reads a run's answers takes these: a second sample counted in would be a question asked
    twice.
    """
    return [answer for answer in answers if answer.sample == 1]


class SequenceLoss(Record):
    """Negative log likelihood, in nats, of one reference response under one arm.

    ``response_nll`` is the sum over the ``n_tokens`` tokens of the response text; ``eos_nll`` is
    that of the end-of-sequence token after it, kept apart because a base model need not know where
    this template ends.
    """

    key: str
    question_id: str
    arm: Arm
    adapter: int = Field(default=1, ge=1)
    category: str | None
    response_nll: float
    n_tokens: int
    eos_nll: float


class Exchange(Record):
    """An earlier turn of a match: what was asked, and what each of the two had answered."""

    instruction: str
    answer_a: str
    answer_b: str


class Match(Record):
    """Two answers to one question at one turn, in one order: ``first`` is shown as A.

    One of them is the tuned model's (of the adapter with that number), the other ``opponent``'s.
    ``earlier`` holds the turns before this one.
    """

    question_id: str
    benchmark: str
    category: str | None = None
    turn: int = Field(default=1, ge=1)
    opponent: Arm
    adapter: int = Field(default=1, ge=1)
    instruction: str
    context: str
    first: Arm
    answer_a: str
    answer_b: str
    earlier: tuple[Exchange, ...] = ()

    @model_validator(mode="after")
    def _two_sides(self) -> Self:
        if self.opponent is Arm.TUNED or self.first not in (self.opponent, Arm.TUNED):
            raise ValueError(f"a match of tuned against {self.opponent}, {self.first} first")
        if len(self.earlier) != self.turn - 1:
            raise ValueError(f"turn {self.turn} with {len(self.earlier)} earlier turns")
        return self


TopLogprobs = tuple[tuple[str, float], ...]
"""The likeliest first tokens of a reply, each with its log probability in nats."""


class Judgment(Record):
    """One judge's reply about one match. ``p_first`` is P(the answer shown first is better).

    It is None when the reply could not be read, and ``unparsed`` then says why. ``prefers`` is what
    it comes to. ``protocol`` names how the judge was asked and its reply read. ``asked`` is False
    where the protocol knows the result without asking (two equal answers). ``key`` is the digest of
    the whole request, so that a reply is never asked for twice; matches whose requests are the same
    share one. ``reply``, ``finish_reason`` and ``top_logprobs`` are the endpoint's own, so that a
    reply can be read again. ``condition`` says whether the answers were shown as they are.
    """

    key: str
    question_id: str
    benchmark: str
    turn: int = Field(default=1, ge=1)
    opponent: Arm
    adapter: int = Field(default=1, ge=1)
    condition: Condition = Condition.AS_ANSWERED
    protocol: str
    judge: str
    first: Arm
    prefers: Literal["A", "B", "tie"] | None
    p_first: float | None = Field(default=None, ge=0, le=1)
    unparsed: str | None = None
    asked: bool = True
    reply: str
    finish_reason: str | None = None
    top_logprobs: TopLogprobs | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @model_validator(mode="before")
    @classmethod
    def _as_a_number(cls, value: object) -> object:
        """``p_first`` of a judgment that has none, as recorded before there were probabilities."""
        if isinstance(value, dict) and value.get("p_first") is None:
            known = {"A": 1.0, "B": 0.0, "tie": 0.5}.get(str(value.get("prefers")))
            return {**value, "p_first": known}
        return value

    @model_validator(mode="after")
    def _parsed_or_not(self) -> Self:
        if (self.prefers is None) != (self.unparsed is not None):
            raise ValueError("a judgment has a preference, or a reason why it has none")
        if self.prefers != preferred(self.p_first):
            raise ValueError(f"p_first {self.p_first} does not prefer {self.prefers}")
        return self


def preferred(p_first: float | None) -> Literal["A", "B", "tie"] | None:
    """The answer that a probability prefers: A is the one shown first."""
    if p_first is None:
        return None
    return "tie" if p_first == 0.5 else "A" if p_first > 0.5 else "B"


class Rating(Record):
    """One judge's rating of one answer by itself. ``score`` is None when none could be read.

    ``unparsed`` then says why. The rest is as in ``Judgment``.
    """

    key: str
    question_id: str
    benchmark: str
    category: str | None
    turn: int = Field(default=1, ge=1)
    arm: Arm
    adapter: int = Field(default=1, ge=1)
    protocol: str
    judge: str
    score: float | None
    unparsed: str | None = None
    reply: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @model_validator(mode="after")
    def _parsed_or_not(self) -> Self:
        if (self.score is None) != (self.unparsed is not None):
            raise ValueError("a rating has a score, or a reason why it has none")
        return self


class Similarity(Record):
    """How near one answer is to the reference response; both measures are in [0, 1].

    ``exact`` is None where the record is not checkable.
    """

    question_id: str
    arm: Arm
    adapter: int = Field(default=1, ge=1)
    category: str | None
    chrf: float
    exact: bool | None


class UnsureTry(Record):
    """A try of a judge request that may have to be paid for, though nobody told its price.

    ``usd`` is the most that it can cost. ``key`` is its number, in the order of the journal.
    """

    key: str
    judge: str
    usd: float


class BatchEvent(Record):
    """What happened to a batch of judge requests that is asked for all at once, and takes hours.

    ``planned``: the batch ``tag`` is about to be made of the requests ``keys``; ``made``: the
    endpoint calls it ``batch_id``; ``dropped``: these ``keys`` of it will never have a reply in it,
    so that they can be asked again. ``key`` tells the events apart.
    """

    key: str
    tag: str
    event: Literal["planned", "made", "dropped"]
    batch_id: str | None = None
    keys: tuple[str, ...] = ()


class Preference(Record):
    """P(tuned is better) for one pair of answers, from all judgments of it; None means unscored.

    A pair is the answers of ``opponent`` and of one adapter to one turn of a question; ``orders``
    says in how many orders the protocol shows it. ``orders_agree`` says whether both prefer the
    same answer; None where there are no two replies that could be read.
    """

    question_id: str
    benchmark: str
    turn: int = Field(default=1, ge=1)
    opponent: Arm
    adapter: int = Field(default=1, ge=1)
    protocol: str
    orders: int
    value: float | None = Field(ge=0, le=1)
    n_judgments: int
    n_unparsed: int
    orders_agree: bool | None


class CutPreference(Record):
    """P(tuned is better) for one pair in each condition; None where unscored.

    Where a cut changed nothing, its value is that of the condition before it. ``shortened_*`` count
    the answers that were cut for equal length, beyond a marker, in one order.
    """

    question_id: str
    benchmark: str
    turn: int = Field(default=1, ge=1)
    opponent: Arm
    adapter: int = Field(default=1, ge=1)
    as_answered: float | None = Field(ge=0, le=1)
    stopped: float | None = Field(ge=0, le=1)
    equal_length: float | None = Field(ge=0, le=1)
    shortened_tuned: int = 0
    shortened_opponent: int = 0


class ControlOutcome(Record):
    """One control pair, whose better answer is known, and what the judge said in both orders.

    ``p_right_first`` is P(the right answer is better) with it shown first, ``p_right_second`` with
    it shown second; None where the reply could not be read, or did not come.
    """

    id: str
    kind: str
    protocol: str
    benchmark: str
    instruction: str
    context: str
    right: str
    wrong: str
    p_right_first: float | None = Field(ge=0, le=1)
    p_right_second: float | None = Field(ge=0, le=1)


class RepeatedReply(Record):
    """One request that was sent twice: P(the answer shown first is better), each time."""

    question_id: str
    benchmark: str
    opponent: Arm
    first: Arm
    p_first: float | None = Field(ge=0, le=1)
    p_again: float | None = Field(ge=0, le=1)


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


class OutputFile(Record):
    """One file that a stage wrote or read: its size in bytes and SHA-256."""

    path: str
    bytes: int
    sha256: str


class Manifest(Record):
    """What a stage read, wrote and ran with; written last, so that its existence means "done".

    ``key_parts`` are the named parts that ``key`` is the digest of: comparing two manifests part by
    part says why a stage is stale.
    """

    stage: str
    version: int
    key: str
    key_parts: dict[str, str]
    inputs: tuple[OutputFile, ...]
    outputs: tuple[OutputFile, ...]
    packages: dict[str, str]
    tuneproof: str
    commit: str | None
    dirty: bool | None
    python: str
    device: str
    started: str
    duration_s: float
    resumed: int
    unfinished: int = 0
    ledger: Ledger | None = None
    facts: dict[str, str | int | float | bool | None] = Field(default_factory=dict)


# --- results.json ----------------------------------------------------------------------------


Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Finding(Record):
    """One thing that looks wrong before anything is trained: how many rows or questions, the
    evidence, the remedy.

    ``error`` is what makes the result wrong or a conclusion from it invalid, ``warning`` what
    weakens it, ``note`` what to know when reading it.
    """

    id: str
    severity: Severity
    count: int
    evidence: str
    remedy: str


class Preflight(Record):
    """What ``plan`` found, as a run keeps it. ``key`` digests what that rests on; ``notes`` say
    what was assumed or could not be looked at; ``problem`` why nothing was, where it failed."""

    key: str
    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str | None = None


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
    (the mean of |difference|; None where no pair of replies could be read)."""

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


class LossPoint(Record):
    """One line of the loss curve; the two losses are logged at steps of their own.

    ``eval_loss`` is the mean that transformers' Trainer reports, over padded batches, and what the
    best adapter is chosen by; ``eval_token_loss`` the mean over all tokens, where packing gives it.
    ``epoch`` is None in a training that was not ended.
    """

    step: int
    epoch: float | None
    train_loss: float | None = None
    eval_loss: float | None = None
    eval_token_loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None


class EpochLoss(Record):
    """Losses of one whole epoch: the mean over its optimizer steps, and on the validation rows
    after it."""

    epoch: int
    train_loss: float
    eval_loss: float


class TrainingSummary(Record):
    """What training did, in counts and units.

    ``tokens`` counts the real tokens seen over all epochs, no padding; the row counts, and
    ``supervised_tokens_per_epoch``, are of one epoch. ``rows`` were trained on; ``rows_dropped``
    had no token left to learn from. ``by_epoch`` has the epochs that were
    finished. ``packing`` names the attention and the loss of packed sequences, or why there were
    none.
    """

    seed: int | None = None
    steps: int
    epochs: float
    trainable_parameters: int
    total_parameters: int
    tokens: int
    supervised_tokens_per_epoch: int
    eos_supervised_rows: int
    rows: int
    rows_dropped: int
    rows_cut: int
    contexts_shortened: int = 0
    responses_lost: int
    best_step: int | None
    best_eval_loss: float | None
    final_train_loss: float | None
    by_epoch: tuple[EpochLoss, ...] = ()
    stopped_early: bool = False
    duration_s: float
    dtype: str
    device: str
    processes: int = 1
    packing: str = "none"


class MissingStage(Record):
    """A stage whose results are not there, or are not of what lies there now: why, and the command
    that makes them."""

    stage: str
    why: str
    command: str


class Results(Record):
    """The content of ``results.json``: every number of the report, as an estimate or a count.

    ``training`` is that of the first adapter, ``other_trainings`` those of the others, in order;
    ``missing`` are the stages that the report had to do without. ``preflight`` is None where the
    run kept none.
    """

    format: int = 5
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
    alarms: tuple[Alarm, ...] = ()
    findings: tuple[str, ...] = ()
    preflight: Preflight | None = None
    missing: tuple[MissingStage, ...] = ()

    @property
    def best_step(self) -> int | None:
        """Where the first adapter's validation loss was lowest."""
        return self.training.best_step if self.training is not None else None
