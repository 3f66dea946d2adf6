"""The train stage: prepared rows → adapters, each with its loss curve and a summary."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.assets import cache_dir
from tuneproof.data.encode import EncodedRow, encode_rows
from tuneproof.data.placebo import shuffle_responses
from tuneproof.data.templates import parse_template
from tuneproof.errors import DataError
from tuneproof.processes import count, rank
from tuneproof.progress import hush_transformers
from tuneproof.records import Ledger, PreparedRow, Split, TrainingSummary
from tuneproof.train.checkpoint import (
    BY_DIGEST,
    WEIGHTS,
    Owner,
    checkpoint_of,
    is_of,
    recipe_settings,
)
from tuneproof.train.curve import epoch_losses, loss_curve
from tuneproof.train.hardware import describe_device, describe_hardware
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

    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from tuneproof.data.encode import OverLength
    from tuneproof.progress import Reporter
    from tuneproof.recipe import Model, Recipe


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the stage made: its files, the ledger of rows used, the step resumed from.

    ``summaries`` has one entry for each adapter; that of the placebo, if one was asked for, is
    ``placebo``, and the ledger does not count its rows.
    """

    outputs: list[Path]
    ledger: Ledger
    resumed: int
    summaries: list[TrainingSummary]
    placebo: TrainingSummary | None = None


def train_adapters(recipe: Recipe, *, prepare_dir: Path, out: Path, reporter: Reporter) -> Trained:
    """Encode, train and write each adapter, its loss curve, the trainer's state and a summary.

    The first adapter's files are ``adapter/``, ``loss.jsonl``, ``trainer_state.json`` and
    ``summary.json``; those of the others have their number in the name (``adapter-2/``). Where the
    verdict asks to beat a placebo, one more adapter is trained last, with the first one's seed and
    in the same way, on the rows with their responses shuffled (``adapter-placebo/``). An adapter
    whose summary is there is finished, and not trained again, unless another training made it.
    Where several processes train together, all call this and the first writes.

    Raises:
        ModelError: the model cannot be loaded or given the adapter.
        DataError: no row is left to train on, or the rows give no placebo.
        RunDirError: a checkpoint in ``out`` is of another recipe.
        StageError: the loss became infinite or no number, or exploded.
    """
    from tuneproof.train.model import load_model, load_tokenizer

    hush_transformers()
    tokenizer = load_tokenizer(recipe.model, reporter)
    sidecar = read_records(prepare_dir / "examples.jsonl", PreparedRow)
    real = _rows(recipe, tokenizer, sidecar)
    tuned = [
        _Adapter.of(recipe, number, out, rows=real) for number in range(1, recipe.train.seeds + 1)
    ]
    placebo = (
        [_Adapter.placebo(recipe, out, rows=_rows(recipe, tokenizer, sidecar, shuffled=True))]
        if recipe.verdict.beat_placebo
        else []
    )
    parts = [*tuned, *placebo]
    todo = [part for part in parts if not part.is_finished]
    for part in todo if rank() == 0 else ():
        checkpoint_of(part.owner, part.checkpoints, reporter)
    model = load_model(recipe.model, reporter) if todo else None
    resumed = 0
    for part in todo:
        assert model is not None
        model, step = _train_one(recipe, part, model, tokenizer, reporter=reporter)
        resumed += step
    if count() > 1:
        import torch

        torch.distributed.destroy_process_group()
    if rank() == 0:
        _remove_others(out, parts)
    if rank() > 0:
        return Trained(outputs=[], ledger=real.ledger, resumed=resumed, summaries=[])
    return Trained(
        outputs=[file for part in parts for file in part.outputs()],
        ledger=real.ledger,
        resumed=resumed,
        summaries=[part.read_summary() for part in tuned],
        placebo=placebo[0].read_summary() if placebo else None,
    )


def _remove_others(out: Path, parts: Sequence[_Adapter]) -> None:
    """Remove what a training that was gone on with made for adapters no longer asked for."""
    ours = {path for part in parts for path in part.paths()}
    for pattern in ("adapter-*", "loss-*", "trainer_state-*", "summary-*", "tensorboard-*"):
        for path in sorted(set(out.glob(pattern)) - ours):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """What an adapter is trained on: the train split's rows, and those of them that have a token to
    learn from; the validation rows; and a digest of all that a checkpoint depends on but the seed.
    """

    encoded: Sequence[EncodedRow]
    usable: Sequence[EncodedRow]
    validation: Sequence[EncodedRow]
    ledger: Ledger
    owner: Owner


def _rows(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    sidecar: Sequence[PreparedRow],
    *,
    shuffled: bool = False,
) -> _Rows:
    """The rows of both splits as token ids, or the placebo's: those with their responses shuffled.

    Raises:
        DataError: no row of a split is of use, or its rows give no placebo.
    """
    encoded = _encode(recipe, tokenizer, sidecar, Split.TRAIN, shuffled=shuffled)
    rows, ledger = usable(encoded, recipe.train.over_length)
    # The validation split is shuffled, so its first rows are a sample of it.
    validation, _ = usable(
        _encode(recipe, tokenizer, sidecar, Split.VALIDATION, shuffled=shuffled)[
            : recipe.train.eval_rows
        ],
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
    return _Rows(
        encoded=encoded,
        usable=rows,
        validation=validation,
        ledger=ledger,
        owner=_owner(recipe, rows, validation),
    )


@dataclass(frozen=True, kw_only=True)
class _Adapter:
    """One adapter to train: its seed, its rows, and where its files go.

    ``name`` is what progress lines call it; empty where it is the only one.
    """

    name: str
    seed: int
    rows: _Rows
    folder: Path
    curve: Path
    state: Path
    summary: Path
    checkpoints: Path
    last_good: Path
    events: Path

    @classmethod
    def of(cls, recipe: Recipe, number: int, out: Path, *, rows: _Rows) -> _Adapter:
        """The adapter of that number, counted from 1."""
        return cls._marked(
            "" if number == 1 else f"-{number}",
            name=f"adapter {number} of {recipe.train.seeds}" if recipe.train.seeds > 1 else "",
            seed=recipe.seed + number - 1,
            rows=rows,
            out=out,
        )

    @classmethod
    def placebo(cls, recipe: Recipe, out: Path, *, rows: _Rows) -> _Adapter:
        """The placebo: the first adapter but for its rows."""
        return cls._marked("-placebo", name="placebo adapter", seed=recipe.seed, rows=rows, out=out)

    @classmethod
    def _marked(cls, mark: str, *, name: str, seed: int, rows: _Rows, out: Path) -> _Adapter:
        return cls(
            name=name,
            seed=seed,
            rows=rows,
            folder=out / f"adapter{mark}",
            curve=out / f"loss{mark}.jsonl",
            state=out / f"trainer_state{mark}.json",
            summary=out / f"summary{mark}.json",
            checkpoints=out / "checkpoints" / f"adapter{mark}",
            last_good=out / f"last-good-adapter{mark}",
            events=out / f"tensorboard{mark}",
        )

    @property
    def owner(self) -> Owner:
        """What its checkpoints are marked with."""
        of_rows = self.rows.owner
        return Owner(
            digest=digest_value([of_rows.digest, self.seed]),
            settings=of_rows.settings,
            free=of_rows.free,
        )

    @property
    def is_finished(self) -> bool:
        """Whether it was trained to its end, as this recipe has it, and all of it is there."""
        wrote = (self.summary, self.curve, self.folder / "adapter_config.json")
        there = all(p.is_file() for p in (*wrote, self.folder / WEIGHTS))
        return there and is_of(self.owner, self.state)

    def read_summary(self) -> TrainingSummary:
        """What its training did, once it is finished."""
        return TrainingSummary.model_validate_json(self.summary.read_bytes())

    def paths(self) -> list[Path]:
        """Where it writes."""
        return [self.folder, self.curve, self.state, self.summary, self.events]

    def outputs(self) -> list[Path]:
        """The files, once they are written."""
        saved = sorted(p for p in self.folder.iterdir() if p.is_file())
        return [*saved, self.curve, self.state, self.summary]


def _encode(
    recipe: Recipe,
    tokenizer: PreTrainedTokenizerBase,
    sidecar: Sequence[PreparedRow],
    split: Split,
    *,
    shuffled: bool,
) -> list[EncodedRow]:
    examples = [row.example for row in sidecar if row.split is split]
    if shuffled:
        examples = shuffle_responses(examples, seed=recipe.seed, split=split)
    return encode_rows(
        tokenizer,
        parse_template(recipe.data.template),
        examples,
        max_length=recipe.train.max_length,
        append_eos=recipe.train.append_eos,
        loss_on=recipe.train.loss_on,
        over_length=recipe.train.over_length,
        cache=cache_dir() / "tokens",
    )


def _owner(recipe: Recipe, rows: Sequence[EncodedRow], validation: Sequence[EncodedRow]) -> Owner:
    """Everything that a checkpoint depends on, but for the seed."""
    from tuneproof.train.model import resolve_model, resolve_tokenizer

    settings, free = recipe_settings(recipe)
    digest = digest_value(
        {
            "model": resolve_model(recipe.model).digest,
            "tokenizer": resolve_tokenizer(recipe.model).digest if recipe.model.tokenizer else None,
            "settings": {n: value for n, value in settings.items() if n not in BY_DIGEST},
            # Apart: another split may have the same rows in the same order.
            "rows": [(row.token_ids, row.supervised) for row in rows],
            "validation": [(row.token_ids, row.supervised) for row in validation],
        }
    )
    return Owner(digest=digest, settings=settings, free=free)


def _train_one(
    recipe: Recipe,
    part: _Adapter,
    base: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    reporter: Reporter,
) -> tuple[PreTrainedModel, int]:
    """Train one adapter and write its files; the base model again, and the step resumed from."""
    from transformers import set_seed

    from tuneproof.train.model import add_lora
    from tuneproof.train.trainer import run_training

    started = time.monotonic()
    rows, encoded = part.rows.usable, part.rows.encoded
    # The adapter's initial weights come from its seed, whatever was drawn before.
    set_seed(part.seed)
    model = add_lora(base, recipe.lora)
    trainable, total = model.get_nb_trainable_parameters()
    which = f"{part.name}, " if part.name else ""
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
        owner=part.owner,
        rows=rows,
        validation=part.rows.validation,
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
        processes_before=run.processes_before,
        packing=run.packing,
        lora_modules=_modules(model),
        hardware=describe_hardware(),
        computed_with=run.computed_with,
        max_grad_norm=run.max_grad_norm,
    )
    write_json(part.summary, summary.model_dump(mode="json"))
    return model.unload(), run.resumed


def _modules(model: PeftModel) -> tuple[str, ...]:
    """What the adapter is on; PEFT's own choice where the recipe names nothing."""
    config = model.peft_config[str(model.active_adapter)]
    targets = getattr(config, "target_modules", None) or ()
    return tuple(sorted({targets} if isinstance(targets, str) else targets))


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


def _state_text(state: object, out: Path) -> str:
    """The trainer's state as JSON, paths relative to the stage so that a run can be moved."""
    text = json.dumps(state.__dict__, indent=2, sort_keys=True, default=str)
    return text.replace(str(out) + "/", "") + "\n"
