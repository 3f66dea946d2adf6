"""The placebo arm and the second samples, from training to what must not notice them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import tiny_rows, write_jsonl
from tests.pipeline.test_pipeline import execute, make_run, status
from tests.pipeline.test_train import LONG
from tests.pipeline.test_training import adapter_bytes
from tuneproof.data.placebo import shuffle_responses
from tuneproof.errors import DataError
from tuneproof.progress import SilentReporter
from tuneproof.recipe_file import load_recipe
from tuneproof.records import LossPoint, PreparedRow, Split, TrainingSummary
from tuneproof.train.stage import train_adapters
from tuneproof.workspace import RunDir, read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PLACEBO = "verdict.beat_placebo=true"
SHORT = LONG | {"epochs": 1, "eval_steps": 4}


def train(recipe: Path, folder: Path, *overrides: str) -> None:
    execute(make_run(recipe, folder, *overrides), until="train")


def summary(folder: Path, mark: str = "") -> TrainingSummary:
    return TrainingSummary.model_validate_json((folder / f"train/summary{mark}.json").read_bytes())


# --- training --------------------------------------------------------------------------------


def test_the_placebo_is_the_training_of_shuffled_rows_and_changes_no_other(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(n_rows=120, train=SHORT)
    with_placebo, without = tmp_path / "with", tmp_path / "without"
    train(recipe, with_placebo, PLACEBO, "train.seeds=2")
    train(recipe, without, "train.seeds=2")
    for name in ("adapter", "adapter-2"):
        assert adapter_bytes(with_placebo, name) == adapter_bytes(without, name)
    assert not list((without / "train").glob("*placebo*"))
    one, other = (RunDir(f).manifest("train") for f in (with_placebo, without))
    assert one is not None
    assert other is not None
    # The ledger and the counts are those of the real rows.
    assert one.ledger == other.ledger
    assert {k: v for k, v in one.facts.items() if not k.startswith("placebo")} == other.facts
    assert one.facts["placebo steps"] == 9
    names = {f.path for f in one.outputs} - {f.path for f in other.outputs}
    assert names == {
        f"train/{name}"
        for name in (
            "adapter-placebo/adapter_config.json",
            "adapter-placebo/adapter_model.safetensors",
            "loss-placebo.jsonl",
            "summary-placebo.json",
            "trainer_state-placebo.json",
        )
    }
    assert not (with_placebo / "train/checkpoints").exists()

    # The same path, on rows that this test shuffled: the first adapter is then the placebo.
    rows = read_records(with_placebo / "prepare/examples.jsonl", PreparedRow)
    shuffled = []
    for split in Split:
        mine = [row for row in rows if row.split is split]
        moved = shuffle_responses([row.example for row in mine], seed=7)
        assert all(a.example.response != b.response for a, b in zip(mine, moved, strict=True))
        shuffled += [
            row.model_copy(update={"example": e}) for row, e in zip(mine, moved, strict=True)
        ]
    write_records(tmp_path / "shuffled/examples.jsonl", shuffled)
    by_hand = tmp_path / "by-hand/train"
    train_adapters(
        load_recipe(recipe, ()),
        prepare_dir=tmp_path / "shuffled",
        out=by_hand,
        reporter=SilentReporter(),
    )
    assert adapter_bytes(with_placebo, "adapter-placebo") == adapter_bytes(tmp_path / "by-hand")
    assert adapter_bytes(with_placebo, "adapter-placebo") != adapter_bytes(with_placebo)
    curve = read_records(with_placebo / "train/loss-placebo.jsonl", LossPoint)
    assert curve == read_records(by_hand / "loss.jsonl", LossPoint)
    # Its best step is that of its own validation loss; its seed is the first adapter's.
    found = summary(with_placebo, "-placebo")
    validated = {p.eval_loss: p.step for p in curve if p.eval_loss is not None}
    assert found.best_step == validated[min(validated)]
    assert (found.seed, found.rows) == (7, summary(with_placebo).rows)


def test_a_finished_placebo_is_not_trained_again_and_one_that_is_not_trains_alone(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe, folder = tiny_recipe(n_rows=120, train=SHORT), tmp_path / "run"
    train(recipe, folder, PLACEBO)
    files = {
        name: folder / "train" / name / "adapter_model.safetensors"
        for name in ("adapter", "adapter-placebo")
    }
    bytes_before = {name: path.read_bytes() for name, path in files.items()}
    # As after a kill while the placebo was training; then as after one before the manifest.
    for lost in (("summary-placebo.json", "adapter-placebo"), ()):
        times = {name: path.stat().st_mtime_ns for name, path in files.items()}
        for name in ("manifest.json", *lost):
            path = folder / "train" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        train(recipe, folder, PLACEBO)
        assert {name: path.read_bytes() for name, path in files.items()} == bytes_before
        again = {name for name, path in files.items() if path.stat().st_mtime_ns != times[name]}
        assert again == ({"adapter-placebo"} if lost else set())


def test_who_asks_for_no_placebo_has_the_key_of_before(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe, folder = tiny_recipe(n_rows=60, train=SHORT), tmp_path / "run"
    train(recipe, folder)
    manifest = RunDir(folder).manifest("train")
    assert manifest is not None
    assert not [name for name in manifest.key_parts if "placebo" in name]
    found = {s.stage: s for s in status(make_run(recipe, folder, PLACEBO))}["train"]
    assert (found.state, found.reasons) == ("stale", ("verdict.beat_placebo is new",))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_rows_that_give_no_placebo_are_refused_before_any_weight_is_loaded(
    tmp_path: Path,
    tiny_recipe: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    split: str,
) -> None:
    from tuneproof.train import model

    def load(*_: object, **__: object) -> None:
        pytest.fail("weights were loaded")

    monkeypatch.setattr(model, "load_model", load)
    recipe = tiny_recipe()
    rows = tiny_rows(60)
    if split == "validation":
        # A run of the same rows says which ones those are.
        execute(make_run(recipe, tmp_path / "first"), until="prepare")
        prepared = read_records(tmp_path / "first/prepare/examples.jsonl", PreparedRow)
        same = {int(r.example.id[4:]) for r in prepared if r.split is Split.VALIDATION}
    else:
        same = set(range(50))
    for i in same:
        rows[i]["response"] = "yes"
    data = write_jsonl(tmp_path / "same.jsonl", rows)
    with pytest.raises(DataError, match=f"the rows of the {split} split = .* are one and the same"):
        train(recipe, tmp_path / "run", f"data.source.path={data}", PLACEBO)
    assert not (tmp_path / "run").exists()
