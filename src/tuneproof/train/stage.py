"""The train stage: prepared rows → adapters, each with its loss curve and a summary."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.assets import cache_dir
from tuneproof.data.encode import EncodedRow, encode_rows
from tuneproof.data.templates import parse_template
from tuneproof.errors import DataError
from tuneproof.processes import count, rank
from tuneproof.progress import hush_transformers
from tuneproof.records import EpochLoss, Ledger, LossPoint, PreparedRow, Split, TrainingSummary
from tuneproof.workspace import (
    digest_value,
    read_records,
    replacing_folder,
    write_atomic,
    write_json,
    write_records,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tuneproof.data.encode import OverLength
    from tuneproof.progress import Reporter
    from tuneproof.recipe import Model, Recipe


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the stage made: its files, the ledger of rows used, the step resumed from.

    ``summaries`` has one entry for each adapter.
    """

    outputs: list[Path]
    ledger: Ledger
    resumed: int
    summaries: list[TrainingSummary]


def train_adapters(recipe: Recipe, *, prepare_dir: Path, out: Path, reporter: Reporter) -> Trained:
    """Encode, train and write each adapter, its loss curve, the trainer's state and a summary.

    The first adapter's files are ``adapter/``, ``loss.jsonl``, ``trainer_state.json`` and
    ``summary.json``; those of the others have their number in the name (``adapter-2/``). An adapter
    whose summary is there is finished, and not trained again. Where several processes train
    together, all call this and the first writes.

    Raises:
        ModelError: the model cannot be loaded or given the adapter.
        DataError: no row is left to train on.
        RunDirError: a checkpoint in ``out`` is of another recipe.
        StageError: the loss became infinite or no number, or exploded.
    """
    from tuneproof.train.model import load_model, load_tokenizer
    from tuneproof.train.trainer import checkpoint_of

    hush_transformers()
    tokenizer = load_tokenizer(recipe.model, reporter)
    sidecar = read_records(prepare_dir / "examples.jsonl", PreparedRow)
    encoded = _encode(recipe, tokenizer, sidecar, Split.TRAIN)
    rows, ledger = usable(encoded, recipe.train.over_length)
    # The validation split is shuffled, so its first rows are a sample of it.
    validation, _ = usable(
        _encode(recipe, tokenizer, sidecar, Split.VALIDATION)[: recipe.train.eval_rows],
        recipe.train.over_length,
    )
    for split, left in (("train", rows), ("validation", validation)):
        if not left:
            raise DataError(
                f"no row of the {split} split has a token to learn from",
                place="train.max_length",
                value=recipe.train.max_length,
                remedy="Raise it: every response lies beyond it.",
            )
    owner = _owner(recipe, rows, validation)
    parts = [_Adapter.of(recipe, number, out) for number in range(1, recipe.train.seeds + 1)]
    todo = [part for part in parts if not part.summary.is_file()]
    for part in todo if rank() == 0 else ():
        checkpoint_of(part.owner(owner), part.checkpoints)
    model = load_model(recipe.model, reporter) if todo else None
    resumed = 0
    for part in todo:
        assert model is not None
        model, step = _train_one(
            recipe,
            part,
            model,
            tokenizer,
            rows=rows,
            encoded=encoded,
            validation=validation,
            owner=part.owner(owner),
            reporter=reporter,
        )
        resumed += step
    if count() > 1:
        import torch

        torch.distributed.destroy_process_group()
    if rank() > 0:
        return Trained(outputs=[], ledger=ledger, resumed=resumed, summaries=[])
    return Trained(
        outputs=[file for part in parts for file in part.outputs()],
        ledger=ledger,
        resumed=resumed,
        summaries=[TrainingSummary.model_validate_json(p.summary.read_bytes()) for p in parts],
    )


@dataclass(frozen=True, kw_only=True)
class _Adapter:
    """One adapter to train: its seed, and where its files go."""

    number: int
    seed: int
    folder: Path
    curve: Path
    state: Path
    summary: Path
    checkpoints: Path
    last_good: Path
    events: Path

    @classmethod
    def of(cls, recipe: Recipe, number: int, out: Path) -> _Adapter:
        """The adapter of that number, counted from 1."""
        mark = "" if number == 1 else f"-{number}"
        return cls(
            number=number,
            seed=recipe.seed + number - 1,
            folder=out / f"adapter{mark}",
            curve=out / f"loss{mark}.jsonl",
            state=out / f"trainer_state{mark}.json",
            summary=out / f"summary{mark}.json",
            checkpoints=out / "checkpoints" / f"adapter{mark}",
            last_good=out / f"last-good-adapter{mark}",
            events=out / f"tensorboard{mark}",
        )

    def owner(self, recipe_digest: str) -> str:
        """What its checkpoints are marked with."""
        return digest_value([recipe_digest, self.seed])

    def outputs(self) -> list[Path]:
        """The files, once they are written."""
        saved = sorted(p for p in self.folder.iterdir() if p.is_file())
        return [*saved, self.curve, self.state, self.summary]


def _encode(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    sidecar: Sequence[PreparedRow],
    split: Split,
) -> list[EncodedRow]:
    return encode_rows(
        tokenizer,
        parse_template(recipe.data.template),
        [row.example for row in sidecar if row.split is split],
        max_length=recipe.train.max_length,
        append_eos=recipe.train.append_eos,
        loss_on=recipe.train.loss_on,
        over_length=recipe.train.over_length,
        cache=cache_dir() / "tokens",
    )


def _owner(recipe: Recipe, rows: Sequence[EncodedRow], validation: Sequence[EncodedRow]) -> str:
    """A digest of everything that a checkpoint depends on, but for the seed."""
    from tuneproof.train.model import resolve_model

    return digest_value(
        {
            "model": resolve_model(recipe.model).digest,
            "lora": recipe.lora.model_dump(mode="json"),
            "train": recipe.train.model_dump(mode="json", exclude={"loader_workers", "seeds"}),
            "monitor": recipe.monitor.model_dump(mode="json", exclude={"trackers"}),
            "rows": [(row.token_ids, row.supervised) for row in (*rows, *validation)],
        }
    )


def _train_one(
    recipe: Recipe,
    part: _Adapter,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    rows: Sequence[EncodedRow],
    encoded: Sequence[EncodedRow],
    validation: Sequence[EncodedRow],
    owner: str,
    reporter: Reporter,
) -> tuple[PreTrainedModel, int]:
    """Train one adapter and write its files; the base model again, and the step resumed from."""
    from transformers import set_seed

    from tuneproof.train.model import add_lora
    from tuneproof.train.trainer import run_training

    started = time.monotonic()
    # The adapter's initial weights come from its seed, whatever was drawn before.
    set_seed(part.seed)
    model = add_lora(base, recipe.lora)
    trainable, total = model.get_nb_trainable_parameters()
    which = f"adapter {part.number} of {recipe.train.seeds}, " if recipe.train.seeds > 1 else ""
    reporter.stage(
        "train",
        f"{which}{trainable:,} of {total:,} parameters trainable "
        f"({100 * trainable / total:.4f} %), {len(rows):,} rows",
    )
    run = run_training(
        model,
        tokenizer,
        recipe.train,
        recipe.monitor,
        seed=part.seed,
        owner=owner,
        rows=rows,
        validation=validation,
        out=part.checkpoints,
        last_good=part.last_good,
        events=part.events,
        reporter=reporter,
    )
    if rank() > 0:
        return model.unload(), run.resumed
    state = run.state
    with replacing_folder(part.folder) as partial:
        model.save_pretrained(str(partial))
        (partial / "README.md").unlink(missing_ok=True)
        _settle(partial / "adapter_config.json", recipe.model)
    curve = loss_curve(state.log_history)
    write_records(part.curve, curve)
    write_atomic(part.state, _state_text(state, part.checkpoints.parents[1]))
    summary = TrainingSummary(
        seed=part.seed,
        steps=state.global_step,
        epochs=state.epoch or 0.0,
        trainable_parameters=trainable,
        total_parameters=total,
        tokens=int(state.num_input_tokens_seen),
        supervised_tokens_per_epoch=sum(r.n_targets for r in rows),
        eos_supervised_rows=sum(r.ends_with_eos for r in rows),
        rows=len(rows),
        rows_dropped=len(encoded) - len(rows),
        rows_cut=sum(r.was_cut for r in encoded),
        contexts_shortened=sum(r.context_shortened for r in encoded),
        responses_lost=sum(r.response_lost for r in encoded),
        best_step=state.best_global_step,
        best_eval_loss=state.best_metric,
        final_train_loss=next((p.train_loss for p in reversed(curve) if p.train_loss), None),
        by_epoch=epoch_losses(curve, recipe.train.steps_per_epoch(len(rows))),
        stopped_early=state.global_step < recipe.train.optimizer_steps(len(rows)),
        duration_s=round(time.monotonic() - started, 1),
        dtype=str(model.get_base_model().dtype).removeprefix("torch."),
        device=describe_device(),
        processes=count(),
        packing=run.packing,
    )
    write_json(part.summary, summary.model_dump(mode="json"))
    return model.unload(), run.resumed


def _settle(config: Path, model: Model) -> None:
    """Write PEFT's configuration so that its bytes depend on the recipe alone.

    PEFT saves a set, whose order changes by process, and the folder the base model was loaded from,
    which changes by machine.
    """
    settings = json.loads(config.read_text("utf-8"))
    settings["base_model_name_or_path"] = model.id
    settings["revision"] = model.revision
    targets = settings.get("target_modules")
    if isinstance(targets, list):
        settings["target_modules"] = sorted(targets)
    write_atomic(config, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def usable(
    rows: Sequence[EncodedRow], over_length: OverLength = "cut"
) -> tuple[list[EncodedRow], Ledger]:
    """The rows that have a token to learn from, and the count of those cut and left out."""
    within = [r for r in rows if over_length != "drop" or not r.was_cut]
    kept = [r for r in within if r.n_targets]
    cut: dict[str, int] = {}
    for reason, n in (
        ("cut at max_length", sum(r.was_cut for r in kept)),
        ("context shortened to fit max_length", sum(r.context_shortened for r in kept)),
        ("cut with the whole response lost", sum(r.response_lost for r in kept)),
        ("prompt tokens differ from the prompt alone", sum(not r.prompt_matches for r in kept)),
    ):
        if n:
            cut[reason] = n
    losses = {
        "longer than max_length": len(rows) - len(within),
        "no supervised token left after cutting": len(within) - len(kept),
    }
    dropped = {reason: n for reason, n in losses.items() if n}
    return kept, Ledger(read=len(rows), kept=len(kept), dropped=dropped, cut=cut)


def loss_curve(history: Sequence[dict[str, float]]) -> list[LossPoint]:
    """The trainer's log as points, in step order; what is measured at one step is one point."""
    points: dict[int, dict[str, float]] = {}
    names = {
        "loss": "train_loss",
        "eval_loss": "eval_loss",
        "eval_token_loss": "eval_token_loss",
        "learning_rate": "learning_rate",
        "grad_norm": "grad_norm",
    }
    for entry in history:
        found = {ours: entry[theirs] for theirs, ours in names.items() if theirs in entry}
        if "train_loss" in found or "eval_loss" in found:
            step = int(entry["step"])
            points.setdefault(step, {"step": step, "epoch": entry["epoch"]}).update(found)
    return [LossPoint.model_validate(points[step]) for step in sorted(points)]


def epoch_losses(curve: Sequence[LossPoint], steps_per_epoch: int) -> tuple[EpochLoss, ...]:
    """Training and validation loss of each epoch that was finished.

    The training loss is the mean over the epoch's optimizer steps: a logged loss is the mean of the
    steps since the log before it, and one is logged at every epoch's end.
    """
    found: list[EpochLoss] = []
    total, last = 0.0, 0
    for point in curve:
        if point.train_loss is not None:
            total += point.train_loss * (point.step - last)
            last = point.step
        if point.step % steps_per_epoch == 0 and point.eval_loss is not None and last == point.step:
            mean = total / steps_per_epoch
            epoch = point.step // steps_per_epoch
            found.append(EpochLoss(epoch=epoch, train_loss=mean, eval_loss=point.eval_loss))
            total = 0.0
    return tuple(found)


def _state_text(state: object, out: Path) -> str:
    """The trainer's state as JSON, paths relative to the stage so that a run can be moved."""
    text = json.dumps(state.__dict__, indent=2, sort_keys=True, default=str)
    return text.replace(str(out) + "/", "") + "\n"


def describe_device() -> str:
    """The device that computed: the GPU's name, or the CPU's thread count."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"cpu, {torch.get_num_threads()} threads"
