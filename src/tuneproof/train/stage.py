"""The train stage: prepared rows → an adapter, its loss curve and a summary."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.data.encode import EncodedRow, encode_rows
from tuneproof.data.templates import parse_template
from tuneproof.errors import DataError
from tuneproof.progress import hush_transformers
from tuneproof.records import Ledger, LossPoint, PreparedRow, Split, TrainingSummary
from tuneproof.workspace import (
    read_records,
    replacing_folder,
    write_atomic,
    write_json,
    write_records,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tuneproof.progress import Reporter
    from tuneproof.recipe import Model, Recipe


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the stage made: its files, the ledger of rows used, the step resumed from."""

    outputs: list[Path]
    ledger: Ledger
    resumed: int
    summary: TrainingSummary


def train_adapter(recipe: Recipe, *, prepare_dir: Path, out: Path, reporter: Reporter) -> Trained:
    """Encode, train and write the adapter, the loss curve, the trainer's state and a summary.

    Raises:
        ModelError: the model cannot be loaded or given the adapter.
        DataError: no row is left to train on.
        StageError: the loss became infinite or no number.
    """
    from transformers import set_seed

    from tuneproof.train.model import add_lora, load_model, load_tokenizer
    from tuneproof.train.trainer import run_training

    hush_transformers()
    started = time.monotonic()
    tokenizer = load_tokenizer(recipe.model, reporter)
    template = parse_template(recipe.data.template)
    sidecar = read_records(prepare_dir / "examples.jsonl", PreparedRow)

    def encode(split: Split) -> list[EncodedRow]:
        return encode_rows(
            tokenizer,
            template,
            [row.example for row in sidecar if row.split is split],
            max_length=recipe.train.max_length,
            append_eos=recipe.train.append_eos,
            loss_on=recipe.train.loss_on,
        )

    encoded = encode(Split.TRAIN)
    rows, ledger = usable(encoded)
    # The validation split is shuffled, so its first rows are a sample of it.
    validation, _ = usable(encode(Split.VALIDATION)[: recipe.train.eval_rows])
    for split, left in (("train", rows), ("validation", validation)):
        if not left:
            raise DataError(
                f"no row of the {split} split has a token to learn from",
                place="train.max_length",
                value=recipe.train.max_length,
                remedy="Raise it: every response lies beyond it.",
            )

    # The adapter's initial weights come from the recipe's seed, whatever was drawn before.
    set_seed(recipe.seed)
    model = add_lora(load_model(recipe.model, reporter), recipe.lora)
    trainable, total = model.get_nb_trainable_parameters()
    reporter.stage(
        "train",
        f"{trainable:,} of {total:,} parameters trainable "
        f"({100 * trainable / total:.4f} %), {len(rows):,} rows",
    )
    trainer, resumed = run_training(
        model,
        tokenizer,
        recipe.train,
        recipe.monitor,
        seed=recipe.seed,
        rows=rows,
        validation=validation,
        out=out / "checkpoints",
        reporter=reporter,
    )

    with replacing_folder(out / "adapter") as partial:
        model.save_pretrained(str(partial))
        (partial / "README.md").unlink(missing_ok=True)
        _settle(partial / "adapter_config.json", recipe.model)
    curve = loss_curve(trainer.state.log_history)
    summary = TrainingSummary(
        steps=trainer.state.global_step,
        epochs=trainer.state.epoch or 0.0,
        trainable_parameters=trainable,
        total_parameters=total,
        tokens=int(trainer.state.num_input_tokens_seen),
        supervised_tokens_per_epoch=sum(r.n_targets for r in rows),
        eos_supervised_rows=sum(r.ends_with_eos for r in rows),
        rows=len(rows),
        rows_dropped=len(encoded) - len(rows),
        rows_cut=sum(r.was_cut for r in encoded),
        responses_lost=sum(r.response_lost for r in encoded),
        best_step=trainer.state.best_global_step,
        best_eval_loss=trainer.state.best_metric,
        final_train_loss=next((p.train_loss for p in reversed(curve) if p.train_loss), None),
        duration_s=round(time.monotonic() - started, 1),
        dtype=str(model.get_base_model().dtype).removeprefix("torch."),
        device=describe_device(),
    )
    write_records(out / "loss.jsonl", curve)
    write_atomic(out / "trainer_state.json", _state_text(trainer.state, out))
    write_json(out / "summary.json", summary.model_dump(mode="json"))
    outputs = [
        *sorted(p for p in (out / "adapter").iterdir() if p.is_file()),
        out / "loss.jsonl",
        out / "trainer_state.json",
        out / "summary.json",
    ]
    return Trained(outputs=outputs, ledger=ledger, resumed=resumed, summary=summary)


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


def usable(rows: Sequence[EncodedRow]) -> tuple[list[EncodedRow], Ledger]:
    """The rows that have a token to learn from, and the count of those cut and left out."""
    kept = [r for r in rows if r.n_targets]
    cut: dict[str, int] = {}
    for reason, n in (
        ("cut at max_length", sum(r.was_cut for r in kept)),
        ("cut with the whole response lost", sum(r.response_lost for r in kept)),
        ("prompt tokens differ from the prompt alone", sum(not r.prompt_matches for r in kept)),
    ):
        if n:
            cut[reason] = n
    lost = len(rows) - len(kept)
    dropped = {"no supervised token left after cutting": lost} if lost else {}
    return kept, Ledger(read=len(rows), kept=len(kept), dropped=dropped, cut=cut)


def loss_curve(history: Sequence[dict[str, float]]) -> list[LossPoint]:
    """The trainer's log as points, in step order; what is measured at one step is one point."""
    points: dict[int, dict[str, float]] = {}
    names = {
        "loss": "train_loss",
        "eval_loss": "eval_loss",
        "learning_rate": "learning_rate",
        "grad_norm": "grad_norm",
    }
    for entry in history:
        found = {ours: entry[theirs] for theirs, ours in names.items() if theirs in entry}
        if "train_loss" in found or "eval_loss" in found:
            step = int(entry["step"])
            points.setdefault(step, {"step": step, "epoch": entry["epoch"]}).update(found)
    return [LossPoint.model_validate(points[step]) for step in sorted(points)]


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
