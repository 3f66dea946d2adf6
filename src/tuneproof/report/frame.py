"""What every page of ours is made with: the template engine, the style, the content policy.

A page is one file that needs nothing else. Text is made visible and escaped as it is printed, so
that no line of a template can forget either; the policy lets our own style and script run, and
nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import TYPE_CHECKING

from tuneproof.report.numbers import unbroken
from tuneproof.report.untrusted import visible

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def part(name: str) -> str:
    """One of the report's files that go into a page as they are, such as ``style.css``."""
    return (resources.files("tuneproof.report") / "templates" / name).read_text("utf-8")


def environment(*packages: str) -> Environment:
    """For the templates of these packages, and those of the report, which they may import."""
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=ChoiceLoader([PackageLoader(name) for name in (*packages, "tuneproof.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    made.filters["as_written"] = _as_written
    return made


def policy(style: str, script: str = "") -> str:
    """The content security policy of a page with this style and script, and no other."""
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hash(style)}",
            *([f"script-src {_hash(script)}"] if script else []),
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _finalize(value: object) -> object:
    """What a template prints: text made visible, no line ending between a number and its unit;
    text that is already markup left alone."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return unbroken(visible(value))
    return value


def _as_written(text: str) -> Markup:
    """Text to be read or copied to the character: made visible and escaped, and no more."""
    from markupsafe import escape

    return escape(visible(text))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
