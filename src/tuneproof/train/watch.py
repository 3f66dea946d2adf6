"""Watching a training from inside the trainer: progress, an end when it goes wrong, epoch ends.

All are transformers' callbacks. What they decide depends on what was logged and on the step alone,
and is saved with each checkpoint, so that a resumed training decides as an uninterrupted one.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from tuneproof.processes import count
from tuneproof.train.memory import peak_memory_gib, trim_heap

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuneproof.progress import Task
    from tuneproof.train.checkpoint import Owner
    from tuneproof.train.live import LiveLog

EXPLOSION: Final = 3.0
"""Times the lowest training loss seen: above it, and above the first one, the loss has exploded."""

EXPLODED_LOGS: Final = 3
"""Logged losses in a row that it takes; a single batch may be hard."""


class EpochEnds(TrainerCallback):
    """Logs, validates and saves at the end of each epoch, at the step that completes it.

    The trainer's own epoch-end hook comes a moment later, after a checkpoint of that step may have
    been written without its validation loss: a training killed between the two would go on with a
    hole in its curve.
    """

    def __init__(self, steps_per_epoch: int) -> None:
        self._steps_per_epoch = steps_per_epoch

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """At an epoch's last step, ask for all three."""
        if state.global_step % self._steps_per_epoch == 0:
            control.should_log = control.should_evaluate = control.should_save = True


class Watchdog(TrainerCallback, ExportableState):
    """Ends the training when the loss is no number or has exploded.

    ``owner`` goes into every checkpoint, so that one of another recipe is not gone on with.
    ``processes_before`` is how many trained together when the checkpoint that was taken up was
    written.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self.first: float | None = None
        self.lowest = math.inf
        self.high_in_a_row = 0
        self.problem: str | None = None
        self.problem_step = 0
        self.processes_before: int | None = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        lowest = self.lowest if math.isfinite(self.lowest) else None
        return {
            "args": {"owner": self.owner.digest, "settings": dict(self.owner.settings)},
            "attributes": {
                "first": self.first,
                "lowest": lowest,
                "high_in_a_row": self.high_in_a_row,
                "processes": count(),
            },
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Take up what ``state`` kept."""
        kept = saved["attributes"]
        self.first = kept["first"]
        self.lowest = math.inf if kept["lowest"] is None else kept["lowest"]
        self.high_in_a_row = kept["high_in_a_row"]
        self.processes_before = kept.get("processes")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Look at what was logged."""
        found = self._look(logs or {})
        if found is not None and self.problem is None:
            self.problem, self.problem_step = found, state.global_step
            control.should_training_stop = True
            # What is bad must not become the checkpoint that the next run starts from.
            control.should_save = False

    def _look(self, logs: dict[str, float]) -> str | None:
        for name, noun in (
            ("loss", "training loss"),
            ("eval_loss", "validation loss"),
            ("grad_norm", "norm of the gradient"),
        ):
            if name in logs and not math.isfinite(logs[name]):
                return f"the {noun} is {logs[name]}, no finite number"
        loss = logs.get("loss")
        if loss is None:
            return None
        if self.first is None:
            self.first = loss
        self.lowest = min(self.lowest, loss)
        high = loss > self.first and loss > EXPLOSION * self.lowest
        self.high_in_a_row = self.high_in_a_row + 1 if high else 0
        if self.high_in_a_row < EXPLODED_LOGS:
            return None
        return (
            f"the training loss has exploded: {loss:.3g} now, after a lowest of {self.lowest:.3g}"
        )


class Progress(TrainerCallback):
    """The live view: the loss curve, gradient norm, real tokens a second, memory.

    What it shows also goes to ``live``, for those who watch from another process. The rate is that
    of the training steps alone: validations and checkpoints between them do not count.
    """

    def __init__(
        self,
        task: Task,
        live: LiveLog | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._task = task
        self._live = live
        self._clock = clock
        self._seen: dict[str, str] = {}
        self._tokens_before: int | None = None
        self._step_began: float | None = None
        self._seconds = 0.0
        self._tokens_per_s: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Draw what a resumed training had logged before."""
        for logs in state.log_history:
            self._plot(int(logs["step"]), state.max_steps, logs)

    def _plot(self, step: int, steps: int, logs: dict[str, float]) -> None:
        train, validation = logs.get("loss"), logs.get("eval_loss")
        self._task.plot(step, steps=steps, train=train, validation=validation)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Start the clock; the first time, after whatever a resumed training had to skip."""
        if self._tokens_before is None:
            self._tokens_before = int(state.num_input_tokens_seen)
        self._step_began = self._clock()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Count the step, and stop the clock until the next one."""
        _trim(args)
        if self._step_began is not None and self._tokens_before is not None:
            self._seconds += self._clock() - self._step_began
            self._step_began = None
            if self._seconds > 0:
                tokens = int(state.num_input_tokens_seen) - self._tokens_before
                self._tokens_per_s = tokens / self._seconds
                self._seen["tokens/s"] = f"{self._tokens_per_s:,.0f} tokens/s"
        self._task.advance(note=self._note())

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Keep the heap small while validating."""
        _trim(args)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Show what was logged."""
        for name, shown in (("loss", "loss"), ("eval_loss", "validation"), ("grad_norm", "norm")):
            if logs and name in logs:
                self._seen[name] = f"{shown} {logs[name]:.3f}"
        if logs and ("loss" in logs or "eval_loss" in logs):
            memory = peak_memory_gib()
            self._seen["memory"] = f"{memory:.1f} GiB"
            self._plot(state.global_step, state.max_steps, logs)
            if self._live is not None:
                self._live.write(
                    state.global_step,
                    train_loss=logs.get("loss"),
                    eval_loss=logs.get("eval_loss"),
                    tokens_per_s=self._tokens_per_s,
                    memory_gib=memory,
                )
        self._task.advance(0, note=self._note())

    def _note(self) -> str:
        order = ("loss", "eval_loss", "grad_norm", "tokens/s", "memory")
        return ", ".join(self._seen[name] for name in order if self._seen.get(name))


def _trim(args: TrainingArguments) -> None:
    """Tensors are on the heap only where they are computed with."""
    if args.device.type == "cpu":
        trim_heap()
