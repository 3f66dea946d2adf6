"""What a training was computed with: the settings that may change while it is half done.

They change no optimizer step (``checkpoint.FREE``). The stage's key has only the last ones, so the
training's summary says which held from which step on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from tuneproof.train.checkpoint import differences

if TYPE_CHECKING:
    from collections.abc import Mapping


class ComputedWith(TrainerCallback, ExportableState):
    """Keeps, in each checkpoint, which settings held from which step on (``spans``)."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = dict(settings)
        self._now = ", ".join(f"{name}={value}" for name, value in settings.items())
        self.spans = [f"from step 0: {self._now}"] if settings else []

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"args": {}, "attributes": {"spans": self.spans, "settings": self._settings}}

    def restore(self, saved: dict[str, Any] | None, step: int) -> str:
        """Take up what ``state`` kept at that step; in words, what is other now."""
        kept = saved["attributes"] if saved else {"spans": [], "settings": {}}
        changed = differences(kept["settings"], self._settings)
        self.spans = [*kept["spans"], *([f"from step {step}: {self._now}"] if changed else [])]
        return "; ".join(changed)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Log as the recipe has it; a resumed state has the distance it was saved with."""
        state.logging_steps = int(args.logging_steps)
