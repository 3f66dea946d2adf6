"""Asking through a server that fails: what is sent again, counted, paid for, and kept."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import (
    Behaviour,
    ChatServer,
    Close,
    Garbage,
    Hang,
    Says,
    Status,
    Truncated,
)
from tests.unit.judge_case import (
    MAX_TOKENS,
    ask,
    ask_requests,
    body,
    judge,
    number,
    recorded,
    request,
)
from tuneproof.endpoint import pacing
from tuneproof.errors import EndpointError, RecipeError, StageError
from tuneproof.judge import asking
from tuneproof.judge.asking import ENOUGH_WITHOUT_PROBABILITIES, Request
from tuneproof.judge.clients import Reply
from tuneproof.judge.meter import TOKENS_A_MESSAGE, Meter, spent_usd
from tuneproof.judge.prices import price_of, recorded_price
from tuneproof.progress import PlainReporter, SilentReporter, SilentTask, _PlainTask
from tuneproof.recipe import Prices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from tuneproof.progress import Task

# A dollar a million tokens read, ten a million written.
PRICES = Prices(input=1.0, output=10.0)


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses too short to be felt."""
    monkeypatch.setattr(pacing, "FIRST_PAUSE_S", 0.001)


class Hearing(SilentReporter):
    """Keeps the lines that are said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


class Failing:
    """Fails each request in one way after another, and then answers it."""

    def __init__(self, *ways: Behaviour) -> None:
        self._ways = ways
        self._seen: Counter[int] = Counter()

    def __call__(self, request: dict[str, Any]) -> Behaviour | str:
        i = number(request)
        self._seen[i] += 1
        return self._ways[self._seen[i] - 1] if self._seen[i] <= len(self._ways) else "A"


@pytest.mark.usefixtures("brisk")
def test_what_can_succeed_is_sent_again_and_counted(tmp_path: Path) -> None:
    failing = Failing(Status(429), Status(500), Garbage(), Status(429), Truncated())
    with ChatServer(failing) as server:
        asked = ask(tmp_path, judge(server.url), range(4))
        assert len(server.received) == 4 * 6
    assert asked.failures == {}
    assert asked.resent == {
        "HTTP 429": 8,
        "HTTP 500": 4,
        "not a chat completion": 4,
        "no connection": 4,
    }
    assert [r.reply for r in recorded(tmp_path)] == ["A"] * 4
    assert (asked.usd, asked.unsure_usd) == (None, None)


@pytest.mark.parametrize("status", [400, 413, 422])
def test_what_cannot_succeed_is_sent_once_and_again_by_the_next_run(
    tmp_path: Path, status: int
) -> None:
    def reply(request: dict[str, Any]) -> Behaviour | str:
        return Status(status, "too long", "too_long") if number(request) == 1 else "A"

    with ChatServer(reply) as server:
        asked = ask(tmp_path, judge(server.url), range(4))
        assert (asked.failures, asked.resent) == ({f"HTTP {status}, too_long": 1}, {})
        assert len(server.received) == 4
        assert ask(tmp_path, judge(server.url), range(4)).n_requests == 1
        assert len(server.received) == 5
    assert sorted(r.key for r in recorded(tmp_path)) == ["k0", "k2", "k3"]


def test_a_connection_that_hangs_holds_up_no_other(tmp_path: Path) -> None:
    hangs = Counter({0: 1, 1: 1, 2: 1})

    def reply(request: dict[str, Any]) -> Behaviour | str:
        i = number(request)
        hangs[i] -= 1
        return Hang() if hangs[i] >= 0 else "A"

    start = time.monotonic()
    with ChatServer(reply) as server:
        asked = ask(tmp_path, judge(server.url, timeout_s=1.0), range(60))
    assert asked.resent == {"timeout": 3}
    assert {r.key for r in recorded(tmp_path)[-3:]} == {"k0", "k1", "k2"}
    # One timeout and one pause, not one after another.
    assert time.monotonic() - start < 5


def test_a_request_that_times_out_twice_has_failed(tmp_path: Path) -> None:
    with ChatServer(lambda r: Hang() if number(r) == 0 else "A") as server:
        asked = ask(tmp_path, judge(server.url, timeout_s=0.2), range(3))
    assert (asked.failures, asked.resent) == ({"timeout": 1}, {"timeout": 1})


def test_retry_after_is_waited(tmp_path: Path) -> None:
    times: list[float] = []

    def reply(_: dict[str, Any]) -> Behaviour | str:
        times.append(time.monotonic())
        return Status(429, headers={"retry-after": "0.7"}) if len(times) == 1 else "A"

    with ChatServer(reply) as server:
        ask(tmp_path, judge(server.url), range(1))
    assert 0.7 <= times[1] - times[0] < 1.5


def test_an_endpoint_that_is_busy_for_a_moment_loses_no_request(tmp_path: Path) -> None:
    start = time.monotonic()

    def reply(_: dict[str, Any]) -> Behaviour | str:
        if time.monotonic() - start < 1:
            return Status(429, headers={"retry-after": "0"})
        return "A"

    with ChatServer(reply) as server:
        asked = ask(tmp_path, judge(server.url), range(20))
        assert (asked.failures, len(asked.replies)) == ({}, 20)
        assert len(server.received) <= 20 * 5


def test_no_more_at_once_than_the_ceiling_and_growth_towards_it(tmp_path: Path) -> None:
    slow = threading.Event()

    class Slow(ChatServer):
        def begin(self) -> None:
            super().begin()
            slow.wait(0.05)

    with Slow(lambda _: "A") as server:
        ask(tmp_path, judge(server.url, concurrency=20), range(100))
        assert 8 < server.most_at_once <= 20


def test_an_exhausted_quota_ends_it_and_keeps_what_was_in_flight(tmp_path: Path) -> None:
    release = threading.Event()

    class Server(ChatServer):
        """The first request is answered when another has been refused for good."""

        def decide(self, received: Any) -> Behaviour:
            behaviour = super().decide(received)
            if isinstance(behaviour, Says):
                release.wait(5)
            else:
                release.set()
            return behaviour

    def reply(request: dict[str, Any]) -> Behaviour | str:
        return "A" if number(request) == 0 else Status(429, "pay", "insufficient_quota")

    with Server(reply) as server:
        with pytest.raises(EndpointError, match="quota is used up") as caught:
            ask(tmp_path, judge(server.url), range(50))
        # One more than there are places where the one reply is home before the first refusal.
        assert len(server.received) <= 9
    assert "every reply so far is kept" in caught.value.remedy
    assert [r.key for r in recorded(tmp_path)] == ["k0"]


@pytest.mark.usefixtures("brisk")
def test_an_endpoint_that_goes_away_is_given_up(tmp_path: Path) -> None:
    counted = itertools.count()

    def reply(_: dict[str, Any]) -> Behaviour | str:
        return "A" if next(counted) < 10 else Status(500)

    with (
        ChatServer(reply) as server,
        pytest.raises(EndpointError, match="20 requests in a row failed"),
    ):
        ask(tmp_path, judge(server.url), range(60))
    assert len(recorded(tmp_path)) == 10


def test_a_dropped_connection_is_tried_again(tmp_path: Path) -> None:
    with ChatServer(Failing(Close())) as server:
        asked = ask(tmp_path, judge(server.url), range(3))
    assert (asked.failures, asked.resent) == ({}, {"no connection": 3})


# --- money -----------------------------------------------------------------------------------


def says(request: dict[str, Any]) -> Behaviour:
    return Says("A", prompt_tokens=20, completion_tokens=5)


ONE = (20 * 1.0 + 5 * 10.0) / 1e6
"""What one reply of ``says`` costs: 70 millionths of a dollar."""

WORST = (len("question 0") + TOKENS_A_MESSAGE + MAX_TOKENS * 10.0) / 1e6
"""What a request with a number of one digit may cost."""


def test_a_reply_costs_its_tokens(tmp_path: Path) -> None:
    with ChatServer(says) as server:
        asked = ask(tmp_path, judge(server.url, prices=PRICES), range(10))
        assert asked.usd == pytest.approx(10 * ONE)
        assert asked.unsure_usd == 0
        # A second run adds what is new.
        again = ask(tmp_path, judge(server.url, prices=PRICES), range(15))
    assert again.usd == pytest.approx(15 * ONE)


def test_the_replies_of_other_judges_count_as_far_as_their_price_is_known() -> None:
    section = judge("http://127.0.0.1/v1", prices=PRICES)
    row = request(1).row(Reply(text="A", prompt_tokens=20, completion_tokens=5))
    names = ["m", "m", "gpt-4o-mini", "gpt-4o-mini", "n"]
    rows = [row.model_copy(update={"key": f"{i}", "judge": j}) for i, j in enumerate(names)]
    spent = spent_usd(
        rows,
        price=lambda name, batched: recorded_price(section, name, batched=batched),
        in_batches={"1", "3"},
    )
    mini = (20 * 0.15 + 5 * 0.60) / 1e6
    assert (spent.n, spent.unpriced) == (4, {"n": 1})
    assert spent.usd == pytest.approx(1.5 * ONE + 1.5 * mini)


def test_the_budget_counts_what_another_judge_cost(tmp_path: Path) -> None:
    hearing = Hearing()
    with ChatServer(says) as server:
        ask(tmp_path, judge(server.url, prices=PRICES), range(3))
        ask(tmp_path, judge(server.url, prices=PRICES, model="n"), range(3, 4), hearing)
    assert hearing.said == ["  not counted: what 3 earlier replies of m cost is not known"]


def test_a_stopped_run_counts_what_was_in_flight(tmp_path: Path) -> None:
    def reply(request: dict[str, Any]) -> Behaviour:
        if number(request) == 4:
            signal.raise_signal(signal.SIGINT)  # Ctrl-C; the main thread gets it
        return says(request) if number(request) < 2 else Hang()

    with ChatServer(reply) as server, pytest.raises(KeyboardInterrupt):
        ask(tmp_path, judge(server.url, prices=PRICES, concurrency=5), range(5))
    n_lost = 5 - len(recorded(tmp_path))
    again = ask(tmp_path, judge(server.url, prices=PRICES), [])
    assert n_lost >= 3
    assert again.unsure_usd == pytest.approx(n_lost * WORST)


def test_replies_without_the_probabilities_asked_for_count_in_the_next_run(tmp_path: Path) -> None:
    def weighted(numbers: Iterable[int]) -> list[Request]:
        return [replace(request(i), weighted_by="evaluate.0.protocol") for i in numbers]

    with ChatServer(says) as server:
        section = judge(server.url, prices=PRICES)
        with pytest.raises(EndpointError, match="no token probabilities"):
            ask_requests(tmp_path, section, weighted(range(40)))
        paid = len(server.received)
        assert paid >= ENOUGH_WITHOUT_PROBABILITIES
        assert ask(tmp_path, section, []).unsure_usd == pytest.approx(paid * ONE)
    assert recorded(tmp_path) == []


def test_tries_whose_price_is_not_told_are_counted_at_their_worst(tmp_path: Path) -> None:
    silent = Says("A", prompt_tokens=None)
    with ChatServer(Failing(Close(), Status(500))) as server:
        asked = ask(tmp_path / "a", judge(server.url, prices=PRICES), [1])
    assert asked.unsure_usd == pytest.approx(WORST)
    with ChatServer(lambda _: silent) as server:
        asked = ask(tmp_path / "b", judge(server.url, prices=PRICES), [1])
        # Nor do they get lost: the next run's budget knows of them.
        budget = 2.5 * WORST
        with pytest.raises(StageError, match=r"\$0.0003 for tries whose price was not told"):
            ask(tmp_path / "b", judge(server.url, prices=PRICES, budget_usd=budget), range(1, 5))
        assert len(server.received) == 2
    assert asked.usd == 0
    assert asked.unsure_usd == pytest.approx(WORST)
    again = ask(tmp_path / "b", judge(server.url, prices=PRICES), [1, 2])
    assert again.unsure_usd == pytest.approx(2 * WORST)


@pytest.mark.parametrize("concurrency", [1, 7, 50])
def test_a_budget_is_never_exceeded(tmp_path: Path, concurrency: int) -> None:
    """Whatever was in flight: what the server sold is at most the budget, and nearly all of it."""
    budget = 30 * ONE
    dear = {"prices": PRICES, "concurrency": concurrency}
    with ChatServer(says) as server:
        with pytest.raises(StageError) as caught:
            ask(tmp_path, judge(server.url, budget_usd=budget, **dear), range(100))
        sold = len(server.received)
        assert sold == len(recorded(tmp_path))
        assert sold * ONE <= budget < (sold + 1) * ONE + WORST
        text = str(caught.value)
        assert f"${sold * ONE:.4f} spent on {sold} replies" in text
        assert f"{100 - sold} of 100 requests are left to ask" in text
        assert f"the rest would cost ${(100 - sold) * ONE:.4f}" in text
        assert "--set judge.budget_usd=" in caught.value.remedy
        # Again with the same budget: nothing is sent. With more: it goes on, nothing twice.
        with pytest.raises(StageError, match=f"spent on {sold} replies"):
            ask(tmp_path, judge(server.url, budget_usd=budget, **dear), range(100))
        assert len(server.received) == sold
        asked = ask(tmp_path, judge(server.url, budget_usd=101 * ONE, **dear), range(100))
        assert len(server.received) == 100
    assert asked.usd == pytest.approx(100 * ONE)


def test_a_budget_that_is_enough_is_not_felt(tmp_path: Path) -> None:
    # The worst case of all in flight at once would not fit: they wait for one another.
    with ChatServer(says) as server:
        asked = ask(
            tmp_path,
            judge(server.url, budget_usd=20 * ONE + WORST, prices=PRICES, concurrency=50),
            range(20),
        )
    assert asked.usd == pytest.approx(20 * ONE)


def test_a_budget_without_prices_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with ChatServer(says) as server:
        with pytest.raises(RecipeError, match="budget needs prices") as caught:
            ask(tmp_path, judge(server.url, budget_usd=1.0), range(3))
        assert server.received == []
    assert "judge.prices=" in caught.value.remedy


def test_the_worst_case_is_no_less_than_what_any_reply_costs() -> None:
    section = judge("http://127.0.0.1/v1", prices=PRICES)
    meter = Meter(section, price_of(section)[0])
    assert meter.worst_usd(body(0)) == pytest.approx(WORST)
    # A letter of three bytes may be three tokens.
    wide = body(0) | {"messages": [{"role": "user", "content": "語" * 10}]}
    read = 30 + TOKENS_A_MESSAGE
    assert meter.worst_usd(wide) == pytest.approx((read + MAX_TOKENS * 10) / 1e6)


# --- progress --------------------------------------------------------------------------------


class Listening(SilentReporter):
    """Keeps the notes of the bar, and how far each brought it."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.advanced: list[float] = []

    @contextmanager
    def task(self, title: str, total: float, *, unit: str = "", done: float = 0) -> Iterator[Task]:
        owner = self

        class Noting(SilentTask):
            def advance(self, n: float = 1, *, note: str = "") -> None:
                owner.notes.append(note)
                owner.advanced.append(n)

        yield Noting()


def test_the_bar_tells_what_people_ask(tmp_path: Path) -> None:
    failing = Failing(Status(500))

    def reply(request: dict[str, Any]) -> Behaviour | str:
        if number(request) == 3:
            return Status(400)
        said = failing(request)
        return Says("?" if number(request) == 4 else "A") if said == "A" else said

    listening = Listening()
    with ChatServer(reply) as server:
        section = judge(server.url, prices=PRICES, budget_usd=5.0)
        asked = ask(tmp_path, section, range(12), listening)
    assert sum(listening.advanced) == 11  # one failed: that is no reply
    assert asked.n_unparsed == 1
    parts = listening.notes[-1].split(" · ")
    assert parts[0].endswith("/s")
    assert parts[1].endswith(" tokens/s")
    assert parts[2] == "$0.0022 of $5"
    # How many are at work is nothing to end with.
    assert parts[3:] == ["1 unparsed", "1 failed", "11 sent again"]
    assert any(" at once" in note for note in listening.notes)


def test_the_rate_counts_from_the_start(tmp_path: Path) -> None:
    class Slow(ChatServer):
        def begin(self) -> None:
            super().begin()
            self.wait(0.5)

    listening = Listening()
    with Slow(lambda _: "A") as server:
        ask(tmp_path, judge(server.url), range(8), listening)
    # Eight replies came at once, half a second after they were asked for.
    assert float(listening.notes[-1].split("/s")[0]) <= 16


def test_an_endpoint_that_turns_all_away_is_told_of_while_it_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(asking, "TELL_S", 0.2)
    monkeypatch.setattr(_PlainTask, "every_s", 0.5)
    away = Failing(Status(429, headers={"retry-after": "1.5"}))
    with ChatServer(away) as server:
        ask(tmp_path, judge(server.url), range(3), PlainReporter())
    lines = capsys.readouterr().err.splitlines()
    waiting = [line for line in lines if "judge: 0/3 replies  waiting " in line]
    assert len(waiting) >= 2
    assert all(" s: HTTP 429" in line for line in waiting)
    assert "judge: 3/3 replies" in lines[-1]
    assert "waiting" not in lines[-1]
