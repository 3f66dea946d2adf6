"""Doubles that are real: a chat server on loopback whose replies the test decides.

``ChatServer`` speaks enough of OpenAI's chat completions to stand for any endpoint, the failing
ones included. It keeps every request that it got, so that a test can count them.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Says:
    """A completion with this text; None for a message without content.

    ``top_logprobs`` are the likeliest first tokens, with their log probabilities.
    """

    text: str | None
    finish_reason: str | None = "stop"
    prompt_tokens: int | None = 100
    completion_tokens: int | None = 10
    top_logprobs: tuple[tuple[str, float], ...] | None = None


@dataclass(frozen=True)
class Status:
    """An error status with OpenAI's error body; the client may try again at once.

    ``headers`` take the place of those that say so.
    """

    status: int
    message: str = "refused by the test"
    code: str | None = None
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Garbage:
    """Status 200 with a body that is no chat completion."""

    body: bytes = b"<html>it works!</html>"
    content_type: str = "text/html"


@dataclass(frozen=True)
class Hang:
    """No answer for so long, or until the server stops."""

    seconds: float = 60.0


@dataclass(frozen=True)
class Close:
    """The connection closed without an answer."""


@dataclass(frozen=True)
class Truncated:
    """Status 200, and the connection closed in the middle of a completion."""


@dataclass(frozen=True)
class Drip:
    """Status 200, and then a byte now and then, without end."""


Behaviour = Says | Status | Garbage | Hang | Close | Truncated | Drip
ReplyFunction = Callable[[dict[str, Any]], "Behaviour | str"]


@dataclass(frozen=True)
class Received:
    """One request as it came in."""

    path: str
    authorization: str | None
    body: dict[str, Any]


class ChatServer:
    """An OpenAI-compatible chat server on 127.0.0.1; use it as a context manager.

    ``reply`` gets the request's body and returns what to do; a string is a completion of that
    text. It is called by one thread at a time. ``received`` grows by every request.
    """

    def __init__(self, reply: ReplyFunction) -> None:
        self.received: list[Received] = []
        self.most_at_once = 0
        self._at_once = 0
        self._reply = reply
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.owner = self
        self._thread = threading.Thread(
            target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def url(self) -> str:
        """The base URL to give to a client."""
        return f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def decide(self, received: Received) -> Behaviour:
        with self._lock:
            self.received.append(received)
            behaviour = self._reply(received.body)
        return Says(behaviour) if isinstance(behaviour, str) else behaviour

    def begin(self) -> None:
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)

    def end(self) -> None:
        with self._lock:
            self._at_once -= 1

    def wait(self, seconds: float) -> None:
        self._stopping.wait(seconds)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # with 5, the kernel lets a sixth connection wait for a second
    owner: ChatServer

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that went away is part of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: in two, each reply waits 40 ms for an ACK
    server: _Server

    def do_POST(self) -> None:
        owner = self.server.owner
        owner.begin()
        try:
            self._answer(owner)
        finally:
            owner.end()

    def _answer(self, owner: ChatServer) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        match owner.decide(Received(self.path, self.headers["authorization"], body)):
            case Says() as said:
                self._send(200, _completion(said))
            case Status(status, message, code, headers):
                error = {"error": {"message": message, "code": code, "type": "test"}}
                self._send_bytes(status, json.dumps(error).encode(), "application/json", headers)
            case Garbage(raw, content_type):
                self._send_bytes(200, raw, content_type)
            case Hang(seconds):
                owner.wait(seconds)
                self.close_connection = True
            case Close():
                self.close_connection = True
            case Truncated():
                raw = json.dumps(_completion(Says("cut"))).encode()
                self._begin(200, len(raw), "application/json")
                self.wfile.write(raw[: len(raw) // 2])
                self.close_connection = True
            case Drip():
                self._begin(200, 10_000, "application/json")
                for _ in range(1000):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    owner.wait(0.05)

    def _send(self, status: int, value: Mapping[str, Any]) -> None:
        self._send_bytes(status, json.dumps(value).encode(), "application/json")

    def _send_bytes(
        self, status: int, raw: bytes, content_type: str, more: Mapping[str, str] | None = None
    ) -> None:
        self._begin(status, len(raw), content_type, more)
        self.wfile.write(raw)

    def _begin(
        self, status: int, length: int, content_type: str, more: Mapping[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(length))
        for name, value in ({"retry-after-ms": "1"} if more is None else more).items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


def _completion(said: Says) -> dict[str, Any]:
    usage = {"prompt_tokens": said.prompt_tokens, "completion_tokens": said.completion_tokens}
    logprobs = None
    if said.top_logprobs is not None:
        likely = [{"token": t, "logprob": p, "bytes": None} for t, p in said.top_logprobs]
        logprobs = {"content": [{**likely[0], "top_logprobs": likely}] if likely else []}
    return {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 0,
        "model": "test",
        "choices": [
            {
                "index": 0,
                "finish_reason": said.finish_reason,
                "message": {"role": "assistant", "content": said.text},
                "logprobs": logprobs,
            }
        ],
        "usage": None if said.prompt_tokens is None else usage,
    }


def shown(body: Mapping[str, Any], name: str) -> str:
    """One fenced text ("instruction", "context", "answer-A", "answer-B") of a judge request."""
    user = body["messages"][-1]["content"]
    found = re.search(rf"<{name}-([0-9a-f]+)>\n(.*?)\n</{name}-\1>", user, re.DOTALL)
    assert found is not None, f"no {name} in the request"
    return found[2]
