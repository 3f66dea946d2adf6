"""A comparison as one HTML file that needs nothing else, in the report's own style.

Text is made visible and escaped as in the report's page; there is no script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.compare.wording import Block, correction, told
from tuneproof.report import frame
from tuneproof.report.drawing import ForestRow, forest

if TYPE_CHECKING:
    from tuneproof.compare.comparison import Comparison

_WIDTH = 180


def render_comparison(comparison: Comparison) -> str:
    """The whole page."""
    from markupsafe import Markup

    style = frame.part("style.css")
    template = frame.environment("tuneproof.compare").get_template("compare.html.j2")
    return template.render(
        style=Markup(style),  # noqa: S704 (ours, and holds no untrusted text)
        policy=frame.policy(style),
        runs=comparison.runs,
        against=[(a, [(b, list(zip(b.lines, _drawn(b), strict=True))) for b in a.blocks])
                 for a in told(comparison)],
        correction=correction(comparison),
    )  # fmt: skip


def _drawn(block: Block) -> list[ForestRow | None]:
    """Each line's interval against zero; shares on one scale, every other unit on its own."""
    shares = iter(forest([x.estimate for x in block.lines if x.percent], width=_WIDTH))
    return [
        next(shares) if line.percent else forest([line.estimate], width=_WIDTH)[0]
        for line in block.lines
    ]
