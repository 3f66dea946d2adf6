"""Which checkpoint can be gone on with: a whole one, of the same training."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tuneproof.errors import RunDirError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A digest of all that a training depends on, and of that the recipe's settings by their dotted
    names.
    """

    digest: str
    settings: Mapping[str, str] = field(default_factory=dict)

    def differences(self, saved: Mapping[str, str]) -> list[str]:
        """Where the settings of a checkpoint are others: ``train.batch_size was 8, is 16``."""
        return [
            f"{name} was {saved.get(name, 'not there')}, is {value}"
            for name, value in self.settings.items()
            if saved.get(name) != value
        ]


def checkpoint_of(owner: Owner, folder: Path) -> Path | None:
    """The newest whole checkpoint in the folder, if there is one.

    Raises:
        RunDirError: it was written by a training of something else.
    """
    newest = last_whole_checkpoint(folder)
    if newest is None:
        return None
    state = json.loads((newest / "trainer_state.json").read_text("utf-8"))
    watchdog = (state.get("stateful_callbacks") or {}).get("Watchdog", {})
    saved = watchdog.get("args", {})
    if saved.get("owner") != owner.digest:
        found = owner.differences(saved.get("settings", {}))
        raise RunDirError(
            f"is a checkpoint of another recipe, model or data{': ' if found else ''}"
            f"{'; '.join(found)}",
            place=str(newest),
            remedy="Remove it to begin this training at its first step, or give this recipe a "
            "folder of its own with --run-dir.",
        )
    return newest


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; torn ones are removed.

    The trainer writes ``trainer_state.json`` last, so a checkpoint without a readable one was
    interrupted.
    """
    found = sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    while found:
        newest = found.pop()
        try:
            state = json.loads((newest / "trainer_state.json").read_text("utf-8"))
            assert isinstance(state["global_step"], int)
            return newest
        except (OSError, ValueError, KeyError):
            shutil.rmtree(newest, ignore_errors=True)
    return None
