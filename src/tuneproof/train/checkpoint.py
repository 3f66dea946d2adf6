"""Which checkpoint can be gone on with: a whole one, of the same training.

The trainer writes a checkpoint file by file, each process its own state of random draws and without
waiting for the others, so that a kill can leave one with any of them missing or cut short. Light:
whoever asks how far a training is loads no library that trains.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from tuneproof.errors import RunDirError
from tuneproof.workspace import write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tuneproof.progress import Reporter
    from tuneproof.recipe import Recipe

FREE: Final = frozenset(
    {
        "train.token_budget",
        "train.gradient_checkpointing",
        "train.packing",
        "monitor.logging_steps",
    }
)
"""Settings by which no optimizer step is another one, beyond rounding and the draws of dropout: how
much goes through the model at once, what is computed twice, and what is logged. Whoever ran out of
memory changes them and goes on. ``train.micro_batch_size`` is none of them: it says of which
batches the validation loss is a mean, and the best adapter is chosen by that.

They stay in the stage's key. With dropout the adapter's bytes depend on them, and the loss curve
does on what is logged: a finished stage was made with what its manifest says.
"""

STATE: Final = "trainer_state.json"
WEIGHTS: Final = "adapter_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """A digest of all that a checkpoint must share with the training that goes on with it, of that
    the recipe's settings by their dotted names, and those that are ``FREE``.
    """

    digest: str
    settings: Mapping[str, str] = field(default_factory=dict)
    free: Mapping[str, str] = field(default_factory=dict)


def recipe_settings(recipe: Recipe) -> tuple[dict[str, str], dict[str, str]]:
    """What of the recipe a checkpoint must share, and what is free, by dotted names."""
    sections = {
        "model": recipe.model.model_dump(mode="json"),
        "lora": recipe.lora.model_dump(mode="json"),
        "train": recipe.train.model_dump(mode="json", exclude={"loader_workers", "seeds"}),
        "monitor": recipe.monitor.model_dump(mode="json", exclude={"trackers"}),
    }
    named = {f"{s}.{key}": str(v) for s, values in sections.items() for key, v in values.items()}
    named["seed"] = str(recipe.seed)
    free = {name: value for name, value in named.items() if name in FREE}
    return {name: value for name, value in named.items() if name not in FREE}, free


BY_DIGEST: Final = frozenset({"model.id", "model.revision", "model.tokenizer"})
"""Settings that only name what enters by its bytes: a model's folder may have been moved."""


def differences(saved: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Where settings are others than those saved: ``train.batch_size was 8, is 16``."""
    return [
        f"{name} was {saved.get(name, 'not there')}, is {value}"
        for name, value in now.items()
        if saved.get(name) != value
    ]


# --- whole or not ----------------------------------------------------------------------------


def lacking(checkpoint: Path) -> str | None:
    """What the checkpoint needs and has not, or has not to its end; None if it is whole.

    The best checkpoint's adapter belongs to it: it may be what the training will keep.
    """
    try:
        state = _state(checkpoint)
        best, _ = state.get("best_global_step"), state["global_step"]
        n = int(_watchdog(state).get("attributes", {}).get("processes", 1))
    except (OSError, ValueError, KeyError):
        return STATE
    draws = ["rng_state.pth"] if n == 1 else [f"rng_state_{rank}.pth" for rank in range(n)]
    for name in ("optimizer.pt", "scheduler.pt", *draws):
        # PyTorch's files are zip archives, whose table of contents comes last.
        if not zipfile.is_zipfile(checkpoint / name):
            return name
    if not _is_adapter(checkpoint):
        return WEIGHTS
    if best is not None and not _is_adapter(_best(checkpoint, best)):
        return f"the best adapter until then, that of step {best}"
    return None


def _is_adapter(folder: Path) -> bool:
    """Whether an adapter lies there in full: its weights' file is as long as its header says."""
    try:
        json.loads((folder / "adapter_config.json").read_text("utf-8"))
        with (folder / WEIGHTS).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header: dict[str, Any] = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name[:2] != "__"]
        return bool((folder / WEIGHTS).stat().st_size == 8 + length + max(ends))
    except (OSError, ValueError, KeyError, OverflowError, MemoryError):
        return False


def _state(checkpoint: Path) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((checkpoint / STATE).read_text("utf-8"))
    return state


def _watchdog(state: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (state.get("stateful_callbacks") or {}).get("Watchdog", {})
    return found


def _best(checkpoint: Path, step: int) -> Path:
    return checkpoint.with_name(f"checkpoint-{step}")


def _by_age(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))


def newest_whole(folder: Path) -> Path | None:
    """The newest whole checkpoint in the folder, if there is one; nothing is changed."""
    return next((c for c in reversed(_by_age(folder)) if lacking(c) is None), None)


# --- whose -----------------------------------------------------------------------------------


def is_of(owner: Owner, state_file: Path) -> bool:
    """Whether a trainer's state was written by that training."""
    try:
        state = json.loads(state_file.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return bool(_watchdog(state).get("args", {}).get("owner") == owner.digest)


def checkpoint_of(owner: Owner, folder: Path, reporter: Reporter) -> Path | None:
    """The newest whole checkpoint in the folder, if there is one; those that are not are removed.

    Its state then names the best checkpoint where that lies now: the trainer writes down whole
    paths, and what they named is elsewhere once the run was moved.

    Raises:
        RunDirError: it was written by a training of something else; nothing was removed.
    """
    newest = newest_whole(folder)
    if newest is not None and not is_of(owner, newest / STATE):
        saved = _watchdog(_state(newest)).get("args", {}).get("settings", {})
        raise _refusal(newest, differences(saved, owner.settings))
    for checkpoint in reversed(_by_age(folder)):
        if checkpoint == newest:
            break
        lacks = lacking(checkpoint)
        then = f"from {newest.name}" if newest is not None else "from the first step"
        reporter.stage(
            "train",
            f"{checkpoint.name} was not written to its end ({lacks}): going on {then}",
        )
        shutil.rmtree(checkpoint, ignore_errors=True)
    if newest is not None:
        state = _state(newest)
        best = state.get("best_global_step")
        path = None if best is None else str(_best(newest, best))
        if state.get("best_model_checkpoint") != path:
            text = json.dumps(state | {"best_model_checkpoint": path}, indent=2, sort_keys=True)
            write_atomic(newest / STATE, text + "\n")
    return newest


def _refusal(checkpoint: Path, found: list[str]) -> RunDirError:
    return RunDirError(
        "is a checkpoint of another recipe, model or data"
        f"{': ' if found else ''}{'; '.join(found)}",
        place=str(checkpoint),
        remedy=f"Put that back to go on from {_how_far(checkpoint)}, give this recipe a folder of "
        f"its own with --run-dir, or remove {checkpoint.parents[1]} to begin anew.",
    )


# --- half-done trainings ---------------------------------------------------------------------


def check_half_done(recipe: Recipe, folder: Path) -> None:
    """Refuse what lies half done in the folder of all adapters' checkpoints, if the recipe's
    settings cannot go on with it; model and data are left to ``checkpoint_of``.

    Raises:
        RunDirError: they cannot; says which are others.
    """
    settings, _ = recipe_settings(recipe)
    now = {name: value for name, value in settings.items() if name not in BY_DIGEST}
    for newest in _newest_of_each(folder):
        saved = _watchdog(_state(newest)).get("args", {}).get("settings", {})
        found = differences(saved, now)
        if found:
            raise _refusal(newest, found)


def half_done(folder: Path) -> str | None:
    """How far the trainings are whose checkpoints lie in the folder: ``adapter: step 12 of 30``;
    None where there is none.
    """
    return "; ".join(f"{c.parent.name}: {_how_far(c)}" for c in _newest_of_each(folder)) or None


def _newest_of_each(folder: Path) -> list[Path]:
    found = [newest_whole(adapter) for adapter in sorted(folder.glob("adapter*"))]
    return [newest for newest in found if newest is not None]


def _how_far(checkpoint: Path) -> str:
    state = _state(checkpoint)
    return f"step {state['global_step']:,} of {state['max_steps']:,}"
