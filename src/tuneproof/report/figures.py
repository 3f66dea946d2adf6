"""The loss curve as a figure for a paper: SVG and PNG, the same bytes for the same curve.

The page's own drawing, which follows light and dark, is in ``drawing``.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from tuneproof.records import LossPoint

# Two of Okabe and Ito's colours, which readers with any colour vision can tell apart; the line's
# form (plain, or with marks) tells the series apart in black and white.
_TRAIN, _VALIDATION = "#56B4E9", "#B34700"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "tuneproof",  # ids in the SVG are random without it
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
}


def loss_figure(curve: Sequence[LossPoint], *, best_step: int | None) -> tuple[bytes, bytes]:
    """The loss curve as (SVG, PNG). A curve without a loss gives a figure that says so."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a reader's matplotlibrc must not change the bytes
        matplotlib.rcParams.update(_STYLE)
        figure = _draw(curve, best_step=best_step)
        svg, png = io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    return svg.getvalue(), png.getvalue()


def _draw(curve: Sequence[LossPoint], *, best_step: int | None) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3.1), layout="constrained", facecolor="white")
    axes = figure.subplots()
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss (nats per token)")
    train = [(p.step, p.train_loss) for p in curve if p.train_loss is not None]
    validation = [(p.step, p.eval_loss) for p in curve if p.eval_loss is not None]
    if not train and not validation:
        axes.text(0.5, 0.5, "no loss was logged", ha="center", transform=axes.transAxes)
        return figure
    if train:
        axes.plot(*zip(*train, strict=True), color=_TRAIN, linewidth=1.1, label="train")
    if validation:
        axes.plot(
            *zip(*validation, strict=True),
            color=_VALIDATION,
            linewidth=1.4,
            marker="o",
            markersize=3.5,
            label="validation",
        )
    best = [(s, v) for s, v in validation if s == best_step]
    if best:
        axes.plot(
            *zip(*best, strict=True),
            color=_VALIDATION,
            linestyle="none",
            marker="o",
            markersize=8,
            fillstyle="none",
            label=f"lowest validation loss (step {best_step})",
        )
    axes.set_xlim(left=0)
    axes.legend(frameon=False, loc="upper right")
    return figure
