"""Plain progress: a line now and then, and exactly one when the work is over."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from tuneproof import progress
from tuneproof.progress import PlainReporter, _PlainTask, _RichTask

if TYPE_CHECKING:
    from collections.abc import Sequence


def shown(capsys: pytest.CaptureFixture[str], advances: Sequence[float], done: float = 0) -> str:
    with PlainReporter().task("answers", 4, unit="answers", done=done) as task:
        for n in advances:
            task.advance(n, note="base")
    return capsys.readouterr().err


def counts(text: str) -> list[str]:
    return [line.split()[1] for line in text.splitlines()]


def test_the_last_line_comes_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where it was time for a line just then: here it always is."""
    monkeypatch.setattr(_PlainTask, "every_s", 0.0)
    assert counts(shown(capsys, (1, 1, 1, 1))) == ["1/4", "2/4", "3/4", "4/4"]
    assert counts(shown(capsys, (4,))) == ["4/4"]
    # Work that ends early still says where.
    assert counts(shown(capsys, (1, 1))) == ["1/4", "2/4"]
    assert counts(shown(capsys, ())) == ["0/4"]
    assert counts(shown(capsys, (), done=4)) == ["4/4"]


def test_between_lines_time_passes(capsys: pytest.CaptureFixture[str]) -> None:
    """Ten seconds: none of these four."""
    text = shown(capsys, (1, 1, 1, 1))
    assert counts(text) == ["4/4"]
    assert text.startswith("    answers: 4/4 answers, ")
    assert text.endswith("  base\n")


class Clock:
    """Passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_what_an_earlier_run_did_says_nothing_of_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    with PlainReporter().task("answers", 100, unit="answers") as task:
        task.skip(60)
        clock.now = 20
        task.advance(10, note="base")
        assert capsys.readouterr().err == "    answers: 70/100 answers, 60 s left  base\n"
        clock.now = 40
        # Half a batch is no answer, and a sign of life.
        task.tokens(800)
        assert capsys.readouterr().err == (
            "    answers: 70/100 answers, 20 tokens/s, 120 s left  base\n"
        )
        clock.now = 50
        task.tokens(200)
        task.advance(30)
    assert capsys.readouterr().err.endswith(
        "    answers: 100/100 answers, 20 tokens/s, 50 s  base\n"
    )


def test_a_bar_forgets_what_an_earlier_run_did(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the library's own estimate."""
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    task = _RichTask("answers", 100, "answers", 0, width=80)
    task.skip(60)
    for clock.now in (10.0, 20.0):
        task.skip(0)
        task.advance(5)
        task.tokens(100)
    [bar] = task._progress.tasks
    assert bar.completed == 70
    assert bar.time_remaining == 60
    assert bar.elapsed == 20


@pytest.mark.parametrize("width", [80, 160])
def test_counts_and_times_are_never_cut(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the longest note that judging has."""
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    console = Console(width=width, file=io.StringIO(), force_terminal=True, color_system=None)
    task = _RichTask("held-out loss", 12_345, "replies", 0, width=width)
    note = "152.6/s · 92,549 tokens/s · 0.1234 USD of 5 · 19 unparsed · 3 sent again · 64 at once"
    task.advance(1_234, note=note)
    clock.now = 4_000.0
    task.tokens(100_000_000)
    console.print(task)
    assert isinstance(console.file, io.StringIO)
    first, second, *_ = console.file.getvalue().splitlines()
    for part in ("held-out loss", "1234/12345", "replies", "1:06:40", "-:--:--", "25,000 tokens/s"):
        assert part in first
    assert second.rstrip().endswith("at once" if width == 160 else "…")
    assert len(first) <= width
