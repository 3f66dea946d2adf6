"""Power: the smallest effect that so many questions can show, and how many an effect takes.

Before judging from assumptions, by the usual normal approximation: an effect δ is found with
probability ``power``, in an interval of that ``level``, where

    δ = (z₁₋α⸝₂ + z_power) · SE.

After it from an estimate's own standard error, whose interval is Student's: δ/SE is then the
noncentrality of the t distribution that is beyond t₁₋α⸝₂ with that probability (N. L. Johnson and
B. L. Welch, "Applications of the Non-Central t-Distribution", Biometrika 31, 1940). It is never
less than half the interval, as the normal one would be for a few questions.

What an estimate's own spread says is what a repetition could show, and no comment on the effect
that was found. Pure functions of numbers; which benchmark is too small for what is ``plan``'s
business.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from tuneproof.stats.distributions import normal_quantile, t_quantile

if TYPE_CHECKING:
    from tuneproof.results import Estimate

POWER: Final = 0.80
"""The usual one: four real effects of the given size in five are found."""

BINARY_SD: Final = 0.5
"""Of an outcome that is 0 or 1 with equal chance: the largest that a share can have."""

TURN_CORRELATION: Final = 0.48
"""Of the two turns of an MT-Bench question, in published judgments."""


def design_effect(n_each: float, correlation: float) -> float:
    """1 + (m − 1)·ρ: how many times the variance of a mean is what it would be if the m values of a
    question were independent (L. Kish, "Survey Sampling", 1965)."""
    return 1 + (n_each - 1) * correlation


def effective_questions(
    n_questions: float, n_turns: float, *, correlation: float = TURN_CORRELATION
) -> float:
    """How many independent outcomes the turns of questions amount to."""
    return n_questions * n_turns / design_effect(n_turns, correlation)


def minimum_detectable_effect(
    n: float, *, level: float = 0.95, power: float = POWER, sd: float = BINARY_SD
) -> float:
    """The least difference from no effect that n independent outcomes show, in the unit of ``sd``.

    For a win rate against one half, with outcomes that are wins or losses: 15.7 points at n = 80,
    8.1 at 300, 4.9 at 805.

    Args:
        n: independent outcomes: questions, or ``effective_questions`` where each has several.
        level: of the interval that must leave out the absence of an effect.
        power: the probability that it does.
        sd: the standard deviation of one outcome. For paired arms, that of the difference.
    """
    return _z(level, power) * sd / math.sqrt(n)


def detectable_with(error: float, *, df: int, level: float, power: float = POWER) -> float:
    """The least effect that an estimate of this standard error shows, in its unit.

    Args:
        error: the standard error.
        df: the degrees of freedom that it rests on: questions less one.
        level: of the interval that must leave out the absence of an effect.
        power: the probability that it does, on the effect's own side.
    """
    from scipy.special import nctdtrinc

    return float(nctdtrinc(df, 1 - power, t_quantile((1 + level) / 2, df))) * error


def questions_for(estimate: Estimate, effect: float, *, beyond: float = 0.0) -> float | None:
    """How many questions of this spread show an effect; infinite where it is not beyond ``beyond``.

    n · (detectable/(effect − beyond))², since what can be detected falls with √n; from a handful of
    questions rather too many, as Student's t falls faster. None where the estimate tells of no
    spread.
    """
    if estimate.detectable is None:
        return None
    distance = abs(effect) - beyond
    if distance <= 0:
        return math.inf
    return estimate.n_scored * (estimate.detectable / distance) ** 2


def _z(level: float, power: float) -> float:
    return normal_quantile((1 + level) / 2) + normal_quantile(power)
