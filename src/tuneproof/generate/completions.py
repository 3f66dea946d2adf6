"""One server that speaks OpenAI's completions: where it is, one request, what is read of a reply.

Requests are sent by ``endpoint.transport``; what is asked, and what an answer is, is left to
``served``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field

from tuneproof.endpoint.transport import Connection, Endpoint, Failed, api_key, parsed
from tuneproof.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuneproof.recipe import Recipe, Server


def endpoint_of(server: Server) -> Endpoint:
    """The endpoint that the recipe's server is."""
    return Endpoint(
        url=server.base_url,
        api_key_env=server.api_key_env,
        timeout_s=server.timeout_s,
        section="generate.server",
        name="the server",
        keeps="answer",
        otherwise="offers no completions there",
        model_remedy="Serve the run's train/adapter folders under the names in generate.server, "
        "and check base_url (which often ends in /v1).",
    )


def check_server(recipe: Recipe) -> None:
    """Find out, without asking it, that the recipe says all of its server that is needed.

    The server itself may be started when the adapters are trained.

    Raises:
        CredentialError: the key's environment variable is not set.
        RecipeError: the names of the adapters are too few or too many, or the placebo has none.
    """
    server = recipe.generate.server
    assert server is not None
    api_key(endpoint_of(server))
    n = recipe.train.seeds
    if len(server.adapters) != n:
        raise RecipeError(
            f"expected {n}: a name for each adapter that train.seeds trains",
            place="generate.server.adapters",
            value=list(server.adapters),
            remedy="Give the names under which the server has the adapters, in their order.",
        )
    if recipe.verdict.beat_placebo and server.placebo is None:
        raise RecipeError(
            "expected the name of the placebo, which verdict.beat_placebo trains",
            place="generate.server.placebo",
            remedy="Give the name under which the server has train/adapter-placebo.",
        )


class _Choice(BaseModel):
    text: str
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class Completion(BaseModel):
    """The part of a completion that we read; whatever else a server sends is let be."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


class CompletionsClient:
    """One server. What no other request could mend is raised, everything else a value.

    Raises:
        CredentialError: the key's environment variable is not set.
    """

    def __init__(self, server: Server) -> None:
        self._connection = Connection(endpoint_of(server))
        self._create = self._connection.client.completions.with_raw_response.create

    async def complete(self, request: Mapping[str, Any]) -> Completion | Failed:
        """Send one request once; see ``Connection.send``."""
        return await self._connection.send(self._create, request, _read)

    async def close(self) -> None:
        """Give connections back."""
        await self._connection.close()


def _read(body: bytes) -> Completion | Failed:
    return parsed(body, Completion, what="completion")
