"""The verdict's estimate once more, with an interval of the other kind.

Student's t and the bootstrap rest on different assumptions; where they differ much, the sample is
too small or too skewed for either. The second opinion decides nothing and is shown beside the
verdict.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.records import Arm
from tuneproof.stats.bootstrap import Column, bootstrap_mean
from tuneproof.stats.estimates import SHARE_DIFFERENCE, ratio_influences
from tuneproof.stats.pairwise import win_rate
from tuneproof.stats.sides import sides_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.recipe import VerdictRule
    from tuneproof.records import Preference, SequenceLoss, Similarity
    from tuneproof.results import Estimate, Verdict


def second_opinion(
    rule: VerdictRule,
    verdict: Verdict,
    *,
    losses: Sequence[SequenceLoss],
    similarities: Sequence[Similarity],
    preferences: Sequence[Preference],
    seed: int,
) -> Estimate | None:
    """Student's t where the verdict rests on the bootstrap, else the bootstrap.

    None where there is nothing to estimate, where several adapters were trained (what their choice
    adds is not in a bootstrap over questions), or where there are too few questions for any other
    interval than Student's.

    Args:
        rule: the recipe's ``verdict`` section.
        verdict: what was decided.
        losses: of the test split's rows.
        similarities: of all answers.
        preferences: of all pairs.
        seed: the recipe's, for the bootstrap.
    """
    first = verdict.estimate
    if first.low is None:
        return None
    if rule.metric == "win_rate":
        mine = [
            p
            for p in preferences
            if p.benchmark == verdict.benchmark and p.opponent is verdict.against
        ]
        several = len({p.adapter for p in mine}) > 1
        questions = list(dict.fromkeys(p.question_id for p in mine))
        other = None if several else win_rate(mine, questions, level=rule.level)
        return other if other is not None and other.method != first.method else None
    column = _loss_column(losses) if rule.metric == "heldout_loss" else _column(rule, similarities)
    if column is None:
        return None
    found = bootstrap_mean(column, level=rule.level, seed=seed)
    if found.method == first.method:
        return None
    return found.model_copy(update={"n_unscored": first.n_unscored, "unit": first.unit})


def _column(rule: VerdictRule, similarities: Sequence[Similarity]) -> Column | None:
    exact = rule.metric == "exact_match"
    rows = [s for s in similarities if not exact or s.exact is not None]
    sides = sides_of(rows, lambda s: float(s.exact is True) if exact else s.chrf, base=Arm.BASE)
    if sides.adapters:
        return None
    return Column(
        values=[tuned - sides.base[q] for q, tuned in sides.tuned.items()],
        clusters=list(sides.tuned),
        bounds=SHARE_DIFFERENCE,
    )


def _loss_column(losses: Sequence[SequenceLoss]) -> Column | None:
    """By question, the difference of the two ratios plus n times the question's influence on it:
    their mean is the difference, and their spread that of the linearised ratios."""
    nll = sides_of(losses, lambda row: row.response_nll, base=Arm.BASE)
    tokens = sides_of(losses, lambda row: float(row.n_tokens), base=Arm.BASE)
    if nll.adapters or not nll.tuned:
        return None
    questions = list(nll.tuned)
    (base, base_parts), (tuned, tuned_parts) = (
        ratio_influences([x[q] for q in questions], [n[q] for q in questions])
        for x, n in ((nll.base, tokens.base), (nll.tuned, tokens.tuned))
    )
    n = len(questions)
    return Column(
        values=[tuned - base + n * (t - b) for t, b in zip(tuned_parts, base_parts, strict=True)],
        clusters=questions,
    )
