"""Keeping what was fixed before judging: an append-only history beside the judge's replies.

The judge stage adds a line whenever what counts (rule, questions, opponents, judge, protocols) is
not what the last line says, and with it whether anything had been judged by then. The file survives
what makes the stage start anew, as the replies do. What may be said of a verdict is
``registration.standing``'s business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tuneproof.registration import Registration, register
from tuneproof.workspace import JOURNAL_SUFFIX, read_records, write_records

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tuneproof.recipe import Recipe
    from tuneproof.records import Prompt

REGISTRATIONS: Final = f"registrations.{JOURNAL_SUFFIX}"


def registration_of(
    recipe: Recipe,
    prompts: Sequence[Prompt],
    protocols: Mapping[str, str],
    *,
    made_before_judging: bool,
) -> Registration:
    """What counts, as the recipe and the prompts have it.

    Args:
        recipe: the resolved one.
        prompts: what is asked on all benchmarks.
        protocols: the protocol's name by benchmark.
        made_before_judging: whether nothing has been judged yet.
    """
    questions: dict[str, list[str]] = {}
    for prompt in prompts:
        if prompt.turn == 1:
            questions.setdefault(prompt.benchmark, []).append(prompt.question_id)
    return register(
        recipe.verdict.model_dump(mode="json"),
        questions=questions,
        opponents={e.benchmark: e.against for e in recipe.evaluate},
        judge=recipe.judge.model_dump(mode="json") if recipe.judge is not None else None,
        protocols=protocols,
        made_before_judging=made_before_judging,
    )


def append_registration(
    recipe: Recipe,
    prompts: Sequence[Prompt],
    protocols: Mapping[str, str],
    *,
    folder: Path,
    n_replies: int,
) -> Registration:
    """Add what counts now, if the history's last line is another; returns the last line.

    Args:
        recipe: the resolved one.
        prompts: what is asked on all benchmarks.
        protocols: the protocol's name by benchmark.
        folder: the judge stage's.
        n_replies: how many replies are there already. A judge that is no model leaves none: its
            history begins before it judges, so that any line but the first comes after.
    """
    path = folder / REGISTRATIONS
    history = read_records(path, Registration) if path.is_file() else []
    leaves_replies = recipe.judge is not None and recipe.judge.kind != "reference"
    untouched = n_replies == 0 and (leaves_replies or not history)
    now = registration_of(recipe, prompts, protocols, made_before_judging=untouched)
    if history and history[-1].digest == now.digest:
        return history[-1]
    write_records(path, [*history, now])
    return now


def registered(folder: Path) -> Registration | None:
    """The registration that a verdict can rest on: the last one made before anything was judged,
    else the last one; None where there is none."""
    path = folder / REGISTRATIONS
    history = read_records(path, Registration) if path.is_file() else []
    before = [r for r in history if r.made_before_judging]
    return before[-1] if before else history[-1] if history else None
