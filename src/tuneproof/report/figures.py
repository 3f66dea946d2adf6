"""Figures for a paper: the loss curve, win rates with intervals, where a win rate comes from.

SVG, PDF and PNG, the same bytes for the same records.

The page's own drawing, which follows light and dark, is in ``drawing``.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuneproof.report.content import pairwise_results
from tuneproof.report.numbers import count
from tuneproof.report.pairwise import NOTHING_CUT, part_shown, uncut
from tuneproof.report.untrusted import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from matplotlib.figure import Figure

    from tuneproof.records import LossPoint
    from tuneproof.results import Decomposition, Estimate, Results

# Of Okabe and Ito's colours, which readers with any colour vision can tell apart; the line's
# form (plain, or with marks) tells the series apart in black and white.
_TRAIN, _VALIDATION, _PART = "#56B4E9", "#B34700", "#0072B2"
_SHORT = {"heldout": "Held-out", "alpaca_eval": "AlpacaEval 2", "mt_bench": "MT-Bench"}
_LONGEST = 30
"""Characters of a label: in a figure as wide as a page, a third of its width."""
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "tuneproof",  # ids in the SVG are random without it
    "svg.fonttype": "path",
    "pdf.fonttype": 42,  # outlines that journals accept, in place of bitmap-like Type 3
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


@dataclass(frozen=True, kw_only=True)
class Saved:
    """One figure in the three formats."""

    svg: bytes
    pdf: bytes
    png: bytes


def loss_figure(curve: Sequence[LossPoint], *, best_step: int | None) -> Saved:
    """The loss curve. One without a loss gives a figure that says so."""
    return _saved(lambda: _draw(curve, best_step=best_step))


def win_rate_figure(results: Results) -> Saved | None:
    """All win rates with their intervals, each benchmark's and opponent's, and those of its parts;
    the dashed line is no difference. None where no judge compared anything."""
    rows = list(_win_rates(results))
    if not any(estimate.low is not None for _, estimate, _ in rows):
        return None
    return _saved(lambda: _draw_win_rates(rows))


def decomposition_figure(found: Decomposition) -> Saved | None:
    """A win rate's distance from one half, in its parts; hatched is what takes from it. None where
    they are not known."""
    if found.whole.value is None or any(part.value is None for part in found.parts):
        return None
    return _saved(lambda: _draw_decomposition(found))


def _saved(draw: Callable[[], Figure]) -> Saved:
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a reader's matplotlibrc must not change the bytes
        matplotlib.rcParams.update(_STYLE)
        figure = draw()
        svg, pdf, png = io.BytesIO(), io.BytesIO(), io.BytesIO()
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
        figure.savefig(
            pdf, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None}
        )
        figure.savefig(png, format="png", dpi=200, metadata={"Software": None})
    return Saved(svg=svg.getvalue(), pdf=pdf.getvalue(), png=png.getvalue())


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
    # Above the plot, where no line can run through it.
    axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.2)
    return figure


_Row = tuple[str, "Estimate", bool]
"""A label, a win rate, and whether it is one of a whole benchmark."""


def _win_rates(results: Results) -> Iterator[_Row]:
    for name, result in results.benchmarks.items():
        title = _SHORT.get(name, name) if len(results.benchmarks) > 1 else ""
        for found in pairwise_results(result):
            lead = f"{title}, against {found.opponent}" if title else f"against {found.opponent}"
            yield lead[:1].upper() + lead[1:], found.win_rate, True
            if found.length_controlled is not None:
                yield "at equal length (fitted)", found.length_controlled.fitted, False
            for part, estimate in found.by_category.items():
                yield part, estimate, False


def _text(text: str) -> str:
    """A label that leaves room for what it labels, and that matplotlib draws as it is: a dollar
    sign would begin a formula."""
    line = " ".join(visible(text).split())
    short = line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"
    return short.replace("$", r"\$")


def _draw_win_rates(rows: Sequence[_Row]) -> Figure:
    from matplotlib.figure import Figure

    known = [(label, e, whole) for label, e, whole in rows if e.value is not None]
    figure = Figure(
        figsize=(5.5, 0.75 + 0.27 * len(known)), layout="constrained", facecolor="white"
    )
    axes = figure.subplots()
    axes.axvline(50, color="#666666", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
    for y, (_, e, whole) in enumerate(known):
        assert e.value is not None
        color = _VALIDATION if whole else _PART
        if e.low is not None and e.high is not None:
            axes.plot([100 * e.low, 100 * e.high], [y, y], color=color, linewidth=1.4)
        axes.annotate(
            f"n = {count(e.n_scored)}", (1, y), xycoords=("axes fraction", "data"),
            xytext=(8, 0), textcoords="offset points", va="center", fontsize=8, color="#444444",
        )  # fmt: skip
        axes.plot(
            100 * e.value,
            y,
            color=color,
            marker="o" if whole else "s",
            markersize=5 if whole else 4,
            clip_on=False,  # at an end of the scale it is drawn whole
        )
    axes.set_yticks(range(len(known)), [_text(label) for label, *_ in known])
    for label, (_, _, whole) in zip(axes.get_yticklabels(), known, strict=True):
        label.set_fontweight("bold" if whole else "normal")
        label.set_fontsize(8.5 if whole else 8)
    axes.set_ylim(len(known) - 0.5, -0.5)
    axes.set_xlim(0, 100)
    axes.set_xlabel("win rate of tuned (%)")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0, pad=7)
    return figure


def _draw_decomposition(found: Decomposition) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 2.0), layout="constrained", facecolor="white")
    axes = figure.subplots()
    foot = 50.0
    bars: list[tuple[str, Estimate, float, str]] = []
    for label, estimate, color in (
        ("what remains", found.remaining, _VALIDATION),
        ("length", found.length, _PART),
        ("stopping", found.stopping, _PART),
    ):
        assert estimate.value is not None
        bars.insert(0, (label, estimate, foot, color))
        foot += 100 * estimate.value
    bars.insert(0, ("win rate as answered", found.whole, 50.0, _VALIDATION))
    for y, (_, estimate, base, color) in enumerate(bars):
        assert estimate.value is not None
        tip = base + 100 * estimate.value
        axes.barh(
            y, tip - base, left=base, height=0.55, color=color, alpha=0.55, edgecolor=color,
            hatch="////" if tip < base else None,
        )  # fmt: skip
        if estimate.low is not None and estimate.high is not None and not uncut(found, estimate):
            ends = [base + 100 * estimate.low, base + 100 * estimate.high]
            axes.plot(ends, [y, y], color="black", linewidth=1.1, marker="|", markersize=6)
    axes.axvline(50, color="#666666", linewidth=0.9, linestyle=(0, (4, 3)))
    axes.margins(x=0.06)
    labels = [
        f"{label}: {part_shown(found, e).value}" + (f", {NOTHING_CUT}" if uncut(found, e) else "")
        for label, e, _, _ in bars
    ]
    axes.set_yticks(range(len(bars)), labels)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlabel("win rate of tuned (%)")
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    return figure
