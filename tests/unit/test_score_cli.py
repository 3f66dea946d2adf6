"""The score verbs as a user meets them: in a process of its own, with mistakes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def score(*arguments: object, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "TUNEPROOF_ASSETS"}
    return subprocess.run(
        [sys.executable, "-m", "tuneproof", "score", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=environment | {"TUNEPROOF_CACHE": str(cache), "OMP_NUM_THREADS": "1"},
    )


@pytest.fixture
def annotated(tmp_path: Path) -> Path:
    path = tmp_path / "annotations.json"
    rows = [{"instruction": str(i), "output_2": "ab", "preference": 1 + i % 2} for i in range(12)]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


def test_the_promised_keys_are_there(annotated: Path, tmp_path: Path) -> None:
    done = score("alpaca-eval", annotated, "--mode", "community", "--json", cache=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    promised = (
        "win_rate standard_error n_wins n_wins_base n_draws n_total discrete_win_rate avg_length "
        "mode length_controlled_winrate n_unscored interval alarms warnings"
    )
    assert set(promised.split()) <= found.keys()
    assert (found["win_rate"], found["mode"], found["avg_length"]) == (50.0, "community", 2)


def test_the_promised_keys_of_mt_bench_are_there(tmp_path: Path) -> None:
    row = {"question_id": 81, "turn": 1, "judge": "j"}
    pair = tmp_path / "j_pair.jsonl"
    games = {"model_1": "a", "model_2": "b", "g1_winner": "model_1", "g2_winner": "model_1"}
    pair.write_text(json.dumps(row | games) + "\n", encoding="utf-8")
    found = json.loads(score("mt-bench", pair, "--json", cache=tmp_path).stdout)
    assert {"models", "n_matches", "n_dropped", "n_inconsistent"} <= found.keys()
    rates = {"win", "loss", "tie", "win_rate", "loss_rate", "win_rate_adjusted"}
    assert rates <= found["models"]["a"].keys()
    single = tmp_path / "j_single.jsonl"
    single.write_text(json.dumps(row | {"model": "a", "score": 7}) + "\n", encoding="utf-8")
    found = json.loads(score("mt-bench", single, "--json", cache=tmp_path).stdout)
    assert {"models", "n_unscored"} <= found.keys()
    assert {"first_turn", "second_turn", "average"} <= found["models"]["a"].keys()


def test_what_cannot_be_scored_exits_with_2(annotated: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.json"
    cut.write_bytes(annotated.read_bytes()[:-30])
    cases: list[tuple[object, ...]] = [
        ("alpaca-eval", cut),
        ("alpaca-eval", tmp_path / "absent.json"),
        ("alpaca-eval", annotated, "--mode", "official"),
        ("mt-bench", annotated),
    ]
    for arguments in cases:
        done = score(*arguments, cache=tmp_path)
        assert done.returncode == 2, arguments
        assert done.stderr.startswith("error: ")
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_scoring_needs_no_heavy_library(annotated: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from tuneproof.score.alpaca_eval import score_alpaca_eval;"
        f"score_alpaca_eval(Path({str(annotated)!r})); print(*sorted(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"TUNEPROOF_CACHE": str(tmp_path)},
    )
    assert not {"torch", "transformers", "pandas", "sklearn", "scipy.stats"} & set(
        done.stdout.split()
    )
