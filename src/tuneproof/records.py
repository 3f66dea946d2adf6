"""Every row that touches disk, as a frozen type: one concept, one record.

The words are those of the README's section "Words". A record knows how to be validated and nothing
else: what is computed from records lives with the stage that computes it.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Record(BaseModel):
    """Base of all records: immutable, no unknown field, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Split(StrEnum):
    """The three parts of the data."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Arm(StrEnum):
    """Which model answered: the one we started from, or the one we trained."""

    BASE = "base"
    TUNED = "tuned"


class Stop(StrEnum):
    """Why an answer ended: by itself, at the token limit, or by a failure."""

    EOS = "eos"
    LENGTH = "length"
    ERROR = "error"


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
    """What a model is asked, as token ids, and where it came from.

    ``question_id`` names the question (the unit of resampling in every interval); ``reference`` is
    the response to compare with where there is one.
    """

    question_id: str
    benchmark: str
    category: str | None
    instruction: str
    context: str
    token_ids: tuple[int, ...]
    reference: str | None
    checkable: bool


class Answer(Record):
    """What one arm said to one prompt, and why it stopped.

    ``n_tokens`` counts generated tokens, the end-of-sequence token not included. ``text`` is empty
    and ``error`` set when ``stop`` is ``error``: a failure is never stored as an answer's text.
    """

    key: str
    question_id: str
    benchmark: str
    arm: Arm
    text: str
    stop: Stop
    n_prompt_tokens: int
    n_tokens: int
    error: str | None = None


class SequenceLoss(Record):
    """Negative log likelihood, in nats, of one reference response under one arm.

    ``response_nll`` is the sum over the ``n_tokens`` tokens of the response text; ``eos_nll`` is
    that of the end-of-sequence token after it, kept apart because a base model need not know where
    this template ends.
    """

    key: str
    question_id: str
    arm: Arm
    category: str | None
    response_nll: float
    n_tokens: int
    eos_nll: float


class Match(Record):
    """Two answers to one question, in one order: ``first`` is shown as A."""

    question_id: str
    benchmark: str
    instruction: str
    context: str
    first: Arm
    answer_a: str
    answer_b: str

    @property
    def second(self) -> Arm:
        """The arm that is shown as B."""
        return Arm.TUNED if self.first is Arm.BASE else Arm.BASE


class Judgment(Record):
    """One judge's reply about one match. ``prefers`` is None when the reply could not be read.

    ``unparsed`` then says why. ``key`` is the digest of the whole request, so that a reply is never
    asked for twice. ``reply`` and ``finish_reason`` are the endpoint's own, so that a reply can be
    read again.
    """

    key: str
    question_id: str
    benchmark: str
    judge: str
    first: Arm
    prefers: Literal["A", "B", "tie"] | None
    unparsed: str | None = None
    reply: str
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None

    @model_validator(mode="after")
    def _parsed_or_not(self) -> Self:
        if (self.prefers is None) != (self.unparsed is not None):
            raise ValueError("a judgment has a preference, or a reason why it has none")
        return self


class Similarity(Record):
    """How near one answer is to the reference response; both measures are in [0, 1].

    ``exact`` is None where the record is not checkable.
    """

    question_id: str
    arm: Arm
    category: str | None
    chrf: float
    exact: bool | None


class Preference(Record):
    """P(tuned is better) on one question, from all judgments of it; None means unscored."""

    question_id: str
    value: float | None = Field(ge=0, le=1)
    n_judgments: int
    n_unparsed: int
    orders_agree: bool | None


class Estimate(Record):
    """The only kind of number a report accepts: value, interval, how much it rests on.

    ``value``, ``low`` and ``high`` are None when nothing (or too little) could be scored, and
    ``note`` then says why. ``n_scored`` counts questions.
    """

    value: float | None
    low: float | None
    high: float | None
    n_scored: int
    n_unscored: int
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
    """Better, worse or inconclusive; the sentence that says so; the reasons behind it."""

    outcome: Outcome
    sentence: str
    reasons: tuple[str, ...]
    metric: str
    estimate: Estimate


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


class ArmPair(Record):
    """One measure of both arms on the same questions, and the paired difference tuned − base."""

    base: Estimate
    tuned: Estimate
    difference: Estimate


class HeldoutLoss(ArmPair):
    """Negative log likelihood of the test split's responses, in nats a response token.

    ``eos`` is the mean negative log likelihood of the end-of-sequence token after the response, in
    nats; ``by_category`` is the main measure for the rows of each category.
    """

    eos: ArmPair
    by_category: dict[str, ArmPair]


class PairwiseResult(Record):
    """What a judge preferred. ``win_rate`` is P(tuned is better), ties counted as one half.

    ``order_agreement`` is the share of questions on which both orders gave the same preference;
    ``first_preferred`` the share of decided judgments that preferred the answer shown first.
    """

    judge: str
    orders: int
    win_rate: Estimate
    n_wins: int
    n_losses: int
    n_ties: int
    n_judgments: int
    n_unparsed: int
    order_agreement: Estimate
    first_preferred: Estimate


class BenchmarkResult(Record):
    """All measures on one benchmark's questions; None where a measure was not taken."""

    n_questions: int
    stopped: ArmPair
    answer_tokens: ArmPair
    chrf: ArmPair | None
    exact_match: ArmPair | None
    pairwise: PairwiseResult | None


class LossPoint(Record):
    """One line of the loss curve; the two losses are logged at steps of their own."""

    step: int
    epoch: float
    train_loss: float | None = None
    eval_loss: float | None = None
    learning_rate: float | None = None
    grad_norm: float | None = None


class TrainingSummary(Record):
    """What training did, in counts and units.

    ``tokens`` counts the real tokens seen over all epochs, no padding; the row counts, and
    ``supervised_tokens_per_epoch``, are of one epoch. ``rows`` were trained on; ``rows_dropped``
    had no token left to learn from.
    """

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
    responses_lost: int
    best_step: int | None
    best_eval_loss: float | None
    final_train_loss: float | None
    duration_s: float
    dtype: str
    device: str


class Results(Record):
    """The content of ``results.json``: every number of the report, as an estimate or a count."""

    format: int = 1
    name: str
    verdict: Verdict
    heldout_loss: HeldoutLoss | None
    benchmarks: dict[str, BenchmarkResult]
    training: TrainingSummary
    ledger: Ledger
    rows: dict[str, int]
    findings: tuple[str, ...] = ()
