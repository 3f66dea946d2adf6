"""2,000 judgments through an endpoint that is slow, limited and unreliable: how long, how much.

    python bench/judge.py [--n 2000] [--concurrency 256] [--timeout-s 20] [--no-peer] [--json FILE]

The endpoint (``faulty_server.py``, a process of its own on loopback) answers after a lognormal time
of median 1 s, lets 60 requests a second in, and of these turns 5 % away with Retry-After, fails 2 %
with HTTP 500, sends garbage to 1 % and lets 0.2 % hang for ever. The client is a process of its own
too, so that its peak memory is its own; its time is that of ``ask_all`` from nothing to the last
reply in the journal, the import of ``openai`` included.

The target is 1.3 × (judgments + what the endpoint made us send again) / 60 s, plus one request
timeout; requests over the rate limit, which are turned away and sent again too, are left
out of it. The peer is the ``openai`` library with its own retries (4) and a fixed number at once,
which must be chosen: 64 is about what this endpoint takes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from faulty_server import Faults, arguments

HERE = Path(__file__).parent
PEER_AT_ONCE = 64
MAX_MEMORY_MB = 300
SLACK = 1.3


def body_of(i: int) -> dict[str, Any]:
    """The i-th request: a question and two answers of a usual length."""
    text = f"Question {i}: which of these answers is better?\n" + "A word and another. " * 150
    return {
        "model": "faulty",
        "messages": [
            {"role": "system", "content": "You judge answers. End with VERDICT: A or VERDICT: B."},
            {"role": "user", "content": text},
        ],
        "max_tokens": 64,
        "temperature": 0.0,
    }


# --- the two clients, each in a process of its own -------------------------------------------


def ours(url: str, folder: Path, n: int, concurrency: int, timeout_s: float) -> dict[str, Any]:
    """Ask all through ``ask_all``; what was lost or recorded twice is read from the journal."""
    from tuneproof.judge.asking import Journals, Request, ask_all
    from tuneproof.judge.clients import RATINGS_JOURNAL
    from tuneproof.progress import make_reporter
    from tuneproof.recipe import Judge
    from tuneproof.records import Arm, Judgment, Rating
    from tuneproof.workspace import Journal, digest_value

    judge = Judge(
        base_url=url, model="faulty", api_key_env=None, concurrency=concurrency, timeout_s=timeout_s
    )

    def request(i: int) -> Request:
        key = digest_value(body_of(i))
        return Request(
            key=key,
            body=lambda: body_of(i),
            row=lambda reply: Judgment(
                key=key, question_id=f"q{i}", benchmark="heldout", opponent=Arm.BASE, protocol="p",
                judge="faulty", first=Arm.BASE, prefers="A" if reply.text.endswith("A") else "B",
                reply=reply.text, finish_reason=reply.finish_reason,
                prompt_tokens=reply.prompt_tokens, completion_tokens=reply.completion_tokens,
            ),
        )  # fmt: skip

    path = folder / "journal.jsonl"
    with (
        Journal(path, Judgment) as judgments,
        Journal(folder / RATINGS_JOURNAL, Rating) as ratings,
    ):
        start = time.perf_counter()
        asked = ask_all(
            judge,
            [request(i) for i in range(n)],
            Journals(judgments=judgments, ratings=ratings),
            make_reporter(),
        )
        seconds = time.perf_counter() - start
    keys = [json.loads(line)["key"] for line in path.read_bytes().splitlines()]
    return {
        "name": "tuneproof",
        "seconds": seconds,
        "replies": len(asked.replies),
        "lost": n - len(set(keys)),
        "recorded_twice": len(keys) - len(set(keys)),
        "sent_again": dict(asked.resent),
        "peak_memory_mb": peak_mb(),
    }


def peer(url: str, n: int, timeout_s: float) -> dict[str, Any]:
    """The library alone: its own retries, and a semaphore."""
    start = time.perf_counter()
    from openai import AsyncOpenAI, OpenAIError

    client = AsyncOpenAI(base_url=url, api_key="none", timeout=timeout_s, max_retries=4)
    places = asyncio.Semaphore(PEER_AT_ONCE)

    async def ask(i: int) -> bool:
        async with places:
            try:
                said = await client.chat.completions.create(**body_of(i))
                return isinstance(said.choices[0].message.content, str)
            except (OpenAIError, ValueError, AttributeError, TypeError):
                return False

    async def ask_all_at_once() -> list[bool]:
        return await asyncio.gather(*(ask(i) for i in range(n)))

    answered = asyncio.run(ask_all_at_once())
    return {
        "name": f"openai's retries, {PEER_AT_ONCE} at once",
        "seconds": time.perf_counter() - start,
        "replies": sum(answered),
        "lost": n - sum(answered),
        "recorded_twice": 0,
        "peak_memory_mb": peak_mb(),
    }


def peak_mb() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


# --- the comparison --------------------------------------------------------------------------


def measure(client: str, args: argparse.Namespace) -> dict[str, Any]:
    """Run one client in a process of its own, against a server of its own."""
    server = subprocess.Popen(
        [sys.executable, HERE / "faulty_server.py", *arguments(Faults(seed=args.seed))],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        root = f"http://127.0.0.1:{int(server.stdout.readline())}"
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, __file__, "--client", client, "--url", f"{root}/v1",
                 "--folder", folder, "--n", str(args.n), "--concurrency", str(args.concurrency),
                 "--timeout-s", str(args.timeout_s)],
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
        row: dict[str, Any] = json.loads(done.stdout)
        with urllib.request.urlopen(f"{root}/stats") as answer:
            row["server"] = json.loads(answer.read())
    finally:
        server.kill()
        server.wait()
    # What the endpoint did to us; not what we did to it.
    injected = sum(row["server"].get(kind, 0) for kind in ("429", "500", "garbage", "hang"))
    row["ideal_s"] = (args.n + injected) / Faults().per_second
    row["target_s"] = SLACK * row["ideal_s"] + args.timeout_s
    row["over_ideal"] = row["seconds"] / row["ideal_s"]
    return row


def main() -> None:
    """Measure, print the table, and say whether each target is met."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--concurrency", type=int, default=256, help="The ceiling of ours.")
    parser.add_argument("--timeout-s", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1, help="Of the server's faults.")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    for hidden in ("--client", "--url", "--folder"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.client == "ours":
        row = ours(args.url, Path(args.folder), args.n, args.concurrency, args.timeout_s)
        print(json.dumps(row))
        return
    if args.client == "peer":
        print(json.dumps(peer(args.url, args.n, args.timeout_s)))
        return
    rows = [measure("ours", args)]
    if not args.no_peer:
        rows.append(measure("peer", args))
    print(f"{'':32} {'s':>7} {'× ideal':>8} {'lost':>5} {'twice':>6} {'paid twice':>11} {'MB':>6}")
    for row in rows:
        print(
            f"{row['name']:32} {row['seconds']:7.1f} {row['over_ideal']:8.2f} {row['lost']:5} "
            f"{row['recorded_twice']:6} {row['server']['answered_twice']:11} "
            f"{row['peak_memory_mb']:6.0f}"
        )
    mine = rows[0]
    print(
        f"ideal {mine['ideal_s']:.1f} s; server: {mine['server']}; sent again: {mine['sent_again']}"
    )
    targets = {
        f"within {mine['target_s']:.1f} s": mine["seconds"] <= mine["target_s"],
        "none lost": mine["lost"] == 0,
        "none recorded twice": mine["recorded_twice"] == 0,
        f"under {MAX_MEMORY_MB} MB": mine["peak_memory_mb"] < MAX_MEMORY_MB,
    }
    for target, met in targets.items():
        print(f"  {'met' if met else 'MISSED'}: {target}")
    if args.json:
        found = {
            "machine": {"platform": platform.platform(), "python": platform.python_version()},
            "rows": rows,
            "ratios": {"over_ideal": mine["over_ideal"]},
            "ceiling": mine["ideal_s"],
            "targets": targets,
        }
        args.json.write_text(json.dumps(found, indent=2) + "\n")
    sys.exit(0 if all(targets.values()) else 1)


if __name__ == "__main__":
    main()
