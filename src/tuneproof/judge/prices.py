"""What a judge's tokens cost: a small dated table, which the recipe's own prices replace.

Only OpenAI's list prices are here: what another endpoint asks, only its user knows. How many tokens
there are is left to ``meter``, and to ``plan`` beforehand.
"""

from __future__ import annotations

import re
import urllib.parse
from typing import TYPE_CHECKING

from tuneproof.records import Record

if TYPE_CHECKING:
    from tuneproof.recipe import Judge

DATED = "2026-03"
"""The month whose list prices these are."""

SOURCE = "OpenAI's list prices (nothing cached)"

BATCH_SHARE = 0.5
"""What a request costs through OpenAI's Batch API, as a share of its list price."""

# USD for a million tokens: input, output.
_PRICES = {
    "gpt-4o-mini": (0.15, 0.60),
    "gpt-4o": (2.50, 10.00),
    "gpt-4.1": (2.00, 8.00),
    "gpt-4.1-mini": (0.40, 1.60),
    "gpt-4.1-nano": (0.10, 0.40),
    "gpt-4-turbo": (10.00, 30.00),
    "gpt-4-1106-preview": (10.00, 30.00),
    "gpt-4-0125-preview": (10.00, 30.00),
}

_SNAPSHOT = re.compile(r"-\d{4}-\d{2}-\d{2}$")
# Snapshots that do not cost what the name without the date does.
_OTHERWISE = {"gpt-4o-2024-05-13": (5.00, 15.00)}


class Price(Record):
    """USD for a million tokens, and where the figures come from."""

    model: str
    input: float
    output: float
    dated: str | None
    source: str


def price_of(judge: Judge) -> tuple[Price | None, str | None]:
    """The judge's price, or None and the reason why it is not known.

    The recipe's prices win; the table is for OpenAI's own endpoint. Through the Batch API either
    is halved.
    """
    price, why_not = _list_price(judge)
    if price is not None and judge.batch_api:
        price = price.model_copy(
            update={
                "input": price.input * BATCH_SHARE,
                "output": price.output * BATCH_SHARE,
                "source": f"{price.source}, halved by the Batch API",
            }
        )
    return price, why_not


def recorded_price(judge: Judge, name: str, *, batched: bool) -> Price | None:
    """The price of a recorded reply; None where it is not known.

    Of another judge than the recipe's it is OpenAI's list price: where its replies came from is not
    recorded with them.

    Args:
        judge: the recipe's.
        name: who replied.
        batched: whether through the Batch API.
    """
    of: dict[str, object] = {"batch_api": batched}
    if name != judge.name:
        of |= {"model": name, "kind": "openai", "base_url": None, "prices": None}
    return price_of(judge.model_copy(update=of))[0]


def _list_price(judge: Judge) -> tuple[Price | None, str | None]:
    """The price of single requests."""
    if judge.prices is not None:
        return Price(
            model=judge.model,
            input=judge.prices.input,
            output=judge.prices.output,
            dated=None,
            source="the recipe",
        ), None
    if judge.kind != "openai":
        free = "replies from a journal" if judge.kind == "replay" else "judged on this machine"
        return Price(model=judge.model, input=0.0, output=0.0, dated=None, source=free), None
    remedy = "set judge.prices={input: …, output: …}, in USD for a million tokens"
    host = urllib.parse.urlsplit(judge.base_url or "https://api.openai.com").hostname
    if host != "api.openai.com":
        return None, f"What {host} asks for {judge.model} is not known; {remedy}."
    found = _OTHERWISE.get(judge.model) or _PRICES.get(_SNAPSHOT.sub("", judge.model))
    if found is None:
        return None, f"The price table has no {judge.model}; {remedy}."
    return Price(
        model=judge.model, input=found[0], output=found[1], dated=DATED, source=SOURCE
    ), None
