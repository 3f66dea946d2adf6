"""A server that speaks OpenAI's API: its key, one request sent once, and what came back.

A try that got no reply is a ``Failed`` value; what no further request could mend (a refused key, an
unknown model, a used-up quota) is raised. What is asked and how a reply is read is left to the
caller; how many requests run at once, and when one is sent again, to ``pacing``.

The ``openai`` library carries requests and is told never to send one again: it would do so without
telling, so that nobody could count, pay or pace what it sends. ``openai`` is imported inside
functions: it takes most of a second.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import BaseModel, ValidationError

from tuneproof.errors import CredentialError, EndpointError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from openai import APIStatusError, AsyncOpenAI

OPENAI_URL: Final = "https://api.openai.com/v1"
CONNECT_TIMEOUT_S: Final = 5.0

_LATER: Final = frozenset({408, 409, 425, 429})
"""Statuses below 500 of requests that may succeed when they are sent again."""

_TOO_MANY: Final = frozenset({429, 503, 529})
"""Statuses of an endpoint that is asked too much at once."""

_UNFIT: Final = frozenset({400, 413, 422})
"""Statuses that say something of the request (too long, say), and nothing of the endpoint."""

_NO_MONEY: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""OpenAI's codes for an account that can pay for nothing more."""

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """Where a server is, what is set of it, and how messages speak of it.

    ``section`` is the part of the recipe that describes it, ``name`` what it is called, and
    ``keeps`` what of its replies is kept ("reply"). ``otherwise`` is what else may be wrong where
    it knows no such model, and ``model_remedy`` what to do then.
    """

    url: str
    api_key_env: str | None
    timeout_s: float
    section: str
    name: str
    keeps: str
    otherwise: str
    model_remedy: str


@dataclass(frozen=True)
class Failed:
    """A try that got no reply: the kind of failure, to count by, and what was seen.

    ``again`` says that the same request may succeed later; ``turned_away`` that too much was asked
    at once, and ``wait_s`` how long the endpoint wants to be left alone; ``timed_out`` that nothing
    came in time; ``unfit`` that this request is not taken, whatever becomes of others.
    ``may_cost`` says that the endpoint may have answered, and may ask for its price.
    """

    reason: str
    detail: str = ""
    again: bool = False
    turned_away: bool = False
    timed_out: bool = False
    unfit: bool = False
    may_cost: bool = False
    wait_s: float | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


# --- before anything is sent -----------------------------------------------------------------


def api_key(at: Endpoint) -> str:
    """The key to send; a placeholder where the recipe says that none is needed.

    Raises:
        CredentialError: the environment variable that the recipe names is not set, or holds
            something that cannot be sent as a key.
    """
    name, place = at.api_key_env, f"{at.section}.api_key_env"
    if name is None:
        # Not None: the library would then send OPENAI_API_KEY to whatever server this is.
        return "no-key-needed"
    key = os.environ.get(name, "").strip()
    remedy = f"Set it: export {name}=…"
    if at.url != OPENAI_URL:
        remedy += f". For a server that asks for no key: --set {place}=null"
    if not key:
        raise CredentialError(
            f"the environment variable {name} is not set", place=place, remedy=remedy
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise CredentialError(
            f"the environment variable {name} holds no key: blanks or characters beyond ASCII",
            place=place,
            remedy=remedy,
        )
    return key


def check_connection(at: Endpoint) -> None:
    """Find out that the endpoint's host (or the proxy before it) accepts a connection.

    Raises:
        EndpointError: ``url`` is no http(s) address, or nothing answers there.
    """
    place = f"{at.section}.base_url"
    url, host, port = _address(at)
    proxy = _proxy(url, host)
    through = ""
    if proxy is not None:
        (host, port), through = proxy, f" (through the proxy {proxy[0]}:{proxy[1]})"
    try:
        socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise EndpointError(
            f"cannot connect{through}: {why}",
            place=place,
            value=at.url,
            remedy=f"Start the server, or put its address into {place}."
            if at.url != OPENAI_URL
            else f"Check the network, or set {place} to a server that can be reached.",
        ) from None


def _address(at: Endpoint) -> tuple[SplitResult, str, int]:
    """The endpoint's URL in parts, its host and its port."""
    try:
        url = urlsplit(at.url)
        if url.scheme in ("http", "https") and url.hostname:
            return url, url.hostname, url.port or (443 if url.scheme == "https" else 80)
    except ValueError:  # brackets that do not close, a port that is no number
        pass
    raise EndpointError(
        "expected an address such as http://127.0.0.1:8000/v1",
        place=f"{at.section}.base_url",
        value=at.url,
    )


def _proxy(url: SplitResult, host: str) -> tuple[str, int] | None:
    """Host and port of the proxy that requests to ``url`` go through, if there is one."""
    proxies = getproxies()
    found = proxies.get(url.scheme) or proxies.get("all")
    if not found or proxy_bypass(host):
        return None
    parts = urlsplit(found if "//" in found else f"//{found}")
    if not parts.hostname:
        return None
    return parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


# --- one request -----------------------------------------------------------------------------


def connect(at: Endpoint, *, max_retries: int = 0) -> AsyncOpenAI:
    """The library's client for an endpoint.

    Raises:
        CredentialError: the key's environment variable is not set.
    """
    from openai import AsyncOpenAI

    return AsyncOpenAI(
        api_key=api_key(at),
        # Explicit, so that no OPENAI_BASE_URL can send the questions elsewhere.
        base_url=at.url,
        timeout=at.timeout_s,
        max_retries=max_retries,
    )


class Connection:
    """One endpoint, asked one request at a time; ``client`` is the library's.

    Raises:
        CredentialError: the key's environment variable is not set.
    """

    def __init__(self, at: Endpoint) -> None:
        self._at = at
        self.client = connect(at)

    async def send(
        self,
        create: Callable[..., Awaitable[Any]],
        request: Mapping[str, Any],
        read: Callable[[bytes], T | Failed],
    ) -> T | Failed:
        """Send one request once.

        Args:
            create: the ``with_raw_response.create`` of one of the client's kinds of request.
            request: its body; has a ``model``.
            read: makes the reply of a body, or says why it is none.

        Raises:
            CredentialError: the endpoint refuses the key, so it will refuse it again.
            EndpointError: it does not know the address or the model, or has no quota left.
        """
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        try:
            # The library's own timeout starts anew with every byte that comes.
            async with asyncio.timeout(self._at.timeout_s):
                raw = await create(**request)
        except (TimeoutError, APITimeoutError):
            return Failed(
                "timeout",
                f"no reply within {self._at.timeout_s:g} s",
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
            return self._refused(error, request["model"])
        reply = read(raw.content)
        if not isinstance(reply, Failed):
            return reply
        content_type, detail = raw.headers.get("content-type", "none"), reply.detail
        if not content_type.startswith("application/json"):
            detail = f"content type {content_type}; {detail}"
        detail = self._clean(detail)
        if content_type.startswith("text/html"):
            detail += f" (check {self._at.section}.base_url: on most servers it ends in /v1)"
        return replace(reply, detail=detail, wait_s=asked_to_wait_s(raw.headers))

    def _refused(self, error: APIStatusError, model: str) -> Failed:
        """What an HTTP status above 399 means for this request; raises what holds for all."""
        status = error.status_code
        said = self._clean(error.message.removeprefix(f"Error code: {status} - "))
        raise_hopeless(self._at, status, error.code or error.type, said, model=model)
        reason = f"HTTP {status}"
        if error.code and status not in _LATER and status < 500:
            reason += f", {self._clean(error.code)[:60]}"
        return Failed(
            reason,
            said,
            again=status in _LATER or status >= 500,
            turned_away=status in _TOO_MANY,
            unfit=status in _UNFIT,
            wait_s=asked_to_wait_s(error.response.headers),
        )

    def _clean(self, text: str) -> str:
        return clean(text, self.client.api_key)

    async def close(self) -> None:
        """Give connections back."""
        await self.client.close()


def clean(text: str, key: str) -> str:
    """At most 300 characters of a server's message, without the key should it be in there."""
    shown = " ".join(text.replace(key, "***").split())
    return shown if len(shown) <= 300 else shown[:299] + "…"


def raise_hopeless(
    at: Endpoint, status: int | None, code: str | None, said: str, *, model: str
) -> None:
    """Raise where no further request could succeed; return where another may.

    Args:
        at: the endpoint that was asked.
        status: the HTTP status; None where there was none.
        code: OpenAI's code of the error, or its type.
        said: the endpoint's words, cleaned.
        model: the model that was asked for.

    Raises:
        CredentialError: the key is refused.
        EndpointError: the model is not known, or the account's quota is used up.
    """
    shown = "" if status is None else f" (HTTP {status})"
    kept = f"very {at.keeps} so far is kept."
    if status == 402 or code in _NO_MONEY:
        raise EndpointError(
            f"the account's quota is used up{shown}: {said}",
            place=at.url,
            remedy=f"Run again when there is quota; e{kept}",
        ) from None
    # By the code first: OpenAI answers 403 for a model that a project may not use.
    if code == "model_not_found" or (status == 404 and code != "invalid_api_key"):
        raise EndpointError(
            f"does not know the model {model!r}, or {at.otherwise}{shown}: {said}",
            place=at.url,
            remedy=at.model_remedy,
        ) from None
    if status in (401, 403) or code == "invalid_api_key":
        raise CredentialError(
            f"{at.name} refuses the key{shown}: {said}",
            place=at.url,
            remedy=f"Check the value of {at.api_key_env}. E{kept}"
            if at.api_key_env
            else f"Name the variable that holds a key in {at.section}.api_key_env.",
        ) from None


def asked_to_wait_s(headers: Mapping[str, str]) -> float | None:
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


def parsed(body: bytes, kind: type[M], *, what: str) -> M | Failed:
    """The part of a reply's JSON that we read; Failed where it is no such thing as ``what``."""
    said = None
    try:
        value = json.loads(body)
        said = _error_in(value)
        # JSON may hold half a surrogate pair; text files may not.
        text = json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace")
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        detail = said or f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (ValueError, RecursionError):
        detail = f"no JSON: {body[:80]!r}"
    return Failed(f"not a {what}", detail, again=True, may_cost=True)


def _error_in(value: object) -> str | None:
    """The server's words, 300 characters at most, where it says an error with status 200."""
    error = value.get("error") if isinstance(value, dict) else None
    said = error.get("message") if isinstance(error, dict) else error
    return said[:300] if said and isinstance(said, str) else None
