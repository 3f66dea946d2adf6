"""The questions with all answers as data in the page: JSON that no text in it can end, packed where
it is large.

The page's script reads it and makes elements of it, text by text. What stands in the page for
readers without scripts is made by the template.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import TYPE_CHECKING, Any

from tuneproof.report.cases import STOPS
from tuneproof.report.untrusted import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuneproof.report.cases import Case, Cases, Reply, Side, Turn, View

PACK_FROM = 256 * 1024
"""Characters of JSON from which on it is packed. A small report stays greppable."""
_UNSAFE = {ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}


def embedded(cases: Cases, *, titles: Mapping[str, str]) -> str:
    """The content of a script element of type ``application/json``.

    Packed, it is ``{"gzip": BASE64}`` of the same JSON. No byte of it depends on anything but the
    cases.
    """
    plain = {
        "stops": {stop.value: words for stop, words in STOPS.items()},
        "titles": {name: titles.get(name, name) for name in cases.benchmarks},
        "questions": [_question(case) for case in cases.cases],
    }
    text = json.dumps(plain, ensure_ascii=False, separators=(",", ":"))
    if len(text) >= PACK_FROM:
        packed = gzip.compress(text.encode(), compresslevel=6, mtime=0)
        return json.dumps({"gzip": base64.b64encode(packed).decode()})
    # Outside strings JSON has none of these characters.
    return text.translate(_UNSAFE)


def _question(case: Case) -> dict[str, Any]:
    return {
        "number": case.number,
        "id": visible(case.question_id),
        "benchmark": visible(case.benchmark),
        "category": visible(case.category),
        "turns": [_turn(turn) for turn in case.turns],
        "views": [_view(view) for view in case.views],
    }


def _turn(turn: Turn) -> dict[str, Any]:
    return {
        "instruction": visible(turn.instruction),
        "context": visible(turn.context),
        "reference": None if turn.reference is None else visible(turn.reference),
        "sides": [_side(side) for side in turn.sides],
        "replies": [_reply(reply) for reply in turn.replies],
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "arm": side.arm,
        "adapter": side.adapter,
        "text": None if side.text is None else visible(side.text),
        "problem": visible(side.problem),
        "stop": side.ended or "",
        "length": side.length,
        "exact": side.exact,
        "chrf": side.chrf,
    }


def _reply(reply: Reply) -> dict[str, Any]:
    return {
        "judge": visible(reply.judge),
        "against": reply.against,
        "adapter": reply.adapter,
        "first": reply.first,
        "says": visible(reply.says),
        "text": visible(reply.text),
    }


def _view(view: View) -> dict[str, Any]:
    return {
        "against": view.against,
        "adapter": view.adapter,
        "result": view.result,
        "said": view.said,
        "ordersDisagree": view.orders_disagree,
        "length": view.length,
    }
