"""Who answers a judge's question: an OpenAI-compatible endpoint, or a recorded journal.

A client carries one request and brings back a ``Reply``, or a ``Failed`` value where this request
could not be answered; a failure is never turned into a reply. What no further request could mend
(a refused key, an unknown model) is raised. What is asked, and how a reply is read, is left to
``protocol``; how many requests run at once, and what is kept of them, to ``stage``.

``openai`` is imported inside functions: it takes most of a second.
"""

from __future__ import annotations

import json
import math
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, Self
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from pydantic import BaseModel, Field, ValidationError

from tuneproof.errors import CredentialError, EndpointError, RecipeError
from tuneproof.records import Judgment, Rating
from tuneproof.workspace import read_records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from openai import APIStatusError

    from tuneproof import recipe
    from tuneproof.records import TopLogprobs

OPENAI_URL: Final = "https://api.openai.com/v1"
CONNECT_TIMEOUT_S: Final = 5.0
MAX_RETRIES: Final = 4


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a judge said, why it stopped, and what that cost in tokens (None: not told).

    ``top_logprobs`` are the likeliest first tokens; None where the endpoint gave none.
    """

    text: str
    finish_reason: str | None = None
    top_logprobs: TopLogprobs | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


@dataclass(frozen=True)
class Failed:
    """A request that got no reply: the kind of failure, to count by, and what was seen."""

    reason: str
    detail: str = ""


class Client(Protocol):
    """Asks a judge."""

    async def ask(self, request: Mapping[str, Any], *, key: str) -> Reply | Failed:
        """The reply to a chat-completion body; ``key`` is the digest it is journaled under.

        Raises:
            CredentialError: the endpoint refuses the key, so it will refuse it again.
            EndpointError: the endpoint does not know the address or the model.
        """

    async def close(self) -> None:
        """Give connections back."""


def endpoint(judge: recipe.Judge) -> str:
    """The base URL that requests go to, without a slash at its end."""
    return (judge.base_url or OPENAI_URL).rstrip("/")


def make_client(judge: recipe.Judge) -> Client:
    """The client that the recipe asks for.

    Raises:
        CredentialError: the key's environment variable is not set.
        RecipeError: the journal to replay does not exist.
        StageError: the journal to replay cannot be read.
    """
    if judge.kind == "replay":
        return ReplayClient(_journal(judge))
    return OpenAIClient(judge)


# --- before anything is sent -----------------------------------------------------------------


def check(judge: recipe.Judge) -> None:
    """Find out, without spending anything, that the judge can be asked.

    The key must be set, and the endpoint's host (or the proxy before it) must accept a connection.
    For a replay, the journal must exist.

    Raises:
        CredentialError: the environment variable that the recipe names is not set, or holds
            something that cannot be sent as a key.
        EndpointError: ``base_url`` is no http(s) address, or nothing answers there.
        RecipeError: the journal to replay does not exist.
    """
    if judge.kind == "reference":
        return
    if judge.kind == "replay":
        _journal(judge)
        return
    _api_key(judge)
    url, host, port = _address(judge)
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
            place="judge.base_url",
            value=endpoint(judge),
            remedy="Start the server, or put its address into judge.base_url."
            if judge.base_url
            else "Check the network, or set judge.base_url to a server that can be reached.",
        ) from None


def _api_key(judge: recipe.Judge) -> str:
    """The key to send; a placeholder where the recipe says that none is needed."""
    name = judge.api_key_env
    if name is None:
        # Not None: the library would then send OPENAI_API_KEY to whatever server this is.
        return "no-key-needed"
    key = os.environ.get(name, "").strip()
    remedy = f"Set it: export {name}=…"
    if judge.base_url is not None:
        remedy += ". For a server that asks for no key: --set judge.api_key_env=null"
    if not key:
        raise CredentialError(
            f"the environment variable {name} is not set", place="judge.api_key_env", remedy=remedy
        )
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise CredentialError(
            f"the environment variable {name} holds no key: blanks or characters beyond ASCII",
            place="judge.api_key_env",
            remedy=remedy,
        )
    return key


def _address(judge: recipe.Judge) -> tuple[SplitResult, str, int]:
    """The endpoint's URL in parts, its host and its port."""
    try:
        url = urlsplit(endpoint(judge))
        if url.scheme in ("http", "https") and url.hostname:
            return url, url.hostname, url.port or (443 if url.scheme == "https" else 80)
    except ValueError:  # brackets that do not close, a port that is no number
        pass
    raise EndpointError(
        "expected an address such as http://127.0.0.1:8000/v1",
        place="judge.base_url",
        value=endpoint(judge),
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


# --- an endpoint -----------------------------------------------------------------------------


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


class OpenAIClient:
    """Any server that speaks OpenAI's chat completions, through the ``openai`` library.

    Timeouts, lost connections, 408, 409, 429 and 5xx are tried again by the library
    (``max_retries`` times, with growing pauses or those that the server asks for) before a request
    counts as failed.

    Raises:
        CredentialError: the key's environment variable is not set.
    """

    def __init__(self, judge: recipe.Judge, *, max_retries: int = MAX_RETRIES) -> None:
        from openai import AsyncOpenAI

        self._judge = judge
        self._key = _api_key(judge)
        self._client = AsyncOpenAI(
            api_key=self._key,
            # Explicit, so that no OPENAI_BASE_URL can send the questions elsewhere.
            base_url=endpoint(judge),
            timeout=judge.timeout_s,
            max_retries=max_retries,
        )

    async def ask(self, request: Mapping[str, Any], *, key: str) -> Reply | Failed:
        """Send one request; see ``Client.ask``."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        try:
            raw = await self._client.chat.completions.with_raw_response.create(**request)
        except APITimeoutError:
            return Failed("timeout", f"no reply within {self._judge.timeout_s:g} s")
        except APIConnectionError as error:
            cause = error.__cause__
            return Failed("no connection", self._clean(str(cause or error)))
        except APIStatusError as error:
            return self._refused(error)
        return _read_completion(raw.content)

    def _refused(self, error: APIStatusError) -> Failed:
        """What an HTTP status above 399 means: this request failed, or all of them would."""
        status = error.status_code
        said = self._clean(error.message.removeprefix(f"Error code: {status} - "))
        if status in (401, 403):
            raise CredentialError(
                f"the judge's endpoint refuses the key (HTTP {status}): {said}",
                place=endpoint(self._judge),
                remedy=f"Check the value of {self._judge.api_key_env}."
                if self._judge.api_key_env
                else "Name the variable that holds a key in judge.api_key_env.",
            ) from None
        if status == 404 or error.code == "model_not_found":
            raise EndpointError(
                f"does not know the model {self._judge.model!r}, or the address is wrong "
                f"(HTTP {status}): {said}",
                place=endpoint(self._judge),
                remedy="Check judge.model and judge.base_url (which often ends in /v1).",
            ) from None
        if error.code == "insufficient_quota":
            raise EndpointError(
                f"the account's quota is used up (HTTP {status}): {said}",
                place=endpoint(self._judge),
                remedy="Run again when there is quota; every reply so far is kept.",
            ) from None
        return Failed(f"HTTP {status}", said)

    def _clean(self, text: str) -> str:
        """At most 300 characters of a server's message, without the key should it be in there."""
        shown = " ".join(text.replace(self._key, "***").split())
        return shown if len(shown) <= 300 else shown[:299] + "…"

    async def close(self) -> None:
        """Give connections back."""
        await self._client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _read_completion(body: bytes) -> Reply | Failed:
    """The reply in a chat completion's JSON."""
    try:
        value = json.loads(body)
        # JSON may hold half a surrogate pair; text files may not.
        text = json.dumps(value, ensure_ascii=False).encode("utf-8", errors="replace")
        completion = _Completion.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        return Failed("not a chat completion", f"{where}: {first['msg']}")
    except (ValueError, RecursionError):
        return Failed("not a chat completion", f"no JSON: {body[:80]!r}")
    choice, usage = completion.choices[0], completion.usage or _Usage()
    content = choice.message.content
    if content is None:
        content = choice.message.refusal
    if content is None:
        if choice.finish_reason not in ("length", "content_filter"):
            # Nothing was said and nothing says why: worth asking again, not worth keeping.
            return Failed("no text in the completion")
        content = ""
    return Reply(
        text=content,
        finish_reason=choice.finish_reason,
        top_logprobs=_first_token(choice.logprobs),
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
    )


def _first_token(logprobs: _Logprobs | None) -> TopLogprobs | None:
    """The likeliest first tokens. One of probability 0 (its logarithm is not finite) is absent."""
    if logprobs is None or not logprobs.content or logprobs.content[0].top_logprobs is None:
        return None
    likely = logprobs.content[0].top_logprobs
    return tuple((t.token, t.logprob) for t in likely if math.isfinite(t.logprob))


# --- a recorded journal ----------------------------------------------------------------------


class ReplayClient:
    """Replies from recorded judgments, by key; a request that was not recorded fails.

    ``path`` is a journal of judgments; one of ratings is read from beside it, where it is there.
    """

    def __init__(self, path: Path) -> None:
        self._replies: dict[str, Reply] = {}
        for judgment in read_records(path, Judgment):
            self._replies.setdefault(judgment.key, recorded_reply(judgment))
        ratings = ratings_beside(path)
        if ratings is not None:
            for rating in read_records(ratings, Rating):
                self._replies.setdefault(rating.key, recorded_reply(rating))

    async def ask(self, request: Mapping[str, Any], *, key: str) -> Reply | Failed:
        """Look one request up; see ``Client.ask``."""
        return self._replies.get(key, Failed("not in the recorded journal"))

    async def close(self) -> None:
        """Nothing is held."""


RATINGS_JOURNAL: Final = "ratings.journal.jsonl"
"""Lies beside the journal of judgments."""


def ratings_beside(journal: Path) -> Path | None:
    """The journal of ratings beside one of judgments; None where there is none."""
    path = journal.with_name(RATINGS_JOURNAL)
    return path if path.is_file() else None


def recorded_reply(row: Judgment | Rating) -> Reply:
    """The reply that a judgment or a rating was read from."""
    return Reply(
        text=row.reply,
        finish_reason=row.finish_reason,
        top_logprobs=row.top_logprobs if isinstance(row, Judgment) else None,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
    )


def _journal(judge: recipe.Judge) -> Path:
    assert judge.journal is not None  # the recipe does not validate without it
    path = Path(judge.journal)
    if not path.is_file():
        raise RecipeError(
            "no such file",
            place="judge.journal",
            value=judge.journal,
            remedy="Give the journal.jsonl of a run's judge folder.",
        )
    return path
