"""The rate that a training shows while it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from tuneproof.progress import SilentTask
from tuneproof.train import watch
from tuneproof.train.live import LiveLog, read_live
from tuneproof.train.watch import Progress

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """Stands still but where a test moves it."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_that_of_the_steps_whatever_stands_between_them(tmp_path: Path) -> None:
    clock, live = Clock(), LiveLog(tmp_path / "live.jsonl", began=3, steps=5)
    progress = Progress(SilentTask(), live, clock=clock)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    # Resumed: these tokens are an earlier process's.
    state, control = TrainerState(num_input_tokens_seen=10_000, max_steps=5), TrainerControl()
    rates = []
    for step, (seconds, tokens) in enumerate([(2.0, 400), (2.0, 400), (4.0, 800)], start=1):
        state.global_step = step
        progress.on_step_begin(arguments, state, control)
        clock.now += seconds
        state.num_input_tokens_seen += tokens
        progress.on_step_end(arguments, state, control)
        progress.on_log(arguments, state, control, logs={"loss": 1.0})
        clock.now += 60  # a validation and a checkpoint
        progress.on_log(arguments, state, control, logs={"eval_loss": 1.0})
    rates = [line.tokens_per_s for line in read_live(tmp_path / "live.jsonl")]
    assert [r for r in rates if r is not None] == [pytest.approx(200.0)] * 6


@pytest.mark.parametrize(("device", "trims"), [("cpu", 2), ("cuda", 0)])
def test_the_heap_is_trimmed_where_tensors_are_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, trims: int
) -> None:
    import torch

    class On(TrainingArguments):
        @property
        def device(self) -> torch.device:
            return torch.device(device)

    trimmed: list[None] = []
    monkeypatch.setattr(watch, "trim_heap", lambda: trimmed.append(None))
    arguments = On(output_dir=str(tmp_path), use_cpu=True, report_to="none")
    progress = Progress(SilentTask())
    progress.on_step_end(arguments, TrainerState(), TrainerControl())
    progress.on_prediction_step(arguments, TrainerState(), TrainerControl())
    assert len(trimmed) == trims
