"""The plan of the reference recipe and of its mended form, on the real Dolly file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import shared
from tuneproof.plan import Plan, make_plan
from tuneproof.recipe_file import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def planned(name: str, dolly: Path, tokenizer: Path, tmp: Path) -> Plan:
    from tuneproof import hub

    with pytest.MonkeyPatch.context() as patch:
        # Questions from the folder; the model's shape from the table.
        patch.setenv("TUNEPROOF_ASSETS", str(shared("mt_bench").parent))
        patch.setenv("HF_HUB_OFFLINE", "1")
        hub.is_reachable.cache_clear()
        plan = make_plan(
            load_recipe(
                RECIPES / f"{name}.yaml",
                [f"data.source.path={dolly}", f"model.tokenizer={tokenizer}"],
            ),
            run_dir=tmp,
        )
    hub.is_reachable.cache_clear()
    return plan


@pytest.fixture(scope="module")
def reference(
    dolly: Path, llama2_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory
) -> Plan:
    folder = tmp_path_factory.mktemp("empty")
    return planned("llama2-7b-dolly15k", dolly, llama2_tokenizer, folder)


@pytest.fixture(scope="module")
def mended(dolly: Path, llama2_tokenizer: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("empty")
    return planned("llama2-7b-dolly15k-mended", dolly, llama2_tokenizer, folder)


def test_the_documents_figures(reference: Plan) -> None:
    plan = reference
    assert plan.trainable_parameters == 4_194_304
    assert plan.total_parameters == 6_742_609_920
    assert plan.trainable_percent == 0.0622
    assert plan.rows == {"train": 12008, "validation": 1501, "test": 1502}
    assert (plan.ledger.read, plan.ledger.kept) == (15011, 15011)
    assert (plan.optimizer_steps, plan.warmup_steps) == (2253, 68)
    assert plan.evaluations == 25


def test_tokens(reference: Plan) -> None:
    tokens = reference.tokens
    assert tokens.real == 2_518_407
    assert (tokens.truncated_rows, tokens.responses_lost) == (220, 126)
    assert tokens.supervised == 2_518_407 - 12008  # the first token is no target
    assert tokens.eos_supervised_rows == 0
    # Batches of two at random carry half as much again.
    assert 1.4 < tokens.padded / tokens.real < 1.55
    assert sum(b.rows for b in tokens.histogram) == 12008
    assert tokens.histogram[-1].rows == 220
    assert reference.validation_tokens.real == 311_856
    assert reference.validation_tokens.rows == 1501


def test_memory_fits_the_documents_card(reference: Plan) -> None:
    """Packed, as the recipe has it: no float32 logits of whole batches, no masks of scores."""
    assert reference.memory_gib is not None
    assert 20 < reference.memory_gib.total < 25
    assert reference.fits["A100 40 GB"]


def test_time_is_assumed_and_near_the_documents(reference: Plan) -> None:
    """61 minutes there, with 22 evaluations; 25 here."""
    assert reference.time.source == "assumed"
    assert 61 * 60 < reference.time.by_gpu["A100 40 GB"].total_s < 66 * 60


def test_judge_calls_and_price(reference: Plan) -> None:
    cost = reference.cost
    assert cost.judge_calls == {"alpaca_eval": 300, "mt_bench": 160}
    # No controls, no repeats, no cuts, no placebo: the document's judge was asked this and no more.
    assert cost.judge_calls_total == 460
    assert (cost.check_calls.total, cost.rejudged_at_most) == (0, 0)
    assert cost.answers == 760
    assert cost.usd is not None
    assert 0.05 < cost.usd < 1


def test_every_defect_of_the_reference_is_found(reference: Plan) -> None:
    found = {f.id: (f.severity, f.count) for f in reference.findings}
    assert len(found) == len(reference.findings)
    assert found == {
        "eos-not-supervised": ("error", 12008),
        "response-truncated": ("error", 220),
        "foreign-length-control": ("error", 300),
        "prompt-in-loss": ("warning", 1_449_416),
        "pad-is-eos": ("warning", 12008),
        "empty-section": ("warning", 8443),
        "weak-opponent": ("warning", 340),
        "first-n-subset": ("warning", 340),
        "underpowered": ("warning", 40),
        # The document takes its judge at its word: on all questions of both benchmarks.
        "judge-untested": ("warning", 340),
        "single-order": ("warning", 300),
        "single-seed": ("warning", 1),
        "test-split-unused": ("warning", 1502),
        "split-leak": ("note", 4),
        "duplicate-rows": ("note", 17),
        "single-judge": ("note", 1),
        "no-capability-benchmark": ("note", 1),
    }
    evidence = {f.id: f.evidence for f in reference.findings}
    assert "126 of them the whole response" in evidence["response-truncated"]
    assert "156 koala" in evidence["first-n-subset"]


def test_the_mended_recipe_has_no_error(mended: Plan) -> None:
    found = {f.id: f.severity for f in mended.findings}
    assert "error" not in found.values()
    assert found == {
        "response-truncated": "warning",
        "split-leak": "warning",
        "benchmark-overlap": "warning",
        "underpowered": "warning",
        "pad-is-eos": "note",
        "duplicate-rows": "note",
        "weak-opponent": "note",
        "single-judge": "note",
        "no-capability-benchmark": "note",
    }


def test_benchmark_questions_in_dolly(mended: Plan) -> None:
    """Two of 805 are, word for word: seven rows ask for the meaning of life or for Canberra."""
    (finding,) = (f for f in mended.findings if f.id == "benchmark-overlap")
    assert finding.count == 2
    assert "2 of 805" in finding.evidence
    assert "in 7 rows" in finding.evidence
    assert (mended.repeats.questions_checked, mended.repeats.overlapping_questions) == (885, 2)


def test_the_mended_recipe_costs_more(mended: Plan) -> None:
    assert (mended.adapters, mended.placebo_adapters) == (4, 1)
    assert mended.cost.judge_calls == {
        "heldout": 300 * 2 * 3,
        "alpaca_eval": 805 * 2 * 2 * 3,
        "mt_bench": 80 * 2 * 2 * 2 * 3,
    }
    assert mended.cost.check_calls.controls == {  # 30 of three kinds, in both orders
        "tuneproof-pairwise": 180,
        "alpaca-eval-weighted": 180,
        "mt-bench-pairwise": 180,
    }
    assert mended.cost.check_calls.placebo == 805 * 2 * 3
    assert mended.cost.check_calls.self_comparison == 2 * 40
    assert mended.cost.check_calls.repeats == 20
    assert mended.cost.judge_calls_total == 1800 + 9660 + 1920 + 540 + 4830 + 80 + 20 == 18_850
    assert mended.cost.rejudged_at_most == 2 * (1800 + 9660 + 1920 + 4830)
    # Three adapters and the placebo, base, and fair-base but on the test split.
    assert mended.cost.answers == 5 * (300 + 805 + 160) + 805 + 160 + 40
    assert mended.tokens.eos_supervised_rows > 0.99 * 12008
    assert mended.tokens.contexts_shortened > 0
