"""``audit`` and ``preview`` as a user meets them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.pipeline.test_cli import refused, tuneproof

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RIGHT = "Model,win,loss,tie,win_rate\na,28,18,34,0.350\nb,18,28,34,0.225\n"


def test_audit_names_the_cell_and_fails(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text(RIGHT.replace("a,28,18", "a,28,19"))
    done = tuneproof("audit", file)
    assert done.returncode == 1
    assert "a, loss (line 2): given 19, expected 18; with it all" in done.stdout
    assert done.stderr == ""
    done = tuneproof("audit", file, "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["rows"] == 2
    assert told["tables"][0]["benchmark"] == "mt_bench"
    (problem,) = told["problems"]
    assert {k: problem[k] for k in ("row", "column", "given", "expected")} == {
        "row": "a",
        "column": "loss",
        "given": 19,
        "expected": 18,
    }


def test_audit_of_a_right_table(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    file.write_text(RIGHT.replace("a,", '"a\x1b[31m",', 1))
    done = tuneproof("audit", file)
    assert done.returncode == 0
    assert "none failed" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n", "holds no table of AlpacaEval or MT-Bench results A header line with"),
        (RIGHT.replace("28", "x8"), "table.csv:2: win = x8: expected a number Write it"),
        (None, "table.csv: cannot be read: no such file"),
    ],
)
def test_audit_of_no_table(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "table.csv").write_text(content)
    assert message in refused(tuneproof("audit", tmp_path / "table.csv"))


def test_preview(tmp_path: Path, tiny_recipe: Callable[..., Path]) -> None:
    recipe = tiny_recipe()
    done = tuneproof("preview", recipe, "--rows", 2, "--set", "train.loss_on=response")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "  prompt    masked" in done.stdout
    assert "  response  supervised" in done.stdout
    assert "  response  EOS learned </s>" in done.stdout
    assert "the first row" in done.stdout
    assert list(tmp_path.glob("run*")) == []

    done = tuneproof("preview", recipe, "--rows", 2, "--set", "train.loss_on=response", "--json")
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) == 2
    assert {t["role"] for t in rows[0]["tokens"]} == {"bos", "masked", "supervised", "eos"}

    done = tuneproof("preview", recipe, "--row", rows[1]["id"], FORCE_COLOR="1", COLUMNS="70")
    assert done.returncode == 0, done.stderr
    assert rows[1]["id"] in done.stdout
    assert "\x1b[32m" in done.stdout  # green: supervised
    assert rows[0]["id"] not in done.stdout


def test_preview_of_what_is_not_there(tiny_recipe: Callable[..., Path]) -> None:
    recipe = tiny_recipe()
    assert "--row = row-777: no such row" in refused(
        tuneproof("preview", recipe, "--row", "row-777")
    )
    assert "--split = test: expected train or validation" in refused(
        tuneproof("preview", recipe, "--split", "test")
    )
    assert tuneproof("preview", recipe, "--rows", 0).returncode == 2
