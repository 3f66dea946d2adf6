"""A judge behind an OpenAI-compatible endpoint: chat completions, and what is read from them.

Requests are sent by ``endpoint.transport``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

from pydantic import BaseModel, Field

from tuneproof.endpoint.transport import Connection, Failed, parsed
from tuneproof.judge.clients import Reply, endpoint_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuneproof import recipe
    from tuneproof.records import TopLogprobs


class OpenAIClient:
    """Any server that speaks OpenAI's chat completions; see ``clients.Client``.

    Raises:
        CredentialError: the key's environment variable is not set.
    """

    def __init__(self, judge: recipe.Judge) -> None:
        self._connection = Connection(endpoint_of(judge))
        # Now: what the library imports here would otherwise be part of the first request's time.
        self._create = self._connection.client.chat.completions.with_raw_response.create

    async def ask(self, request: Mapping[str, Any], *, key: str) -> Reply | Failed:
        """Send one request once; see ``Client.ask``."""
        return await self._connection.send(self._create, request, read_completion)

    async def close(self) -> None:
        """Give connections back."""
        await self._connection.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


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
    completion = parsed(body, _Completion, what="chat completion")
    if isinstance(completion, Failed):
        return completion
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


def _first_token(logprobs: _Logprobs | None) -> TopLogprobs | None:
    """The likeliest first tokens. One of probability 0 (its logarithm is not finite) is absent."""
    if logprobs is None or not logprobs.content or logprobs.content[0].top_logprobs is None:
        return None
    likely = logprobs.content[0].top_logprobs
    return tuple((t.token, t.logprob) for t in likely if math.isfinite(t.logprob))
