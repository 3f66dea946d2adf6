"""The loss curve: from the trainer's log to points, and to the losses of whole epochs. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.records import EpochLoss, LossPoint

if TYPE_CHECKING:
    from collections.abc import Sequence


def loss_curve(history: Sequence[dict[str, float]]) -> list[LossPoint]:
    """The trainer's log as points, in step order; what is measured at one step is one point."""
    points: dict[int, dict[str, float]] = {}
    names = {
        "loss": "train_loss",
        "eval_loss": "eval_loss",
        "eval_token_loss": "eval_token_loss",
        "learning_rate": "learning_rate",
        "grad_norm": "grad_norm",
    }
    for entry in history:
        found = {ours: entry[theirs] for theirs, ours in names.items() if theirs in entry}
        if "train_loss" in found or "eval_loss" in found:
            step = int(entry["step"])
            points.setdefault(step, {"step": step, "epoch": entry["epoch"]}).update(found)
    return [LossPoint.model_validate(points[step]) for step in sorted(points)]


def epoch_losses(curve: Sequence[LossPoint], steps_per_epoch: int) -> tuple[EpochLoss, ...]:
    """Training and validation loss of each epoch that was finished.

    The training loss is the mean over the epoch's optimizer steps: a logged loss is the mean of the
    steps since the log before it, and one is logged at every epoch's end.
    """
    found: list[EpochLoss] = []
    total, last = 0.0, 0
    for point in curve:
        if point.train_loss is not None:
            total += point.train_loss * (point.step - last)
            last = point.step
        if point.step % steps_per_epoch == 0 and point.eval_loss is not None and last == point.step:
            mean = total / steps_per_epoch
            epoch = point.step // steps_per_epoch
            found.append(EpochLoss(epoch=epoch, train_loss=mean, eval_loss=point.eval_loss))
            total = 0.0
    return tuple(found)
