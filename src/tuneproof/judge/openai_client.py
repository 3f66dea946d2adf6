"""An OpenAI-compatible endpoint: one request sent once, and what came back.

The ``openai`` library carries it and is told never to send again: it would do so without telling,
so that nobody could count, pay or pace what it sends. ``openai`` is imported inside functions: it
takes most of a second.
"""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, Self

from pydantic import BaseModel, Field, ValidationError

from tuneproof.errors import CredentialError, EndpointError
from tuneproof.judge.clients import Failed, Reply, api_key, endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai import APIStatusError, AsyncOpenAI

    from tuneproof import recipe
    from tuneproof.records import TopLogprobs

_LATER: Final = frozenset({408, 409, 425, 429})
"""Statuses below 500 of requests that may succeed when they are sent again."""

_TOO_MANY: Final = frozenset({429, 503, 529})
"""Statuses of an endpoint that is asked too much at once."""

_NO_MONEY: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


def connect(judge: recipe.Judge, *, max_retries: int = 0) -> AsyncOpenAI:
    """The library's client for the judge's endpoint.

    Raises:
        CredentialError: the key's environment variable is not set.
    """
    from openai import AsyncOpenAI

    return AsyncOpenAI(
        api_key=api_key(judge),
        # Explicit, so that no OPENAI_BASE_URL can send the questions elsewhere.
        base_url=endpoint(judge),
        timeout=judge.timeout_s,
        max_retries=max_retries,
    )


class OpenAIClient:
    """Any server that speaks OpenAI's chat completions; see ``clients.Client``.

    Raises:
        CredentialError: the key's environment variable is not set.
    """

    def __init__(self, judge: recipe.Judge) -> None:
        self._judge = judge
        self._client = connect(judge)
        # Now: what the library imports here would otherwise be part of the first request's time.
        self._create = self._client.chat.completions.with_raw_response.create

    async def ask(self, request: Mapping[str, Any], *, key: str) -> Reply | Failed:
        """Send one request once; see ``Client.ask``."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        try:
            # The library's own timeout starts anew with every byte that comes.
            async with asyncio.timeout(self._judge.timeout_s):
                raw = await self._create(**request)
        except (TimeoutError, APITimeoutError):
            return Failed(
                "timeout",
                f"no reply within {self._judge.timeout_s:g} s",
                again=True,
                timed_out=True,
                may_cost=True,
            )
        except APIConnectionError as error:
            cause = error.__cause__
            return Failed(
                "no connection",
                self._clean(str(cause or error)),
                again=True,
                # By its name: which HTTP library the openai package uses is its own business.
                may_cost=type(cause).__name__ != "ConnectError",
            )
        except APIStatusError as error:
            return self._refused(error)
        read = read_completion(raw.content)
        if isinstance(read, Reply):
            return read
        content_type = raw.headers.get("content-type", "none")
        if not content_type.startswith("application/json"):
            read = replace(read, detail=self._clean(f"content type {content_type}; {read.detail}"))
        return replace(read, wait_s=_asked_to_wait_s(raw.headers))

    def _refused(self, error: APIStatusError) -> Failed:
        """What an HTTP status above 399 means for this request; raises what holds for all."""
        status = error.status_code
        said = self._clean(error.message.removeprefix(f"Error code: {status} - "))
        raise_hopeless(self._judge, status, error.code or error.type, said)
        reason = f"HTTP {status}"
        if error.code and status not in _LATER and status < 500:
            reason += f", {self._clean(error.code)[:60]}"
        return Failed(
            reason,
            said,
            again=status in _LATER or status >= 500,
            turned_away=status in _TOO_MANY,
            wait_s=_asked_to_wait_s(error.response.headers),
        )

    def _clean(self, text: str) -> str:
        return clean(text, self._client.api_key)

    async def close(self) -> None:
        """Give connections back."""
        await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def clean(text: str, key: str) -> str:
    """At most 300 characters of a server's message, without the key should it be in there."""
    shown = " ".join(text.replace(key, "***").split())
    return shown if len(shown) <= 300 else shown[:299] + "…"


def raise_hopeless(judge: recipe.Judge, status: int | None, code: str | None, said: str) -> None:
    """Raise where no further request could succeed; return where another may.

    Args:
        judge: the judge that was asked.
        status: the HTTP status; None where there was none.
        code: OpenAI's code of the error, or its type.
        said: the endpoint's words, cleaned.

    Raises:
        CredentialError: the key is refused.
        EndpointError: the model is not known, or the account's quota is used up.
    """
    shown = "" if status is None else f" (HTTP {status})"
    if status == 402 or code in _NO_MONEY:
        raise EndpointError(
            f"the account's quota is used up{shown}: {said}",
            place=endpoint(judge),
            remedy="Run again when there is quota; every reply so far is kept.",
        ) from None
    if status in (401, 403) or code == "invalid_api_key":
        raise CredentialError(
            f"the judge's endpoint refuses the key{shown}: {said}",
            place=endpoint(judge),
            remedy=f"Check the value of {judge.api_key_env}. Every reply so far is kept."
            if judge.api_key_env
            else "Name the variable that holds a key in judge.api_key_env.",
        ) from None
    if status == 404 or code == "model_not_found":
        raise EndpointError(
            f"does not know the model {judge.model!r}, or the address is wrong{shown}: {said}",
            place=endpoint(judge),
            remedy="Check judge.model and judge.base_url (which often ends in /v1).",
        ) from None


def _asked_to_wait_s(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds; None without one.

    A date is read by the reply's own ``Date``: this machine's clock may be another one.
    """
    for name, seconds in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            wait = float(headers.get(name, "")) * seconds
        except ValueError:
            continue
        if wait >= 0:  # and is a number
            return wait
    try:
        until, now = (parsedate_to_datetime(headers.get(n, "")) for n in ("retry-after", "date"))
        return max((until - now).total_seconds(), 0.0)
    except (ValueError, TypeError):  # no date, or one with a time zone and one without
        return None


# --- reading ---------------------------------------------------------------------------------


class _Message(BaseModel):
    content: str | None = None
    refusal: str | None = None


class _Likely(BaseModel):
    token: str
    logprob: float


class _Token(BaseModel):
    top_logprobs: list[_Likely] | None = None


class _Logprobs(BaseModel):
    content: list[_Token] | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(BaseModel):
    """The part of a chat completion that we read; whatever else a server sends is let be."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


def read_completion(body: bytes) -> Reply | Failed:
    """The reply in a chat completion's JSON."""
    try:
        value = json.loads(body)
        # JSON may hold half a surrogate pair; text files may not.
        text = json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace")
        completion = _Completion.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return _no_completion(f"{where}: {first['msg']}")
    except (ValueError, RecursionError):
        return _no_completion(f"no JSON: {body[:80]!r}")
    choice, usage = completion.choices[0], completion.usage or _Usage()
    content = choice.message.content
    if content is None:
        content = choice.message.refusal
    if content is None:
        if choice.finish_reason not in ("length", "content_filter"):
            # Nothing was said and nothing says why: worth asking again, not worth keeping.
            return Failed("no text in the completion", again=True, may_cost=True)
        content = ""
    return Reply(
        text=content,
        finish_reason=choice.finish_reason,
        top_logprobs=_first_token(choice.logprobs),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _no_completion(detail: str) -> Failed:
    return Failed("not a chat completion", detail, again=True, may_cost=True)


def _first_token(logprobs: _Logprobs | None) -> TopLogprobs | None:
    """The likeliest first tokens. One of probability 0 (its logarithm is not finite) is absent."""
    if logprobs is None or not logprobs.content or logprobs.content[0].top_logprobs is None:
        return None
    likely = logprobs.content[0].top_logprobs
    return tuple((t.token, t.logprob) for t in likely if math.isfinite(t.logprob))
