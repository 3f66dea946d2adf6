"""Every row that touches disk, as a frozen type: one concept, one record.

The words are those of the README's section "Words". A record knows how to be validated and nothing
else: what is computed from records lives with the stage that computes it. The module is long, being
the one list of what stages write; what a report holds is in ``results``.
"""

from __future__ import annotations

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


class Budget(Record):
    """What a batch of prompts may hold: prompts, and tokens with the new ones."""

    batch_size: int = Field(ge=1)
    batch_tokens: int = Field(ge=1)
    max_new_tokens: int = Field(ge=1)


class PlannedBatch(Record):
    """Turns that are answered together, as (question, turn), by one respondent."""

    arm: Arm
    adapter: int = Field(ge=1)
    sample: int = Field(ge=1, le=2)
    turns: tuple[tuple[str, int], ...] = Field(min_length=1)


class BatchPlan(Record):
    """All batches in the order in which they are answered; ``generate/plan.json``.

    ``of`` is the digest of the prompts and the budget that it was made of.
    """

    of: str
    budget: Budget
    batches: tuple[PlannedBatch, ...]


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
    """A try of a judge request that may have to be paid for, though no journal has its reply.

    ``usd`` is the most that it can cost, or what it did cost where a reply came that was not to be
    kept. ``key`` is its number, in the order of the journal.
    """

    key: str
    judge: str
    usd: float


class BatchEvent(Record):
    """What happened to a batch of judge requests that is asked for all at once, and takes hours.

    ``planned``: the batch ``tag`` is about to be made of the requests ``keys``, which cost at most
    ``usd``; ``made``: the endpoint calls it ``batch_id``; ``dropped``: these ``keys`` of it will
    never have a reply in it, so that they can be asked again; ``ended``: it is at work no more, and
    the replies to these ``keys`` are from it. ``key`` tells the events apart.
    """

    key: str
    tag: str
    event: Literal["planned", "made", "dropped", "ended"]
    batch_id: str | None = None
    keys: tuple[str, ...] = ()
    usd: float | None = None


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

    Where a cut changed nothing, its value is that of the condition before it. ``cut_at_stop`` and
    ``cut_to_length`` say whether each changed a text of the pair (the second beyond the first);
    None in rows of before that was recorded. ``shortened_*`` count the answers that were cut for
    equal length, beyond a marker, in one order.
    """

    question_id: str
    benchmark: str
    turn: int = Field(default=1, ge=1)
    opponent: Arm
    adapter: int = Field(default=1, ge=1)
    as_answered: float | None = Field(ge=0, le=1)
    stopped: float | None = Field(ge=0, le=1)
    equal_length: float | None = Field(ge=0, le=1)
    cut_at_stop: bool | None = None
    cut_to_length: bool | None = None
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
    had no token left to learn from. ``by_epoch`` has the epochs that were finished.
    ``processes_before`` is how many had come to the step it was resumed from, if not as many as
    finished it. ``packing`` names the attention and the loss of packed sequences, or why there
    were none. ``lora_modules`` are those that PEFT put an adapter on, and ``hardware`` what the
    machine has, by part; both are empty where they are not known.
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
    processes_before: int | None = None
    packing: str = "none"
    lora_modules: tuple[str, ...] = ()
    hardware: dict[str, str] = Field(default_factory=dict)
