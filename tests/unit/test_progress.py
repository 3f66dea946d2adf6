"""Plain progress: a line now and then, and exactly one when the work is over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.progress import PlainReporter, _PlainTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest


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
