"""What watches over a training: epochs, seeds, patience, the watchdog, trackers, checkpoints."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from typing import TYPE_CHECKING

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerControl, TrainerState, TrainingArguments

from tests.conftest import tiny_rows, write_jsonl
from tests.pipeline.test_pipeline import execute, make_run
from tests.pipeline.test_train import LONG
from tuneproof import stages
from tuneproof.errors import ModelError, RecipeError, RunDirError, StageError
from tuneproof.records import LossPoint, TrainingSummary
from tuneproof.train.checkpoint import Owner
from tuneproof.train.watch import Watchdog
from tuneproof.workspace import digest_file, read_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RUINOUS = LONG | {"learning_rate": 0.2, "scheduler": "constant", "eval_steps": 3}
"""Learns, and is then thrown out: 72 rows of 120 are 9 steps an epoch."""


@pytest.fixture
def keep_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the train stage's scratch folder where it is when the stage is done."""
    kept = tuple(
        dataclasses.replace(s, scratch=()) if s.name == "train" else s for s in stages.STAGES
    )
    monkeypatch.setattr(stages, "STAGES", kept)


def train(recipe: Path, folder: Path, *overrides: str) -> TrainingSummary:
    execute(make_run(recipe, folder, *overrides), until="train")
    return TrainingSummary.model_validate_json((folder / "train/summary.json").read_bytes())


def adapter_bytes(folder: Path, name: str = "adapter") -> str:
    return digest_file(folder / "train" / name / "adapter_model.safetensors")


def test_both_losses_are_recorded_for_each_epoch(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(
        n_rows=120, train=LONG | {"epochs": 3, "eval_steps": 4}, monitor={"logging_steps": 2}
    )
    summary = train(recipe, tmp_path / "run")
    curve = read_records(tmp_path / "run/train/loss.jsonl", LossPoint)
    # By steps (4, 8, …, 24) and at the ends of the epochs (9, 18, 27), each once.
    validated = [p.step for p in curve if p.eval_loss is not None]
    assert validated == [4, 8, 9, 12, 16, 18, 20, 24, 27]
    assert [e.epoch for e in summary.by_epoch] == [1, 2, 3]
    at = {p.step: p for p in curve}
    assert [e.eval_loss for e in summary.by_epoch] == [at[s].eval_loss for s in (9, 18, 27)]
    # Logged at 1, 2, 4, 6, 8 and 9: each the mean of the steps since the one before.
    widths = {1: 1, 2: 1, 4: 2, 6: 2, 8: 2, 9: 1}
    first = sum((at[s].train_loss or math.nan) * n for s, n in widths.items()) / 9
    assert summary.by_epoch[0].train_loss == pytest.approx(first)
    assert all(p.grad_norm for p in curve if p.train_loss is not None)


def test_several_seeds_train_several_adapters_and_the_first_is_the_one_alone(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(n_rows=120, train=LONG | {"epochs": 1})
    train(recipe, tmp_path / "three", "train.seeds=3")
    train(recipe, tmp_path / "one")
    train(recipe, tmp_path / "second", "seed=8")
    folder = tmp_path / "three"
    assert adapter_bytes(folder) == adapter_bytes(tmp_path / "one")
    assert len({adapter_bytes(folder, f"adapter{m}") for m in ("", "-2", "-3")}) == 3
    numbers = [
        TrainingSummary.model_validate_json((folder / f"train/summary{m}.json").read_bytes()).seed
        for m in ("", "-2", "-3")
    ]
    assert numbers == [7, 8, 9]
    # Rows are split by the recipe's seed, so the second adapter is not that of another recipe.
    assert adapter_bytes(folder, "adapter-2") != adapter_bytes(tmp_path / "second")


def test_a_finished_adapter_is_not_trained_again(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe, folder = tiny_recipe(n_rows=120, train=LONG | {"epochs": 1}), tmp_path / "run"
    train(recipe, folder, "train.seeds=2")
    before = {m: adapter_bytes(folder, f"adapter{m}") for m in ("", "-2")}
    # As after a kill while the second one was training.
    (folder / "train/manifest.json").unlink()
    (folder / "train/summary-2.json").unlink()
    shutil.rmtree(folder / "train/adapter-2")
    kept = (folder / "train/adapter/adapter_model.safetensors").stat().st_mtime_ns
    train(recipe, folder, "train.seeds=2")
    assert (folder / "train/adapter/adapter_model.safetensors").stat().st_mtime_ns == kept
    assert {m: adapter_bytes(folder, f"adapter{m}") for m in ("", "-2")} == before


def test_patience_ends_a_training_that_gets_no_better(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(n_rows=120, train=RUINOUS, monitor={"logging_steps": 1, "patience": 2})
    summary = train(recipe, tmp_path / "run")
    curve = read_records(tmp_path / "run/train/loss.jsonl", LossPoint)
    validated = {p.step: p.eval_loss for p in curve if p.eval_loss is not None}
    best = min(validated, key=lambda s: validated[s] or math.inf)
    assert summary.stopped_early
    assert summary.best_step == best
    assert [s for s in validated if s > best] == list(validated)[-2:]


@pytest.mark.usefixtures("keep_checkpoints")
def test_patience_is_not_forgotten_by_a_restart(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    """A checkpoint is saved at the moment when patience has run out: nothing more is trained."""
    recipe = tiny_recipe(n_rows=120, train=RUINOUS, monitor={"logging_steps": 1, "patience": 2})
    folder = tmp_path / "run"
    whole = train(recipe, folder)
    before = adapter_bytes(folder)
    # As after a kill behind the last checkpoint.
    for name in ("manifest.json", "summary.json"):
        (folder / "train" / name).unlink()
    shutil.rmtree(folder / "train/adapter")
    again = train(recipe, folder)
    manifest = json.loads((folder / "train/manifest.json").read_text())
    assert manifest["resumed"] == whole.steps
    assert adapter_bytes(folder) == before
    assert again.model_copy(update={"duration_s": 0.0}) == whole.model_copy(
        update={"duration_s": 0.0}
    )


@pytest.mark.usefixtures("keep_checkpoints")
@pytest.mark.parametrize(
    ("override", "difference"),
    [
        ("train.learning_rate=0.001", "train.learning_rate was 0.001, is "),
        ("train.batch_size=16", "train.batch_size was 16, is 8"),
    ],
)
def test_a_checkpoint_of_another_recipe_is_refused(
    tmp_path: Path, tiny_recipe: Callable[..., Path], override: str, difference: str
) -> None:
    recipe = tiny_recipe(n_rows=120, train=LONG | {"epochs": 1, "eval_steps": 4})
    other, folder = tmp_path / "other", tmp_path / "run"
    train(recipe, other, override)
    train(recipe, folder)
    mine = folder / "train"
    for name in ("manifest.json", "summary.json"):
        (mine / name).unlink()
    shutil.rmtree(mine / "checkpoints")
    shutil.copytree(other / "train/checkpoints", mine / "checkpoints")
    with pytest.raises(RunDirError, match="is a checkpoint of another recipe") as error:
        train(recipe, folder)
    assert difference in str(error.value)
    assert str(error.value).count(" was ") == 1
    assert "/checkpoint-" in str(error.value)
    assert "--run-dir" in str(error.value)


def watch(losses: list[float]) -> tuple[Watchdog, int]:
    """A watchdog that saw the losses, and how many it took."""
    dog, control = Watchdog(Owner(digest="me")), TrainerControl()
    arguments = TrainingArguments(output_dir="unused", report_to="none", use_cpu=True)
    for n, loss in enumerate(losses, start=1):
        state = TrainerState(global_step=n)
        dog.on_log(arguments, state, control, logs={"loss": loss})
        if control.should_training_stop:
            return dog, n
    return dog, 0


@pytest.mark.parametrize(
    ("losses", "stopped_at"),
    [
        ([1.9, 1.3, 1.25, 1.3, 1.2], 0),
        ([1.9, 1.2, 4.0, 4.1, 4.2], 5),  # three in a row, above the first and three times 1.2
        ([1.9, 1.2, 4.0, 1.3, 4.1, 4.2, 1.2], 0),  # never three in a row
        ([4.1, 1.2, 3.9, 3.9, 3.9, 3.9], 0),  # not above the first
        ([2.0, 2.5, 3.0, 5.9, 5.9, 5.9], 0),  # not three times the lowest
        ([2.0, 2.5, 3.0, 6.1, 6.1, 6.1], 6),
        ([1.9, math.nan], 2),
        ([1.9, math.inf], 2),
    ],
)
def test_when_the_watchdog_barks(losses: list[float], stopped_at: int) -> None:
    dog, n = watch(losses)
    assert n == stopped_at
    assert (dog.problem is not None) == (stopped_at > 0)
    assert dog.problem_step == stopped_at


def test_the_watchdog_goes_on_where_a_checkpoint_left_it() -> None:
    before, _ = watch([1.9, 1.2, 4.0, 4.1])
    after = Watchdog(Owner(digest="me"))
    after.restore(json.loads(json.dumps(before.state())))
    assert (after.first, after.lowest, after.high_in_a_row) == (1.9, 1.2, 2)


def test_what_was_good_before_the_end_is_kept(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    """The rate is nothing at the first step (warm-up) and absurd at the second."""
    recipe = tiny_recipe(
        n_rows=120, train=LONG | {"learning_rate": 1e30, "scheduler": "constant", "eval_steps": 1}
    )
    folder = tmp_path / "run"
    with pytest.raises(StageError, match=r"train, step \d: the (train|valid)") as error:
        train(recipe, folder)
    assert f"The adapter of step 1, with the lowest validation loss until then, is in {folder}" in (
        str(error.value)
    )
    assert not (folder / "train/manifest.json").exists()
    kept = load_file(folder / "train/last-good-adapter/adapter_model.safetensors")
    assert all(bool(torch.isfinite(w).all()) for w in kept.values())
    assert (folder / "train/last-good-adapter/adapter_config.json").is_file()


def test_tensorboard_gets_the_curve(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    pytest.importorskip("tensorboard")
    recipe = tiny_recipe(
        n_rows=60,
        train=LONG | {"epochs": 1},
        monitor={"logging_steps": 1, "trackers": ["tensorboard"]},
    )
    train(recipe, tmp_path / "run")
    events = list((tmp_path / "run/train").rglob("events.out.tfevents*"))
    assert len(events) == 1
    assert b"train/loss" in events[0].read_bytes()


# --- refused before any weight is loaded -----------------------------------------------------


@pytest.mark.usefixtures("no_weights")
def test_weights_sharded_by_fsdp_are_refused(
    tmp_path: Path, tiny_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(RecipeError, match="ACCELERATE_USE_FSDP = true: ") as error:
        execute(make_run(tiny_recipe(), tmp_path / "run"), until="train")
    assert "torchrun" in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading weights fails the test."""
    from tuneproof.train import model

    def load(*_: object, **__: object) -> None:
        pytest.fail("weights were loaded")

    monkeypatch.setattr(model, "load_model", load)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("override", "kind", "said"),
    [
        ("train.max_length=512", RecipeError, "train.max_length = 512: is more than the context"),
        ("train.batch_size=600", RecipeError, "leaves no whole optimizer step: the train split"),
        ('lora.target_modules=["query"]', ModelError, "Linear modules of this model: down_proj"),
        ('monitor.trackers=["mlflow"]', RecipeError, "pip install mlflow"),
    ],
)
def test_refused_before_any_weight_is_loaded(
    tmp_path: Path,
    tiny_recipe: Callable[..., Path],
    override: str,
    kind: type[Exception],
    said: str,
) -> None:
    recipe = tiny_recipe(n_rows=60)
    with pytest.raises(kind) as error:
        train(recipe, tmp_path / "run", override)
    assert said in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("no_weights")
def test_a_tokenizer_of_another_model_is_refused(
    tmp_path: Path, tiny_recipe: Callable[..., Path], llama2_tokenizer: Path
) -> None:
    recipe = tiny_recipe(n_rows=60)
    with pytest.raises(ModelError, match="32,000 tokens, and the model only"):
        train(recipe, tmp_path / "run", f"model.tokenizer={llama2_tokenizer}")


@pytest.mark.usefixtures("no_weights")
def test_a_tokenizer_without_an_end_is_refused(
    tmp_path: Path, tiny_model: Path, tiny_recipe: Callable[..., Path]
) -> None:
    endless = tmp_path / "endless"
    shutil.copytree(tiny_model, endless)
    settings = json.loads((endless / "tokenizer_config.json").read_text())
    settings["eos_token"] = None
    (endless / "tokenizer_config.json").write_text(json.dumps(settings))
    recipe = tiny_recipe(n_rows=60)
    with pytest.raises(ModelError, match="has no EOS token"):
        train(recipe, tmp_path / "run", f"model.id={endless}")
    assert not (tmp_path / "run").exists()


# --- rows that are too long ------------------------------------------------------------------


@pytest.mark.parametrize("over_length", ["cut", "shorten-context", "drop"])
def test_rows_that_are_too_long(
    tmp_path: Path, tiny_recipe: Callable[..., Path], over_length: str
) -> None:
    rows = tiny_rows(100)
    for row in rows[::10]:
        row["context"] = "red green blue " * 60
    recipe = tiny_recipe(train=LONG | {"epochs": 1, "over_length": over_length})
    data = write_jsonl(tmp_path / "long.jsonl", rows)
    summary = train(recipe, tmp_path / "run", f"data.source.path={data}")
    manifest = json.loads((tmp_path / "run/train/manifest.json").read_text())
    lost = {"cut": summary.rows_cut, "shorten-context": 0, "drop": summary.rows_cut}[over_length]
    assert summary.rows_cut > 0
    assert summary.responses_lost == lost
    assert summary.contexts_shortened == (
        summary.rows_cut if over_length == "shorten-context" else 0
    )
    assert summary.rows_dropped == (summary.rows_cut if over_length == "drop" else 0)
    ledger = manifest["ledger"]
    if over_length == "drop":
        assert ledger["dropped"] == {"longer than max_length": summary.rows_cut}
    if over_length == "shorten-context":
        assert ledger["cut"]["context shortened to fit max_length"] == summary.rows_cut
        assert summary.eos_supervised_rows == summary.rows
