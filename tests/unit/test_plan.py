"""The plan as a whole on tiny rows: counts, steps, time, disk, text; and the verb."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from tests.conftest import tiny_rows, write_jsonl
from tuneproof.cli import app
from tuneproof.data.encode import EncodedRow
from tuneproof.errors import DataError, ModelError, RecipeError
from tuneproof.plan import Plan, make_plan
from tuneproof.plan.build import evaluation_steps
from tuneproof.plan.cards import (
    CARDS,
    Work,
    measured_rate,
    plan_time,
    reference_utilisation,
)
from tuneproof.plan.text import WIDTH, plan_text
from tuneproof.plan.tokens import (
    Encoded,
    count_tokens,
    count_validation,
    histogram,
    padded_tokens,
)
from tuneproof.recipe import Train
from tuneproof.recipe_file import load_recipe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def row(n: int, *, whole: int | None = None, n_prompt: int = 2) -> EncodedRow:
    return EncodedRow(
        token_ids=tuple(range(n)),
        supervised=(0, n),
        n_prompt=n_prompt,
        n_whole=whole or n,
        ends_with_eos=False,
        prompt_matches=True,
    )


# --- tokens ----------------------------------------------------------------------------------


def test_counts_by_hand() -> None:
    rows = [row(4), row(10, whole=30), row(10, whole=12, n_prompt=11)]
    train = Train(micro_batch_size=3, batch_size=3, max_length=10, append_eos=False)
    counts = count_tokens(Encoded(rows=rows, used=rows), train, seed=1)
    assert (counts.real, counts.padded, counts.supervised) == (24, 30, 3 + 9 + 9)
    assert (counts.truncated_rows, counts.responses_lost) == (2, 1)
    # Of all rows, before cutting.
    assert (counts.mean, counts.median, counts.longest) == (15.3, 12, 30)
    assert [b.model_dump() for b in counts.histogram] == [
        {"from": 1, "to": 10, "rows": 1},
        {"from": 11, "to": 30, "rows": 2},
    ]
    validation = count_validation(Encoded(rows=rows, used=rows), train)
    assert (validation.rows, validation.real, validation.padded) == (3, 24, 30)


def test_left_out_rows_are_counted_and_not_their_tokens() -> None:
    rows = [row(4), row(10, whole=30)]
    train = Train(micro_batch_size=1, batch_size=1, max_length=10, over_length="drop")
    counts = count_tokens(Encoded(rows=rows, used=rows[:1]), train, seed=1)
    assert (counts.real, counts.rows_dropped, counts.truncated_rows) == (4, 1, 1)


def test_padding_by_hand() -> None:
    assert padded_tokens([1, 5, 2, 2, 9], 2) == 2 * 5 + 2 * 2 + 9
    assert padded_tokens([3, 3], 1) == 6


def test_rows_of_like_length_pad_less() -> None:
    rows = [row(4 + 29 * (i % 2)) for i in range(64)]
    encoded = Encoded(rows=rows, used=rows)
    train = Train(micro_batch_size=4, batch_size=8, max_length=64)
    random = count_tokens(encoded, train, seed=1)
    by_length = train.model_copy(update={"batching": "by-length"})
    alike = count_tokens(encoded, by_length, seed=1)
    assert alike.padded == alike.real == random.real < random.padded


def test_bins_double_up_to_the_limit() -> None:
    bins = histogram([1, 32, 33, 64, 65, 100, 101, 4000], 100)
    assert [(b.start, b.end, b.rows) for b in bins] == [
        (1, 32, 2),
        (33, 64, 2),
        (65, 100, 2),
        (101, 4000, 2),
    ]
    assert [(b.start, b.end) for b in histogram([7], 16)] == [(1, 16)]


# --- steps -----------------------------------------------------------------------------------


def test_evaluations_of_the_reference() -> None:
    train = Train(epochs=3, batch_size=16, micro_batch_size=2, eval_steps=100)
    steps = evaluation_steps(train, 12008)
    assert len(steps) == 22 + 3
    assert steps[-1] == 2253
    assert {751, 1502} < set(steps)


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        # Ten steps an epoch: the epoch's end and a round number are one.
        (Train(epochs=2, batch_size=4, micro_batch_size=2, eval_steps=5), [5, 10, 15, 20]),
        # The last step is measured even where nothing else falls on it.
        (Train(max_steps=7, batch_size=4, micro_batch_size=2, eval_steps=5), [5, 7]),
        (Train(epochs=0.5, batch_size=4, micro_batch_size=2, eval_steps=100), [5]),
    ],
)
def test_evaluations(train: Train, expected: list[int]) -> None:
    assert evaluation_steps(train, 40) == expected


# --- time ------------------------------------------------------------------------------------

WORK = Work(parameters=1_000_000_000, training_tokens=1_000_000, evaluation_tokens=100_000)


def test_the_reference_used_a_quarter_of_its_card() -> None:
    """2.04e17 FLOP of training and 0.93e17 of evaluation in 61 minutes at 312 TFLOP/s."""
    assert reference_utilisation() == pytest.approx(2.97e17 / (3660 * 312e12), rel=0.01)


def test_stated_throughput() -> None:
    time = plan_time(WORK, fits={}, stated=1000, usd_per_gpu_hour=3.6)
    assert (time.source, time.training_s, time.evaluation_s) == ("stated", 1000, 50)
    assert (time.total_s, time.usd, time.by_gpu) == (1050, 1.05, {})


def test_assumed_throughput() -> None:
    fits = {card.name: card.name != "RTX 4090 24 GB" for card in CARDS}
    time = plan_time(WORK, fits=fits)
    assert (time.source, time.gpu) == ("assumed", "A100 40 GB")
    assert set(time.by_gpu) == set(fits)
    rate = reference_utilisation() * 312e12 / 4e9
    assert time.tokens_per_s == pytest.approx(rate, abs=0.1)
    assert time.training_s == pytest.approx(1e6 / rate, abs=0.1)
    assert "nothing was measured" in time.how
    # A small model at a small batch leaves a GPU idle between kernels.
    assert "smaller" in time.how
    assert "smaller" not in plan_time(dataclasses.replace(WORK, parameters=7 * 10**9), fits={}).how


def test_measured_throughput(tmp_path: Path) -> None:
    assert measured_rate(tmp_path) is None
    summary = tmp_path / "train" / "summary.json"
    summary.parent.mkdir()
    summary.write_text(json.dumps({"tokens": 5000, "duration_s": 10, "device": "A GPU"}))
    measured = measured_rate(tmp_path)
    assert measured == (500.0, "A GPU")
    time = plan_time(WORK, fits={}, measured=measured)
    assert (time.source, time.training_s, time.evaluation_s) == ("measured", 2000, None)
    for broken in ("{", "[]", '{"tokens": 1, "duration_s": 0, "device": "x"}'):
        summary.write_text(broken)
        assert measured_rate(tmp_path) is None


# --- the whole -------------------------------------------------------------------------------


@pytest.fixture
def tiny(tiny_recipe: Callable[..., Path]) -> Path:
    return tiny_recipe()


def test_a_plan_writes_nothing(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))
    before = sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*"))
    plan = make_plan(load_recipe(tiny))
    assert sorted(p.relative_to(tmp_path) for p in tmp_path.rglob("*")) == before
    assert plan.rows == {"train": 36, "validation": 6, "test": 18}
    assert plan.optimizer_steps == 9
    assert plan.evaluations == plan.checkpoints == 3  # after 4, 8 and 9 steps
    assert plan.disk_gib.model_cache == 0  # a folder
    assert plan.cost.answers == 2 * 18
    assert plan.memory_gib is not None
    assert all(plan.fits.values())
    assert plan.time.source == "assumed"


def test_a_placebo_is_one_more_training(tiny: Path) -> None:
    plain = make_plan(load_recipe(tiny, ["train.seeds=2"]), tokens_per_s=100.0)
    plan = make_plan(
        load_recipe(tiny, ["train.seeds=2", "verdict.beat_placebo=true"]), tokens_per_s=100.0
    )
    assert (plain.adapters, plain.placebo_adapters) == (2, 0)
    assert (plan.adapters, plan.placebo_adapters) == (3, 1)
    assert plan.optimizer_steps == plain.optimizer_steps == 9  # of each
    assert plan.time.training_s == pytest.approx(1.5 * plain.time.training_s, abs=0.1)
    assert plan.disk_gib.adapter == pytest.approx(1.5 * plain.disk_gib.adapter, abs=1e-3)
    assert (plain.cost.answers, plan.cost.answers) == (3 * 18, 4 * 18)
    text = "\n".join(line.plain for line in plan_text(plan))
    assert "for each of 3 adapters, the placebo included" in text
    assert "72, of them 18 of the placebo" in text


def test_a_placebo_that_cannot_be_made_is_refused(
    tiny_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = tiny_recipe()
    rows = [{**r, "response": "yes"} for r in tiny_rows(60)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    make_plan(load_recipe(recipe))
    with pytest.raises(DataError, match="gives no placebo"):
        make_plan(load_recipe(recipe, ["verdict.beat_placebo=true"]))


def test_a_verdict_on_one_question_is_refused(tiny_recipe: Callable[..., Path]) -> None:
    recipe = tiny_recipe(evaluate=[{"benchmark": "heldout", "questions": 1}])
    with pytest.raises(
        RecipeError, match="one question with one right answer on heldout"
    ) as caught:
        make_plan(load_recipe(recipe))
    assert (caught.value.exit_code, caught.value.place) == (2, "evaluate.0.questions")


def test_the_judges_calls_in_words(tiny_recipe: Callable[..., Path]) -> None:
    recipe = tiny_recipe(
        judge={"checks": {"controls": 4, "repeats": 5, "self_comparisons": 3}},
        generate={"max_new_tokens": 6, "temperature": 0.5},
        verdict={"metric": "win_rate", "beat_placebo": True},
    )
    plan = make_plan(load_recipe(recipe))
    lines = [line.plain for line in plan_text(plan)]
    # Eighteen questions in both orders, against base and against the placebo; answers of one word
    # can stand beside another's or beside nothing, and cannot be cut.
    controls = 2 * (4 + 4)
    total = 36 + controls + 36 + 2 * 3 + 5
    assert plan.cost.judge_calls_total == total
    for line in (
        "  answers      57, of them 18 of the placebo, 3 second ones of the tuned model",
        f"  calls        {total}, at most {total + 2 * 72}",
        "  benchmarks   heldout 36",
        f"  controls     tuneproof-pairwise {controls}, asked first",
        "  beside them  against the placebo 36, second answers against first ones 6, requests sent "
        "again 5",
        "  cut answers  at most 144 calls more: only matches that a cut changes are judged again, "
        "and which",
    ):
        assert line in lines
    missing = next(f for f in plan.findings if f.id == "controls-missing")
    assert (missing.severity, missing.count) == ("error", 16 - 8)
    assert max(map(len, lines)) <= WIDTH


def test_json_has_the_keys_that_programs_rely_on(tiny: Path) -> None:
    plan = json.loads(make_plan(load_recipe(tiny)).model_dump_json())
    for key in (
        "trainable_parameters",
        "total_parameters",
        "trainable_percent",
        "rows",
        "ledger",
        "optimizer_steps",
        "warmup_steps",
        "evaluations",
        "checkpoints",
        "notes",
    ):
        assert key in plan
    assert {"real", "padded", "truncated_rows", "responses_lost", "histogram"} < set(plan["tokens"])
    assert set(plan["tokens"]["histogram"][0]) == {"from", "to", "rows"}
    assert set(plan["memory_gib"]) == {
        "weights",
        "adapter",
        "optimizer",
        "activations",
        "logits",
        "overhead",
        "total",
    }
    assert {"answers", "judge_calls", "prompt_tokens", "completion_tokens", "usd", "price"} < set(
        plan["cost"]
    )
    assert {"checkpoints", "adapter", "model_cache", "total"} == set(plan["disk_gib"])
    for finding in plan["findings"]:
        assert set(finding) == {"id", "severity", "count", "evidence", "remedy"}
        assert finding["count"] >= 1
        assert finding["remedy"]


def test_duplicated_rows_are_found_end_to_end(
    tiny_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = tiny_recipe()
    rows = tiny_rows(60)
    write_jsonl(tmp_path / "rows.jsonl", rows + rows[:30])
    found = {f.id: f for f in make_plan(load_recipe(recipe)).findings}
    assert found["split-leak"].severity == "error"
    assert found["duplicate-rows"].count >= 10


def test_no_tokenizer_says_what_to_do(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tuneproof import hub

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.is_reachable.cache_clear()
    with pytest.raises(ModelError) as caught:
        make_plan(load_recipe(tiny, ["model.id=meta-llama/Llama-2-7b-hf"]))
    hub.is_reachable.cache_clear()
    assert "--set model.tokenizer=FOLDER" in caught.value.remedy


def test_text_is_plain_and_fits(tiny: Path) -> None:
    plan = make_plan(load_recipe(tiny), tokens_per_s=100.0, usd_per_gpu_hour=2.0)
    lines = [line.plain for line in plan_text(plan)]
    text = "\n".join(lines)
    assert max(map(len, lines)) <= WIDTH
    for section in ("Data", "Tokens", "Model", "Steps", "Memory", "Time", "Judge", "Disk"):
        assert section in lines
    assert "█" in text
    assert "USD" in text
    severities = [
        line.split()[0] for line in lines if line.startswith(("  error", "  warn", "  note"))
    ]
    assert severities == [f.severity for f in plan.findings]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)


def test_the_verb(tiny: Path) -> None:
    def plan(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["plan", str(tiny), *arguments])
        return done.exit_code, done.stdout

    code, text = plan()
    assert code == 0
    assert "\x1b" not in text
    assert "Findings" in text
    code, text = plan("--json", "--set", "train.append_eos=false", "--tokens-per-s", "10")
    made = Plan.model_validate_json(text)
    assert code == 0
    assert made.time.source == "stated"
    assert "eos-not-supervised" in {f.id for f in made.findings}
    assert plan("--strict", "--set", "train.append_eos=false")[0] == 1
    assert plan("--strict")[0] == 0
