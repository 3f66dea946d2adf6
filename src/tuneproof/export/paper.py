"""What a paper takes from a run: tables as LaTeX, figures as SVG, PDF and PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.export.latex import latex_tables
from tuneproof.report.content import pairwise_results
from tuneproof.report.figures import Saved, decomposition_figure, loss_figure, win_rate_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.recipe import Recipe
    from tuneproof.records import LossPoint
    from tuneproof.results import Results


def paper_files(
    results: Results, recipe: Recipe, curve: Sequence[LossPoint]
) -> dict[str, str | bytes]:
    """File name to content. A figure of what was not measured is not made."""
    files: dict[str, str | bytes] = dict(latex_tables(results, recipe))
    figures: dict[str, Saved | None] = {
        "loss": loss_figure(curve, best_step=results.best_step),
        "win_rates": win_rate_figure(results),
    }
    for name, result in results.benchmarks.items():
        for found in pairwise_results(result):
            if found.decomposition is not None:
                figure = decomposition_figure(found.decomposition)
                figures[f"decomposition_{name}_{found.opponent}"] = figure
    for name, saved in figures.items():
        if saved is not None:
            files |= {f"{name}.svg": saved.svg, f"{name}.pdf": saved.pdf, f"{name}.png": saved.png}
    return files
