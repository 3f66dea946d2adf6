"""From training to verdict where the truth is known: nothing learned, shuffled responses, learned.

The judge is the deterministic one that prefers the answer nearer the reference response.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import pytest

from tests.conftest import WORDS, write_jsonl
from tuneproof.pipeline import Run, execute
from tuneproof.progress import SilentReporter
from tuneproof.recipe_file import load_recipe
from tuneproof.results import Outcome, Results
from tuneproof.stages import STAGES
from tuneproof.workspace import RunDir

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def recipe_sections() -> dict[str, object]:
    return {
        "lora": {"r": 16, "alpha": 32, "dropout": 0.0, "target_modules": "all-linear"},
        "judge": {"kind": "reference", "checks": {"controls": 30}},
        "train": {
            "epochs": 6,
            "batch_size": 4,
            "micro_batch_size": 4,
            "learning_rate": 0.005,
            "max_length": 128,
            "eval_steps": 50,
            "loss_on": "response",
        },
    }


def results(recipe: Path, folder: Path, *overrides: str) -> Results:
    execute(Run(load_recipe(recipe, overrides), RunDir(folder), SilentReporter()), STAGES)
    return Results.model_validate_json((folder / "report/results.json").read_bytes())


def test_real_training_is_better_and_beats_its_placebo(
    tmp_path: Path, tiny_recipe: Callable[..., Path], recipe_sections: dict[str, object]
) -> None:
    rule = {"metric": "win_rate", "beat_placebo": True}
    recipe = tiny_recipe(360, **recipe_sections, verdict=rule)
    found = results(recipe, tmp_path / "run")
    assert found.verdict.outcome is Outcome.BETTER, found.verdict.sentence
    assert found.registration is not None
    assert found.registration.registered
    pairwise = found.benchmarks["heldout"].pairwise
    assert pairwise is not None
    assert pairwise.check is not None
    assert pairwise.check.passes is True
    assert found.placebo is not None
    assert found.placebo.beaten
    assert found.verdict.second_opinion is not None
    # Every part of the win is there, and they sum to it.
    parts = pairwise.decomposition
    assert parts is not None
    assert parts.whole.value == pytest.approx(sum(p.value or 0.0 for p in parts.parts))
    # The placebo against base, in a metric that measures both alone.
    # One guess in seventeen is right by chance, and base has none right: that much is no skill.
    exact = results(
        recipe, tmp_path / "run", "verdict.metric=exact_match", "verdict.smallest_effect=0.1"
    )
    assert exact.verdict.outcome is Outcome.BETTER, exact.verdict.sentence
    assert exact.placebo is not None
    assert exact.placebo.placebo_is_better is False
    assert exact.placebo.beaten
    # The rule was another when it was judged.
    assert exact.registration is not None
    assert not exact.registration.registered
    assert "verdict.metric was win_rate, is exact_match" in exact.registration.sentence


def test_without_training_nothing_is_found(
    tmp_path: Path, tiny_recipe: Callable[..., Path], recipe_sections: dict[str, object]
) -> None:
    """A learning rate of next to nothing: the adapter's output stays nought."""
    recipe = tiny_recipe(120, **recipe_sections, verdict={"metric": "win_rate"})
    found = results(recipe, tmp_path / "run", "train.learning_rate=1e-12", "train.max_steps=2")
    assert found.verdict.outcome is Outcome.INCONCLUSIVE
    assert found.verdict.estimate.value == 0.5


def test_format_alone_does_not_beat_a_placebo(
    tmp_path: Path, tiny_recipe: Callable[..., Path], recipe_sections: dict[str, object]
) -> None:
    """Responses that have nothing to do with their questions teach which words come, and that it is
    one: the loss falls by nats, as the placebo's does, and the verdict does not call it better."""
    recipe = tiny_recipe(
        240, **recipe_sections, verdict={"metric": "heldout_loss", "beat_placebo": True}
    )
    draw = random.Random(3)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    write_jsonl(tmp_path / "rows.jsonl", [r | {"response": draw.choice(WORDS)} for r in rows])
    found = results(recipe, tmp_path / "run")
    assert found.heldout_loss is not None
    assert found.heldout_loss.difference.high is not None
    assert found.heldout_loss.difference.high < -1.0
    assert found.placebo is not None
    assert found.placebo.placebo_is_better
    assert not found.placebo.beaten
    assert found.verdict.outcome is Outcome.INCONCLUSIVE
    assert "more than a placebo brings, and that is not shown" in found.verdict.sentence
