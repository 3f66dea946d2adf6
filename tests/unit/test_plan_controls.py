"""Control pairs that a plan counts: which can be built, and what it says where they cannot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import shared
from tests.unit.plan_case import (
    ALPACA,
    MT_BENCH,
    asked_of,
    recipe_of,
    referenced,
    without_files,
)
from tuneproof.plan.controls import (
    controls_missing,
    controls_needed,
    judge_untested,
    planned_controls,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tuneproof.plan.controls import PlannedControls
    from tuneproof.recipe import Recipe
    from tuneproof.records import Example

HELDOUT = {"benchmark": "heldout"}


@pytest.fixture(autouse=True)
def no_assets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    yield from without_files(monkeypatch, tmp_path)


def planned(recipe: Recipe, test: list[Example]) -> list[PlannedControls]:
    return planned_controls(recipe, asked_of(recipe, test), test)


def test_a_set_for_each_protocol() -> None:
    own = {**MT_BENCH, "protocol": "own"}
    for evaluate, names in (
        ([HELDOUT, ALPACA, MT_BENCH], ["tuneproof-pairwise", "alpaca-eval-weighted", "mt-bench"]),
        ([HELDOUT, own], ["tuneproof-pairwise"]),
        ([{**ALPACA, "protocol": "binary"}, own], ["alpaca-eval-binary", "tuneproof-pairwise"]),
        ([ALPACA, {**MT_BENCH, "mode": "single"}], ["alpaca-eval-weighted"]),
    ):
        found = planned(recipe_of(*evaluate), referenced(100))
        assert [p.name.removesuffix("-pairwise") for p in found] == [
            n.removesuffix("-pairwise") for n in names
        ]
        assert {p.n for p in found} == {90}


def test_no_controls_are_asked_for() -> None:
    assert planned(recipe_of(HELDOUT, judge={"checks": {"controls": 0}}), referenced(100)) == []


def test_the_benchmarks_own_answers_come_first() -> None:
    test = referenced(100)
    asked = {e.id for e in test[:40]}
    (few,) = planned(recipe_of({**HELDOUT, "questions": 40}), test)
    assert {c.known.question_id for c in few.built.controls} <= asked
    # Twenty are too few for thirty of a kind: the rest of the test split joins.
    (more,) = planned(recipe_of({**HELDOUT, "questions": 20}), test)
    assert not {c.known.question_id for c in more.built.controls} <= asked
    assert more.n == 90


def test_mt_bench_brings_seventeen_references(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thirty questions have one, and thirteen of those are known to be wrong."""
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(shared("mt_bench").parent))
    (found,) = planned(recipe_of({"benchmark": "mt_bench"}), [])
    assert found.unseen == ()
    assert len({c.known.question_id for c in found.built.controls}) == 17
    missing = {c.kind.value: c.n_missing for c in found.built.cannot}
    assert missing["other-question"] == missing["empty"] == 30 - 17


@pytest.mark.parametrize(("minimum", "needed"), [(0.0, 1), (0.5, 4), (0.8, 16), (0.9, 35)])
def test_how_many_it_takes(minimum: float, needed: int) -> None:
    """n / (n + 3.8415): 0.7961 at 15, 0.8064 at 16; 0.8985 at 34, 0.9011 at 35."""
    assert controls_needed(minimum) == needed


@pytest.mark.parametrize(
    ("test", "checks", "severity", "count", "said"),
    [
        # Twenty of thirty of each kind.
        (referenced(20), {}, "warning", 30, "60 of 90 control pairs"),
        # Answers of one word cannot be visibly cut.
        (referenced(20, n_words=1), {}, "warning", 50, "truncated: 30 missing, only 0 of 20"),
        (referenced(5), {}, "error", 75, "no judge could pass"),
        (referenced(5), {"min_accuracy": 0.75}, "warning", 75, "15 of 90"),
        # All can be built, and are too few: 15 of the 16 that it takes.
        (referenced(50), {"controls": 5}, "error", 1, "15 of 15 control pairs can be built."),
        ([], {}, "error", 90, "no question has a reference"),
    ],
)
def test_controls_that_cannot_be_built(
    test: list[Example], checks: dict[str, Any], severity: str, count: int, said: str
) -> None:
    recipe = recipe_of(HELDOUT, judge={"checks": checks})
    finding = controls_missing(recipe, planned(recipe, test))
    assert finding is not None
    assert (finding.id, finding.severity, finding.count) == ("controls-missing", severity, count)
    assert said in finding.evidence
    assert ("no judge could pass" in finding.evidence) == (severity == "error")
    if checks.get("controls"):
        assert "judge.checks.controls=6" in finding.remedy


def test_all_can_be_built() -> None:
    recipe = recipe_of(HELDOUT, ALPACA)
    assert controls_missing(recipe, planned(recipe, referenced(100))) is None


def test_answers_that_are_not_here_may_be_there_later() -> None:
    recipe = recipe_of(ALPACA)
    finding = controls_missing(recipe, planned(recipe, referenced(5)))
    assert finding is not None
    assert finding.severity == "warning"
    assert "the answers of alpaca_eval are not here" in finding.evidence


def test_a_judge_taken_at_its_word() -> None:
    untested = {"checks": {"controls": 0}}
    recipe = recipe_of(ALPACA, MT_BENCH, judge=untested)
    finding = judge_untested(recipe, asked_of(recipe))
    assert finding is not None
    assert (finding.id, finding.severity, finding.count) == ("judge-untested", "warning", 340)
    for fine in (
        recipe_of(ALPACA),
        recipe_of(HELDOUT, judge={"kind": "reference", **untested}),
    ):
        assert judge_untested(fine, asked_of(fine)) is None
