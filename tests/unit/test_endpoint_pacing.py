"""How many requests are in flight, and when one is sent again."""

from __future__ import annotations

import asyncio
import random

import pytest

from tuneproof.endpoint.pacing import (
    MAX_TIMEOUTS,
    MAX_TRIES,
    MAX_TURNED_AWAY,
    START,
    TOLERATED,
    Pace,
    Tries,
)
from tuneproof.endpoint.transport import Failed


def window(pace: Pace, turned_away: int = 0, seconds: float = 1.0) -> int:
    """As many tries as there are places, the first of them turned away; the places then."""
    for i in range(pace.limit):
        if i < turned_away:
            pace.refused()
        else:
            pace.replied(seconds)
    return pace.limit


def test_it_doubles_to_the_ceiling() -> None:
    pace = Pace(50)
    assert [pace.limit, window(pace), window(pace), window(pace)] == [8, 16, 32, 50]
    assert window(pace) == 50
    assert Pace(3).limit == 3
    assert Pace(1000).limit == START


def test_it_shrinks_when_too_much_is_turned_away_and_grows_slower_then() -> None:
    pace = Pace(100, start=100)
    # By 1 + 1/4 (1 - 0.2 / 0.1) = 3/4, and from then on by a quarter where nothing is.
    assert window(pace, 20) == 75
    assert window(pace) == 93
    # Never by more than three tenths at once, and never to less than one place.
    assert window(pace, 93) == 65
    for _ in range(20):
        window(pace, pace.limit)
    assert pace.limit == 1
    assert [window(pace) for _ in range(3)] == [2, 3, 4]


def test_a_share_of_one_in_ten_changes_nothing() -> None:
    pace = Pace(1000, start=100)
    window(pace, 100)  # the limit is found
    assert (pace.limit, window(pace, 7)) == (70, 70)
    # One of the first eight is an eighth, and may be chance: it still nearly doubles.
    assert [window(Pace(200), n) for n in (0, 1, 2, 3)] == [16, 14, 5, 5]
    early = Pace(200)
    window(early, 1)
    assert window(early) == 28


def test_an_endpoint_that_lets_requests_wait_is_not_driven_to_time_out() -> None:
    pace = Pace(100, slow_s=30.0)
    # A server that answers one request after another, 5 s each: eight wait 22.5 s on average.
    assert window(pace, seconds=22.5) == 16
    assert window(pace, seconds=42.5) == 16
    assert window(pace, seconds=61.0) == 11
    assert window(pace, seconds=29.0) == 22
    # What was turned away at once does not make the rest look fast.
    few = Pace(100, start=10, slow_s=30.0)
    assert window(few, 1, seconds=31.0) == 10


def test_it_finds_the_rate_that_an_endpoint_takes() -> None:
    """Of all that is tried in a second, 60 are let in and 5 % of these turned away at random."""
    draw = random.Random(0)
    pace = Pace(1000)
    seen = []
    for _ in range(60):
        let_in = 60
        for _ in range(pace.limit):
            away = let_in <= 0 or draw.random() < 0.05
            let_in -= 1
            if away:
                pace.refused()
            else:
                pace.replied(1.0)
        seen.append(pace.limit)
    later = seen[20:]
    # Where a tenth is turned away: (L - 60 · 0.95) / L = 0.1, L = 63.
    assert 50 < sum(later) / len(later) < 80
    assert max(later) < 130
    assert min(later) > 35


def test_places_are_waited_for() -> None:
    async def go() -> list[int]:
        pace = Pace(2)
        seen: list[int] = []

        async def work() -> None:
            seen.append(pace.in_flight)
            await asyncio.sleep(0)
            pace.leave()

        tasks = []
        for _ in range(6):
            await pace.enter()
            tasks.append(asyncio.create_task(work()))
        await asyncio.gather(*tasks)
        assert pace.in_flight == 0
        return seen

    assert max(asyncio.run(go())) == 2


AGAIN = Failed("HTTP 500", again=True)
TURNED_AWAY = Failed("HTTP 429", again=True, turned_away=True)


def tries_of(failed: Failed) -> int:
    tries = Tries("k")
    while tries.pause_s(failed) is not None:
        pass
    return tries.n


@pytest.mark.parametrize(
    ("failed", "n"),
    [
        (Failed("HTTP 400"), 1),
        (AGAIN, MAX_TRIES),
        (Failed("timeout", again=True, timed_out=True), MAX_TIMEOUTS),
        (TURNED_AWAY, MAX_TURNED_AWAY),
        (Failed("HTTP 429", again=True, turned_away=True, wait_s=1e5), 1),
    ],
)
def test_how_often_a_request_is_tried(failed: Failed, n: int) -> None:
    assert tries_of(failed) == n


def test_being_turned_away_costs_no_other_try() -> None:
    tries = Tries("k")
    for _ in range(MAX_TRIES - 1):
        assert tries.pause_s(TURNED_AWAY) is not None
        assert tries.pause_s(AGAIN) is not None
    assert tries.pause_s(TURNED_AWAY) is not None
    assert tries.pause_s(AGAIN) is None


def test_pauses_grow_and_differ_between_requests() -> None:
    for key in ("a", "b", "c"):
        tries = Tries(key)
        for most in (0.5, 1.0, 2.0, 4.0):
            pause = tries.pause_s(AGAIN)
            assert pause is not None
            assert most / 2 <= pause <= most
    assert len({Tries(f"{i}").pause_s(AGAIN) for i in range(20)}) == 20
    assert Tries("a").pause_s(AGAIN) == Tries("a").pause_s(AGAIN)


def test_what_the_endpoint_asks_for_is_waited() -> None:
    for i in range(20):
        asked = Failed("HTTP 429", again=True, turned_away=True, wait_s=8.0)
        pause = Tries(f"{i}").pause_s(asked)
        assert pause is not None
        assert 8.0 <= pause <= 10.0
    assert TOLERATED == 0.1


@pytest.mark.parametrize("wait_s", [0.0, 0.001])
def test_an_endpoint_that_asks_for_no_pause_is_not_hammered(wait_s: float) -> None:
    busy = Failed("HTTP 429", again=True, turned_away=True, wait_s=wait_s)
    for i in range(20):
        mine, own = Tries(f"{i}"), Tries(f"{i}")
        for _ in range(10):
            assert mine.pause_s(busy) == own.pause_s(TURNED_AWAY)
