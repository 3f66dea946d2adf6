"""GPUs that a plan is held against, and how long a training takes on them.

A time is one of three kinds, and says which: from a throughput that was stated, from one that was
measured in this run's folder, or assumed from a card's peak and the share of it that the reference
experiment reached.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tuneproof.records import Record

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Card:
    """A GPU: the memory PyTorch finds on it (``total_memory``, in GiB), and its peak in dense
    bfloat16 products by its maker's data sheet."""

    name: str
    usable_gib: float
    peak_tflops: float


CARDS = (
    Card(name="RTX 4090 24 GB", usable_gib=23.6, peak_tflops=165.0),
    Card(name="A100 40 GB", usable_gib=39.4, peak_tflops=312.0),
    Card(name="L40S 48 GB", usable_gib=44.4, peak_tflops=362.0),
    Card(name="A100 80 GB", usable_gib=79.1, peak_tflops=312.0),
    Card(name="H100 80 GB", usable_gib=79.1, peak_tflops=989.0),
    Card(name="H200 141 GB", usable_gib=139.8, peak_tflops=989.0),
)

TRAINING_FLOP = 4
"""FLOP a parameter and token: 2 forward, 2 backward through frozen weights (no gradients of them;
an adapter's own are a thousandth)."""

EVALUATION_FLOP = 2
"""Forward alone."""


# --- the reference experiment, which the assumed throughput is calibrated on -------------------

_REFERENCE_PARAMETERS = 6_742_609_920
_REFERENCE_TRAINING_TOKENS = 3 * 2_518_407
_REFERENCE_EVALUATION_TOKENS = 22 * 311_856
_REFERENCE_SECONDS = 61 * 60
_REFERENCE_PEAK_TFLOPS = 312.0  # an A100


def reference_utilisation() -> float:
    """Share of an A100's peak that the reference experiment used, in FLOP of real tokens (0.26).

    It padded, so the card did more than that; a recipe that pads less will be faster.
    """
    flop = _REFERENCE_PARAMETERS * (
        TRAINING_FLOP * _REFERENCE_TRAINING_TOKENS + EVALUATION_FLOP * _REFERENCE_EVALUATION_TOKENS
    )
    return flop / (_REFERENCE_SECONDS * _REFERENCE_PEAK_TFLOPS * 1e12)


# --- time ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Work:
    """What all trainings of a recipe compute, in real tokens; ``parameters`` with the adapter."""

    parameters: int
    training_tokens: int
    evaluation_tokens: int


class GpuTime(Record):
    """Seconds on one card, at ``tokens_per_s`` real training tokens."""

    tokens_per_s: float
    training_s: float
    evaluation_s: float
    total_s: float
    usd: float | None = None


class TimePlan(Record):
    """How long training takes, in seconds over all adapters, and how that is known.

    ``assumed``: no run has shown it; ``by_gpu`` has a time for each card, and the other fields are
    those of ``gpu``. ``measured`` is the rate of an earlier training in the run's folder, which
    contains its evaluations, so ``evaluation_s`` is None. Answers are not timed.
    """

    source: Literal["stated", "measured", "assumed"]
    how: str
    gpu: str | None
    tokens_per_s: float
    training_s: float
    evaluation_s: float | None
    total_s: float
    usd: float | None
    by_gpu: dict[str, GpuTime]


def measured_rate(run_dir: Path) -> tuple[float, str] | None:
    """Real training tokens a second of the run's own training, and its device; None without one."""
    try:
        summary = json.loads((run_dir / "train" / "summary.json").read_text("utf-8"))
        rate = float(summary["tokens"]) / float(summary["duration_s"])
        device = str(summary["device"])
    except (OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
        return None
    return (rate, device) if rate > 0 else None


def plan_time(
    work: Work,
    *,
    fits: dict[str, bool],
    stated: float | None = None,
    measured: tuple[float, str] | None = None,
    usd_per_gpu_hour: float | None = None,
) -> TimePlan:
    """The time of all trainings.

    Args:
        fits: which cards are large enough; the smallest of them is the one shown.
        stated: real training tokens a second, by the user.
        measured: as ``measured_rate`` found it.
    """

    def priced(seconds: float) -> float | None:
        return None if usd_per_gpu_hour is None else round(seconds / 3600 * usd_per_gpu_hour, 2)

    def at(rate: float) -> GpuTime:
        training = work.training_tokens / rate
        # An evaluation token costs half of a training token.
        evaluation = work.evaluation_tokens / (rate * TRAINING_FLOP / EVALUATION_FLOP)
        return GpuTime(
            tokens_per_s=round(rate, 1),
            training_s=round(training, 1),
            evaluation_s=round(evaluation, 1),
            total_s=round(training + evaluation, 1),
            usd=priced(training + evaluation),
        )

    if stated is not None:
        time = at(stated)
        return TimePlan(
            source="stated",
            how="the stated throughput; evaluation tokens at twice that rate",
            gpu=None,
            by_gpu={},
            **time.model_dump(),
        )
    if measured is not None:
        rate, device = measured
        seconds = round(work.training_tokens / rate, 1)
        return TimePlan(
            source="measured",
            how=f"this run's own training on {device}, its evaluations and saving included",
            gpu=device,
            tokens_per_s=round(rate, 1),
            training_s=seconds,
            evaluation_s=None,
            total_s=seconds,
            usd=priced(seconds),
            by_gpu={},
        )
    share = reference_utilisation()
    by_gpu = {
        card.name: at(share * card.peak_tflops * 1e12 / (TRAINING_FLOP * work.parameters))
        for card in CARDS
    }
    smaller = (
        ""
        if work.parameters > _REFERENCE_PARAMETERS / 2
        else "; a model so much smaller reaches less of it and takes longer than this"
    )
    shown = next((card.name for card in CARDS if fits.get(card.name)), "H200 141 GB")
    return TimePlan(
        source="assumed",
        how=f"nothing was measured: {100 * share:.0f} % of a card's peak, as the reference "
        f"experiment reached on an A100{smaller}",
        gpu=shown,
        by_gpu=by_gpu,
        **by_gpu[shown].model_dump(),
    )
