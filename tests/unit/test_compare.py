"""Two runs on the same questions: values by hand, what cannot be compared, what is shown."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from scipy.stats import ttest_rel

from tests.terminal import Terminal, foreign, plain, widest
from tests.unit.compare_case import write_run
from tuneproof.compare.comparison import ComparedMeasure, Comparison, compare_runs
from tuneproof.compare.page import render_comparison
from tuneproof.errors import RunDirError, StageError, UsageError
from tuneproof.report.results_file import read_results
from tuneproof.stats.across import across, holm, p_value
from tuneproof.stats.distributions import t_quantile

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "Better\x1b[2J\x1b]0;owned\x07 <script>alert(1)</script> \u202egnp"


def measure(made: Comparison, name: str) -> ComparedMeasure:
    return next(m for m in made.measures if m.measure == name)


def test_the_difference_is_paired_and_tested_as_students() -> None:
    first = {("a", 1): (0.0, 1.0), ("b", 1): (1.0, 1.0), ("c", 1): (2.0, 1.0), ("d", 1): (3.0, 1.0)}
    second = {
        ("a", 1): (1.0, 1.0),
        ("b", 1): (1.0, 1.0),
        ("c", 1): (4.0, 1.0),
        ("d", 1): (4.0, 1.0),
    }
    made = across([first], [second], questions=list("abcd"), level=0.95)
    # Differences 1, 0, 2, 1: mean 1, sd √(2/3), error √(2/3)/2.
    error = math.sqrt(2 / 3) / 2
    assert made.difference.value == 1.0
    assert made.difference.high == pytest.approx(1 + t_quantile(0.975, 3) * error)
    assert made.p == pytest.approx(ttest_rel([1, 1, 4, 4], [0, 1, 2, 3]).pvalue)


def test_turns_of_a_question_are_one_observation_and_only_shared_turns_count() -> None:
    first = {("a", 1): (0.0, 1.0), ("a", 2): (1.0, 1.0), ("b", 1): (0.0, 1.0)}
    second = {
        ("a", 1): (1.0, 1.0),
        ("a", 2): (0.0, 1.0),
        ("b", 1): (1.0, 1.0),
        ("b", 2): (9.0, 1.0),
    }
    made = across([first], [second], questions=["a", "b"], level=0.95)
    assert made.difference.n_scored == 2
    assert made.second.value == 0.75  # a: (1 + 0)/2, b: 1
    assert made.difference.value == 0.5


def test_a_loss_weighs_tokens_alike() -> None:
    first = {("a", 1): (10.0, 10.0), ("b", 1): (2.0, 1.0)}
    second = {("a", 1): (5.0, 10.0), ("b", 1): (2.0, 1.0)}
    made = across([first], [second], questions=["a", "b"], level=0.95)
    assert made.difference.value == pytest.approx(7 / 11 - 12 / 11)


def test_several_adapters_on_either_side_widen_the_interval() -> None:
    questions = [str(i) for i in range(40)]

    def adapter(shift: float) -> dict[tuple[str, int], tuple[float, float]]:
        return {(q, 1): (shift + int(q) % 2, 1.0) for q in questions}

    one = across([adapter(0.0)], [adapter(1.0)], questions=questions, level=0.95)
    many = across(
        [adapter(-0.1), adapter(0.1)], [adapter(0.9), adapter(1.0), adapter(1.1)],
        questions=questions, level=0.95,
    )  # fmt: skip
    assert one.difference.low == one.difference.high == 1.0
    # The questions add nothing; the adapters' means vary by 0.02 over 2 and by 0.01 over 3.
    half = math.hypot(
        t_quantile(0.975, 1) * math.sqrt(0.02 / 2), t_quantile(0.975, 2) * math.sqrt(0.01 / 3)
    )
    assert many.difference.value == pytest.approx(1.0)
    assert many.difference.high == pytest.approx(1.0 + half)
    assert many.p is not None
    half_at_p = math.hypot(
        t_quantile(1 - many.p / 2, 1) * 0.1, t_quantile(1 - many.p / 2, 2) * math.sqrt(0.01 / 3)
    )
    assert half_at_p == pytest.approx(1.0, rel=1e-6)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_values_of_nothing() -> None:
    assert p_value(0.0, [(1.0, 5)]) == pytest.approx(1.0)
    assert p_value(1.0, [(0.0, 5)]) == 0.0


def test_two_runs(tmp_path: Path) -> None:
    first = write_run(
        tmp_path / "a", exact=[0, 0, 0, 0, 1, 0, 0, 0], nll=[4.0] * 8, tokens=[2] * 8,
        wins=[0.5] * 8,
    )  # fmt: skip
    second = write_run(
        tmp_path / "b", exact=[1, 1, 1, 1, 1, 1, 1, 0], nll=[2.0, 2.5] * 4, tokens=[2] * 8,
        wins=[1.0, 0.0, 1.0, 1.0, None, 0.5, 0.5, 1.0], parts={"train": {"lora.r": "16"}},
    )  # fmt: skip
    made = compare_runs([first, second])
    assert [run.label for run in made.runs] == ["a", "b"]  # one name, so the folders tell
    exact = measure(made, "exact_match")
    assert exact.difference.value == pytest.approx(6 / 8)
    loss = measure(made, "heldout_loss")
    assert loss.first.value == 2.0
    assert loss.second.value == pytest.approx(1.125)
    assert loss.says == "better"
    assert loss.p_holm is not None
    assert loss.p is not None
    assert loss.p_holm == pytest.approx(loss.p * 6)  # the smallest of six
    win = measure(made, "win_rate")
    assert (win.difference.n_scored, win.difference.n_unscored) == (7, 1)
    assert win.second.value == pytest.approx(5 / 7)
    assert made.n_comparisons == 6
    assert [(d.setting, d.first, d.second) for d in made.differing] == [("lora.r", "8", "16")]


@pytest.mark.parametrize(
    ("changes", "gone", "reason"),
    [
        ({"judge": "gpt-4.1"}, {"win_rate"}, "another judge: gpt-4o-mini with own with 2 orders"),
        ({"parts": {"judge": {"judge.temperature": "1.0"}}}, {"win_rate"}, "another temperature"),
        (
            {"parts": {"generate": {"tokenizer": '"u"'}}},
            {"heldout_loss", "answer_tokens"},
            "different tokenizers",
        ),
        (
            {"parts": {"generate": {"generate.max_new_tokens": "128"}}},
            {"stopped", "answer_tokens", "win_rate"},
            "64 and 128",
        ),
        (
            {"parts": {"generate": {"model": '"n"'}}},
            {"win_rate"},
            "another opponent, base: another model",
        ),
        (
            {"judged": False},
            {"win_rate", "exact_match", "similarity"},
            "b: judge has not finished",
        ),
    ],
)  # fmt: skip
def test_what_does_not_mean_the_same_is_left_out(
    tmp_path: Path, changes: dict[str, object], gone: set[str], reason: str
) -> None:
    wins = [1.0, 0.0, 0.5]
    first = write_run(tmp_path / "a", exact=[0, 1, 0], wins=wins)
    second = write_run(tmp_path / "b", exact=[1, 1, 0], wins=wins, **changes)  # type: ignore[arg-type]
    made = compare_runs([first, second])
    assert {it.measure for it in made.left_out} == gone
    assert all(reason in it.reason for it in made.left_out if it.measure == min(gone))
    assert {m.measure for m in made.measures} | gone == {
        "heldout_loss", "win_rate", "exact_match", "similarity", "stopped", "answer_tokens",
    }  # fmt: skip


def test_questions_that_are_not_shared_are_counted(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", exact=[0, 1, 0, 1, 0, 1])
    second = write_run(
        tmp_path / "b", exact=[1, 1, 0, 1, 1], questions={1: "another text"},
        trained_on=["question 0?"],
    )  # fmt: skip
    made = compare_runs([first, second])
    (counted,) = made.questions
    assert counted.shared == 3
    assert (counted.only_first, counted.only_second) == (1, 0)
    assert (counted.other_text, counted.in_training) == (1, 1)
    assert measure(made, "exact_match").difference.value == pytest.approx(1 / 3)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", exact=[0, 1])
    foreign_run = write_run(tmp_path / "b", exact=[0, 1], questions={0: "x", 1: "y"})
    with pytest.raises(UsageError, match="shares no question"):
        compare_runs([first, foreign_run])
    with pytest.raises(UsageError, match="given twice"):
        compare_runs([first, tmp_path / "b" / ".." / "a"])
    with pytest.raises(UsageError, match="two runs or more"):
        compare_runs([first])
    with pytest.raises(RunDirError, match="is no run"):
        compare_runs([first, tmp_path])
    (first / "generate" / "manifest.json").unlink()
    with pytest.raises(StageError, match="generate has not finished"):
        compare_runs([first, foreign_run])


def test_results_of_other_versions(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", exact=[0, 1, 1])
    older = write_run(tmp_path / "b", exact=[0, 1, 1], results={"format": 3}, sentence="Old.")
    assert compare_runs([first, older]).runs[1].sentence == "Old."
    # What format 5 brought has a default.
    path = older / "report" / "results.json"
    before = json.loads(path.read_text("utf-8")) | {"format": 4, "preflight": None}
    for name in ("preflight", "missing"):
        del before[name]
    path.write_text(json.dumps(before), encoding="utf-8")
    assert read_results(path).missing == ()
    newer = write_run(tmp_path / "c", exact=[0, 1, 1], results={"format": 99})
    with pytest.raises(StageError, match=r"c/report/results.json: format = 99: is of a newer"):
        compare_runs([first, newer])
    unknown = write_run(tmp_path / "d", exact=[0, 1, 1], results={"format": 2, "gone": 1})
    with pytest.raises(StageError, match=r"gone: Extra inputs .* \(it is of format 2"):
        compare_runs([first, unknown])
    (tmp_path / "d" / "report" / "results.json").write_text("[]")
    with pytest.raises(StageError, match=r"is no results\.json"):
        compare_runs([first, unknown])
    none = write_run(tmp_path / "e", exact=[0, 1, 1], sentence=None)
    assert compare_runs([first, none]).runs[1].sentence is None


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    first = write_run(tmp_path / "a", exact=[0, 1, 0, 0], wins=[0.5, 1, 0, 1], sentence=HOSTILE)
    second = write_run(
        tmp_path / "with-a-rather-long-name", exact=[1, 1, 0, 1], wins=[1, 1, 0, 1], name="two",
        parts={"train": {"lora.target_modules": json.dumps(["q_proj"] * 20)}},
    )  # fmt: skip
    return [first, second]


@pytest.mark.parametrize("columns", [80, 160])
def test_on_a_terminal(two: list[Path], columns: int) -> None:
    terminal = Terminal("compare", *two, columns=columns)
    assert terminal.finish() == 0
    shown = terminal.seen
    assert foreign(shown) == ""
    assert "\x1b[2J" not in shown
    assert widest(shown) <= columns
    for words in ("Held-out loss", "Exact match", "Holm", "What differs"):
        assert words in " ".join(plain(shown).split()), words


def test_piped(two: list[Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tuneproof", "compare", *two],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "\x1b" not in done.stdout
    assert "Better␛[2J" in done.stdout
    assert re.search(r"Exact match +25\.0 % +75\.0 % +\+50\.0 points", done.stdout)


def test_as_json_and_as_a_page(two: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "compared.html"
    done = subprocess.run(
        [sys.executable, "-m", "tuneproof", "compare", *two, "--json", "--html", page],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    made = Comparison.model_validate_json(done.stdout)
    assert made.correction == "Holm"
    text = page.read_text("utf-8")
    assert text == render_comparison(made)
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert "http://" not in text
    assert "https://" not in text
    assert "⟨U+202E⟩" in text
    assert "\x1b" not in text
