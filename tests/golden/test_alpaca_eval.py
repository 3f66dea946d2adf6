"""AlpacaEval 2, number for number: the published leaderboard from the published judgments."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import json
import math
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SHARED, shared
from tuneproof.benchmark_files import ALPACA_EVAL_GAMED
from tuneproof.errors import AssetError
from tuneproof.score import official
from tuneproof.score.alpaca_eval import score_alpaca_eval
from tuneproof.stats.length_control import (
    DifficultyRow,
    GamedRow,
    Weights,
    official_fit,
    official_rate,
)
from tuneproof.workspace import digest_file

if TYPE_CHECKING:
    from pathlib import Path

ANNOTATIONS = sorted((SHARED / "alpaca_eval" / "annotations").glob("*.json.gz"))
COUNTS = ("n_wins", "n_wins_base", "n_draws", "n_total")
RATES = ("win_rate", "standard_error", "discrete_win_rate")


def table(name: str) -> dict[str, dict[str, str]]:
    with shared(f"alpaca_eval/{name}").open(encoding="utf-8") as file:
        return {row[""]: row for row in csv.DictReader(file)}


def published_weights() -> dict[str, Weights]:
    return {
        name: Weights(
            length=float(row["np.tanh(std_delta_len)"]),
            difficulty=float(row["instruction_difficulty"]),
            model=float(row["not_gamed_baseline.astype(float)"]),
        )
        for name, row in table("length_controlled_weights.csv").items()
    }


@pytest.fixture
def assets(monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = shared("alpaca_eval").parent
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(folder))
    return folder


def test_there_are_published_judgments() -> None:
    shared("alpaca_eval/annotations")
    assert ANNOTATIONS


@pytest.mark.parametrize("path", ANNOTATIONS, ids=lambda p: p.name)
def test_every_column_is_the_published_one(path: Path, assets: Path) -> None:
    published = table("leaderboard.csv")[path.name.removesuffix(".json.gz")]
    score = score_alpaca_eval(path, mode=published["mode"]).as_dict()
    for column in RATES:
        assert score[column] == pytest.approx(float(published[column]), rel=1e-9), column
    for column in COUNTS:
        assert score[column] == int(published[column]), column
    assert score["n_rows"] == 805
    assert score["avg_length"] == int(published["avg_length"])
    assert score["mode"] == published["mode"]
    assert score["n_unscored"] == 0


@pytest.mark.parametrize("path", ANNOTATIONS, ids=lambda p: p.name)
def test_no_number_goes_by_the_official_name_without_the_official_fit(
    path: Path, assets: Path
) -> None:
    """The match is the official one; what is missing is the file that its fit needs."""
    score = score_alpaca_eval(path).as_dict()
    assert score["length_controlled_winrate"] is None
    assert "df_gamed.csv" in str(score["length_controlled_reason"])
    fitted = score["length_controlled_win_rate_fitted"]
    assert isinstance(fitted, dict)
    if path.name == "alpaca-7b.json.gz":
        assert "only 16 of 805 answers are longer" in fitted["note"]
    else:
        assert fitted["low"] < fitted["value"] < fitted["high"]


def test_the_null_model_raises_the_alarm(assets: Path) -> None:
    score = score_alpaca_eval(shared("alpaca_eval/annotations/NullModel.json.gz"))
    assert {(a.id, a.count) for a in score.alarms} == {
        ("constant-answers", 805),
        ("judge-markup", 805),
        ("speaks-to-judge", 805),
    }


@pytest.mark.parametrize("name", ["alpaca-7b", "vicuna-7b"])
def test_an_honest_model_raises_none(name: str, assets: Path) -> None:
    assert not score_alpaca_eval(shared(f"alpaca_eval/annotations/{name}.json.gz")).alarms


def vicuna() -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(
        gzip.decompress(shared("alpaca_eval/annotations/vicuna-7b.json.gz").read_bytes())
    )
    return rows


def reason(rows: list[dict[str, object]], tmp_path: Path) -> str:
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    score = score_alpaca_eval(path).as_dict()
    assert score["length_controlled_winrate"] is None
    return str(score["length_controlled_reason"])


def test_what_is_not_the_official_match_has_no_official_rate(assets: Path, tmp_path: Path) -> None:
    rows = vicuna()
    assert "300 rows" in reason(rows[:300], tmp_path)
    assert "gpt-4o-mini" in reason([r | {"annotator": "gpt-4o-mini"} for r in rows], tmp_path)
    assert "same generator" in reason([r | {"generator_1": "vicuna-7b"} for r in rows], tmp_path)
    assert "1 rows have another reference" in reason(
        [rows[0] | {"output_1": "another"}, *rows[1:]], tmp_path
    )
    assert "1 rows ask others" in reason(
        [rows[0] | {"instruction": "another"}, *rows[1:]], tmp_path
    )
    assert "1 rows repeat one" in reason([rows[1], *rows[1:]], tmp_path)


def test_predictions_of_the_original_in_the_file_are_the_official_rate(
    assets: Path, tmp_path: Path
) -> None:
    """The original writes its predictions into the annotations; in any order of rows."""
    rows = [r | {"glm_preference": 0.1 if i < 161 else 0.2} for i, r in enumerate(vicuna())]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows[::-1]), encoding="utf-8")
    score = score_alpaca_eval(path).as_dict()
    assert score["length_controlled_winrate"] == pytest.approx(18.0)
    # Shares 0.2 and 0.8: sd = 0.1·√(0.16·805/804).
    assert score["lc_standard_error"] == pytest.approx(100 * 0.1 * math.sqrt(0.16 / 804))
    cut = tmp_path / "some.json"
    cut.write_text(json.dumps(rows[:300]), encoding="utf-8")
    assert score_alpaca_eval(cut).as_dict()["length_controlled_winrate"] is None


def test_with_the_gamed_rows_the_official_rate_is_fitted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Made-up gamed rows stand in for the real ones, which could not be had."""
    pytest.importorskip("sklearn")
    import numpy as np

    draw = np.random.default_rng(4)
    head = "std_delta_len,index,preference,instruction_difficulty,not_gamed_baseline,model\n"
    difficulties = [round(float(d), 6) for d in draw.normal(0.3, 1.5, 805)]
    lines = [
        f"{draw.normal():.6f},{i},{draw.random():.6f},{d},False,{name}\n"
        for name in ("concise", "verbose")
        for i, d in enumerate(difficulties)
    ]
    folder = tmp_path / "alpaca_eval"
    folder.mkdir()
    (folder / "df_gamed.csv").write_text(head + "".join(lines), encoding="utf-8")
    (folder / "alpaca_eval_gpt4_baseline.json").symlink_to(
        shared("alpaca_eval/alpaca_eval_gpt4_baseline.json")
    )
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(tmp_path))
    path = shared("alpaca_eval/annotations/vicuna-7b.json.gz")
    with pytest.raises(AssetError, match="expected SHA-256 97aeec3f"):
        score_alpaca_eval(path)
    stand_in = dataclasses.replace(ALPACA_EVAL_GAMED, sha256=digest_file(folder / "df_gamed.csv"))
    monkeypatch.setattr(official, "ALPACA_EVAL_GAMED", stand_in)
    score = score_alpaca_eval(path).as_dict()
    gamed, _ = official.read_gamed(folder / "df_gamed.csv")
    rows = [
        DifficultyRow(
            preference=float(str(row["preference"])) - 1,
            difference=len(str(row["output_1"])) - len(str(row["output_2"])),
            difficulty=d,
        )
        for row, d in zip(vicuna(), difficulties, strict=True)
    ]
    expected = official_rate(official_fit(rows, gamed), difficulties)
    assert score["length_controlled_winrate"] == pytest.approx(expected.value, rel=1e-12)
    assert score["lc_standard_error"] == pytest.approx(expected.standard_error, rel=1e-12)
    assert score["length_controlled_source"] == official.FROM_FIT
    # In another order of rows every difficulty still goes to its own instruction.
    shuffled = tmp_path / "annotations.json"
    shuffled.write_text(json.dumps(vicuna()[::-1]), encoding="utf-8")
    again = score_alpaca_eval(shuffled).as_dict()["length_controlled_winrate"]
    assert again == pytest.approx(expected.value, abs=0.1)


def test_published_weights_give_the_published_rates() -> None:
    """LC = 100·mean σ(θ + γ·d), for difficulties that are not on this machine.

    Of 805 unknown difficulties the formula needs only how they are spread. That spread is found
    from every other model's published rate (non-negative weights on a grid of difficulties), and
    must then give the rates of the rest (0.02 points are asked for; it is 3e-8). Left out are
    models whose published rate is not of these weights: those with missing rows, and two more
    (docs/metrics.md).
    """
    import numpy as np
    from scipy.optimize import nnls

    board, weights = table("leaderboard.csv"), published_weights()
    odd = {"NullModel", "dbrx-instruct"}
    names = sorted(
        n for n in weights if n in board and board[n]["n_total"] == "805" and n not in odd
    )
    assert len(names) == 186
    grid = np.linspace(-4, 7, 221)
    rates = np.array([float(board[n]["length_controlled_winrate"]) for n in names])
    predicted = np.array([[official_rate(weights[n], [d]).value for d in grid] for n in names])
    known, held_out = slice(0, None, 2), slice(1, None, 2)
    one = np.full((1, len(grid)), 1e4)  # the shares sum to 1
    shares, _ = nnls(np.vstack([predicted[known], one]), np.append(rates[known], 1e4))
    assert shares.sum() == pytest.approx(1, abs=1e-6)
    missed = np.abs(predicted[held_out] @ shares - rates[held_out])
    assert missed.max() < 1e-6
    # The same spread gives the published standard errors: they are of the predictions alone.
    for name in names[held_out]:
        if board[name]["lc_standard_error"]:
            each = np.array([official_rate(weights[name], [d]).value for d in grid])
            spread = shares @ each**2 - (shares @ each) ** 2
            error = math.sqrt(spread / 804)
            assert error == pytest.approx(float(board[name]["lc_standard_error"]), abs=1e-6)


def test_the_official_fit_finds_known_weights() -> None:
    """Synthetic rows: preferences that are exactly the model's, so that only the penalty is off."""
    pytest.importorskip("sklearn")
    import numpy as np

    draw = np.random.default_rng(3)
    difficulties = draw.normal(0.3, 1.5, 805)
    true = Weights(length=-1.8, difficulty=1.1, model=-2.0)

    def share(length: float, d: float, own: float) -> float:
        return float(1 / (1 + math.exp(-(true.length * length + true.difficulty * d + own))))

    gamed = [
        GamedRow(preference=share(math.tanh(x), d, 0.0), difference=x, difficulty=d)
        for x, d in zip(draw.normal(0.3, 1, 805), difficulties, strict=True)
    ]
    lengths = draw.normal(400, 800, 805)
    sd = float(lengths.std(ddof=1))
    rows = [
        DifficultyRow(
            preference=share(math.tanh(x / sd), d, true.model), difference=x, difficulty=d
        )
        for x, d in zip(lengths, difficulties, strict=True)
    ]
    found = official_fit(rows, gamed)
    assert found.length == pytest.approx(true.length, abs=0.02)
    assert found.difficulty == pytest.approx(true.difficulty, abs=0.02)
    assert found.model == pytest.approx(true.model, abs=0.02)
    # An unscored row is in the spread of lengths, and not in the fit.
    unscored = [DifficultyRow(preference=None, difference=0.0, difficulty=0.0)] * 10
    assert official_fit([*rows, *unscored], gamed) != found
