"""A comparison as one HTML file that needs nothing else, in the report's own style.

Text is made visible and escaped as in the report's page; there is no script.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING

from tuneproof.compare.wording import Block, correction, told
from tuneproof.report.drawing import ForestRow, forest
from tuneproof.report.untrusted import visible

if TYPE_CHECKING:
    from tuneproof.compare.comparison import Comparison

_WIDTH = 180


def render_comparison(comparison: Comparison) -> str:
    """The whole page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    style = (resources.files("tuneproof.report") / "templates" / "style.css").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("tuneproof.compare"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    return environment.get_template("compare.html.j2").render(
        style=Markup(style),  # noqa: S704 (ours, and holds no untrusted text)
        policy=f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        runs=comparison.runs,
        against=[(a, [(b, list(zip(b.lines, _drawn(b), strict=True))) for b in a.blocks])
                 for a in told(comparison)],
        correction=correction(comparison),
    )  # fmt: skip


def _finalize(value: object) -> object:
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return visible(value)
    return value


def _drawn(block: Block) -> list[ForestRow | None]:
    """Each line's interval against zero; shares on one scale, every other unit on its own."""
    shares = iter(forest([x.estimate for x in block.lines if x.percent], width=_WIDTH))
    return [
        next(shares) if line.percent else forest([line.estimate], width=_WIDTH)[0]
        for line in block.lines
    ]
