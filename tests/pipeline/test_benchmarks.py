"""Benchmarks, opponents, turns and several adapters, from questions to the report.

The tiny model is asked real questions of AlpacaEval and MT-Bench, so its context is made longer.
The module is long: each of its runs takes seconds, and is looked at from all sides.
"""

from __future__ import annotations

import gzip
import json
import math
import subprocess
import sys
import zipfile
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import benchmark_file, shared
from tests.fakes import ChatServer, Says, shown
from tuneproof.audit.audit import audit_file
from tuneproof.benchmark_files import ALPACA_EVAL_PROMPT
from tuneproof.data.encode import token_ids
from tuneproof.data.questions import mt_bench_questions
from tuneproof.data.templates import parse_template
from tuneproof.errors import AssetError, MissingAssetError
from tuneproof.export.write import Exported, export_run
from tuneproof.generate.asking import Asked, ExamplesAsking
from tuneproof.pipeline import Run, execute, run_status
from tuneproof.progress import SilentReporter
from tuneproof.recipe import Model
from tuneproof.recipe_file import load_recipe
from tuneproof.records import (
    Answer,
    Arm,
    Judgment,
    Preference,
    Prompt,
    SequenceLoss,
    Similarity,
    Stop,
)
from tuneproof.results import Results
from tuneproof.score.alpaca_eval import score_alpaca_eval
from tuneproof.score.mt_bench import score_mt_bench
from tuneproof.stages import STAGES, stages_until
from tuneproof.train.model import load_tokenizer
from tuneproof.workspace import RunDir, read_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N_HELDOUT, N_ALPACA, N_MT = 6, 5, 4
BOTH = ["base", "fair-base"]


@pytest.fixture(autouse=True)
def assets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(shared("mt_bench").parent))


# What is asked of the judge itself, and of cut answers, has tests of its own.
MATCHES_ALONE = {"decompose": False, "checks": {"controls": 0, "repeats": 0}}


def prefer_longer(body: dict[str, Any]) -> str:
    a, b = (len(shown(body, f"answer-{letter}")) for letter in "AB")
    return f"By length.\nVERDICT: {'TIE' if a == b else 'A' if a > b else 'B'}"


def make_run(recipe: Path, folder: Path, *overrides: str) -> Run:
    return Run(load_recipe(recipe, overrides), RunDir(folder), SilentReporter())


@pytest.fixture
def write(
    tiny_recipe: Callable[..., Path], roomy_model: Path
) -> Callable[[str], tuple[Path, list[str]]]:
    """The recipe, for a judge at an address."""

    def of(url: str) -> tuple[Path, list[str]]:
        recipe = tiny_recipe(
            model={"id": str(roomy_model), "dtype": "float32"},
            judge={"base_url": url, "api_key_env": None, "model": "judge-1", "orders": 1}
            | MATCHES_ALONE,
            evaluate=[
                {"benchmark": "heldout", "questions": N_HELDOUT, "against": BOTH},
                {
                    "benchmark": "alpaca_eval",
                    "questions": N_ALPACA,
                    "against": BOTH,
                    "protocol": "own",
                },
                {
                    "benchmark": "mt_bench",
                    "questions": N_MT,
                    "against": BOTH,
                    "protocol": "own",
                },
            ],
            verdict={"metric": "win_rate", "benchmark": "mt_bench", "against": "fair-base"},
        )
        return recipe, ["train.seeds=2", "generate.temperature=0.7"]

    return of


def rows(folder: Path) -> dict[str, bytes]:
    names = ("generate/prompts", "generate/answers", "generate/heldout_loss", "judge/similarity",
             "judge/judgments", "judge/preferences")  # fmt: skip
    return {name: (folder / f"{name}.jsonl").read_bytes() for name in names}


def test_the_whole_road(
    tmp_path: Path, roomy_model: Path, write: Callable[[str], tuple[Path, list[str]]]
) -> None:
    folder = tmp_path / "run"
    with ChatServer(prefer_longer) as server:
        recipe, overrides = write(server.url)
        execute(make_run(recipe, folder, *overrides), stages_until("report"))
        asked = len(server.received)
        bodies = [r.body for r in server.received]

        # --- what was asked ---
        prompts = read_records(folder / "generate/prompts.jsonl", Prompt)
        assert Counter((p.benchmark, p.turn) for p in prompts) == {
            ("heldout", 1): N_HELDOUT,
            ("alpaca_eval", 1): N_ALPACA,
            ("mt_bench", 1): N_MT,
            ("mt_bench", 2): N_MT,
        }
        assert all((p.token_ids is None) == (p.turn == 2) for p in prompts)

        # --- what was answered ---
        answers = read_records(folder / "generate/answers.jsonl", Answer)
        each = N_HELDOUT + N_ALPACA + 2 * N_MT
        assert Counter((a.arm, a.adapter) for a in answers) == {
            (Arm.BASE, 1): each,
            (Arm.FAIR_BASE, 1): each,
            (Arm.TUNED, 1): each,
            (Arm.TUNED, 2): each,
        }
        assert not [a for a in answers if a.stop is Stop.ERROR]
        by_place = {(a.question_id, a.turn, a.arm, a.adapter): a for a in answers}
        differ = [
            (q, t) for q, t, arm, n in by_place if (arm, n) == (Arm.TUNED, 1)
            and by_place[q, t, arm, 1].text != by_place[q, t, arm, 2].text
        ]  # fmt: skip
        assert differ, "two seeds gave one adapter"
        check_second_turns(roomy_model, by_place)

        losses = read_records(folder / "generate/heldout_loss.jsonl", SequenceLoss)
        assert Counter((x.arm, x.adapter) for x in losses) == {
            (Arm.BASE, 1): N_HELDOUT,
            (Arm.TUNED, 1): N_HELDOUT,
            (Arm.TUNED, 2): N_HELDOUT,
        }
        near = read_records(folder / "judge/similarity.jsonl", Similarity)
        assert len(near) == 4 * N_HELDOUT

        # --- what was judged: two opponents × two adapters; both orders for MT-Bench alone ---
        judgments = read_records(folder / "judge/judgments.jsonl", Judgment)
        pairs = {"heldout": 4 * N_HELDOUT, "alpaca_eval": 4 * N_ALPACA, "mt_bench": 8 * N_MT}
        assert Counter(j.benchmark for j in judgments) == pairs | {"mt_bench": 2 * 8 * N_MT}
        preferences = read_records(folder / "judge/preferences.jsonl", Preference)
        assert Counter(p.benchmark for p in preferences) == pairs
        assert not [p for p in preferences if p.value is None]
        # Nothing is asked twice: equal answers make equal requests.
        assert asked == len({j.key for j in judgments}) <= len(judgments)
        check_conversations(bodies, by_place)

        # --- what it comes to ---
        results = Results.model_validate_json((folder / "report/results.json").read_bytes())
        check_results(results)

        # --- again, from the journals alone ---
        before = rows(folder)
        for stage in ("generate", "judge", "report"):
            (folder / stage / "manifest.json").unlink()
        execute(make_run(recipe, folder, *overrides), stages_until("report"))
        assert len(server.received) == asked
        manifest = RunDir(folder).manifest("generate")
        assert manifest is not None
        assert manifest.resumed == 4 * each + 3 * N_HELDOUT
        assert rows(folder) == before

        # --- again, after a kill amid the second turns of one arm: whole batches are redone ---
        for name, kept in (("answers", 2 * each - 3), ("losses", 7)):
            journal = folder / f"generate/{name}.journal.jsonl"
            journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:kept]))
        (folder / "generate/answers.jsonl").unlink()
        (folder / "generate/manifest.json").unlink()
        execute(make_run(recipe, folder, *overrides), stages_until("report"))
        assert rows(folder) == before
        assert len(server.received) == asked


def check_second_turns(model: Path, said: dict[tuple[str, int, Arm, int], Answer]) -> None:
    """Each arm's second prompt has as many tokens as the conversation with its own first answer."""
    tokenizer = load_tokenizer(Model(id=str(model)))
    template = parse_template("instruction-context-response")
    questions = {q.id: q.turns for q in mt_bench_questions()}
    seconds = [a for a in said.values() if a.turn == 2]
    assert len(seconds) == 4 * N_MT
    for answer in seconds:
        first, second = questions[answer.question_id]
        earlier = said[answer.question_id, 1, answer.arm, answer.adapter]
        if answer.arm is Arm.FAIR_BASE:
            asking = ExamplesAsking(tokenizer, template)
            (ids,) = asking.encode(
                [Asked(instruction=second, context="", earlier=((first, earlier.text),))]
            )
        else:
            (ids,) = token_ids(tokenizer, [template.conversation([(first, earlier.text)], second)])
        assert answer.n_prompt_tokens == len(ids)


def check_conversations(
    bodies: list[dict[str, Any]], said: dict[tuple[str, int, Arm, int], Answer]
) -> None:
    """A second turn is judged with each side's own first answer beside it."""
    questions = {q.turns: q.id for q in mt_bench_questions()}
    texts = {(a.question_id, said[a.question_id, 2, a.arm, a.adapter].text, a.text)
             for a in said.values() if a.turn == 1 and a.benchmark == "mt_bench"}  # fmt: skip
    seconds = [b for b in bodies if "<turn-1-instruction-" in b["messages"][-1]["content"]]
    assert seconds
    for body in seconds:
        question = questions[shown(body, "turn-1-instruction"), shown(body, "instruction")]
        for letter in "AB":
            answer, earlier = (
                shown(body, f"answer-{letter}"),
                shown(body, f"turn-1-answer-{letter}"),
            )
            assert (question, answer, earlier) in texts


def check_results(results: Results) -> None:
    assert list(results.benchmarks) == ["heldout", "alpaca_eval", "mt_bench"]
    assert results.training is not None
    assert [t.seed for t in (results.training, *results.other_trainings)] == [7, 8]
    assert results.heldout_loss is not None
    assert set(results.heldout_loss.by_adapter) == {"1", "2"}
    mt = results.benchmarks["mt_bench"]
    assert (mt.n_questions, mt.n_turns, mt.n_adapters) == (N_MT, 2, 2)
    assert (mt.chrf, mt.exact_match) == (None, None)
    assert mt.fair_base is not None
    assert mt.stopped.difference.n_scored == mt.fair_base.stopped.difference.n_scored == N_MT
    assert mt.pairwise is not None
    assert (mt.pairwise.opponent, list(mt.others)) == (Arm.BASE, ["fair-base"])
    fair = mt.others["fair-base"]
    assert (fair.orders, fair.n_judgments, fair.pairs.total) == (2, 8 * N_MT, 4 * N_MT)
    assert (fair.questions.total, fair.win_rate.n_scored) == (N_MT, N_MT)
    assert fair.order_agreement.value == 1.0  # a judge of lengths does not mind the order
    assert set(fair.by_turn) == set(fair.by_adapter) == {"1", "2"}
    assert sum(e.n_scored for e in fair.by_category.values()) == N_MT
    alpaca = results.benchmarks["alpaca_eval"].pairwise
    assert alpaca is not None
    assert (alpaca.orders, alpaca.pairs.total, alpaca.by_turn) == (1, 2 * N_ALPACA, {})
    verdict = results.verdict
    assert (verdict.benchmark, verdict.against) == ("mt_bench", Arm.FAIR_BASE)
    assert verdict.estimate == fair.win_rate
    assert "over 2 training seeds" in verdict.sentence
    assert "between adapters" in verdict.estimate.method


def test_without_fair_base_nobody_asks_it(
    tmp_path: Path, tiny_recipe: Callable[..., Path], roomy_model: Path
) -> None:
    recipe = tiny_recipe(
        model={"id": str(roomy_model), "dtype": "float32"},
        judge={"base_url": "http://127.0.0.1:9/v1", "api_key_env": None},
        evaluate=[
            {"benchmark": "alpaca_eval", "questions": 3, "against": "base"},
            {"benchmark": "mt_bench", "questions": 2, "against": ["fair-base"]},
        ],
        verdict={"metric": "win_rate"},
    )
    folder = tmp_path / "run"
    execute(make_run(recipe, folder), stages_until("generate"))
    answers = read_records(folder / "generate/answers.jsonl", Answer)
    assert Counter((a.benchmark, a.arm) for a in answers) == {
        ("alpaca_eval", Arm.BASE): 3,
        ("alpaca_eval", Arm.TUNED): 3,
        ("mt_bench", Arm.BASE): 4,
        ("mt_bench", Arm.FAIR_BASE): 4,
        ("mt_bench", Arm.TUNED): 4,
    }
    # Without the held-out benchmark there is no held-out loss.
    assert (folder / "generate/heldout_loss.jsonl").read_bytes() == b""


def test_a_turn_after_a_failed_one_is_not_asked(
    tmp_path: Path, tiny_recipe: Callable[..., Path]
) -> None:
    """The tiny model itself has 256 positions: hardly a question of MT-Bench fits."""
    recipe = tiny_recipe(
        judge={"base_url": "http://127.0.0.1:9/v1", "api_key_env": None},
        evaluate=[{"benchmark": "mt_bench", "questions": 12}],
        verdict={"metric": "win_rate"},
    )
    folder = tmp_path / "run"
    execute(make_run(recipe, folder), stages_until("generate"))
    answers = read_records(folder / "generate/answers.jsonl", Answer)
    assert len(answers) == 2 * 2 * 12
    by_place = {(a.arm, a.question_id, a.turn): a for a in answers}
    failed = [a for a in answers if a.turn == 1 and a.stop is Stop.ERROR]
    assert failed
    for first in failed:
        assert first.error is not None
        assert "exceed the context of 256" in first.error
        second = by_place[first.arm, first.question_id, 2]
        assert (second.stop, second.text, second.n_prompt_tokens) == (Stop.ERROR, "", 0)
        assert second.error == f"not asked: the answer to turn 1 failed ({first.error})"
    manifest = RunDir(folder).manifest("generate")
    assert manifest is not None
    assert manifest.facts["errors"] == sum(a.stop is Stop.ERROR for a in answers)


def test_questions_that_cannot_be_had_are_refused_before_anything_is_written(
    tmp_path: Path, tiny_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(tmp_path))
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    recipe = tiny_recipe(
        judge={"base_url": "http://127.0.0.1:9/v1", "api_key_env": None},
        evaluate=[{"benchmark": "alpaca_eval", "questions": 2}],
        verdict={"metric": "win_rate"},
    )
    with pytest.raises(AssetError, match=r"alpaca_eval_gpt4_baseline\.json"):
        execute(make_run(recipe, tmp_path / "run"), stages_until("generate"))
    assert not (tmp_path / "run").exists()


# --- the official protocols, the benchmarks' own tables, exported files ------------------------

N_WEIGHED = 14


def weigh_length(body: dict[str, Any]) -> Says:
    """AlpacaEval's judge: the longer output is likelier to be named, the more so the longer."""
    user = body["messages"][-1]["content"]
    first = user.index('"model_identifier": "M"') - user.index('"model_identifier": "m"')
    second = user.index("## Task") - user.index('"model_identifier": "M"')
    p = 1 / (1 + math.exp((second - first) / 150))
    likely = sorted((("m", p), ("M", 1 - p)), key=lambda it: -it[1])
    return Says(
        likely[0][0], "length", top_logprobs=tuple((t, math.log(max(v, 1e-9))) for t, v in likely)
    )


def judge_of_both(body: dict[str, Any]) -> Says | str:
    """AlpacaEval's by probabilities; MT-Bench's by length, and undecided now and then."""
    if "logprobs" in body:
        return weigh_length(body)
    user = body["messages"][-1]["content"]
    if len(user) % 4 == 1:
        return "I cannot say."
    if len(user) % 5 == 0:
        return "Both are fine. [[C]]"
    if "### Assistant A:" in user:
        a, b = (len(user.split(f"### Assistant {x}:\n")[-1]) for x in "AB")
    else:
        parts = user.split("Answer]\n")
        a, b = len(parts[-4]), len(parts[-2])
    return "[[A]]" if a >= b else "[[B]]"


@pytest.fixture
def official(
    tmp_path: Path, tiny_recipe: Callable[..., Path], roomy_model: Path
) -> Callable[..., Path]:
    """A recipe with both official protocols; AlpacaEval's prompt lies where the recipe says."""
    folder = tmp_path / "files"
    file = folder / ALPACA_EVAL_PROMPT.folder / ALPACA_EVAL_PROMPT.file
    file.parent.mkdir(parents=True)
    file.write_bytes(benchmark_file(ALPACA_EVAL_PROMPT).read_bytes())

    def write(url: str, **mt_bench: object) -> Path:
        return tiny_recipe(
            assets=str(folder),
            model={"id": str(roomy_model), "dtype": "float32"},
            judge=MATCHES_ALONE
            | {
                "base_url": url,
                "api_key_env": None,
                "model": "gpt-4-1106-preview",
                "orders": 1,
            },
            evaluate=[
                {
                    "benchmark": "alpaca_eval",
                    "questions": N_WEIGHED,
                    "against": ["base", "baseline"],
                    "length_control": "official",
                },
                {"benchmark": "mt_bench", "questions": 8, **mt_bench},
            ],
            verdict={"metric": "win_rate", "benchmark": "alpaca_eval"},
            generate={"max_new_tokens": 24, "batch_size": 8, "temperature": 0.8},
        )

    return write


def scored(exported: Exported, ending: str) -> dict[str, Any]:
    """What ``tuneproof score`` says of the one exported file whose path ends so."""
    (file,) = [path for path in exported.files if str(path).endswith(ending)]
    if "annotations" in ending:
        return score_alpaca_eval(file).as_dict()
    return score_mt_bench(file).as_dict()


def test_official_protocols_and_the_files_of_the_original_tools(
    tmp_path: Path, official: Callable[..., Path]
) -> None:
    folder = tmp_path / "run"
    with ChatServer(judge_of_both) as server:
        run = make_run(official(server.url), folder)
        execute(run, stages_until("report"))
        assert [s.state for s in execute(run, stages_until("report"))] == ["fresh"] * 5

    # --- answers: the baseline's are the file's own ---
    answers = read_records(folder / "generate/answers.jsonl", Answer)
    stored = {a.question_id: a for a in answers if a.arm is Arm.BASELINE}
    assert len(stored) == N_WEIGHED
    original = json.loads(shared("alpaca_eval/alpaca_eval_gpt4_baseline.json").read_text("utf-8"))
    for question, answer in stored.items():
        assert answer.text == original[int(question.removeprefix("alpaca-"))]["output"]
        assert answer.stop is Stop.GIVEN

    # --- how it was judged ---
    manifest = RunDir(folder).manifest("judge")
    assert manifest is not None
    assert manifest.facts["protocol of alpaca_eval"] == "alpaca-eval-weighted"
    assert manifest.facts["protocol of mt_bench"] == "mt-bench-pairwise"

    # --- the report: tables that pass the audit ---
    results = Results.model_validate_json((folder / "report/results.json").read_bytes())
    audited = audit_file(folder / "report/report.md")
    assert [t.table.benchmark.value for t in audited.tables] == [
        "alpaca_eval", "alpaca_eval", "mt_bench",
    ]  # fmt: skip
    assert audited.problems == []
    for name in ("alpaca_eval", "mt_bench"):
        assert audit_file(folder / f"report/{name}.csv").problems == []
    page = (folder / "report/index.html").read_text("utf-8")
    assert page.count("<caption>AlpacaEval 2: win rate (%) and length</caption>") == 2
    assert "<caption>MT-Bench, pairwise</caption>" in page
    findings = " ".join(results.findings)
    assert (
        "asks for AlpacaEval's length-controlled rate, and there is none against base" in findings
    )

    # --- exported, and scored by the same rules: the report's own numbers ---
    exported = export_run(RunDir(folder), tmp_path / "out")
    pairwise = results.benchmarks["alpaca_eval"].pairwise
    assert pairwise is not None
    for result, reference in (
        (pairwise, "tiny-base"),
        (results.benchmarks["alpaca_eval"].others["baseline"], "gpt4_1106_preview"),
    ):
        said = scored(exported, f"against-{reference}/annotations.json")
        (line,) = result.alpaca_eval
        assert (said["model"], said["reference"]) == ("tiny-tuned", reference)
        assert said["judge"] == "weighted_alpaca_eval_gpt4_turbo"
        for column in ("win_rate", "standard_error", "n_wins", "n_wins_base", "n_draws", "n_total",
                       "discrete_win_rate", "avg_length", "length_controlled_winrate",
                       "n_unscored"):  # fmt: skip
            assert said[column] == getattr(line, column), column
        assert line.mode == "community"
        assert line.n_total == N_WEIGHED
        control = result.length_controlled
        assert control is not None
        assert control.official is None
        assert said["length_controlled_reason"] == control.reason
        assert control.reason is not None
        fitted = said["length_controlled_win_rate_fitted"]
        for end in ("value", "low", "high"):
            mine = getattr(control.fitted, end)
            assert fitted[end] == (None if mine is None else 100 * mine)
        # The estimate by question is the same mean, before it goes through a file's 1 + q.
        assert line.win_rate == pytest.approx(100 * (result.win_rate.value or 0), abs=1e-9)

    mt = results.benchmarks["mt_bench"].pairwise
    assert mt is not None
    assert mt.mt_bench is not None
    said = scored(exported, "gpt-4-1106-preview_pair.jsonl")
    assert {
        name: {k: row[k] for k in ("win", "loss", "tie", "win_rate", "loss_rate",
                                   "win_rate_adjusted")}
        for name, row in said["models"].items()
    } == {line.model: line.model_dump(exclude={"model"}) for line in mt.mt_bench.lines}  # fmt: skip
    for count in ("n_matches", "n_dropped", "n_inconsistent", "n_contradictory"):
        assert said[count] == getattr(mt.mt_bench, count), count
    assert said["known_wrong_references"]["n_judgments"] == mt.mt_bench.n_known_wrong
    assert mt.mt_bench.n_matches + mt.mt_bench.n_dropped == 16
    assert mt.mt_bench.n_dropped
    assert mt.mt_bench.n_inconsistent
    check_exported_files(exported, folder)


def check_exported_files(exported: Exported, run: Path) -> None:
    """The keys of the original files, and of what the run holds every row."""
    names = sorted("/".join(p.parts[-3:]) for p in exported.files)
    assert names == [
        "alpaca_eval/gpt4_1106_preview/model_outputs.json",
        "alpaca_eval/tiny-base/model_outputs.json",
        "alpaca_eval/tiny-tuned/model_outputs.json",
        "mt_bench/model_answer/tiny-base.jsonl",
        "mt_bench/model_answer/tiny-tuned.jsonl",
        "mt_bench/model_judgment/gpt-4-1106-preview_pair.jsonl",
        "tiny-tuned/against-gpt4_1106_preview/annotations.json",
        "tiny-tuned/against-tiny-base/annotations.json",
    ]
    assert not any(exported.left_out.values())
    by_name = {"/".join(p.parts[-3:]): p for p in exported.files}

    outputs = json.loads(by_name["alpaca_eval/tiny-tuned/model_outputs.json"].read_text("utf-8"))
    assert len(outputs) == N_WEIGHED
    assert set(outputs[0]) == {"dataset", "instruction", "output", "generator"}
    with gzip.open(shared("alpaca_eval/annotations/alpaca-7b.json.gz")) as file:
        theirs = json.load(file)[0]
    rows = json.loads(by_name["tiny-tuned/against-tiny-base/annotations.json"].read_text("utf-8"))
    assert set(rows[0]) == set(theirs)
    completion = next(r["raw_completion"] for r in rows if r["raw_completion"])
    assert set(completion) == set(theirs["raw_completion"])
    assert set(completion["logprobs"]["content"][0]) == {
        "token", "bytes", "logprob", "top_logprobs",
    }  # fmt: skip

    def lines(name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in by_name[name].read_text("utf-8").splitlines()]

    real = shared("mt_bench/model_judgment/gpt-4_pair.sample.jsonl").read_text("utf-8")
    pairs = lines("mt_bench/model_judgment/gpt-4-1106-preview_pair.jsonl")
    assert list(pairs[0]) == list(json.loads(real.splitlines()[0]))
    judgments = read_records(run / "judge/judgments.jsonl", Judgment)
    replies = {j.reply for j in judgments if j.benchmark == "mt_bench"}
    assert {row[g] for row in pairs for g in ("g1_judgment", "g2_judgment")} <= replies
    answers = lines("mt_bench/model_answer/tiny-tuned.jsonl")
    answer = json.loads(
        shared("mt_bench/model_answer/phi-3.jsonl").read_text("utf-8").splitlines()[0]
    )
    assert list(answers[0]) == list(answer)
    assert len(answers) == 8
    assert all(len(row["choices"][0]["turns"]) == 2 for row in answers)
    # Each game shows what the two models answered.
    (first,) = [r for r in pairs if (r["question_id"], r["turn"]) == (answers[0]["question_id"], 1)]
    said = answers[0]["choices"][0]["turns"][0]
    assert f"Assistant A's Answer]\n{said}\n[The End" in first["g1_user_prompt"]
    assert f"Assistant B's Answer]\n{said}\n[The End" in first["g2_user_prompt"]


def test_answers_rated_one_by_one_and_their_file(
    tmp_path: Path, official: Callable[..., Path]
) -> None:
    folder = tmp_path / "run"

    def rate(body: dict[str, Any]) -> Says | str:
        if "logprobs" in body:
            return weigh_length(body)
        number = len(body["messages"][-1]["content"])
        return "No." if number % 9 == 0 else f"Rating: [[{1 + number % 10}]]"

    with ChatServer(rate) as server:
        execute(make_run(official(server.url, mode="single"), folder), stages_until("report"))
    results = Results.model_validate_json((folder / "report/results.json").read_bytes())
    mt = results.benchmarks["mt_bench"]
    assert mt.pairwise is None
    assert mt.ratings is not None
    assert (mt.ratings.protocol, mt.ratings.n_ratings) == ("mt-bench-single", 2 * 2 * 8)
    assert mt.ratings.n_unparsed
    pair = mt.ratings.against["base"]
    assert None not in (pair.base.value, pair.tuned.value, pair.difference.low)
    said = scored(export_run(RunDir(folder), tmp_path / "out"), "gpt-4-1106-preview_single.jsonl")
    assert said["n_unscored"] == mt.ratings.n_unparsed
    assert {line.model: line.average for line in mt.ratings.lines} == {
        name: row["average"] for name, row in said["models"].items()
    }
    text = (folder / "report/report.md").read_text("utf-8")
    assert "| Model | first_turn | second_turn | average |" in text
    assert "Rating (points from 1 to 10; higher is better)" in text
    assert (folder / "report/mt_bench.csv").read_text().startswith("Model,first_turn,")


def fastchat_script(folder: Path) -> Path:
    """FastChat's ``show_result.py``, out of its wheel; or a skip."""
    wheel = "fschat==0.2.36"
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder),
         "--disable-pip-version-check", wheel],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = list(folder.glob("fschat-*.whl"))
    if done.returncode != 0 or not found:
        pytest.skip(f"needs FastChat's script: {wheel} could not be fetched")
    script = folder / "show_result.py"
    with zipfile.ZipFile(found[0]) as archive:
        script.write_bytes(archive.read("fastchat/llm_judge/show_result.py"))
    return script


def shown_by_fastchat(script: Path, mode: str, file: Path) -> list[list[str]]:
    """The rows that the script prints, with all digits."""
    code = (
        "import pandas, runpy, sys; pandas.set_option('display.precision', 17);"
        "pandas.set_option('display.width', 999);"
        f"sys.argv = ['show_result.py', '--mode', {mode!r}, '--input-file', {str(file)!r}];"
        f"runpy.run_path({str(script)!r}, run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True
    )
    return [line.split() for line in done.stdout.splitlines() if line.startswith("tiny-")]


@pytest.mark.parametrize("mode", ["pairwise-all", "single"])
def test_fastchats_own_script_makes_the_same_table_of_our_file(
    tmp_path: Path, official: Callable[..., Path], mode: str
) -> None:
    script = fastchat_script(tmp_path)
    folder = tmp_path / "run"

    def reply(body: dict[str, Any]) -> Says | str:
        number = len(body["messages"][-1]["content"])
        if mode == "single" and "logprobs" not in body:
            return "No." if number % 9 == 0 else f"[[{1 + number % 10}]]"
        return judge_of_both(body)

    with ChatServer(reply) as server:
        execute(make_run(official(server.url, mode=mode), folder), stages_until("report"))
    results = Results.model_validate_json((folder / "report/results.json").read_bytes())
    exported = export_run(RunDir(folder), tmp_path / "out")
    (file,) = [p for p in exported.files if p.parent.name == "model_judgment"]
    shown = shown_by_fastchat(script, mode, file)
    mt = results.benchmarks["mt_bench"]
    if mode == "single":
        assert mt.ratings is not None
        # Three tables: the first turn, the second, the average; the turn stands before a score.
        assert len(shown) == 6
        for turn, ours in ((0, "first_turn"), (2, "second_turn"), (4, "average")):
            theirs = {row[0]: float(row[-1]) for row in shown[turn : turn + 2]}
            assert theirs == pytest.approx({m.model: getattr(m, ours) for m in mt.ratings.lines})
        return
    assert mt.pairwise is not None
    assert mt.pairwise.mt_bench is not None
    columns = ("win", "loss", "tie", "win_rate", "loss_rate", "win_rate_adjusted")
    assert {row[0]: [float(x) for x in row[1:]] for row in shown} == {
        line.model: [getattr(line, c) for c in columns] for line in mt.pairwise.mt_bench.lines
    }


def test_getting_a_benchmarks_files_later_makes_its_judging_stale(
    tmp_path: Path, official: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without AlpacaEval's prompt file our own serves, and everything says so."""
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    folder, files = tmp_path / "run", tmp_path / "files"
    (prompt,) = [p for p in files.rglob("*") if p.is_file()]
    elsewhere = prompt.rename(tmp_path / prompt.name)

    def reply(body: dict[str, Any]) -> Says | str:
        ours = "VERDICT: A" in body["messages"][0]["content"]
        return prefer_longer(body) if ours else judge_of_both(body)

    with ChatServer(reply) as server:
        recipe = official(server.url)
        execute(make_run(recipe, folder), stages_until("report"))
        results = Results.model_validate_json((folder / "report/results.json").read_bytes())
        pairwise = results.benchmarks["alpaca_eval"].pairwise
        assert pairwise is not None
        assert pairwise.protocol == "tuneproof-pairwise"
        assert any("judged with this project's own prompt" in f for f in results.findings)
        assert pairwise.length_controlled is not None
        assert pairwise.length_controlled.official is None
        manifest = RunDir(folder).manifest("judge")
        assert manifest is not None
        assert manifest.facts["protocol of alpaca_eval"] == "tuneproof-pairwise"
        elsewhere.rename(prompt)
        status = {s.stage: s for s in run_status(make_run(recipe, folder), STAGES)}
        assert status["judge"].state == "stale"
        assert status["judge"].reasons == (
            'protocol.alpaca_eval was "tuneproof-pairwise", is "alpaca-eval-weighted"',
        )
    # What was judged is exported under the name of how it was judged.
    said = scored(export_run(RunDir(folder), tmp_path / "out"), "tiny-base/annotations.json")
    assert said["judge"] == "tuneproof-pairwise:gpt-4-1106-preview"
    # FastChat's files need the prompts that its judge was shown.
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(files))
    with pytest.raises(MissingAssetError, match="judged with mt-bench-pairwise, whose prompts"):
        export_run(RunDir(folder), tmp_path / "out")


def test_a_wrong_file_of_a_benchmark_is_refused_before_anything_is_written(
    tmp_path: Path, official: Callable[..., Path]
) -> None:
    with ChatServer(judge_of_both) as server:
        recipe = official(server.url)
        (prompt,) = [p for p in (tmp_path / "files").rglob("*") if p.is_file()]
        prompt.write_text("another prompt", encoding="utf-8")
        with pytest.raises(AssetError, match="expected SHA-256"):
            execute(make_run(recipe, tmp_path / "run"), stages_until("report"))
        assert server.received == []
    assert not (tmp_path / "run").exists()
