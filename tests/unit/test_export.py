"""Exported rows where something is missing: failed answers, failed requests, replies not read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import shared
from tuneproof.errors import RunDirError, StageError
from tuneproof.export.mt_bench import NO_REPLY, judge_in_file_name
from tuneproof.export.write import export_run
from tuneproof.recipe import (
    AlpacaEval,
    Data,
    Judge,
    Model,
    MtBench,
    Recipe,
    Source,
    VerdictRule,
)
from tuneproof.recipe_file import dump_recipe
from tuneproof.records import (
    Answer,
    Arm,
    Judgment,
    Manifest,
    Preference,
    Prompt,
    Record,
    Stop,
    preferred,
)
from tuneproof.score.alpaca_eval import score_alpaca_eval
from tuneproof.score.mt_bench import score_mt_bench
from tuneproof.workspace import RunDir, write_records

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def manifest(stage: str) -> Manifest:
    return Manifest(
        stage=stage, version=1, key="k", key_parts={}, inputs=(), outputs=(), packages={},
        tuneproof="0", commit=None, dirty=None, python="3", device="cpu",
        started="2026-01-02T03:04:05+00:00", duration_s=1.0, resumed=0,
    )  # fmt: skip


def prompt(question: str, turn: int = 1) -> Prompt:
    return Prompt(
        question_id=question, benchmark="mt_bench" if question[0] == "m" else "alpaca_eval",
        category="writing", turn=turn, instruction=f"{question} {turn}?", context="",
        token_ids=None, reference=None, checkable=False,
    )  # fmt: skip


def answer(question: str, arm: Arm, turn: int = 1, *, failed: bool = False) -> Answer:
    return Answer(
        key=f"{question}/{turn}/{arm}", question_id=question,
        benchmark="mt_bench" if question[0] == "m" else "alpaca_eval", turn=turn, arm=arm,
        text="" if failed else f"{arm} {question} {turn}", stop=Stop.ERROR if failed else Stop.EOS,
        n_prompt_tokens=1, n_tokens=1,
    )  # fmt: skip


def judgment(
    question: str, first: Arm, p_first: float | None, *, reply: str = "m", **more: Any
) -> Judgment:
    return Judgment(
        key=f"{question}/{first}", question_id=question,
        benchmark="mt_bench" if question[0] == "m" else "alpaca_eval", opponent=Arm.BASE,
        protocol="p", judge="dir/judge 1", first=first, prefers=preferred(p_first),
        p_first=p_first, unparsed=None if p_first is not None else "?", reply=reply, **more,
    )  # fmt: skip


def preference(
    question: str, value: float | None, protocol: str, turn: int = 1, orders: int = 1
) -> Preference:
    return Preference(
        question_id=question, benchmark="mt_bench" if question[0] == "m" else "alpaca_eval",
        turn=turn, opponent=Arm.BASE, protocol=protocol, orders=orders, value=value,
        n_judgments=1, n_unparsed=0, orders_agree=None,
    )  # fmt: skip


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(shared("mt_bench").parent))
    recipe = Recipe(
        name="r", data=Data(source=Source(sample=True)), model=Model(id="m"),
        judge=Judge(model="dir/judge 1", orders=1),
        evaluate=(AlpacaEval(benchmark="alpaca_eval"), MtBench(benchmark="mt_bench")),
        verdict=VerdictRule(metric="win_rate"),
    )  # fmt: skip
    folder = RunDir(tmp_path / "run")
    folder.path.mkdir()
    folder.recipe_file.write_text(dump_recipe(recipe), encoding="utf-8")
    return folder


def fill(
    run: RunDir, answers: Sequence[Answer], judgments: Sequence[Judgment],
    preferences: Sequence[Preference],
) -> None:  # fmt: skip
    prompts = [prompt("alpaca-000"), prompt("alpaca-001"), prompt("alpaca-002"),
               *(prompt(q, t) for q in ("mt-81", "mt-82") for t in (1, 2))]  # fmt: skip
    files: dict[str, Sequence[Record]] = {
        "generate/prompts": prompts, "generate/answers": answers, "judge/judgments": judgments,
        "judge/preferences": preferences, "judge/ratings": [],
    }  # fmt: skip
    for name, rows in files.items():
        write_records(run.path / f"{name}.jsonl", rows)
    for stage in ("generate", "judge"):
        run.write_manifest(manifest(stage))


def test_what_is_missing_is_counted_or_null(run: RunDir, tmp_path: Path) -> None:
    alpaca = [answer(f"alpaca-{i:03}", arm, failed=arm is Arm.TUNED and i == 2)
              for i in range(3) for arm in (Arm.BASE, Arm.TUNED)]  # fmt: skip
    mt = [answer(q, arm, t, failed=(q, arm, t) == ("mt-82", Arm.BASE, 2))
          for q in ("mt-81", "mt-82") for t in (1, 2) for arm in (Arm.BASE, Arm.TUNED)]  # fmt: skip
    weighted, pairs = "alpaca-eval-weighted", "mt-bench-pairwise"
    fill(
        run,
        [*alpaca, *mt],
        [
            judgment("alpaca-000", Arm.BASE, 0.25, top_logprobs=(("M", -0.1), ("m", -2.0)),
                     prompt_tokens=5, completion_tokens=1, finish_reason="length"),
            judgment("alpaca-001", Arm.BASE, None, reply="The"),
            judgment("mt-81", Arm.TUNED, 1.0, reply="[[A]]"),
            judgment("mt-81", Arm.BASE, None, reply="Hm."),
            # of the second turn one request failed, of mt-82's first both
            judgment("mt-81", Arm.TUNED, 0.0, reply="[[B]]").model_copy(update={"turn": 2}),
        ],
        [
            preference("alpaca-000", 0.75, weighted), preference("alpaca-001", None, weighted),
            preference("alpaca-002", None, weighted),
            *(preference(q, None, pairs, t, 2) for q in ("mt-81", "mt-82") for t in (1, 2)),
        ],
    )  # fmt: skip
    made = export_run(run, tmp_path / "out")
    assert {k: v for k, v in made.left_out.items() if v} == {
        "alpaca_eval: answers of r-tuned that failed": 1,
        "alpaca_eval: pairs of r-tuned without two answers": 1,
        "mt_bench: questions that r-base did not answer in all turns": 1,
        "mt_bench: pairs without two answers": 1,
    }
    names = {p.name: p for p in made.files}
    rows = json.loads(names["annotations.json"].read_text("utf-8"))
    assert [r["preference"] for r in rows] == [1.75, None]
    assert rows[0]["raw_completion"]["total_tokens"] == 6.0
    (token,) = rows[0]["raw_completion"]["logprobs"]["content"]
    assert (token["token"], token["logprob"], token["bytes"]) == ("m", -2.0, [109])
    assert [t["token"] for t in token["top_logprobs"]] == ["M", "m"]
    assert rows[1]["raw_completion"]["logprobs"] is None
    assert score_alpaca_eval(names["annotations.json"]).as_dict()["n_unscored"] == 1

    games = [json.loads(x) for x in names["dir_judge_1_pair.jsonl"].read_text().splitlines()]
    assert [(g["question_id"], g["turn"], g["g1_winner"], g["g2_winner"]) for g in games] == [
        (81, 1, "model_1", "error"),
        (81, 2, "model_2", "error"),
        (82, 1, "error", "error"),
    ]
    assert [g["g2_judgment"] for g in games] == ["Hm.", NO_REPLY, NO_REPLY]
    assert games[0]["judge"] == ["dir/judge 1", "pair-v2"]
    assert games[1]["judge"] == ["dir/judge 1", "pair-v2-multi-turn"]
    assert games[0]["tstamp"] == 1767323045.0
    table = score_mt_bench(names["dir_judge_1_pair.jsonl"]).pairs
    assert table is not None
    assert (table.n_matches, table.n_dropped) == (0, 3)


def test_a_run_that_was_not_judged(run: RunDir, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="generate has not finished"):
        export_run(run, tmp_path / "out")
    with pytest.raises(RunDirError, match="is no run"):
        export_run(RunDir(tmp_path / "elsewhere"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_judged_with_what_is_no_longer_chosen(run: RunDir, tmp_path: Path) -> None:
    fill(run, [], [], [preference("mt-81", None, "tuneproof-pairwise", orders=2)])
    with pytest.raises(StageError, match="was judged with tuneproof-pairwise, and would now be"):
        export_run(run, tmp_path / "out")


@pytest.mark.parametrize(
    ("model", "name"),
    [("gpt-4o-mini", "gpt-4o-mini"), ("/a/b c/d", "a_b_c_d"), ("../..", ".._.."), ("//", "judge")],
)
def test_a_judges_name_is_no_path(model: str, name: str) -> None:
    assert judge_in_file_name(Judge(model=model)) == name
