"""Batches of prompts as the plan makes them, without a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.generate.asking import Stops
from tuneproof.generate.batch import Ask, Batch, make_batch
from tuneproof.generate.plan import BASE, Respondent, Turn, compose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.recipe import Generate
    from tuneproof.records import Prompt

NO_STOPS = Stops()


def batches_of(
    prompts: Sequence[Prompt],
    settings: Generate,
    *,
    who: Respondent = BASE,
    weights: str = "w",
    stops: Stops = NO_STOPS,
    seed: int = 1,
    by_category: bool = False,
) -> list[Batch]:
    """All of ``prompts``, whose token ids are there, each of a question of its own."""
    asks = {p.question_id: Ask(prompt=p, token_ids=p.token_ids or ()) for p in prompts}
    turns = [Turn(question_id=q, turn=1, length=len(a.token_ids)) for q, a in asks.items()]
    return [
        make_batch(
            [asks[t.question_id] for t in together],
            settings,
            who=who,
            weights=weights,
            stops=stops,
            seed=seed,
            by_category=by_category,
        )
        for together in compose(turns, settings.budget)
    ]
