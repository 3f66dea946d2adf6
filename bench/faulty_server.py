"""An OpenAI-compatible chat server on loopback that is slow, limited and unreliable on purpose.

    python bench/faulty_server.py [--per-second N] [--share-429 P] … (see --help)

It prints its port, and serves until it is ended. Its judge's word depends on the request alone;
what goes wrong is drawn from a seed, in the order in which requests come. ``GET /stats`` tells what
it did, and how many requests got a whole reply more than once: those would have been paid for
twice. For ``bench/judge.py`` and the tests.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import random
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields

HANG = "hang"


@dataclass(frozen=True, kw_only=True)
class Faults:
    """How long replies take, how many a second there may be, and what goes wrong how often.

    Latency is lognormal with the median ``median_s``; ``sigma`` is that of its logarithm. Up to
    ``per_second`` requests (and as many at once after a pause) are let in, the rest are turned away
    with Retry-After. Garbage is HTML, JSON that ends too early, or a connection that does.
    """

    median_s: float = 1.0
    sigma: float = 0.5
    per_second: float = 60.0
    share_429: float = 0.05
    retry_after_s: float = 1.0
    share_500: float = 0.02
    share_garbage: float = 0.01
    share_hang: float = 0.002
    seed: int = 1


class FaultyServer:
    """The server; ``serve`` runs it."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self._draw = random.Random(faults.seed)
        self._allowed, self._filled = faults.per_second, time.monotonic()
        self._at_once = 0
        self.counts: Counter[str] = Counter()
        self.replies: Counter[str] = Counter()
        self.most_at_once = 0

    def stats(self) -> dict[str, object]:
        """What happened so far."""
        return {
            **self.counts,
            "answered": len(self.replies),
            "answered_twice": sum(n > 1 for n in self.replies.values()),
            "most_at_once": self.most_at_once,
        }

    async def serve(self, port: int) -> None:
        """Serve until the task is cancelled; the port is printed first."""
        server = await asyncio.start_server(self._connection, "127.0.0.1", port, limit=2**20)
        print(server.sockets[0].getsockname()[1], flush=True)
        async with server:
            await server.serve_forever()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                headers = dict(
                    line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line
                )
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if head.startswith("GET /stats"):
                    send(writer, 200, json.dumps(self.stats()).encode())
                else:
                    self._at_once += 1
                    self.most_at_once = max(self.most_at_once, self._at_once)
                    try:
                        if not await self._answer(writer, body):
                            break
                    finally:
                        self._at_once -= 1
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client went away
        finally:
            writer.close()

    def _is_let_in(self) -> bool:
        now = time.monotonic()
        rate = self._faults.per_second
        self._allowed = min(self._allowed + (now - self._filled) * rate, rate)
        self._filled = now
        if self._allowed < 1:
            return False
        self._allowed -= 1
        return True

    async def _answer(self, writer: asyncio.StreamWriter, body: bytes) -> bool:
        """Answer one request; False where the connection is to be closed."""
        faults = self._faults
        wait = {"retry-after": f"{faults.retry_after_s:g}"}
        if not self._is_let_in():
            self.counts["429 over the limit"] += 1
            send(writer, 429, error("too fast"), more=wait)
            return True
        what, which = self._draw.random(), self._draw.random()
        seconds = math.exp(self._draw.gauss(math.log(faults.median_s), faults.sigma))
        kind = "reply"
        for fault, share in (
            ("429", faults.share_429),
            ("500", faults.share_500),
            ("garbage", faults.share_garbage),
            (HANG, faults.share_hang),
        ):
            if what < share:
                kind = fault
                break
            what -= share
        self.counts[kind] += 1
        if kind == "429":
            send(writer, 429, error("try later"), more=wait)
        elif kind == "500":
            await asyncio.sleep(seconds / 4)
            send(writer, 500, error("boom"))
        elif kind == HANG:
            await asyncio.sleep(3600)
        else:
            await asyncio.sleep(seconds)
            raw = completion(body)
            if kind == "reply":
                self.replies[hashlib.sha256(body).hexdigest()] += 1
                send(writer, 200, raw)
            elif which < 1 / 3:
                send(writer, 200, b"<html>maintenance</html>", content_type="text/html")
            elif which < 2 / 3:
                send(writer, 200, raw[: len(raw) // 2])
            else:
                send(writer, 200, raw, cut=True)
                return False
        return True


def send(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    *,
    more: dict[str, str] | None = None,
    content_type: str = "application/json",
    cut: bool = False,
) -> None:
    """Write a response; ``cut`` leaves the second half of its body out."""
    headers = {"content-type": content_type, "content-length": str(len(body)), **(more or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(
        f"HTTP/1.1 {status} .\r\n{head}\r\n".encode() + body[: len(body) // 2 if cut else None]
    )


def error(message: str) -> bytes:
    """OpenAI's body of an error."""
    return json.dumps({"error": {"message": message, "type": "test", "code": None}}).encode()


def completion(body: bytes) -> bytes:
    """A chat completion whose verdict depends on the request alone."""
    verdict = "AB"[hashlib.sha256(body).digest()[0] % 2]
    content = f"One of them is better.\nVERDICT: {verdict}"
    message = {"role": "assistant", "content": content}
    return json.dumps(
        {
            "id": "chatcmpl-0",
            "object": "chat.completion",
            "created": 0,
            "model": "faulty",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": len(body) // 4, "completion_tokens": 10},
        }
    ).encode()


def arguments(faults: Faults) -> list[str]:
    """The command line that asks for these faults."""
    return [x for k, v in asdict(faults).items() for x in (f"--{k.replace('_', '-')}", str(v))]


def main() -> None:
    """Serve what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, default=0)
    for one in fields(Faults):
        kind = int if one.name == "seed" else float
        parser.add_argument(f"--{one.name.replace('_', '-')}", type=kind, default=one.default)
    given = vars(parser.parse_args())
    port = given.pop("port")
    asyncio.run(FaultyServer(Faults(**given)).serve(port))


if __name__ == "__main__":
    main()
