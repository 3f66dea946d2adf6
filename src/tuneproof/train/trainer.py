"""The training loop: transformers' ``Trainer``, configured from the recipe.

Nothing of the loop is written here. What is ours: which arguments, collator and order of rows the
recipe means, and what is kept when a training goes wrong. Which checkpoint can be gone on with is
left to ``checkpoint``, packing the sequences of a step to ``packed`` and the way of it to
``proof``, watching a training while it runs to ``watch``.
"""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorForSeq2Seq,
    EarlyStoppingCallback,
    PrinterCallback,
    Trainer,
    TrainerState,
    TrainingArguments,
)

from tuneproof.data.encode import IGNORED, EncodedRow
from tuneproof.errors import RecipeError, StageError
from tuneproof.processes import count, rank
from tuneproof.recipe import named_seed
from tuneproof.train.checkpoint import WEIGHTS, checkpoint_of
from tuneproof.train.computed import ComputedWith
from tuneproof.train.live import FILE, LiveLog
from tuneproof.train.order import ByLength
from tuneproof.train.packed import (
    Feature,
    PackedSteps,
    Packing,
    packed_model,
)
from tuneproof.train.proof import choose_packing
from tuneproof.train.watch import EpochEnds, Progress, Watchdog
from tuneproof.workspace import replacing_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from peft import PeftModel
    from torch.utils.data import Sampler
    from transformers import PreTrainedTokenizerBase

    from tuneproof.progress import Reporter
    from tuneproof.recipe import Monitor, Train
    from tuneproof.train.checkpoint import Owner

_SCHEDULERS = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}


class _Trainer(Trainer):
    """The trainer with our order of rows where the recipe asks for one; its loop is untouched."""

    by_length: tuple[Sequence[int], int] | None = None

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int] | None:
        if self.by_length is None:
            return super()._get_train_sampler(train_dataset)
        lengths, batch_size = self.by_length
        # At an epoch's start the state's epoch is its number; within it, the number and a fraction.
        return ByLength(
            lengths,
            batch_size,
            seed=self.args.seed,
            epoch=lambda: int(self.state.epoch or 0),
        )


class _PackedTrainer(PackedSteps, _Trainer):
    """Packed steps in the recipe's order of rows."""


def training_arguments(
    train: Train,
    monitor: Monitor,
    *,
    n_rows: int,
    seed: int,
    bf16: bool,
    out: Path,
    packed: bool = False,
) -> TrainingArguments:
    """What the recipe's ``train`` section means to transformers for ``n_rows`` training rows.

    Packed, a batch is a whole optimizer step, which is what accumulating micro-batches amounts to.

    A checkpoint is saved wherever the validation loss is measured, so that the best can be kept;
    at most two are on disk, the best and the last. ``EpochEnds`` adds the end of each epoch.
    """
    arguments = TrainingArguments(
        output_dir=str(out),
        num_train_epochs=train.epochs,
        # Transformers lets max_steps replace the epochs; here it can only be fewer steps.
        max_steps=train.optimizer_steps(n_rows) if train.max_steps else -1,
        per_device_train_batch_size=train.batch_size if packed else train.micro_batch_size,
        per_device_eval_batch_size=train.micro_batch_size,
        gradient_accumulation_steps=1 if packed else train.accumulation,
        learning_rate=train.learning_rate,
        lr_scheduler_type=_SCHEDULERS[train.scheduler],
        # Below one, transformers reads this as a share of all steps.
        warmup_steps=train.warmup_ratio,
        weight_decay=train.weight_decay,
        optim=train.optimizer,
        bf16=bf16,
        # What transformers now calls gradient checkpointing.
        activation_checkpointing=train.gradient_checkpointing,
        eval_strategy="steps",
        eval_steps=train.eval_steps,
        save_strategy="steps",
        save_steps=train.eval_steps,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        prediction_loss_only=True,
        logging_steps=monitor.logging_steps,
        logging_first_step=True,
        # A loss that is no number must be seen, not averaged away.
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        dataloader_num_workers=train.loader_workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        seed=seed,
        data_seed=seed,
        # TensorBoard's files would lie among the checkpoints, which go when the stage is done.
        report_to=[t for t in monitor.trackers if t != "tensorboard"] or "none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        # Every trained parameter is part of each forward pass, and no buffer changes in training.
        # A model with an adapter is none of transformers' own, so it would assume otherwise.
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
    )
    if arguments.n_gpu > 1:
        # One process with several GPUs would be DataParallel and multiply the recipe's batch.
        arguments._n_gpu = 1
    return arguments


def make_collator(train: Train, tokenizer: PreTrainedTokenizerBase) -> Callable[..., Any]:
    """How rows become a batch.

    The reference's case (loss on the text, no EOS) goes through the reference's own collator, which
    takes every pad token, and so with pad = EOS every EOS, out of the loss. Otherwise labels are
    the rows' own, padded with −100, and an EOS in them stays a target.
    """
    if _as_the_reference(train):
        return DataCollatorForLanguageModeling(tokenizer=tokenizer, mlm=False)
    return DataCollatorForSeq2Seq(tokenizer=tokenizer, label_pad_token_id=IGNORED)


def make_features(train: Train, rows: Sequence[EncodedRow]) -> list[Feature]:
    """The rows as the collator wants them."""
    with_labels = not _as_the_reference(train)
    return [
        {"input_ids": list(row.token_ids), "attention_mask": [1] * len(row.token_ids)}
        | ({"labels": row.labels} if with_labels else {})
        for row in rows
    ]


def packed_features(
    train: Train, tokenizer: PreTrainedTokenizerBase, rows: Sequence[EncodedRow]
) -> list[Feature]:
    """The rows with the labels that ``make_collator``'s batches give them."""
    collate = make_collator(train, tokenizer)
    return [
        {"input_ids": feature["input_ids"], "labels": collate([feature])["labels"][0].tolist()}
        for feature in make_features(train, rows)
    ]


def _as_the_reference(train: Train) -> bool:
    return train.loss_on == "text" and not train.append_eos


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """A training that ended well: the trainer's state, and the step it was resumed from (or 0).

    ``processes_before`` is how many processes wrote the checkpoint it was resumed from, if not as
    many as go on with it.
    ``packing`` says how packed sequences were computed, or why there were none; ``computed_with``
    and ``max_grad_norm`` are as in ``TrainingSummary``.
    """

    state: TrainerState
    resumed: int
    packing: str
    computed_with: tuple[str, ...]
    max_grad_norm: float
    processes_before: int | None = None


def run_training(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Train,
    monitor: Monitor,
    *,
    seed: int,
    owner: Owner,
    rows: Sequence[EncodedRow],
    validation: Sequence[EncodedRow],
    out: Path,
    last_good: Path,
    events: Path,
    reporter: Reporter,
) -> TrainingRun:
    """Train, from the last whole checkpoint in ``out`` if there is one.

    Afterwards the model holds the adapter with the lowest validation loss.

    Args:
        owner: what is trained; a checkpoint of another owner is refused.
        last_good: where the adapter with the lowest validation loss goes if the training has to
            be ended because the loss is no number or has exploded.
        events: where TensorBoard's files go, if the recipe asks for them.

    Raises:
        RunDirError: the newest checkpoint in ``out`` is not this recipe's.
        StageError: the loss became infinite or no number, or exploded.
    """
    packing, said = packing_for(model, tokenizer, train, rows, reporter)
    with packed_model(model, packing) if packing is not None else contextlib.nullcontext():
        trainer = make_trainer(
            model,
            tokenizer,
            train,
            monitor,
            seed=seed,
            rows=rows,
            validation=validation,
            out=out,
            packed=packing is not None,
        )
        computed = ComputedWith(owner.free)
        state, step, processes_before = _train(
            trainer,
            train,
            monitor,
            seed=seed,
            owner=owner,
            computed=computed,
            n_rows=len(rows),
            out=out,
            last_good=last_good,
            events=events,
            reporter=reporter,
        )
    return TrainingRun(
        state=state,
        resumed=step,
        packing=said,
        computed_with=tuple(computed.spans),
        max_grad_norm=trainer.args.max_grad_norm,
        processes_before=processes_before,
    )


def packing_for(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Train,
    rows: Sequence[EncodedRow],
    reporter: Reporter,
) -> tuple[Packing | None, str]:
    """How to pack, or None; and in words, said once where it is not as the recipe asks."""
    if not train.packing:
        _refuse_several("the recipe asks for padding")
        return None, "none: the recipe asks for padding"
    chosen = choose_packing(
        model, packed_features(train, tokenizer, rows[:2]), longest=train.max_length
    )
    if isinstance(chosen, Packing):
        said = f"attention {chosen.attention}, loss {chosen.loss}"
        passed_over = chosen.passed_over
    else:
        _refuse_several("; ".join(chosen))
        said, passed_over = "none, padding instead", chosen
    if passed_over:
        said = f"{said} (not {'; not '.join(passed_over)})"
        reporter.stage("train", f"slower than it could be, with the same result: packing {said}")
    return (chosen if isinstance(chosen, Packing) else None), said


def _refuse_several(why: str) -> None:
    """Padded, transformers would multiply the batch by the processes and repeat rows to fill it."""
    if count() > 1:
        raise RecipeError(
            f"several processes train packed sequences only, and {why}",
            place="train.packing",
            remedy="Train with one process.",
        )


def make_trainer(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    train: Train,
    monitor: Monitor,
    *,
    seed: int,
    rows: Sequence[EncodedRow],
    validation: Sequence[EncodedRow],
    out: Path,
    packed: bool,
) -> _Trainer:
    """The trainer as the recipe has it; packed, the model must be inside ``packed_model``."""
    bf16 = next(model.parameters()).dtype == torch.bfloat16
    arguments = training_arguments(
        train, monitor, n_rows=len(rows), seed=seed, bf16=bf16, out=out, packed=packed
    )
    features = [
        packed_features(train, tokenizer, r) if packed else make_features(train, r)
        for r in (rows, validation)
    ]
    trainer = (_PackedTrainer if packed else _Trainer)(
        model=model,
        args=arguments,
        data_collator=make_collator(train, tokenizer),
        train_dataset=features[0],
        eval_dataset=features[1],
        processing_class=tokenizer,
    )
    if isinstance(trainer, PackedSteps):
        trainer.token_budget = train.micro_batch_tokens
    if train.batching == "by-length":
        trainer.by_length = ([len(r.token_ids) for r in rows], train.batch_size)
    return trainer


def _train(
    trainer: _Trainer,
    train: Train,
    monitor: Monitor,
    *,
    seed: int,
    owner: Owner,
    computed: ComputedWith,
    n_rows: int,
    out: Path,
    last_good: Path,
    events: Path,
    reporter: Reporter,
) -> tuple[TrainerState, int, int | None]:
    """Watch it, resume it, end it.

    Returns:
        Its state; the step it was resumed from; how many processes had come to that step, if not as
        many as go on.
    """
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(EpochEnds(train.steps_per_epoch(n_rows)))
    watchdog = Watchdog(owner)
    trainer.add_callback(watchdog)
    trainer.add_callback(computed)
    if "tensorboard" in monitor.trackers and rank() == 0:
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations.integration_utils import TensorBoardCallback

        writer = SummaryWriter(log_dir=str(events))
        trainer.add_callback(TensorBoardCallback(writer))  # type: ignore[no-untyped-call]
    patience = EarlyStoppingCallback(monitor.patience) if monitor.patience else None
    if patience is not None:
        trainer.add_callback(patience)

    with trainer.args.main_process_first(local=False):  # it removes torn ones
        checkpoint = checkpoint_of(owner, out, reporter)
    step, before = 0, None
    if checkpoint is not None:
        saved = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        step = saved.global_step
        watchdog.restore(saved.stateful_callbacks["Watchdog"])
        reporter.stage("train", f"resuming from step {step}")
        changed = computed.restore(saved.stateful_callbacks.get("ComputedWith"), step)
        if changed:
            reporter.stage("train", f"with other settings, that change no step: {changed}")
        if watchdog.processes_before not in (None, count()):
            before = watchdog.processes_before
            reporter.stage(
                "train",
                f"the checkpoint is of {before} processes and here are "
                f"{count()}: the steps are the same, dropout draws other masks",
            )
        if patience is not None:
            kept = saved.stateful_callbacks["EarlyStoppingCallback"]
            counter = kept["attributes"]["early_stopping_patience_counter"]
            patience.early_stopping_patience_counter = counter
            if counter >= patience.early_stopping_patience:
                assert isinstance(trainer.model, torch.nn.Module)
                assert saved.best_global_step is not None, "patience runs out after a best one"
                _load_weights(trainer.model, out / f"checkpoint-{saved.best_global_step}")
                return saved, step, before
    steps = train.optimizer_steps(n_rows)
    live = LiveLog(out / FILE, began=step, steps=steps) if rank() == 0 else None
    if count() > 1:
        # All have the recipe's seed by now, and would drop the same places of their sequences.
        # What a checkpoint holds of this process's draws takes the place of these.
        torch.manual_seed(named_seed(seed, "train", "draws", rank(), step))
    with reporter.task("training", steps, unit="steps", done=step) as task:
        trainer.add_callback(Progress(task, live))
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if watchdog.problem is not None:
        kept_step = _keep_last_good(trainer.state, last_good) if rank() == 0 else None
        kept_as = (
            f"The adapter of step {kept_step}, with the lowest validation loss until then, is in "
            f"{last_good}."
            if kept_step
            else "It happened before the first validation, so no adapter was kept."
        )
        if rank() == 0:
            # Going on from them would end as this did, and another rate is another training.
            for checkpoint in out.glob("checkpoint-*"):
                shutil.rmtree(checkpoint, ignore_errors=True)
        raise StageError(
            watchdog.problem,
            place=f"train, step {watchdog.problem_step}",
            remedy="Lower train.learning_rate, raise train.warmup_ratio or use "
            f"model.dtype=float32. {kept_as}",
        )
    _check_best_loaded(trainer.state, out)
    return trainer.state, step, before


def _check_best_loaded(state: TrainerState, out: Path) -> None:
    """Make sure that the model holds the adapter that the state calls the best.

    The Trainer goes on without a word, with the last one, where it cannot find it.

    Raises:
        StageError: it does not.
    """
    if state.best_global_step is None:
        return
    best = out / f"checkpoint-{state.best_global_step}"
    if state.best_model_checkpoint != str(best) or not (best / WEIGHTS).is_file():
        raise StageError(
            f"the best adapter, that of step {state.best_global_step}, is not there to be kept",
            place=str(best),
            remedy="Give the same command again: it goes on from the last whole checkpoint.",
        )


def _load_weights(model: torch.nn.Module, checkpoint: Path) -> None:
    """Put the adapter of a checkpoint into the model."""
    from peft import load_peft_weights, set_peft_model_state_dict

    set_peft_model_state_dict(model, load_peft_weights(str(checkpoint), device="cpu"))


def _keep_last_good(state: TrainerState, folder: Path) -> int | None:
    """Copy the adapter of the best checkpoint; its step, or None where there is none."""
    if state.best_model_checkpoint is None:
        return None
    with replacing_folder(folder) as partial:
        for name in ("adapter_config.json", WEIGHTS):
            shutil.copy2(f"{state.best_model_checkpoint}/{name}", partial / name)
    return state.best_global_step
