"""MT-Bench's score on small files by hand: games, scores, what is dropped, refusals."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from tuneproof.errors import DataError, UsageError
from tuneproof.score.mt_bench import score_lines, score_mt_bench
from tuneproof.stats.mt_bench import PairMatch, pair_table, sign_test

if TYPE_CHECKING:
    from pathlib import Path

    from tuneproof.stats.mt_bench import Winner

Row = dict[str, object]


def game(first: str, second: str, question: int = 81, turn: int = 1, **changes: object) -> Row:
    return {
        "question_id": question,
        "turn": turn,
        "model_1": "a",
        "model_2": "b",
        "g1_winner": first,
        "g2_winner": second,
        "judge": ["gpt-4", "pair-v2"],
    } | changes


def grade(score: object, question: int = 81, turn: int = 1, **changes: object) -> Row:
    return {
        "question_id": question,
        "turn": turn,
        "model": "a",
        "judge": ["gpt-4", "single-v1"],
        "score": score,
    } | changes


def write(tmp_path: Path, rows: list[Row]) -> Path:
    path = tmp_path / "judgments.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("first", "second", "points"),
    [
        ("model_1", "model_1", (1, 0, 0)),
        ("model_2", "model_2", (0, 1, 0)),
        ("tie", "tie", (0, 0, 1)),
        ("model_1", "model_2", (0, 0, 1)),
        ("model_2", "model_1", (0, 0, 1)),
        ("tie", "model_1", (0, 0, 1)),
        ("model_2", "tie", (0, 0, 1)),
    ],
)
def test_two_games_make_a_match(
    first: Winner, second: Winner, points: tuple[int, int, int]
) -> None:
    match = PairMatch(
        question_id=81, turn=1, model_1="a", model_2="b", g1_winner=first, g2_winner=second
    )
    table = pair_table([match], level=0.95)
    row = table.models["a"]
    assert (row.win, row.loss, row.tie) == points
    mirror = table.models["b"]
    assert (mirror.loss, mirror.win, mirror.tie) == points


def test_a_match_with_an_error_in_either_game_is_dropped(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [
            game("model_1", "model_1", 81),
            game("error", "model_1", 82),
            game("model_2", "error", 83),
            game("error", "error", 84),
        ],
    )
    found = score_mt_bench(path).as_dict()
    assert (found["n_matches"], found["n_dropped"], found["n_inconsistent"]) == (1, 3, 0)


def test_several_models_and_a_baseline(tmp_path: Path) -> None:
    rows = [
        game("model_1", "model_1", 81),
        game("model_1", "model_1", 81, model_2="c"),
        game("model_2", "model_2", 81, model_1="b", model_2="c"),
    ]
    path = write(tmp_path, rows)
    everything = score_mt_bench(path).pairs
    assert everything is not None
    assert {n: (r.win, r.loss) for n, r in everything.models.items()} == {
        "a": (2, 0),
        "c": (1, 1),
        "b": (0, 2),
    }
    assert list(everything.models) == ["a", "c", "b"]
    against_a = score_mt_bench(path, baseline="a").pairs
    assert against_a is not None
    assert {n: (r.win, r.loss) for n, r in against_a.models.items()} == {"b": (0, 1), "c": (0, 1)}
    with pytest.raises(UsageError, match="no match is with this model"):
        score_mt_bench(path, baseline="d")
    with pytest.raises(UsageError, match="pairwise"):
        score_mt_bench(write(tmp_path, [grade(7)]), baseline="a")


def test_the_interval_is_by_question(tmp_path: Path) -> None:
    """Both turns won or both lost: two matches of a question are no more than one.

    Eight questions, six won twice and two lost twice: s̄ = 3/4, sums of deviations ½ and −3/2,
    SE = √((6·¼ + 2·9/4)·8/7)/16 = 0.16366; t(7) = 2.364624 carries the upper end past the bound.
    """
    rows = [
        game(w, w, 81 + i, turn)
        for i, w in enumerate(["model_1"] * 6 + ["model_2"] * 2)
        for turn in (1, 2)
    ]
    table = score_mt_bench(write(tmp_path, rows)).pairs
    assert table is not None
    row = table.models["a"]
    assert row.interval.n_scored == 8
    assert row.interval.low == pytest.approx(0.75 - 2.364624 * 0.163663, abs=1e-5)
    assert row.interval.high == 1
    # Six questions above one half, two below: 2·(1 + 8 + 28)/256.
    assert row.sign_test_p == pytest.approx(2 * 37 / 256)


def test_the_sign_test_by_hand() -> None:
    """28 against 18, as if matches were independent: FACTS of the document, p ≈ 0.18."""
    exact = 2 * sum(math.comb(46, k) for k in range(19)) / 2**46
    assert sign_test(28, 18) == pytest.approx(exact, rel=1e-12)
    assert exact == pytest.approx(0.18, abs=0.005)
    assert sign_test(0, 0) == 1
    assert sign_test(5, 5) == 1


def test_repeated_rows_count_as_in_fastchat_and_are_said(tmp_path: Path) -> None:
    rows = [game("model_1", "model_1"), game("model_1", "model_1"), game("tie", "tie", turn=2)]
    score = score_mt_bench(write(tmp_path, rows))
    assert score.pairs is not None
    assert (score.pairs.n_matches, score.n_repeated) == (3, 1)
    assert any("1 rows repeat" in w for w in score.warnings)


def test_single_scores_by_hand(tmp_path: Path) -> None:
    """The average is over all scores: (8 + 6 + 4)/3, not (7 + 4)/2."""
    rows = [
        grade(8),
        grade(6, 82),
        grade(4, 81, 2),
        grade(-1, 82, 2),
        grade(None, 83),
        grade(math.nan, 83, 2),
        grade(9.5, model="b"),
    ]
    found = score_mt_bench(write(tmp_path, rows)).as_dict()
    models = found["models"]
    assert isinstance(models, dict)
    a, b = models["a"], models["b"]
    assert (a["first_turn"], a["second_turn"], a["average"]) == (7, 4, 6)
    assert (b["first_turn"], b["second_turn"], b["average"]) == (9.5, None, 9.5)
    assert list(models) == ["b", "a"]
    assert found["n_unscored"] == 3
    assert (a["n_scored"], a["n_unscored"]) == (3, 3)
    assert found["kind"] == "single"


def test_a_model_with_nothing_scored_has_no_average(tmp_path: Path) -> None:
    found = score_mt_bench(write(tmp_path, [grade(-1)])).as_dict()
    models = found["models"]
    assert isinstance(models, dict)
    assert (models["a"]["average"], found["n_unscored"]) == (None, 1)


@pytest.mark.parametrize(
    ("row", "place", "problem"),
    [
        (game("model_1", "A"), "g2_winner", "no outcome of a game"),
        (game("model_1", "Tie"), "g2_winner", "no outcome of a game"),
        (game("model_1", None), "g2_winner", "no outcome of a game"),  # type: ignore[arg-type]
        (game("tie", "tie", turn=3), "turn", "expected 1 or 2"),
        (game("tie", "tie", model_1=5), "model_1", "expected a text"),
        (game("tie", "tie", question_id=1.5), "question_id", "expected a number"),
        (game("tie", "tie", judge=5), "judge", "expected a text"),
        ({"g1_winner": "tie", "g2_winner": "tie"}, "line 2", "has no question_id"),
        ({"question_id": 81, "turn": 1}, "line 2", "neither a pairwise judgment"),
        (grade(7), "line 2", "a single judgment in a file of pairwise ones"),
    ],
)
def test_what_a_match_must_not_hold(row: Row, place: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        score_mt_bench(write(tmp_path, [game("tie", "tie"), row]))
    assert problem in caught.value.problem
    assert place in caught.value.place
    assert "line 2" in caught.value.place
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("value", [11, -2, "8", True, math.inf])
def test_unknown_scores_are_errors(value: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="score"):
        score_mt_bench(write(tmp_path, [grade(value)]))


def test_questions_of_others_have_no_category_and_are_said(tmp_path: Path) -> None:
    score = score_mt_bench(write(tmp_path, [game("tie", "tie", 7), game("tie", "tie", 81)]))
    assert list(score.pairs_by_category) == ["writing"]
    assert any("1 rows are of questions that are not MT-Bench's" in w for w in score.warnings)


def test_the_lines_for_people(tmp_path: Path) -> None:
    pairs = "\n".join(score_lines(score_mt_bench(write(tmp_path, [game("tie", "model_1")]))))
    assert "1 tied because the two games disagree (0 of them contradict each other)" in pairs
    singles = "\n".join(score_lines(score_mt_bench(write(tmp_path, [grade(8), grade(-1, 82)]))))
    assert "2 judgments, 1 unscored" in singles
