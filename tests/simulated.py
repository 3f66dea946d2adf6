"""Matches drawn from a known truth: what intervals, verdicts and parts of a win should find.

A judge that sees a pair of answers has a latent leaning towards tuned::

    effect + question + turn ± position + noise

with a normal question part (shared by all turns and orders of a question), a normal turn part
(shared by its orders), a position bias towards the answer shown first, and logistic noise of every
reply. Above ``tie`` tuned is preferred, below −``tie`` the opponent, between them neither. Replies
may fail to parse, at random or where tuned loses. The truths are integrals, by quadrature.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from tuneproof.recipe import Judge, VerdictRule
from tuneproof.records import (
    Arm,
    CutPreference,
    Judgment,
    Preference,
    Prompt,
    preferred,
)
from tuneproof.stats.summary import benchmark_result
from tuneproof.stats.verdict import decide

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from tuneproof.results import Verdict

    Floats = NDArray[np.float64]

PROTOCOL = "simulated"


@dataclass(frozen=True, kw_only=True)
class World:
    """See the module's docstring; all but the counts and shares are in log odds.

    ``settle`` is how two orders become one preference: their mean, or MT-Bench's rule. ``unparsed``
    is the chance of a reply that cannot be read, of the replies that ``unparsed_where`` says.
    """

    n_questions: int = 80
    n_turns: int = 1
    orders: int = 2
    effect: float = 0.0
    question_sd: float = 1.5
    turn_sd: float = 0.0
    position: float = 0.0
    tie: float = 0.0
    settle: Literal["mean", "mt-bench"] = "mean"
    unparsed: float = 0.0
    unparsed_where: Literal["anywhere", "tuned loses"] = "anywhere"

    @property
    def questions(self) -> list[str]:
        """Their ids."""
        return [f"q{i}" for i in range(self.n_questions)]


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Replies of one simulated evaluation, by question, turn and order.

    ``value`` is 1 where tuned is preferred, 0.5 for a tie, 0 where it loses; ``parsed`` says
    whether it could be read. In order 0 tuned is shown first (with one order: where
    ``tuned_first`` says).
    """

    value: Floats
    parsed: NDArray[np.bool_]
    tuned_first: NDArray[np.bool_]


def draw(world: World, generator: np.random.Generator) -> Drawn:
    """One evaluation."""
    shape = (world.n_questions, world.n_turns, world.orders)
    question = generator.normal(0, 1, (shape[0], 1, 1)) * world.question_sd
    turn = generator.normal(0, 1, (*shape[:2], 1)) * world.turn_sd
    if world.orders == 2:
        tuned_first = np.broadcast_to([True, False], shape)
    else:
        tuned_first = np.broadcast_to(generator.random((shape[0], 1, 1)) < 0.5, shape)
    bias = np.where(tuned_first, world.position, -world.position)
    leaning = world.effect + question + turn + bias + generator.logistic(0, 1, shape)
    value = np.where(leaning > world.tie, 1.0, np.where(leaning < -world.tie, 0.0, 0.5))
    at_risk = value == 0 if world.unparsed_where == "tuned loses" else np.ones(shape, bool)
    parsed = ~(at_risk & (generator.random(shape) < world.unparsed))
    return Drawn(value=value, parsed=parsed, tuned_first=tuned_first)


def judgments_of(world: World, drawn: Drawn) -> list[Judgment]:
    """The replies as records."""
    rows = []
    for q, question in enumerate(world.questions):
        for t in range(world.n_turns):
            for o in range(world.orders):
                first = Arm.TUNED if drawn.tuned_first[q, t, o] else Arm.BASE
                value = float(drawn.value[q, t, o])
                p_first = value if first is Arm.TUNED else 1 - value
                parsed = bool(drawn.parsed[q, t, o])
                rows.append(
                    Judgment(
                        key=f"{question}-{t}-{o}",
                        question_id=question,
                        benchmark="heldout",
                        turn=t + 1,
                        opponent=Arm.BASE,
                        protocol=PROTOCOL,
                        judge="simulated",
                        first=first,
                        prefers=preferred(p_first) if parsed else None,
                        p_first=p_first if parsed else None,
                        unparsed=None if parsed else "no verdict",
                        reply="",
                    )
                )
    return rows


def preferences_of(world: World, drawn: Drawn) -> list[Preference]:
    """What ``judge.matches.preferences`` makes of the same replies (a test says so), faster."""
    complete = np.asarray(drawn.parsed.all(axis=2))
    settled = settle(world, drawn.value)
    same = np.asarray(drawn.value[..., 0] == drawn.value[..., -1])
    n_unparsed = np.asarray((~drawn.parsed).sum(axis=2))
    return [
        Preference(
            question_id=question,
            benchmark="heldout",
            turn=t + 1,
            opponent=Arm.BASE,
            protocol=PROTOCOL,
            orders=world.orders,
            value=float(settled[q, t]) if complete[q, t] else None,
            n_judgments=world.orders,
            n_unparsed=int(n_unparsed[q, t]),
            orders_agree=bool(same[q, t]) if world.orders == 2 and complete[q, t] else None,
        )
        for q, question in enumerate(world.questions)
        for t in range(world.n_turns)
    ]


def settle(world: World, value: Floats) -> Floats:
    """One preference a pair, from its orders on the last axis."""
    if world.settle == "mean":
        return np.asarray(value.mean(axis=2))
    return np.where(value[..., 0] == value[..., 1], value[..., 0], 0.5)


def prompts_of(world: World) -> list[Prompt]:
    """The questions, as the summary takes them."""
    return [
        Prompt(
            question_id=question,
            benchmark="heldout",
            category=None,
            turn=t + 1,
            instruction=question,
            context="",
            token_ids=None,
            reference=None,
            checkable=False,
        )
        for question in world.questions
        for t in range(world.n_turns)
    ]


def verdict_of(
    world: World,
    drawn: Drawn,
    rule: VerdictRule,
    *,
    seed: int = 1,
    with_judgments: bool = False,
) -> Verdict:
    """From replies to the verdict, as a run makes it, by the bootstrap of that seed.

    ``with_judgments`` gives the summary the replies, too, of which the verdict takes nothing.
    """
    result = benchmark_result(
        prompts_of(world),
        [],
        [],
        judgments_of(world, drawn) if with_judgments else [],
        preferences_of(world, drawn),
        judge=Judge(model="simulated"),
        level=rule.level,
        seed=seed,
    )
    return decide(rule, None, {"heldout": result})


# --- truths ----------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def true_win_rate(world: World) -> float:
    """The expectation of a pair's settled preference, had every reply been read."""
    spread = float(np.hypot(world.question_sd, world.turn_sd))
    leaning, weights = normal_nodes(world.effect, spread)
    chances = []
    for side in (1, -1):
        centre = leaning + side * world.position
        win, loss = sigmoid(centre - world.tie), sigmoid(-centre - world.tie)
        chances.append((win, loss))
    (win_1, loss_1), (win_2, loss_2) = chances
    if world.settle == "mean":
        value = ((1 + win_1 - loss_1) / 2 + (1 + win_2 - loss_2) / 2) / 2
    else:
        value = (1 + win_1 * win_2 - loss_1 * loss_2) / 2
    return float(weights @ value)


def normal_nodes(centre: float, spread: float) -> tuple[Floats, Floats]:
    """Nodes and weights of an expectation over a normal variable (Gauss-Hermite)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    return centre + spread * nodes, weights / weights.sum()


def sigmoid(x: Floats) -> Floats:
    """The logistic function."""
    return np.asarray(1 / (1 + np.exp(-x)))


# --- a win that is made of parts -------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MadeWorld:
    """A win with known parts, in log odds: of stopping, of length, of content.

    A share ``runs_on`` of the opponent's answers does not stop, a share ``differs`` of pairs
    differs in length; the other pairs keep their judgment when they are cut. Both orders are
    averaged, as a product of two replies.
    """

    n_questions: int = 300
    n_turns: int = 1
    stopping: float = 2.0
    length: float = 0.5
    content: float = 0.4
    question_sd: float = 1.5
    runs_on: float = 0.6
    differs: float = 0.9
    unscored_after_cut: float = 0.0


def draw_made(world: MadeWorld, generator: np.random.Generator) -> list[CutPreference]:
    """One evaluation, judged three times."""
    shape = (world.n_questions, world.n_turns)
    question = generator.normal(0, world.question_sd, (shape[0], 1))
    runs_on = generator.random(shape) < world.runs_on
    differs = generator.random(shape) < world.differs
    stopped_leaning = world.content + world.length * differs + question

    def judged(leaning: Floats) -> Floats:
        replies = leaning[..., None] + generator.logistic(0, 1, (*shape, 2)) > 0
        return np.asarray(replies.mean(axis=2))

    as_judged = judged(stopped_leaning + world.stopping * runs_on)
    stopped = np.where(runs_on, judged(stopped_leaning), as_judged)
    equal = np.where(differs, judged(world.content + np.broadcast_to(question, shape)), stopped)
    lost = generator.random(shape) < world.unscored_after_cut
    return [
        CutPreference(
            benchmark="heldout",
            opponent=Arm.BASE,
            question_id=f"q{q}",
            as_answered=float(as_judged[q, t]),
            stopped=None if lost[q, t] else float(stopped[q, t]),
            equal_length=float(equal[q, t]),
        )
        for q in range(shape[0])
        for t in range(shape[1])
    ]


@functools.lru_cache(maxsize=64)
def true_parts(world: MadeWorld) -> tuple[float, float, float, float]:
    """Whole, stopping, length and what remains, in shares."""

    def rate(leaning: float) -> float:
        nodes, weights = normal_nodes(leaning, world.question_sd)
        return float(weights @ sigmoid(nodes))

    def over_length(extra: float) -> float:
        longer = rate(world.content + extra + world.length)
        return world.differs * longer + (1 - world.differs) * rate(world.content + extra)

    with_stop, without_stop = over_length(world.stopping), over_length(0.0)
    stopping = world.runs_on * (with_stop - without_stop)
    remaining = rate(world.content) - 0.5
    length = without_stop - rate(world.content)
    return stopping + length + remaining, stopping, length, remaining


def covered(estimates: Sequence[tuple[float | None, float | None]], truth: float) -> float:
    """The share of intervals that hold the truth."""
    hits = [low <= truth <= high for low, high in estimates if low is not None and high is not None]
    assert hits
    return sum(hits) / len(hits)
