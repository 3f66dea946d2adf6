"""A machine with too little memory or disk: said in a line, and the run goes on later."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch

from tuneproof.errors import StageError
from tuneproof.pipeline import Run, StageResult, execute, run_status
from tuneproof.progress import SilentReporter
from tuneproof.recipe_file import load_recipe
from tuneproof.stages import STAGES, stages_until
from tuneproof.workspace import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

CUDA = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.6 GiB."
CPU = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you "
    "tried to allocate 99 bytes."
)


@pytest.fixture
def run(tiny_recipe: Callable[..., Path], tmp_path: Path) -> Run:
    return Run(load_recipe(tiny_recipe()), RunDir(tmp_path / "run"), SilentReporter())


def fails(run: Run, error: BaseException, *, at: str = "train") -> str:
    """What the run says that fails with this error at that stage."""

    def die(run: Run, folder: Path) -> StageResult:
        raise error

    stages = [replace(s, run=die) if s.name == at else s for s in stages_until(at)]
    with pytest.raises(StageError) as said:
        execute(run, stages)
    assert said.value.__cause__ is error
    return str(said.value)


def test_a_gpus_memory(run: Run) -> None:
    assert fails(run, torch.OutOfMemoryError(CUDA)) == (
        "train: there is too little memory (CUDA out of memory)\n"
        "  Lower train.token_budget or set train.gradient_checkpointing=true, and give the command "
        "again: they change no optimizer step, and it goes on from the last checkpoint."
    )
    # The run can go on.
    execute(run, stages_until("train"))
    states = {s.stage: s.state for s in run_status(run, STAGES)}
    assert states["train"] == "fresh"
    assert "generate.batch_tokens" in fails(run, torch.OutOfMemoryError(CUDA), at="generate")


def test_the_machines_memory(run: Run) -> None:
    assert fails(run, RuntimeError(CPU)).startswith(
        "train: there is too little memory (can't allocate memory: you tried to allocate 99 bytes.)"
    )
    assert "too little memory (MemoryError)" in fails(run, MemoryError())


def test_the_disk(run: Run, tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "loss.jsonl"))
    assert fails(run, full) == (
        f"{tmp_path / 'loss.jsonl'}: there is no space left on the disk\n"
        "  Make room and give the same command again: it goes on from what was finished."
    )
    nameless = OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
    for error in (nameless, ExceptionGroup("judging", [full])):
        assert fails(run, error).startswith(f"{run.dir.stage('train')}: there is no space left")


def test_the_disk_is_asked_where_a_library_hides_what_it_met(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyTorch's writer of archives says this where the disk is full."""
    hidden = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    class Full:
        free = 0

    monkeypatch.setattr("shutil.disk_usage", lambda _: Full)
    assert "there is no space left" in fails(run, hidden)


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), PermissionError(13, "denied")])
def test_other_errors_stay_what_they_are(run: Run, error: Exception) -> None:
    def die(run: Run, folder: Path) -> StageResult:
        raise error

    stages = [replace(s, run=die) if s.name == "train" else s for s in stages_until("train")]
    with pytest.raises(type(error)) as same:
        execute(run, stages)
    assert same.value is error
