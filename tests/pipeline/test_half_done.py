"""A training that did not finish, and what comes next: the run moved, a setting or a file changed.

The kill is the same at each call: an exception that nothing catches, right after a checkpoint.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

from tests.pipeline.test_pipeline import execute, make_run, status
from tests.pipeline.test_train import LONG
from tuneproof.errors import RunDirError, StageError
from tuneproof.records import TrainingSummary
from tuneproof.workspace import RunDir, digest_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHORT = LONG | {"epochs": 2, "eval_steps": 4}
STEPS = 18
"""Of 120 rows 72 are trained on, 8 a step, in two epochs."""

RUINOUS = LONG | {"epochs": 4, "learning_rate": 0.4, "scheduler": "constant", "eval_steps": 3}
"""Learns, and is then thrown out, so that the best adapter is not the last."""

DROPOUT = {"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": "all-linear"}


class Killed(BaseException):
    """Nothing catches it, as nothing catches SIGKILL."""


class Kill:
    """Trains until a checkpoint is written, and not a step further."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def __call__(self, recipe: Path, folder: Path, *sets: str, at: int, adapter: int = 1) -> None:
        saved = Trainer._save_checkpoint
        seen = 0

        def save(trainer: Trainer, *args: Any, **kwargs: Any) -> None:
            nonlocal seen
            saved(trainer, *args, **kwargs)
            seen += trainer.state.global_step == at
            if seen == adapter:
                raise Killed

        run = make_run(recipe, folder, *sets)
        with self._patch.context() as patch:
            patch.setattr(Trainer, "_save_checkpoint", save)
            with pytest.raises(Killed):
                execute(run, until="train")


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Kill:
    return Kill(monkeypatch)


def go_on(recipe: Path, folder: Path, *sets: str) -> tuple[TrainingSummary, int, list[str]]:
    """The summary, the step resumed from, and what was said."""
    said: list[str] = []
    run = make_run(recipe, folder, *sets)
    run.reporter.stage = lambda name, text: said.append(text)  # type: ignore[method-assign]
    execute(run, until="train")
    manifest = RunDir(folder).manifest("train")
    assert manifest is not None
    return summary(folder), manifest.resumed, said


def summary(folder: Path) -> TrainingSummary:
    return TrainingSummary.model_validate_json((folder / "train/summary.json").read_bytes())


def weights(folder: Path, name: str = "adapter") -> torch.Tensor:
    found = load_file(folder / f"train/{name}/adapter_model.safetensors")
    return torch.cat([found[key].flatten() for key in sorted(found)])


def curve(folder: Path) -> str:
    return (folder / "train/loss.jsonl").read_text("utf-8")


def files(folder: Path) -> dict[str, str]:
    return {str(p): digest_file(p) for p in folder.rglob("*") if p.is_file() and p.name != ".lock"}


# --- the run moved ---------------------------------------------------------------------------


@pytest.mark.parametrize("patience", [None, 2])
def test_moved_while_half_done(
    tmp_path: Path, tiny_recipe: Callable[..., Path], kill: Kill, patience: int | None
) -> None:
    """The checkpoint's state has the best adapter's place by its whole path, of before."""
    recipe = tiny_recipe(
        n_rows=120, train=RUINOUS, monitor={"logging_steps": 1, "patience": patience}
    )
    alone, _, _ = go_on(recipe, tmp_path / "alone")
    assert alone.best_step is not None
    assert alone.best_step < alone.steps
    kill(recipe, tmp_path / "before", at=alone.steps)
    (tmp_path / "before").rename(tmp_path / "after")
    moved, resumed, _ = go_on(recipe, tmp_path / "after")
    assert resumed == alone.steps == moved.steps
    assert moved.best_step == alone.best_step
    assert torch.equal(weights(tmp_path / "after"), weights(tmp_path / "alone"))
    assert curve(tmp_path / "after") == curve(tmp_path / "alone")
    state = json.loads((tmp_path / "after/train/trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == f"checkpoints/adapter/checkpoint-{alone.best_step}"


def test_a_best_adapter_that_went_while_training_is_missed(
    tmp_path: Path, tiny_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Trainer would keep the last one, and say nothing."""
    recipe, folder = tiny_recipe(n_rows=120, train=RUINOUS), tmp_path / "run"
    load = Trainer._load_best_model

    def lose(trainer: Trainer) -> None:
        shutil.rmtree(str(trainer.state.best_model_checkpoint))
        load(trainer)

    monkeypatch.setattr(Trainer, "_load_best_model", lose)
    with pytest.raises(StageError, match=r"the best adapter, that of step \d+, is not there"):
        execute(make_run(recipe, folder), until="train")
    assert not (folder / "train/summary.json").exists()
    monkeypatch.undo()
    execute(make_run(recipe, folder), until="train")
    go_on(recipe, tmp_path / "alone")
    assert torch.equal(weights(folder), weights(tmp_path / "alone"))


# --- a setting changed -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "override",
    [
        "train.token_budget=128",
        "train.gradient_checkpointing=true",
        "train.packing=false",
        "monitor.logging_steps=2",
    ],
)
def test_a_setting_that_changes_no_step_is_gone_on_with(
    tmp_path: Path, tiny_recipe: Callable[..., Path], kill: Kill, override: str
) -> None:
    recipe = tiny_recipe(n_rows=120, train=SHORT, monitor={"logging_steps": 1})
    folder = tmp_path / "run"
    kill(recipe, folder, at=12)
    found, resumed, said = go_on(recipe, folder, override)
    assert (resumed, found.steps) == (12, STEPS)
    alone, _, _ = go_on(recipe, tmp_path / "alone")
    assert found.best_step == alone.best_step
    difference = (weights(folder) - weights(tmp_path / "alone")).norm()
    assert difference < 1e-5 * weights(folder).norm()
    # What it was computed with is on record, and so are the key's settings: the last ones.
    name, _, value = override.partition("=")
    value = {"true": "True", "false": "False"}.get(value, value)
    assert [line.partition(":")[0] for line in found.computed_with] == [
        "from step 0",
        "from step 12",
    ]
    assert f"{name}={value}" in found.computed_with[1]
    assert f"{name}={value}" not in found.computed_with[0]
    assert any(f"{name} was " in text for text in said)
    manifest = RunDir(folder).manifest("train")
    assert manifest is not None
    assert f"{name}={value}" in str(manifest.facts["computed with"])
    if name == "monitor.logging_steps":
        steps = [json.loads(line)["step"] for line in curve(folder).splitlines()]
        assert steps == [*range(1, 13), 14, 16, 18]
    # A finished stage is of the settings in its key.
    assert {s.stage: s.state for s in status(make_run(recipe, folder))}["train"] == "stale"


def test_another_setting_is_refused_and_nothing_is_lost(
    tmp_path: Path, tiny_recipe: Callable[..., Path], kill: Kill
) -> None:
    recipe, folder = tiny_recipe(n_rows=120, train=SHORT), tmp_path / "run"
    kill(recipe, folder, at=12)
    before = files(folder)
    with pytest.raises(RunDirError) as error:
        execute(make_run(recipe, folder, "train.batch_size=16", "train.learning_rate=0.001"))
    assert error.value.exit_code == 2
    said = str(error.value)
    assert "train.batch_size was 8, is 16; train.learning_rate was 0.005, is 0.001" in said
    assert f"{folder}/train/checkpoints/adapter/checkpoint-12" in said
    assert "step 12 of 18" in said
    assert "--run-dir" in said
    assert f"remove {folder}/train/checkpoints to begin anew" in said
    assert files(folder) == before
    by_name = {s.stage: s for s in status(make_run(recipe, folder))}
    assert by_name["train"].state == "missing"
    assert by_name["train"].reasons == ("it has not finished (adapter: step 12 of 18)",)
    # Put back, it goes on; the remedy's other way begins anew.
    shutil.copytree(folder, tmp_path / "copy")
    _, resumed, _ = go_on(recipe, folder)
    assert resumed == 12
    go_on(recipe, tmp_path / "alone")
    assert torch.equal(weights(folder), weights(tmp_path / "alone"))
    shutil.rmtree(tmp_path / "copy/train/checkpoints")
    found, resumed, _ = go_on(recipe, tmp_path / "copy", "train.batch_size=16")
    assert (resumed, found.steps) == (0, 10)
    # What is finished is replaced.
    found, resumed, _ = go_on(recipe, folder, "train.batch_size=16")
    assert (resumed, found.steps) == (0, 10)
    assert torch.equal(weights(folder), weights(tmp_path / "copy"))


@pytest.mark.parametrize(
    "override", ["seed=8", "data.split={train: 0.5, validation: 0.2, test: 0.3}"]
)
def test_other_rows_are_refused(
    tmp_path: Path, tiny_recipe: Callable[..., Path], kill: Kill, override: str
) -> None:
    """Which rows there are is known once they are prepared; nothing of the training is touched."""
    recipe, folder = tiny_recipe(n_rows=120, train=SHORT), tmp_path / "run"
    kill(recipe, folder, at=12)
    before = files(folder / "train/checkpoints")
    with pytest.raises(RunDirError, match="another recipe, model or data"):
        execute(make_run(recipe, folder, override))
    assert files(folder / "train/checkpoints") == before
    _, resumed, _ = go_on(recipe, folder)
    assert resumed == 12


def test_one_of_several_adapters(
    tmp_path: Path, tiny_recipe: Callable[..., Path], kill: Kill
) -> None:
    """The first is finished, the second half done: then a setting that changes no step."""
    recipe, folder = tiny_recipe(n_rows=120, train=SHORT), tmp_path / "run"
    kill(recipe, folder, "train.seeds=3", at=12, adapter=2)
    reasons = {s.stage: s.reasons for s in status(make_run(recipe, folder, "train.seeds=3"))}
    assert reasons["train"] == (
        "it has not finished (adapter: step 18 of 18; adapter-2: step 12 of 18)",
    )
    written = (folder / "train/adapter/adapter_model.safetensors").stat().st_mtime_ns
    shutil.copytree(folder, tmp_path / "copy")
    found, resumed, _ = go_on(recipe, folder, "train.seeds=2", "train.token_budget=128")
    assert resumed == 12
    assert (folder / "train/adapter/adapter_model.safetensors").stat().st_mtime_ns == written
    assert len(found.computed_with) == 1
    assert "token_budget=None" in found.computed_with[0]
    # One less than was begun leaves nothing behind.
    go_on(recipe, tmp_path / "copy")
    assert not list((tmp_path / "copy/train").glob("*-2*"))
    # A finished adapter without its checkpoints is not taken for another recipe's.
    kill(recipe, tmp_path / "other", "train.seeds=2", at=12, adapter=2)
    shutil.rmtree(tmp_path / "other/train/checkpoints/adapter")
    shutil.copytree(tmp_path / "other", tmp_path / "third")
    with pytest.raises(RunDirError):
        execute(make_run(recipe, tmp_path / "third", "train.seeds=2", "lora.alpha=16"))
    shutil.rmtree(tmp_path / "third/train/checkpoints")
    go_on(recipe, tmp_path / "third", "train.seeds=2", "lora.alpha=16")
    assert not torch.equal(weights(tmp_path / "third"), weights(tmp_path / "other"))


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_damaged_adapter_is_trained_again_and_the_other_is_not(
    tmp_path: Path, tiny_recipe: Callable[..., Path], damage: str
) -> None:
    """The stage's key is the same, and the adapter's summary is there: it looked finished."""
    recipe, folder = tiny_recipe(n_rows=120, train=SHORT), tmp_path / "run"
    go_on(recipe, folder, "train.seeds=2")
    before = weights(folder, "adapter-2")
    file = folder / "train/adapter-2/adapter_model.safetensors"
    raw = file.read_bytes()
    file.unlink()
    if damage == "changed":
        file.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    written = (folder / "train/adapter/adapter_model.safetensors").stat().st_mtime_ns
    go_on(recipe, folder, "train.seeds=2")
    assert torch.equal(weights(folder, "adapter-2"), before)
    assert (folder / "train/adapter/adapter_model.safetensors").stat().st_mtime_ns == written


def test_an_exploded_training_begins_anew_with_another_rate(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(
        n_rows=120, train=LONG | {"learning_rate": 1e30, "scheduler": "constant", "eval_steps": 1}
    )
    with pytest.raises(StageError, match="train, step"):
        execute(make_run(recipe, tmp_path / "run"))
    _, resumed, _ = go_on(recipe, tmp_path / "run", "train.learning_rate=0.003")
    assert resumed == 0


# --- torn files ------------------------------------------------------------------------------


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(
    ("tear", "name"),
    [
        (cut, "rng_state.pth"),
        (lambda path: path.unlink(), "rng_state.pth"),
        (lambda path: path.unlink(), "optimizer.pt"),
        (cut, "scheduler.pt"),
        (cut, "adapter_model.safetensors"),
        (cut, "trainer_state.json"),
    ],
)
def test_a_torn_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path,
    tiny_recipe: Callable[..., Path],
    kill: Kill,
    tear: Callable[[Path], None],
    name: str,
) -> None:
    recipe = tiny_recipe(n_rows=120, lora=DROPOUT, train=SHORT)
    folder = tmp_path / "run"
    kill(recipe, folder, at=12)
    tear(folder / "train/checkpoints/adapter/checkpoint-12" / name)
    _, resumed, said = go_on(recipe, folder)
    # Nine steps are an epoch, whose end is a checkpoint too.
    assert resumed == 9
    assert sum(f"checkpoint-12 was not written to its end ({name})" in text for text in said) == 1
    go_on(recipe, tmp_path / "alone")
    assert torch.equal(weights(folder), weights(tmp_path / "alone"))
    assert curve(folder) == curve(tmp_path / "alone")


def test_a_torn_best_adapter_is_never_passed_over(
    tmp_path: Path, tiny_recipe: Callable[..., Path], kill: Kill
) -> None:
    recipe, folder = tiny_recipe(n_rows=120, train=RUINOUS), tmp_path / "run"
    alone, _, _ = go_on(recipe, tmp_path / "alone")
    kill(recipe, folder, at=alone.steps)
    best = folder / f"train/checkpoints/adapter/checkpoint-{alone.best_step}"
    cut(best / "adapter_model.safetensors")
    _, resumed, said = go_on(recipe, folder)
    assert resumed == 0
    assert any("going on from the first step" in text for text in said)
    assert torch.equal(weights(folder), weights(tmp_path / "alone"))
