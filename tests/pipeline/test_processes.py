"""Several processes train what one does: started by torchrun, over gloo on this machine's CPU."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from tests.pipeline.test_pipeline import execute, make_run
from tuneproof.records import LossPoint, TrainingSummary
from tuneproof.train.checkpoint import lacking
from tuneproof.workspace import RunDir, read_records

if TYPE_CHECKING:
    from collections.abc import Callable

TRAIN: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "micro_batch_size": 4,
    "learning_rate": 5e-3,
    "max_length": 48,
    "eval_steps": 4,
}
"""Of 73 rows: nine whole steps an epoch, and one of a single row, which leaves a process idle."""

ROWS = 122
ROOT = Path(__file__).parents[2]


def launch(recipe: Path, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone",
        "-m", "tuneproof", "train", str(recipe), "--run-dir", str(folder), *more,
    ]  # fmt: skip
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(process: subprocess.Popen[bytes]) -> tuple[str, str]:
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()
    return out.decode(), errors.decode()


def adapter(folder: Path) -> torch.Tensor:
    weights = load_file(folder / "train/adapter/adapter_model.safetensors")
    return torch.cat([weights[name].flatten() for name in sorted(weights)])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_two_processes_train_what_one_does(
    tmp_path: Path, tiny_recipe: Callable[..., Path], checkpointing: bool
) -> None:
    """With gradient checkpointing too: every trained parameter takes part in each step."""
    recipe = tiny_recipe(n_rows=ROWS, train=TRAIN | {"gradient_checkpointing": checkpointing})
    one, two = tmp_path / "one", tmp_path / "two"
    execute(make_run(recipe, one), until="train")
    out, _ = finish(launch(recipe, two, "--json"))
    assert [json.loads(line)["ran"] for line in out.splitlines()] == [["prepare", "train"]]
    summary = TrainingSummary.model_validate_json((two / "train/summary.json").read_bytes())
    alone = TrainingSummary.model_validate_json((one / "train/summary.json").read_bytes())
    assert (summary.rows, summary.processes, alone.processes) == (73, 2, 1)
    # The recipe's batch, whatever the number of processes.
    assert (summary.steps, summary.tokens) == (alone.steps, alone.tokens) == (20, alone.tokens)
    curves = [read_records(f / "train/loss.jsonl", LossPoint) for f in (one, two)]
    for ours, theirs in zip(*curves, strict=True):
        assert theirs.train_loss == pytest.approx(ours.train_loss, abs=1e-5)
        assert theirs.eval_loss == pytest.approx(ours.eval_loss, abs=1e-5)
        assert theirs.eval_token_loss == pytest.approx(ours.eval_token_loss, abs=1e-5)
    assert (adapter(two) - adapter(one)).norm() < 1e-5 * adapter(one).norm()
    # Nothing is left to do, and neither process waits for the other.
    out, _ = finish(launch(recipe, two, "--json"))
    assert [json.loads(line)["ran"] for line in out.splitlines()] == [[]]


def by_hand(recipe: Path, folder: Path) -> list[subprocess.Popen[bytes]]:
    """Two processes without torchrun, whose own outlive it when it is killed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        subprocess.Popen(
            [sys.executable, "-m", "tuneproof", "train", str(recipe), "--run-dir", str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=os.environ
            | {
                "OMP_NUM_THREADS": "1",
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": "2",
                "LOCAL_WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            },
        )
        for rank in range(2)
    ]


def killed_at_8(recipe: Path, folder: Path) -> None:
    """Both, as soon as there is a checkpoint of step 8; the second may write its part last."""
    both = by_hand(recipe, folder)
    deadline = time.monotonic() + 120
    while lacking(folder / "train/checkpoints/adapter/checkpoint-8") is not None:
        assert [p.poll() for p in both] == [None, None]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for process in both:
        process.kill()
        process.communicate()


def test_each_process_draws_its_own_and_a_torn_state_of_one_steps_back(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    """Resumed with the draws of each, a training with dropout ends with the very same adapter."""
    dropout = {"r": 4, "alpha": 8, "dropout": 0.2, "target_modules": "all-linear"}
    recipe = tiny_recipe(n_rows=ROWS, train=TRAIN, lora=dropout)
    alone, folder, torn = (tmp_path / name for name in ("alone", "run", "torn"))
    finish(launch(recipe, alone))
    killed_at_8(recipe, folder)
    newest = folder / "train/checkpoints/adapter/checkpoint-8"
    for later in newest.parent.glob("checkpoint-*"):
        if int(later.name.rpartition("-")[2]) > 8:  # it went on for a moment
            shutil.rmtree(later)
    assert (newest.parent / "checkpoint-4").is_dir()
    shutil.copytree(folder, torn)
    seeds = []
    for rank in range(2):
        state = torch.load(newest / f"rng_state_{rank}.pth", weights_only=False)["cpu"]
        seeds.append(bytes(state[:8].tolist()))  # a generator's state begins with its seed
    assert seeds[0] != seeds[1]
    finish(launch(recipe, folder))
    assert torch.equal(adapter(folder), adapter(alone))
    draws = torn / "train/checkpoints/adapter/checkpoint-8/rng_state_1.pth"
    draws.write_bytes(draws.read_bytes()[:500])
    _, errors = finish(launch(recipe, torn))
    assert "checkpoint-8 was not written to its end (rng_state_1.pth)" in errors
    assert "resuming from step 4" in errors
    assert torch.equal(adapter(torn), adapter(alone))


def test_a_checkpoint_of_another_number_of_processes_is_gone_on_with(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(n_rows=ROWS, train=TRAIN)
    folder, alone = tmp_path / "run", tmp_path / "alone"
    killed_at_8(recipe, folder)
    said: list[str] = []
    run = make_run(recipe, folder)
    run.reporter.stage = lambda name, text: said.append(text)  # type: ignore[method-assign]
    execute(run, until="train")
    assert sum("the checkpoint is of 2 processes and here are 1" in text for text in said) == 1
    manifest = RunDir(folder).manifest("train")
    assert manifest is not None
    assert manifest.resumed >= 8
    summary = json.loads((folder / "train/summary.json").read_text("utf-8"))
    assert (summary["processes_before"], summary["processes"]) == (2, 1)
    execute(make_run(recipe, alone), until="train")
    assert (adapter(folder) - adapter(alone)).norm() < 1e-5 * adapter(alone).norm()


def test_padding_with_several_processes_is_refused(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(n_rows=ROWS, train=TRAIN)
    process = launch(recipe, tmp_path / "run", "--set", "train.packing=false")
    _, errors = process.communicate(timeout=120)
    assert process.returncode != 0
    assert b"several processes train packed sequences only" in errors
    shutil.rmtree(tmp_path / "run", ignore_errors=True)


def test_sharded_weights(tmp_path: Path) -> None:
    """FSDP2 with two processes: loss inside the forward, empty micro-batches, no deadlock."""
    from tests.pipeline import sharded

    out = tmp_path / "weights.pt"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node=2",
            "--standalone",
            "-m",
            "tests.pipeline.sharded",
            str(out),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    expected = sharded.train(sharded=False)
    found = torch.load(out)
    assert expected.norm() > 0
    assert (found - expected).norm() < 1e-5 * expected.norm()
