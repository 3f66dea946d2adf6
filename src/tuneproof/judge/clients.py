"""Who answers a judge's question: an endpoint, a model in this process, or a recorded journal.

A client carries one request once and brings back a ``Reply``, or a ``Failed`` value where this try
got none; a failure is never turned into a reply. What no further request could mend (a refused key,
an unknown model) is raised. The clients of an endpoint and of a local model stand in
``openai_client`` and ``local``. What is asked, and how a reply is read, is left to ``protocol``;
how many requests run at once, and when one is tried again, to ``pacing``; what is kept of them, to
``asking``.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from tuneproof.errors import CredentialError, EndpointError, ModelError, RecipeError
from tuneproof.judge.prices import price_of
from tuneproof.records import Judgment, Rating
from tuneproof.workspace import read_records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuneproof import recipe
    from tuneproof.records import TopLogprobs

OPENAI_URL: Final = "https://api.openai.com/v1"
CONNECT_TIMEOUT_S: Final = 5.0
LOCAL: Final = "local"


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
    """A try that got no reply: the kind of failure, to count by, and what was seen.

    ``again`` says that the same request may succeed later; ``turned_away`` that too much was asked
    at once, and ``wait_s`` how long the endpoint wants to be left alone; ``timed_out`` that nothing
    came in time. ``may_cost`` says that the endpoint may have answered, and may ask for its price.
    """

    reason: str
    detail: str = ""
    again: bool = False
    turned_away: bool = False
    timed_out: bool = False
    may_cost: bool = False
    wait_s: float | None = None


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
    """Where requests go: the base URL, without a slash at its end.

    For a local judge, ``local:`` and the digest of its weights, so that no reply of other weights
    is taken for one of these. A replay of its journal has ``local`` for its base URL.

    Raises:
        ModelError: there is no such local model.
    """
    if judge.kind == "local" or (judge.kind == "replay" and judge.base_url == LOCAL):
        return f"{LOCAL}:{_local_digest(judge)}"
    return (judge.base_url or OPENAI_URL).rstrip("/")


def make_client(judge: recipe.Judge) -> Client:
    """The client that the recipe asks for.

    Raises:
        CredentialError: the key's environment variable is not set.
        ModelError: the local model cannot be loaded, or is no chat model.
        RecipeError: the journal to replay does not exist.
        StageError: the journal to replay cannot be read.
    """
    if judge.kind == "replay":
        return ReplayClient(_journal(judge))
    if judge.kind == "local":
        from tuneproof.judge.local import LocalClient

        return LocalClient(judge)
    from tuneproof.judge.openai_client import OpenAIClient

    return OpenAIClient(judge)


# --- before anything is sent -----------------------------------------------------------------


def check(judge: recipe.Judge) -> None:
    """Find out, without spending anything, that the judge can be asked.

    The key must be set, and the endpoint's host (or the proxy before it) must accept a connection.
    For a replay, the journal must exist; for a local judge, the model. A budget needs prices.

    Raises:
        CredentialError: the environment variable that the recipe names is not set, or holds
            something that cannot be sent as a key.
        EndpointError: ``base_url`` is no http(s) address, or nothing answers there.
        ModelError: there is no such local model.
        RecipeError: the journal to replay does not exist, or a budget has no prices to go by.
    """
    if judge.kind == "reference":
        return
    if judge.budget_usd is not None:
        price, why_not = price_of(judge)
        if price is None:
            raise RecipeError(
                "a budget needs prices",
                place="judge.budget_usd",
                value=judge.budget_usd,
                remedy=why_not or "",
            )
    if judge.kind == "replay":
        _journal(judge)
        return
    if judge.kind == "local":
        _local_digest(judge)
        return
    api_key(judge)
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


def api_key(judge: recipe.Judge) -> str:
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


def _local_digest(judge: recipe.Judge) -> str:
    """The digest of the local judge's weights."""
    from tuneproof.recipe import Model
    from tuneproof.train.model import resolve_model

    try:
        return resolve_model(Model(id=judge.model)).digest
    except ModelError as error:
        raise ModelError(
            error.problem, place="judge.model", value=judge.model, remedy=error.remedy
        ) from None


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
