"""MT-Bench, number for number: FastChat's rule written again here, on real judgments."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.conftest import shared
from tuneproof.score.mt_bench import score_mt_bench
from tuneproof.stats.mt_bench import CATEGORIES, category_of

if TYPE_CHECKING:
    from pathlib import Path

Row = dict[str, object]


@pytest.fixture
def sample() -> Path:
    return shared("mt_bench/model_judgment/gpt-4_pair.sample.jsonl")


def lines_of(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def fastchats_table(rows: list[Row]) -> dict[str, tuple[int, int, int]]:
    """Win, loss, tie by model, as FastChat's show_result makes it of a pairwise file: rows with an
    error are left out, a tied first game or two unlike games are a tie, and else the first game's
    word is taken."""
    kept = [r for r in rows if "error" not in (r["g1_winner"], r["g2_winner"])]
    table: dict[str, Counter[str]] = {}
    for row in kept:
        sides = {"model_1": str(row["model_1"]), "model_2": str(row["model_2"])}
        tied = row["g1_winner"] == "tie" or row["g1_winner"] != row["g2_winner"]
        for side, name in sides.items():
            what = "tie" if tied else "win" if side == row["g1_winner"] else "loss"
            table.setdefault(name, Counter())[what] += 1
    return {name: (c["win"], c["loss"], c["tie"]) for name, c in table.items()}


def test_the_sample_gives_fastchats_table(sample: Path) -> None:
    expected = fastchats_table(lines_of(sample))
    score = score_mt_bench(sample).as_dict()
    models = score["models"]
    assert isinstance(models, dict)
    assert models.keys() == expected.keys()
    for name, (win, loss, tie) in expected.items():
        row, n = models[name], win + loss + tie
        assert (row["win"], row["loss"], row["tie"]) == (win, loss, tie)
        assert row["win_rate"] == pytest.approx(win / n, rel=1e-12)
        assert row["loss_rate"] == pytest.approx(loss / n, rel=1e-12)
        assert row["win_rate_adjusted"] == pytest.approx((win + tie / 2) / n, rel=1e-12)
    assert score["n_matches"] == 25
    assert score["n_dropped"] == 0
    # Read off the file by hand: of the 11 ties, one has a tie in both games.
    assert models["phi-3"]["tie"] == 11
    assert score["n_inconsistent"] == 10
    assert score["n_contradictory"] == 8
    assert score["judge"] == "gpt-4"


def test_dropped_matches_are_counted(sample: Path, tmp_path: Path) -> None:
    rows = lines_of(sample)
    rows[3] = rows[3] | {"g2_winner": "error"}
    rows[7] = rows[7] | {"g1_winner": "error", "g2_winner": "error"}
    path = tmp_path / "gpt-4_pair.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    score = score_mt_bench(path)
    assert score.pairs is not None
    found = {n: (r.win, r.loss, r.tie) for n, r in score.pairs.models.items()}
    assert found == fastchats_table(rows)
    assert (score.pairs.n_matches, score.pairs.n_dropped, score.n_rows) == (23, 2, 25)


def test_categories_are_those_of_the_questions_file() -> None:
    lines = shared("mt_bench/question.jsonl").read_text("utf-8").splitlines()
    official = {row["question_id"]: row["category"] for row in map(json.loads, lines)}
    assert {q: category_of(q) for q in official} == official
    assert len(official) == 80
    assert set(official.values()) == set(CATEGORIES)
    assert [category_of(q) for q in (80, 161, "81")] == [None, None, None]


def document(tmp_path: Path) -> Path:
    """Forty questions of two turns: 28 wins, 18 losses and 34 ties of 'finetuned'."""
    games = (
        [("model_1", "model_1")] * 28
        + [("model_2", "model_2")] * 18
        + [("tie", "tie")] * 10
        + [("model_1", "model_2")] * 20
        + [("tie", "model_1")] * 4
    )
    path = tmp_path / "gpt-4o-mini_pair.jsonl"
    rows = [
        {
            "question_id": 81 + i // 2,
            "turn": 1 + i % 2,
            "model_1": "finetuned",
            "model_2": "base",
            "g1_winner": first,
            "g2_winner": second,
            "judge": ["gpt-4o-mini", "pair-v2"],
        }
        for i, (first, second) in enumerate(games)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def test_the_documents_table(tmp_path: Path) -> None:
    """The reference experiment's: 0.350, 0.225, 0.5625, and the base model's mirror of it."""
    score = score_mt_bench(document(tmp_path)).as_dict()
    models = score["models"]
    assert isinstance(models, dict)
    assert list(models) == ["finetuned", "base"]
    tuned, base = models["finetuned"], models["base"]
    assert (tuned["win"], tuned["loss"], tuned["tie"]) == (28, 18, 34)
    assert (base["win"], base["loss"], base["tie"]) == (18, 28, 34)
    assert (tuned["win_rate"], tuned["loss_rate"]) == (0.35, 0.225)
    assert (base["win_rate"], base["loss_rate"]) == (0.225, 0.35)
    assert (tuned["win_rate_adjusted"], base["win_rate_adjusted"]) == (0.5625, 0.4375)
    assert (score["n_matches"], score["n_dropped"]) == (80, 0)
    assert (score["n_inconsistent"], score["n_contradictory"]) == (24, 20)


def test_known_wrong_references_are_counted_and_can_be_left_out(tmp_path: Path) -> None:
    """Of questions 81 to 120, 104, 105, 109, 111, 113, 114 and 120 have wrong references."""
    path = document(tmp_path)
    all_of_them = score_mt_bench(path)
    assert all_of_them.n_on_wrong_references == 14
    assert any("14 judgments rest on" in w for w in all_of_them.warnings)
    without = score_mt_bench(path, exclude_known_wrong_references=True)
    assert without.pairs is not None
    assert without.pairs.n_matches == 66
    assert without.n_on_wrong_references == 14
    assert without.excluded


def test_turns_and_categories_add_up(tmp_path: Path) -> None:
    score = score_mt_bench(document(tmp_path))
    assert set(score.pairs_by_turn) == {"1", "2"}
    assert list(score.pairs_by_category) == ["writing", "roleplay", "reasoning", "math"]
    for tables in (score.pairs_by_turn, score.pairs_by_category):
        assert sum(t.n_matches for t in tables.values()) == 80
        assert sum(t.models["finetuned"].win for t in tables.values()) == 28


def test_a_baseline_has_no_line_of_its_own(tmp_path: Path) -> None:
    score = score_mt_bench(document(tmp_path), baseline="base")
    assert score.pairs is not None
    assert list(score.pairs.models) == ["finetuned"]
    assert score.pairs.models["finetuned"].win == 28
