"""The control pairs that a recipe's judge will be tested on: how many can be built, and of what.

One set for each protocol by which pairs are judged. The right answers are those that the protocol's
benchmarks bring along (the responses of the questions asked of the test split, AlpacaEval's
baseline, MT-Bench's reference answers but for those known to be wrong); where they do not suffice,
the responses of the whole test split join them. How a pair is made is ``judge.controls``'s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING

from tuneproof import recipe as recipes
from tuneproof.data.questions import (
    KNOWN_WRONG_REFERENCES,
    alpaca_eval_baseline,
    mt_bench_number,
)
from tuneproof.judge.accuracy import wilson
from tuneproof.judge.controls import ControlKind, Controls, KnownAnswer, build_controls
from tuneproof.judge.mt_bench import MtBenchPairwise
from tuneproof.naming import listed, spoken
from tuneproof.plan.judging import is_pairwise, protocol_name
from tuneproof.records import Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof.judge.protocol import JudgeProtocol
    from tuneproof.plan.judging import Asked
    from tuneproof.recipe import Judge, Recipe
    from tuneproof.records import Example

LEVEL = 0.95
"""Of the interval whose lower bound a judge's accuracy is held to."""


@dataclass(frozen=True, kw_only=True)
class PlannedControls:
    """The controls of one protocol: those that can be built, and what cannot.

    ``name`` is the protocol that the recipe asks for; ``protocol`` the one whose requests are
    counted, which is this project's own where the files of the other are not here. ``unseen`` are
    benchmarks whose known answers are not here and may be when the judge is asked.
    """

    name: str
    protocol: JudgeProtocol
    built: Controls
    unseen: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        """How many can be built."""
        return len(self.built.controls)


def planned_controls(
    recipe: Recipe, asked: Sequence[Asked], test: Sequence[Example]
) -> list[PlannedControls]:
    """For each protocol by which pairs are judged, in the recipe's order.

    None where the recipe asks for no controls, or where its judge is no model.
    """
    judge = recipe.judge
    if judge is None or judge.kind == "reference" or not judge.checks.controls:
        return []
    by_name: dict[str, list[Asked]] = {}
    for a in asked:
        if is_pairwise(a):
            by_name.setdefault(protocol_name(a.evaluation), []).append(a)
    return [_planned(name, of, recipe, judge, test) for name, of in by_name.items()]


def _planned(
    name: str, asked: Sequence[Asked], recipe: Recipe, judge: Judge, test: Sequence[Example]
) -> PlannedControls:
    protocol = asked[0].protocol(judge)
    known: dict[str, KnownAnswer] = {}
    unseen = []
    for a in asked:
        found = _known(a, judge, test)
        if found is None:
            unseen.append(a.name)
        else:
            known |= {k.question_id: k for k in found}
    per_kind = judge.checks.controls
    built = build_controls(list(known.values()), seed=recipe.seed, per_kind=per_kind)
    if built.cannot:
        everything = {k.question_id: k for k in map(_of_example, test)} | known
        built = build_controls(list(everything.values()), seed=recipe.seed, per_kind=per_kind)
    return PlannedControls(name=name, protocol=protocol, built=built, unseen=tuple(unseen))


def _known(asked: Asked, judge: Judge, test: Sequence[Example]) -> list[KnownAnswer] | None:
    """What a benchmark's questions are known to have for right answers; None where unseen."""
    if isinstance(asked.evaluation, recipes.Heldout):
        return [_of_example(e) for e in test[: asked.n_questions]]
    if asked.missing is not None:
        return None
    if isinstance(asked.evaluation, recipes.AlpacaEval):
        return _of_questions(asked, alpaca_eval_baseline(asked.assets))
    protocol = asked.protocol(judge)
    if not isinstance(protocol, MtBenchPairwise):
        # The project's own prompt brings no reference answers along, wanted or in the place of
        # FastChat's; only in the latter case may they be there later.
        return [] if asked.evaluation.protocol == "own" else None
    numbers = {q.id: mt_bench_number(q.id) for q in asked.questions}
    references = protocol.texts.references
    return _of_questions(
        asked,
        {
            question: references[number][0]
            for question, number in numbers.items()
            if number in references and number not in KNOWN_WRONG_REFERENCES
        },
    )


def _of_questions(asked: Asked, right: Mapping[str, str]) -> list[KnownAnswer]:
    return [
        KnownAnswer(
            question_id=q.id,
            benchmark=asked.name,
            instruction=q.turns[0],
            context="",
            right=right[q.id],
        )
        for q in asked.questions
        if q.id in right
    ]


def _of_example(example: Example) -> KnownAnswer:
    return KnownAnswer(
        question_id=example.id,
        benchmark="heldout",
        instruction=example.instruction,
        context=example.context,
        right=example.response,
    )


# --- findings --------------------------------------------------------------------------------


def controls_needed(minimum: float, *, level: float = LEVEL) -> int:
    """The fewest controls with which a judge that is always right reaches the minimum.

    Wilson's lower bound of n hits in n is n / (n + z²).
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    n = max(1, math.floor(z * z * minimum / (1 - minimum)))
    while wilson(n, n, level=level)[0] < minimum:
        n += 1
    return n


def controls_missing(recipe: Recipe, planned: Sequence[PlannedControls]) -> Finding | None:
    """Controls that cannot be built, or too few for any judge to pass."""
    if recipe.judge is None or not planned:
        return None
    checks = recipe.judge.checks
    wanted, needed = len(ControlKind) * checks.controls, controls_needed(checks.min_accuracy)
    short = [p for p in planned if p.n < max(wanted, needed)]
    if not short:
        return None
    parts = []
    for p in short:
        reasons = "; ".join(f"{c.kind}: {c.n_missing} missing, {c.reason}" for c in p.built.cannot)
        unseen = f" (the answers of {' and '.join(p.unseen)} are not here)" if p.unseen else ""
        parts.append(
            f"For {p.name} {p.n} of {wanted} control pairs can be built{unseen}"
            f"{f': {reasons}' if reasons else ''}."
        )
    hopeless = [p for p in short if p.n < needed]
    if hopeless:
        parts.append(
            f"With fewer than {needed} even a judge that is right on all has a lower bound under "
            f"{checks.min_accuracy:g}: no judge could pass, and the run would end without a "
            "judgment."
        )
    if wanted < needed:
        remedy = f"--set judge.checks.controls={math.ceil(needed / len(ControlKind))}"
    else:
        remedy = (
            "Ask more questions that have an answer known to be right, or hold out more rows "
            "(data.split.test)"
        )
    if hopeless:
        remedy += ", or a lower judge.checks.min_accuracy; controls=0 takes the judge at its word"
    seen = [p for p in hopeless if not p.unseen]
    return Finding(
        id="controls-missing",
        severity="error" if seen else "warning",
        count=sum(max(wanted, needed if p in hopeless else 0) - p.n for p in short),
        evidence=" ".join(parts),
        remedy=f"{remedy}.",
    )


def judge_untested(recipe: Recipe, asked: Sequence[Asked]) -> Finding | None:
    """A judge that is believed without being asked anything whose answer is known."""
    judge = recipe.judge
    if judge is None or judge.kind == "reference" or judge.checks.controls:
        return None
    judged = [a for a in asked if is_pairwise(a)]
    if not judged:
        return None
    return Finding(
        id="judge-untested",
        severity="warning",
        count=sum(a.n_questions for a in judged),
        evidence=f"{judge.name} is shown no pair whose better answer is known: that it can tell "
        f"good answers from bad ones on {listed(spoken(a.name) for a in judged)} is taken on "
        "trust.",
        remedy="--set judge.checks.controls=30",
    )
