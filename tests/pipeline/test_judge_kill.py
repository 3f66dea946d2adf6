"""SIGKILL at ten random moments while judging, and on again: nothing recorded is asked twice."""

from __future__ import annotations

import multiprocessing
import random
import time
from typing import TYPE_CHECKING, Any

from tests.fakes import Behaviour, ChatServer, Garbage, Says, Status
from tests.unit.judge_case import ask, judge, number, recorded

if TYPE_CHECKING:
    from pathlib import Path

N = 400
KILLS = 10

# Children of a process that has the imports behind it: a kill then costs no two seconds.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.unit.judge_case", "tuneproof.judge.openai_client", "openai"])


def run(folder: Path, url: str) -> None:
    asked = ask(folder, judge(url), range(N))
    assert asked.failures == {}


def reply(request: dict[str, Any]) -> Behaviour:
    """A reply that depends on the question alone, if the endpoint is in the mood for one."""
    mood = MOODS.random()
    if mood < 0.05:
        return Status(429)
    if mood < 0.08:
        return Status(500)
    if mood < 0.1:
        return Garbage()
    i = number(request)
    return Says("AB?"[i % 3], prompt_tokens=i, completion_tokens=1)


MOODS = random.Random(3)


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    moments = random.Random(11)
    folder = tmp_path / "killed"
    journal = folder / "journal.jsonl"
    known: set[str] = set()
    with ChatServer(reply) as server:
        for _ in range(KILLS):
            before = len(server.received)
            child = FORKS.Process(target=run, args=(folder, server.url))
            child.start()
            wanted = lines(journal) + moments.randint(0, 40)
            deadline = time.monotonic() + 60
            while lines(journal) < wanted or len(server.received) == before:
                assert child.is_alive(), "it ended before it was killed"
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(moments.random() / 200)
            child.kill()
            child.join()
            assert child.exitcode == -9
            sent = {f"k{number(r.body)}" for r in server.received[before:]}
            assert not sent & known, "a reply that was recorded was asked for again"
            whole = journal.read_bytes()[: journal.read_bytes().rfind(b"\n") + 1]
            known |= {line.split(b'"')[3].decode() for line in whole.splitlines()}
        assert 0 < len(known) < N
        ask(folder, judge(server.url), range(N))
        ask(tmp_path / "alone", judge(server.url), range(N))
    rows = recorded(folder)
    assert len({r.key for r in rows}) == len(rows) == N
    by_key = {r.key: r for r in rows}
    assert by_key == {r.key: r for r in recorded(tmp_path / "alone")}
