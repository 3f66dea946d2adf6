"""What a training says while it runs, on disk, so that another process can watch it.

One JSON object a line beside the checkpoints, and gone with them when the stage is done: the loss
curve is then in ``loss.jsonl``. Nothing that the training does depends on it. Light: whoever
watches loads no library that trains.
"""

from __future__ import annotations

import math
import os
import socket
import time
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from tuneproof.errors import StageError
from tuneproof.records import Record

if TYPE_CHECKING:
    from pathlib import Path

FILE = "live.jsonl"


class LiveLine(Record):
    """The state at one moment. ``began`` is the step at which this process took the training up;
    a line at that step without a loss is its first.

    ``time`` is in seconds since 1970. ``tokens_per_s`` counts real tokens since ``began``.
    """

    time: float
    pid: int
    host: str
    began: int = Field(ge=0)
    step: int = Field(ge=0)
    steps: int = Field(ge=1)
    train_loss: float | None = None
    eval_loss: float | None = None
    tokens_per_s: float | None = None
    memory_gib: float | None = None


class LiveLog:
    """Writes the lines; ``path`` is made where it is absent, and added to where it is there."""

    def __init__(self, path: Path, *, began: int, steps: int) -> None:
        self._path, self._began, self._steps = path, began, steps
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.read_bytes().endswith(b"\n"):
            # A line torn by a kill is ended, so that it cannot swallow the next one.
            with path.open("ab") as file:
                file.write(b"\n")
        self.write(began)

    def write(
        self,
        step: int,
        *,
        train_loss: float | None = None,
        eval_loss: float | None = None,
        tokens_per_s: float | None = None,
        memory_gib: float | None = None,
    ) -> None:
        """One line. A loss that is no finite number is left out: the training ends by it."""
        line = LiveLine(
            time=round(time.time(), 2),
            pid=os.getpid(),
            host=socket.gethostname(),
            began=self._began,
            step=step,
            steps=self._steps,
            train_loss=_finite(train_loss),
            eval_loss=_finite(eval_loss),
            tokens_per_s=tokens_per_s,
            memory_gib=memory_gib,
        )
        with self._path.open("a", encoding="utf-8") as file:
            file.write(line.model_dump_json(exclude_none=True) + "\n")


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def read_live(path: Path) -> list[LiveLine]:
    """The lines so far; one that was torn, by a kill or by being written now, is passed over.

    Raises:
        StageError: a whole line is not such a line.
    """
    found = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.endswith(b"}"):
            continue
        try:
            found.append(LiveLine.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
            raise StageError(f"holds no LiveLine: {problem}", place=f"{path}:{number}") from None
    return found
