"""Putting the plan together: each part is counted or estimated in a module of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneproof.data.placebo import derangement
from tuneproof.data.prepare import check_data, prepare
from tuneproof.errors import DataError, ModelError
from tuneproof.plan import controls, evaluation, findings, power, repeats
from tuneproof.plan.answering import (
    AnsweringGib,
    Asks,
    Held,
    answering_memory,
    answers_over_context,
    planned_asks,
    smaller_batches,
)
from tuneproof.plan.cards import CARDS, TimePlan, Work, measured_rate, plan_time
from tuneproof.plan.controls import PlannedControls, planned_controls
from tuneproof.plan.cost import AnswerTokens, Cost, plan_cost
from tuneproof.plan.findings import by_severity
from tuneproof.plan.geometry import Geometry, find_geometry
from tuneproof.plan.judging import Asked, asked_questions
from tuneproof.plan.memory import GIB, Batch, MemoryGib, Setting, estimate_memory
from tuneproof.plan.repeats import Corpus, RepeatCounts
from tuneproof.plan.tokens import (
    Encoded,
    TokenCounts,
    ValidationTokens,
    count_tokens,
    count_validation,
    encode,
)
from tuneproof.progress import hush_transformers
from tuneproof.records import Finding, Ledger, Record, Split
from tuneproof.train.model import load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.prepare import Prepared
    from tuneproof.data.templates import Template
    from tuneproof.recipe import Recipe, Train


class DiskGib(Record):
    """What the run leaves on disk, in GiB.

    ``checkpoints`` are two an adapter, the best and the last, and go when training is done;
    ``model_cache`` is the download of a model from the hub.
    """

    checkpoints: float
    adapter: float
    model_cache: float
    total: float


class Plan(Record):
    """What the recipe will do. All counts over one epoch but for steps, time and cost.

    ``adapters`` counts all that are trained, each in ``optimizer_steps``; ``placebo_adapters`` of
    them learn from shuffled responses.
    ``checkpoints`` counts those saved in one training; two are kept at a time. ``answering_gib`` is
    None where another process answers. ``fits`` says of each card whether training and answering
    both fit; ``fits_with_batch_tokens`` names, for cards that could train only, a
    ``generate.batch_tokens`` with which they could answer too. ``notes`` say what was assumed or
    could not be looked at.
    """

    name: str
    model: str
    rows: dict[str, int]
    ledger: Ledger
    trainable_parameters: int
    total_parameters: int
    trainable_percent: float
    context: int | None
    adapters: int
    placebo_adapters: int
    optimizer_steps: int
    warmup_steps: int
    evaluations: int
    checkpoints: int
    tokens: TokenCounts
    validation_tokens: ValidationTokens
    memory_gib: MemoryGib | None
    answering_gib: AnsweringGib | None
    fits: dict[str, bool]
    fits_with_batch_tokens: dict[str, int]
    time: TimePlan
    cost: Cost
    disk_gib: DiskGib
    repeats: RepeatCounts
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def make_plan(
    recipe: Recipe,
    *,
    prepared: Prepared | None = None,
    run_dir: Path | None = None,
    tokens_per_s: float | None = None,
    usd_per_gpu_hour: float | None = None,
) -> Plan:
    """Count, estimate and look for what is wrong.

    Args:
        prepared: the recipe's data, where it was prepared already.
        run_dir: the run's folder, where an earlier training of it may say how fast it was; None is
            ``runs/<name>``.
        tokens_per_s: real training tokens a second, where the user knows.
        usd_per_gpu_hour: what an hour of the GPU costs.

    Raises:
        UsageError: what the run itself would refuse.
    """
    hush_transformers()
    template = check_data(recipe.data)
    if prepared is None:
        prepared = prepare(recipe.data, recipe.seed)
    tokenizer = _tokenizer(recipe)
    geometry = find_geometry(recipe.model, recipe.lora)
    train = encode(recipe, tokenizer, template, prepared.splits[Split.TRAIN])
    validation = encode(
        recipe,
        tokenizer,
        template,
        prepared.splits[Split.VALIDATION][: recipe.train.eval_rows],
    )
    for split, encoded in (("train", train), ("validation", validation)):
        if not encoded.used:
            raise DataError(
                f"no row of the {split} split has a token to learn from",
                place="train.max_length",
                value=recipe.train.max_length,
                remedy="Raise it: every response lies beyond it.",
            )
    steps = recipe.train.optimizer_steps(len(train.used))
    measured_at = evaluation_steps(recipe.train, len(train.used))
    placebos = int(recipe.verdict.beat_placebo)
    if placebos:
        derangement([e.response for e in prepared.splits[Split.TRAIN]], seed=recipe.seed)
    adapters = recipe.train.seeds + placebos
    asked = asked_questions(recipe, prepared.splits[Split.TEST])
    power.check_questions(recipe, asked, prepared.splits[Split.TEST])
    planned = planned_controls(recipe, asked, prepared.splits[Split.TEST])
    stops = findings.eos_not_supervised(train.used, recipe.train, eos=int(tokenizer.eos_token_id))
    cost, cost_notes = plan_cost(
        recipe,
        asked,
        tokenizer,
        _answer_tokens(recipe, train, learns_to_stop=stops is None),
        controls=planned,
    )
    tokens = count_tokens(train, recipe.train, seed=recipe.seed)
    validation_tokens = count_validation(validation, recipe.train)
    memory = _memory(recipe, geometry, train, validation)
    asks = planned_asks(recipe, asked, prepared.splits[Split.TEST], tokenizer, template)
    room = _room(recipe, geometry, memory, asks, adapters=adapters)
    epochs = steps / recipe.train.steps_per_epoch(len(train.used))
    time = plan_time(
        Work(
            parameters=geometry.total,
            # A placebo's rows have the same responses, so about the same tokens.
            training_tokens=round(epochs * tokens.real * adapters),
            evaluation_tokens=len(measured_at) * validation_tokens.real * adapters,
        ),
        fits=room.fits,
        stated=tokens_per_s,
        measured=measured_rate(run_dir if run_dir is not None else Path("runs") / recipe.name),
        usd_per_gpu_hour=usd_per_gpu_hour,
    )
    found, counts = _findings(
        recipe, prepared, template, tokenizer, geometry, train, asked, planned, asks
    )
    return Plan(
        name=recipe.name,
        model=recipe.model.id,
        rows=prepared.rows(),
        ledger=prepared.ledger,
        trainable_parameters=geometry.trainable,
        total_parameters=geometry.total,
        trainable_percent=round(100 * geometry.trainable / geometry.total, 4),
        context=geometry.context,
        adapters=adapters,
        placebo_adapters=placebos,
        optimizer_steps=steps,
        warmup_steps=math.ceil(recipe.train.warmup_ratio * steps),
        evaluations=len(measured_at),
        checkpoints=len(measured_at),
        tokens=tokens,
        validation_tokens=validation_tokens,
        memory_gib=memory,
        answering_gib=room.answering,
        fits=room.fits,
        fits_with_batch_tokens=room.with_batch_tokens,
        time=time,
        cost=cost,
        disk_gib=_disk(recipe, geometry, adapters=adapters),
        repeats=counts,
        findings=tuple(by_severity(found)),
        notes=(*geometry.notes, *_data_notes(recipe, asked), *cost_notes),
    )


def evaluation_steps(train: Train, n_rows: int) -> list[int]:
    """The optimizer steps after which one training measures the validation loss and saves.

    Every ``eval_steps``, at the end of each epoch, and after the last step (the trainer's own rule
    where evaluation goes by steps).
    """
    last = train.optimizer_steps(n_rows)
    every, an_epoch = train.eval_steps, train.steps_per_epoch(n_rows)
    return sorted({*range(every, last + 1, every), *range(an_epoch, last + 1, an_epoch), last})


def _tokenizer(recipe: Recipe) -> PreTrainedTokenizerBase:
    try:
        return load_tokenizer(recipe.model)
    except ModelError as error:
        if recipe.model.tokenizer is not None:
            raise
        raise ModelError(
            error.problem,
            place=error.place,
            value=error.value,
            remedy=f"{error.remedy}\n  A plan needs only the tokenizer of it: --set "
            "model.tokenizer=FOLDER, one with its tokenizer.json and tokenizer_config.json.",
        ) from None


def _answer_tokens(recipe: Recipe, train: Encoded, *, learns_to_stop: bool) -> AnswerTokens:
    """A model that learned to stop answers as long as it was shown; another runs to the limit."""
    limit = recipe.generate.max_new_tokens
    responses = [r.n_whole - r.n_prompt for r in train.rows if not r.context_shortened]
    shown = min(float(limit), sum(responses) / len(responses)) if responses else float(limit)
    return AnswerTokens(
        tuned=shown if learns_to_stop else limit, base=limit, fair_base=shown, limit=limit
    )


def _element(recipe: Recipe) -> int:
    """Bytes of a weight."""
    return 4 if recipe.model.dtype == "float32" else 2


def _memory(
    recipe: Recipe, geometry: Geometry, train: Encoded, validation: Encoded
) -> MemoryGib | None:
    if geometry.shape is None:
        return None
    rows = recipe.train.micro_batch_size
    longest = max(len(r.token_ids) for r in (*train.used, *validation.used))
    if recipe.train.packing:
        # Validation packs as many tokens, and keeps nothing of them.
        most = min(recipe.train.micro_batch_tokens, recipe.train.batch_size * longest)
        batch = Batch(rows=1, length=most, padded=False, packed=True)
    else:
        batch = Batch(rows=rows, length=longest, padded=rows > 1)
    return estimate_memory(
        geometry.shape,
        geometry.adapted,
        Setting(
            r=recipe.lora.r,
            dropout=recipe.lora.dropout,
            bf16=_element(recipe) == 2,
            checkpointing=recipe.train.gradient_checkpointing,
        ),
        batch,
        frozen=geometry.frozen,
        trainable=geometry.trainable,
    )


@dataclass(frozen=True, kw_only=True)
class _Room:
    """What answering takes, and on which cards there is room for it and for training."""

    answering: AnsweringGib | None
    fits: dict[str, bool]
    with_batch_tokens: dict[str, int]


def _room(
    recipe: Recipe,
    geometry: Geometry,
    training: MemoryGib | None,
    asks: Sequence[Asks],
    *,
    adapters: int,
) -> _Room:
    if training is None or geometry.shape is None:
        return _Room(answering=None, fits={}, with_batch_tokens={})
    held = Held(
        shape=geometry.shape,
        frozen=geometry.frozen,
        adapters=geometry.trainable * adapters,
        element=_element(recipe),
    )
    budget = recipe.generate.budget
    answering = None
    if recipe.generate.backend == "transformers":
        answering = answering_memory(asks, budget, held)
    trains = [c for c in CARDS if training.total <= c.usable_gib]
    both = [c for c in trains if answering is None or answering.total <= c.usable_gib]
    smaller = {
        c.name: smaller_batches(asks, budget, held, usable_gib=c.usable_gib)
        for c in trains
        if c not in both
    }
    return _Room(
        answering=answering,
        fits={c.name: c in both for c in CARDS},
        with_batch_tokens={name: n for name, n in smaller.items() if n is not None},
    )


def _disk(recipe: Recipe, geometry: Geometry, *, adapters: int) -> DiskGib:
    """Adapters are saved in float32, and a checkpoint also has AdamW's two moments.

    A hub's weights are taken to be of two bytes a parameter, as nearly all are published.
    """
    local = Path(recipe.model.id).is_dir()
    parts = {
        "checkpoints": 2 * 12 * geometry.trainable * adapters / GIB,
        "adapter": 4 * geometry.trainable * adapters / GIB,
        "model_cache": 0.0 if local else 2 * geometry.frozen / GIB,
    }
    rounded = {name: round(value, 3) for name, value in parts.items()}
    return DiskGib(**rounded, total=round(sum(parts.values()), 3))


def _data_notes(recipe: Recipe, asked: list[Asked]) -> list[str]:
    notes = [
        f"Whether questions of {a.name} are in the training data was not looked at: {a.missing}. "
        f"Put it into FOLDER/{a.name}/ and set TUNEPROOF_ASSETS=FOLDER."
        for a in asked
        if a.missing is not None
    ]
    if recipe.model.dtype == "auto":
        notes.append("model.dtype is auto: memory is that of bfloat16, which all cards here have.")
    return notes


def _findings(
    recipe: Recipe,
    prepared: Prepared,
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    geometry: Geometry,
    train: Encoded,
    asked: list[Asked],
    planned: list[PlannedControls],
    asks: list[Asks],
) -> tuple[list[Finding], RepeatCounts]:
    section = recipe.train
    examples = prepared.splits[Split.TRAIN]
    ids = [e.id for e in examples]
    eos = int(tokenizer.eos_token_id)
    vocabulary = geometry.shape.vocabulary if geometry.shape is not None else None
    corpus = Corpus(prepared.splits)
    alike = corpus.repeats()
    overlaps = corpus.overlaps(asked)
    heldout = any(a.name == "heldout" for a in asked)
    found = [
        findings.eos_not_supervised(train.used, section, eos=eos),
        findings.response_truncated(train.rows, ids, section),
        findings.over_context(section.max_length, geometry.context),
        answers_over_context(recipe, asks, geometry.context),
        findings.vocabulary_mismatch(len(tokenizer), vocabulary),
        findings.double_bos(train.rows, ids, bos=tokenizer.bos_token_id),
        findings.prompt_mismatch(train.rows, ids),
        evaluation.foreign_length_control(asked),
        controls.controls_missing(recipe, planned),
        repeats.split_leak(
            alike,
            prepared.splits,
            asked_before=corpus.asked_before(),
            test_is_used=heldout,
        ),
        repeats.benchmark_overlap(overlaps, asked),
        findings.prompt_in_loss(train.used, section),
        findings.pad_is_eos(train.used, section, eos=eos),
        findings.empty_section(examples, template),
        repeats.duplicate_rows(alike, len(examples)),
        evaluation.weak_opponent(recipe, asked),
        evaluation.first_n_subset(asked),
        power.underpowered(recipe, asked),
        controls.judge_untested(recipe, asked),
        evaluation.single_order(recipe, asked),
        evaluation.single_seed(recipe),
        evaluation.judge_kinship(recipe),
        evaluation.single_judge(recipe),
        evaluation.unused_test_split(asked, len(prepared.splits[Split.TEST])),
        evaluation.no_capability_benchmark(),
    ]
    counts = RepeatCounts(
        rows_compared=sum(prepared.rows().values()),
        alike_pairs=len(alike),
        questions_checked=sum(len(a.questions) for a in asked),
        overlapping_questions=len({(o.benchmark, o.question_id) for o in overlaps}),
    )
    return [f for f in found if f is not None], counts
