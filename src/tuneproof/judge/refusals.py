"""What a model takes in no request at all: how it says so, and the setting that mends it.

OpenAI's reasoning models (the o-series, gpt-5) take no ``max_tokens``, no temperature but 1 and no
``logprobs``. Refusals that concern one request are left to ``endpoint.transport``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from tuneproof.errors import EndpointError
from tuneproof.judge.clients import endpoint
from tuneproof.judge.prices import is_openai

if TYPE_CHECKING:
    from tuneproof.endpoint.transport import Failed
    from tuneproof.recipe import Judge

LIMIT_FIELDS: Final = ("max_tokens", "max_completion_tokens")
"""What an endpoint may call the limit of a reply."""

_CODES: Final = ("unsupported_parameter", "unsupported_value")
"""OpenAI's, for what a model never takes."""

_NAMED: Final = re.compile(r"'(\w+)'")
_REASONS: Final = re.compile(r"o\d|gpt-5")


def refused_setting(judge: Judge, failed: Failed) -> EndpointError | None:
    """That the model refuses what every request brings; None where it does not."""
    said = failed.detail
    if not failed.reason.startswith("HTTP 400"):
        return None
    by_code = any(code in failed.reason or code in said for code in _CODES)
    # Other servers have no such codes, but say which name they want.
    if not by_code and not all(name in said for name in LIMIT_FIELDS):
        return None
    found = _NAMED.search(said)
    what = found[1] if found is not None else "setting"
    if what in LIMIT_FIELDS:
        other = next(name for name in LIMIT_FIELDS if name != what)
        remedy = f"Call the limit of a reply by its other name: --set judge.limit_field={other}"
    elif what == "temperature" and judge.temperature != 1:
        remedy = "Ask at the one that it takes, as a rule 1: --set judge.temperature=1"
    elif what in ("logprobs", "top_logprobs", "top_p"):
        remedy = (
            "AlpacaEval's weighted protocol needs it, this project's own does not: "
            "--set evaluate.N.protocol=own"
        )
    else:
        remedy = "Ask another model (judge.model)."
    return EndpointError(
        f"the model {judge.model!r} does not take the {what} of these requests "
        f"({failed.reason}): {said}",
        place=endpoint(judge),
        remedy=remedy,
    )


def limit_field_warning(judge: Judge) -> str | None:
    """That OpenAI's endpoint may refuse the limit's name; None where nothing speaks for it."""
    if (
        judge.kind != "openai"
        or judge.limit_field != "max_tokens"
        or not is_openai(judge)
        or not _REASONS.match(judge.model)
    ):
        return None
    return (
        f"{judge.model} may take no max_tokens and no temperature but 1; "
        "--set judge.limit_field=max_completion_tokens --set judge.temperature=1"
    )
