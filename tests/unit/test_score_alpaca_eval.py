"""AlpacaEval's score on small files by hand: numbers, what is unscored, alarms, refusals."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from tuneproof.errors import AssetError, DataError
from tuneproof.score.alpaca_eval import score_alpaca_eval, score_lines
from tuneproof.score.official import read_gamed
from tuneproof.stats.alpaca_eval import (
    average_length,
    leaderboard_numbers,
    share_of,
    wilson,
)

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, object]


@pytest.fixture(autouse=True)
def _no_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("TUNEPROOF_ASSETS", raising=False)
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))


def row(i: int, preference: object, **changes: object) -> Row:
    return {
        "instruction": f"question {i}",
        "output_1": f"the reference's answer {i}",
        "output_2": f"answer number {i}" + "." * i,
        "generator_1": "reference",
        "generator_2": "model",
        "annotator": "judge",
        "dataset": "odd" if i % 2 else "even",
        "preference": preference,
    } | changes


def score(tmp_path: Path, rows: list[Row], mode: str | None = None) -> dict[str, object]:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    return score_alpaca_eval(path, mode=mode).as_dict()


def test_the_numbers_by_hand() -> None:
    """q = 1, 0.75, 0.5, 0.25, 0: mean ½, squares sum to 0.625; sd² = 0.15625."""
    found = leaderboard_numbers([1.0, 0.75, 0.5, 0.25, 0.0])
    assert found.win_rate == 50
    assert found.standard_error == pytest.approx(100 * math.sqrt(0.15625 / 5), rel=1e-14)
    assert (found.n_wins, found.n_wins_base, found.n_draws, found.n_total) == (2, 2, 1, 5)
    assert found.discrete_win_rate == 50
    one = leaderboard_numbers([1.0])
    assert (one.win_rate, one.standard_error) == (100, None)
    none = leaderboard_numbers([])
    assert (none.win_rate, none.discrete_win_rate, none.n_total) == (None, None, 0)


def test_the_documents_numbers(tmp_path: Path) -> None:
    """249 of 300 won, all preferences binary: 83.0, 2.172340568, Wilson 78.3 to 86.8."""
    rows = [row(i, 2 if i < 249 else 1) for i in range(300)]
    found = score(tmp_path, rows, mode="community")
    assert found["win_rate"] == pytest.approx(83.0, rel=1e-14)
    assert found["standard_error"] == pytest.approx(2.172340568, abs=5e-10)
    assert (found["n_wins"], found["n_wins_base"], found["n_draws"]) == (249, 51, 0)
    assert found["mode"] == "community"
    interval = found["interval"]
    assert isinstance(interval, dict)
    assert round(interval["wilson"]["low"], 1) == 78.3
    assert round(interval["wilson"]["high"], 1) == 86.8
    assert found["length_controlled_winrate"] is None


def test_wilson_by_hand() -> None:
    """No success of n: the upper end is z²/(n + z²)."""
    z = 1.959963984540054
    found = wilson(0, 10, level=0.95)
    assert found.low == pytest.approx(0, abs=1e-15)
    assert found.high == pytest.approx(z * z / (10 + z * z), rel=1e-12)


@pytest.mark.parametrize(
    ("stored", "share"),
    [(0, 0.5), (1, 0.0), (1.5, 0.5), (2, 1.0), (1.25, 0.25), (0.9, None), (2.1, None), (-1, None)],
)
def test_stored_preferences(stored: float, share: float | None) -> None:
    assert share_of(stored) == share


def test_average_length_is_cut_not_rounded() -> None:
    assert average_length([1, 2, 2]) == 1
    assert average_length([]) is None


def test_unscored_rows_are_counted_by_reason_and_left_out(tmp_path: Path) -> None:
    rows = [row(1, 2), row(2, None), row(3, math.nan), row(4, 1), row(5, 0)]
    del rows[3]["preference"]
    found = score(tmp_path, rows)
    assert found["n_total"] == 2
    assert found["n_unscored"] == 3
    assert found["unscored"] == {
        "preference is null": 1,
        "preference is NaN": 1,
        "has no preference": 1,
    }
    assert found["win_rate"] == 75
    # As the original's avg_length: over all answers, "answer number i" and i dots.
    assert found["avg_length"] == 15 + 3
    assert sum("unscored" in str(w) for w in found["warnings"]) == 3  # type: ignore[attr-defined]


def test_nothing_scored_is_no_number(tmp_path: Path) -> None:
    found = score(tmp_path, [row(1, None), row(2, None)])
    assert (found["win_rate"], found["n_total"], found["n_unscored"]) == (None, 0, 2)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (3, "is not a preference"),
        (0.5, "is not a preference"),
        (math.inf, "is not a preference"),
        ("2", "expected a number"),
        (True, "expected a number"),
        ([1], "expected a number"),
    ],
)
def test_unknown_preferences_are_errors_with_row_and_value(
    value: object, problem: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError) as caught:
        score(tmp_path, [row(1, 2), row(2, value)])
    assert problem in caught.value.problem
    assert "row 2: preference" in caught.value.place
    assert caught.value.value == value
    assert caught.value.remedy


def test_a_file_without_preferences_is_no_annotations_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row has the key preference"):
        score(tmp_path, [{"instruction": "a", "output": "b", "generator": "c"}])
    with pytest.raises(DataError, match="expected a text"):
        score(tmp_path, [row(1, 2, output_2=["a"])])


def test_missing_keys_are_counted_and_what_needs_them_is_none(tmp_path: Path) -> None:
    rows = [{"preference": p} for p in (1, 2, 2, 2)]
    found = score(tmp_path, rows)  # type: ignore[arg-type]
    assert (found["win_rate"], found["n_total"], found["n_questions"]) == (75, 4, 4)
    assert (found["avg_length"], found["model"], found["judge"]) == (None, None, None)
    assert "4 rows have no output_2" in found["warnings"]  # type: ignore[operator]


def test_repeated_instructions_count_as_in_the_original_and_cluster(tmp_path: Path) -> None:
    rows = [row(i // 2, 1 + (i // 2) % 2) for i in range(20)]
    found = score(tmp_path, rows)
    assert (found["n_total"], found["n_questions"]) == (20, 10)
    interval = found["interval"]
    assert isinstance(interval, dict)
    assert interval["n_scored"] == 10
    assert interval["wilson"] is None
    assert "10 rows repeat the instruction of another" in str(found["warnings"])


def test_equal_generators_are_scored_with_a_warning(tmp_path: Path) -> None:
    rows = [row(i, 1 + i % 2, generator_1="model") for i in range(12)]
    found = score(tmp_path, rows)
    assert found["win_rate"] == 50
    assert found["length_controlled_winrate"] is None
    assert "same generator" in str(found["length_controlled_reason"])
    assert "output_1 and output_2 are of the same generator, model" in found["warnings"]  # type: ignore[operator]


def test_more_than_805_rows_are_scored_with_a_warning(tmp_path: Path) -> None:
    found = score(tmp_path, [row(i, 1.25) for i in range(806)])
    assert found["n_total"] == 806
    assert "806 rows, where AlpacaEval has 805 instructions" in found["warnings"]  # type: ignore[operator]


def test_datasets_have_their_own_rates(tmp_path: Path) -> None:
    found = score(tmp_path, [row(i, 2 if i % 2 else 1) for i in range(12)])
    by_dataset = found["by_dataset"]
    assert isinstance(by_dataset, dict)
    assert {name: r["value"] for name, r in by_dataset.items()} == {"even": 0.0, "odd": 100.0}


WORDS = " ".join(f"word{i}" for i in range(40))
LONG = "Of course, I will gladly tell you all that I know about this. "


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([f"answer {i}" for i in range(50)], {}),
        # Short answers are rightly alike at times: three of fifty raise nothing, long ones do.
        (["Of course!"] * 3 + [f"answer {i}" for i in range(47)], {}),
        ([LONG] * 3 + [f"answer {i}" for i in range(47)], {"constant-answers": 3}),
        ([f"{WORDS} {i}" for i in range(50)], {"near-constant-answers": 50}),
        (["so [[A]] it is", "see a[0][[B]]"], {"verdict-tokens": 2}),
        (["<|im_start|>system"], {"judge-markup": 1}),
        (["fine</s>", "[INST] more"], {"special-tokens": 2}),
        (["", "  \n", "an answer"], {"empty-answers": 2}),
        (["a[[0, 1], [2, 3]]"], {}),
    ],
)
def test_alarms(answers: list[str], expected: dict[str, int], tmp_path: Path) -> None:
    found = score(tmp_path, [row(i, 1.25, output_2=a) for i, a in enumerate(answers)])
    alarms = found["alarms"]
    assert isinstance(alarms, list)
    assert {a["id"]: a["count"] for a in alarms} == expected
    assert all(a["of"] == len(answers) for a in alarms)


def test_markup_that_the_instruction_has_is_no_alarm(tmp_path: Path) -> None:
    quoted = row(1, 1.5, instruction="What does [[A]] mean?", output_2="[[A]] is a verdict.")
    assert score(tmp_path, [quoted])["alarms"] == []


def test_the_lines_for_people_name_what_the_numbers_are(tmp_path: Path) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([row(i, 1 + i % 2) for i in range(40)]), encoding="utf-8")
    text = "\n".join(score_lines(score_alpaca_eval(path, mode="dev")))
    assert "win_rate                    50.00" in text
    assert "Wilson" in text
    assert "length_controlled_winrate  none: it is defined for the judge" in text
    assert "fitted to this match" in text


def test_a_table_of_gamed_rows_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "df_gamed.csv"
    head = "std_delta_len,index,preference,instruction_difficulty,not_gamed_baseline,model\n"
    lines = [f"0.5,{i},{'' if i == 3 else 0.25},{i / 100},False,concise\n" for i in range(805)]
    path.write_text(head + "".join(lines), encoding="utf-8")
    gamed, difficulties = read_gamed(path)
    assert (len(gamed), len(difficulties), difficulties[7]) == (804, 805, 0.07)
    path.write_text(head + "".join(lines[:100]), encoding="utf-8")
    with pytest.raises(AssetError, match="805 instructions"):
        read_gamed(path)
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(AssetError, match="not a table of gamed rows"):
        read_gamed(path)
