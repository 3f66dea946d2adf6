"""Benchmarks, opponents, turns and several adapters, from questions to the report.

The tiny model is asked real questions of AlpacaEval and MT-Bench, so its context is made longer: it
has rotary positions, and weights that do not depend on how many there are.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import shared
from tests.fakes import ChatServer, shown
from tuneproof.data.encode import token_ids
from tuneproof.data.questions import mt_bench_questions
from tuneproof.data.templates import parse_template
from tuneproof.errors import AssetError
from tuneproof.generate.asking import Asked, ExamplesAsking
from tuneproof.pipeline import Run, execute
from tuneproof.progress import SilentReporter
from tuneproof.recipe import Model
from tuneproof.recipe_file import load_recipe
from tuneproof.records import (
    Answer,
    Arm,
    Judgment,
    Preference,
    Prompt,
    Results,
    SequenceLoss,
    Similarity,
    Stop,
)
from tuneproof.stages import stages_until
from tuneproof.train.model import load_tokenizer
from tuneproof.workspace import RunDir, read_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N_HELDOUT, N_ALPACA, N_MT = 6, 5, 4
BOTH = ["base", "fair-base"]


@pytest.fixture(scope="module")
def roomy_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roomy") / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    config["max_position_embeddings"] = 8192
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.fixture(autouse=True)
def assets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(shared("mt_bench").parent))


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
            judge={"base_url": url, "api_key_env": None, "model": "judge-1", "orders": 1},
            evaluate=[
                {"benchmark": "heldout", "questions": N_HELDOUT, "against": BOTH},
                {"benchmark": "alpaca_eval", "questions": N_ALPACA, "against": BOTH},
                {"benchmark": "mt_bench", "questions": N_MT, "against": BOTH},
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
