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


def test_a_checkpoint_of_another_number_of_processes_is_gone_on_with(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    recipe = tiny_recipe(n_rows=ROWS, train=TRAIN)
    folder, alone = tmp_path / "run", tmp_path / "alone"
    checkpoints = folder / "train/checkpoints/adapter"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # By hand: torchrun's own processes outlive it when it is killed.
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "tuneproof", "train", str(recipe), "--run-dir", str(folder)],
            stderr=subprocess.DEVNULL,
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
    deadline = time.monotonic() + 120
    while not (checkpoints / "checkpoint-8/trainer_state.json").exists():
        assert [p.poll() for p in both] == [None, None]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    for process in both:
        process.kill()
        process.wait()
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
