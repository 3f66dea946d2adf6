"""One server that speaks OpenAI's completions: its key, one request, and what comes of it.

What is asked, and how an answer is read, is left to ``served``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tuneproof.errors import CredentialError, EndpointError

if TYPE_CHECKING:
    from openai import APIStatusError

    from tuneproof.recipe import Server

MAX_RETRIES: Final = 4
"""By the library: timeouts, lost connections, 408, 409, 429 and 5xx, with growing pauses."""

GARBAGE_TRIES: Final = 3
"""How often a reply that is no completion is asked for again."""

NO_MONEY: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
"""OpenAI's codes for an account that can pay for nothing more."""


def server_key(server: Server) -> str:
    """The key to send; a placeholder where the recipe says that none is needed.

    Raises:
        CredentialError: the environment variable that the recipe names is not set.
    """
    if server.api_key_env is None:
        # Not None: the library would then send OPENAI_API_KEY to whatever server this is.
        return "no-key-needed"
    key = os.environ.get(server.api_key_env, "").strip()
    if key and key.isascii() and key.isprintable() and " " not in key:
        return key
    raise CredentialError(
        f"the environment variable {server.api_key_env} "
        + ("holds no key: blanks or characters beyond ASCII" if key else "is not set"),
        place="generate.server.api_key_env",
        remedy=f"Set it: export {server.api_key_env}=…",
    )


class _Choice(BaseModel):
    model_config = ConfigDict(extra="allow")
    text: str
    finish_reason: str | None = None
    stop_reason: int | str | None = None


class _Usage(BaseModel):
    completion_tokens: int | None = None


class Completion(BaseModel):
    """The part of a completion that we read; whatever else a server sends is let be."""

    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


@dataclass(frozen=True)
class Failed:
    """A request without an answer: the kind of failure, and what was seen."""

    reason: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


class CompletionsClient:
    """One server. What no other request could mend is raised, everything else a value.

    Raises:
        CredentialError: the key's environment variable is not set.
    """

    def __init__(self, server: Server, *, max_retries: int = MAX_RETRIES) -> None:
        from openai import AsyncOpenAI

        self._server = server
        self._key = server_key(server)
        self._heard = False
        self._client = AsyncOpenAI(
            api_key=self._key,
            base_url=server.base_url,
            timeout=server.timeout_s,
            max_retries=max_retries,
        )

    async def complete(self, request: dict[str, Any]) -> Completion | Failed:
        """Send one request.

        Raises:
            CredentialError: the server refuses the key.
            EndpointError: it cannot be reached at all, or does not know the address or the model.
        """
        failed = Failed("not sent")
        for _ in range(GARBAGE_TRIES):
            sent = await self._send(request)
            if isinstance(sent, Failed):
                return sent
            self._heard = True
            raw, content_type = sent
            try:
                return Completion.model_validate(json.loads(raw))
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                where = ".".join(map(str, first["loc"]))
                detail = f"{where}: {first['msg']}"
            except (ValueError, RecursionError):
                detail = f"no JSON: {raw[:80]!r}"
            if not content_type.startswith("application/json"):
                detail = self._clean(f"content type {content_type}; {detail}")
            failed = Failed("not a completion", detail)
        return failed

    async def _send(self, request: dict[str, Any]) -> tuple[bytes, str] | Failed:
        """The body of the reply and its content type."""
        from openai import APIConnectionError, APIStatusError, APITimeoutError

        try:
            raw = await self._client.completions.with_raw_response.create(**request)
        except APITimeoutError:
            return Failed("timeout", f"no reply within {self._server.timeout_s:g} s")
        except APIConnectionError as error:
            why = self._clean(str(error.__cause__ or error))
            if not self._heard:
                raise EndpointError(
                    f"cannot be reached: {why}",
                    place="generate.server.base_url",
                    value=self._server.base_url,
                    remedy="Start the server, or correct its address (which often ends in /v1).",
                ) from None
            return Failed("no connection", why)
        except APIStatusError as error:
            self._heard = True
            return self._refused(error, request["model"])
        return bytes(raw.content), raw.headers.get("content-type", "none")

    def _refused(self, error: APIStatusError, model: str) -> Failed:
        status, code = error.status_code, error.code or error.type
        said = self._clean(error.message.removeprefix(f"Error code: {status} - "))
        if status == 402 or code in NO_MONEY:
            raise EndpointError(
                f"the account's quota is used up (HTTP {status}): {said}",
                place=self._server.base_url,
                remedy="Run again when there is quota; every answer so far is kept.",
            ) from None
        if status in (401, 403) or code == "invalid_api_key":
            raise CredentialError(
                f"the server refuses the key (HTTP {status}): {said}",
                place=self._server.base_url,
                remedy=(
                    f"Check the value of {self._server.api_key_env}."
                    if self._server.api_key_env
                    else "Name the variable that holds a key in generate.server.api_key_env."
                )
                + " Every answer so far is kept.",
            ) from None
        if status == 404 or code == "model_not_found":
            raise EndpointError(
                f"does not know the model {model!r}, or offers no completions there "
                f"(HTTP {status}): {said}",
                place=self._server.base_url,
                remedy="Serve the run's train/adapter folders under the names in generate.server, "
                "and check base_url (which often ends in /v1).",
            ) from None
        return Failed(f"HTTP {status}", said)

    def _clean(self, text: str) -> str:
        """At most 300 characters of a server's message, without the key should it be in there."""
        shown = " ".join(text.replace(self._key, "***").split())
        return shown if len(shown) <= 300 else shown[:299] + "…"

    async def close(self) -> None:
        """Give connections back."""
        await self._client.close()
