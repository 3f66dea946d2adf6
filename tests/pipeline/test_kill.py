"""SIGKILL at any moment, then the same command again: nothing is lost but the work in flight.

Ten kills of one stage in a row are left to ``test_kill_often``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.conftest import tiny_rows
from tests.pipeline.test_pipeline import execute, make_run
from tuneproof.records import Answer
from tuneproof.workspace import RunDir, digest_file, read_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TRAIN = {
    "batch_size": 4,
    "micro_batch_size": 2,
    "learning_rate": 0.01,
    "max_length": 128,
    "eval_steps": 4,
}

COMMAND = [sys.executable, "-m", "tuneproof"]


def start(recipe: Path, folder: Path, verb: str = "run") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, verb, str(recipe), "--run-dir", str(folder), "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def kill_when(process: subprocess.Popen[bytes], seen: Callable[[], bool]) -> None:
    """SIGKILL as soon as ``seen`` holds; the process must still be at work then."""
    deadline = time.monotonic() + 120
    while not seen():
        assert process.poll() is None, process.communicate()[1].decode()
        assert time.monotonic() < deadline, "what was waited for never came"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def finish(recipe: Path, folder: Path, verb: str = "run") -> None:
    process = start(recipe, folder, verb)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


RESULTS = (
    "train/adapter/adapter_model.safetensors",
    "train/loss.jsonl",  # losses, rates and gradient norms of every step, before and after
    "generate/answers.jsonl",
)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Filled by the first test that needs it: digests of a run that nobody killed."""
    return {}


def digests(folder: Path) -> dict[str, str]:
    return {name: digest_file(folder / name) for name in RESULTS}


@pytest.mark.parametrize("batching", ["random", "by-length"])
def test_killed_while_training_goes_on_from_the_last_checkpoint(
    tmp_path: Path, tiny_recipe: Callable[..., Path], batching: str
) -> None:
    """In the second epoch, with dropout; and ends with the very adapter of a run left alone."""
    recipe = tiny_recipe(
        n_rows=200,
        lora={"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": "all-linear"},
        train=TRAIN | {"epochs": 3, "batching": batching},
    )
    folder, checkpoints = tmp_path / "killed", tmp_path / "killed/train/checkpoints/adapter"
    # 120 rows are 30 steps an epoch.
    kill_when(start(recipe, folder), lambda: (checkpoints / "checkpoint-36").exists())
    assert RunDir(folder).manifest("train") is None
    finish(recipe, folder)
    manifest = RunDir(folder).manifest("train")
    assert manifest is not None
    assert 32 <= manifest.resumed < 90
    finish(recipe, tmp_path / "alone")
    assert digests(folder) == digests(tmp_path / "alone")


def test_killed_while_the_placebo_trains_goes_on_there(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(
        n_rows=120,
        lora={"r": 4, "alpha": 8, "dropout": 0.1, "target_modules": "all-linear"},
        train=TRAIN | {"epochs": 2},
        verdict={"metric": "exact_match", "beat_placebo": True},
    )
    folder = tmp_path / "killed/train"
    checkpoints = folder / "checkpoints/adapter-placebo"
    # 72 rows are 18 steps an epoch.
    kill_when(start(recipe, folder.parent, "train"), (checkpoints / "checkpoint-16").exists)
    finished = folder / "adapter/adapter_model.safetensors"
    written = finished.stat().st_mtime_ns
    finish(recipe, folder.parent, "train")
    assert finished.stat().st_mtime_ns == written
    manifest = RunDir(folder.parent).manifest("train")
    assert manifest is not None
    assert 12 <= manifest.resumed < 36
    execute(make_run(recipe, tmp_path / "alone"), until="train")
    for name in ("adapter-placebo/adapter_model.safetensors", "loss-placebo.jsonl", "loss.jsonl"):
        assert digest_file(folder / name) == digest_file(tmp_path / "alone/train" / name), name


def test_killed_while_answering_keeps_every_whole_batch(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(n_rows=400)
    folder = tmp_path / "killed"
    journal = folder / "generate/answers.journal.jsonl"
    kill_when(start(recipe, folder), lambda: lines(journal) >= 12)
    kept = lines(journal)
    finish(recipe, folder)
    manifest = RunDir(folder).manifest("generate")
    assert manifest is not None
    # The held-out losses were all there, and so was every answer that had reached the disk.
    assert manifest.resumed >= 2 * 120 + kept
    answers = read_records(folder / "generate/answers.jsonl", Answer)
    assert len({a.key for a in answers}) == len(answers) == 2 * 120
    assert lines(journal) == 2 * 120


@pytest.mark.parametrize("stage", ["prepare", "train", "generate", "judge", "report"])
def test_killed_before_the_manifest(
    tmp_path: Path, tiny_recipe: Callable[..., Path], stage: str
) -> None:
    """The moment when a stage has begun and is not done."""
    recipe, folder = tiny_recipe(n_rows=120), tmp_path / "run"

    def has_begun() -> bool:
        # A report is made beside the one that it replaces.
        return (folder / stage / "begun.json").exists() or any(folder.glob(f".{stage}.*.partial"))

    kill_when(start(recipe, folder), has_begun)
    finish(recipe, folder)
    assert (folder / "report/index.html").is_file()
    assert not list(folder.rglob("*.partial"))


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    recipe, folder = tiny_recipe(n_rows=400), tmp_path / "run"
    checkpoints = folder / "train/checkpoints/adapter"
    kill_when(start(recipe, folder), lambda: (checkpoints / "checkpoint-12").exists())
    whole = [c for c in checkpoints.iterdir() if (c / "trainer_state.json").exists()]
    newest = max(whole, key=lambda c: int(c.name.rpartition("-")[2]))
    (newest / "trainer_state.json").write_text('{"global_step": ')
    finish(recipe, folder)
    manifest = RunDir(folder).manifest("train")
    assert manifest is not None
    assert manifest.resumed < int(newest.name.rpartition("-")[2])


def test_the_rows_are_what_the_counts_above_assume() -> None:
    assert len(tiny_rows(400)) - int(0.6 * 400) - int(0.1 * 400) == 120
