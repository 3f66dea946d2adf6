"""Who answers a judge's question: an endpoint, a model in this process, or a recorded journal.

A client carries one request once and brings back a ``Reply``, or a ``Failed`` value where this try
got none; a failure is never turned into a reply. What no further request could mend (a refused key,
an unknown model) is raised. The clients of an endpoint and of a local model stand in
``openai_client`` and ``local``. What is asked, and how a reply is read, is left to ``protocol``;
how requests are sent, and when one is sent again, to ``endpoint``; what is kept of them, to
``asking``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from tuneproof.endpoint.transport import OPENAI_URL, Endpoint, Failed, api_key, check_connection
from tuneproof.errors import ModelError, RecipeError
from tuneproof.judge.prices import price_of
from tuneproof.records import Judgment, Rating
from tuneproof.workspace import read_records

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuneproof import recipe
    from tuneproof.records import TopLogprobs

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


def endpoint_of(judge: recipe.Judge) -> Endpoint:
    """The endpoint of a judge that is asked through one."""
    return Endpoint(
        url=endpoint(judge),
        api_key_env=judge.api_key_env,
        timeout_s=judge.timeout_s,
        section="judge",
        name="the judge's endpoint",
        keeps="reply",
        otherwise="the address is wrong",
        model_remedy="Check judge.model and judge.base_url (which often ends in /v1).",
    )


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
    at = endpoint_of(judge)
    api_key(at)
    check_connection(at)


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
