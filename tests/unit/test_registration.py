"""Pre-registration: what is digested, what a change is called, and what may then be said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tuneproof.recipe import Judge, VerdictRule
from tuneproof.registration import Registration, compare, register, standing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue

RULE = VerdictRule(metric="win_rate", smallest_effect=0.02).model_dump(mode="json")
JUDGE = Judge(model="judge-1").model_dump(mode="json")
QUESTIONS = {"heldout": ["row-1", "row-2", "row-3"], "mt_bench": ["mt-81"]}
OPPONENTS = {"heldout": ["base", "fair-base"], "mt_bench": ["base"]}


def made(
    rule: Mapping[str, JsonValue] = RULE,
    *,
    questions: Mapping[str, Sequence[str]] = QUESTIONS,
    opponents: Mapping[str, Sequence[str]] = OPPONENTS,
    judge: Mapping[str, JsonValue] | None = JUDGE,
    protocols: Mapping[str, str] | None = None,
    before: bool = True,
) -> Registration:
    return register(
        rule,
        questions=questions,
        opponents=opponents,
        judge=judge,
        protocols=protocols or {"heldout": "tuneproof-pairwise"},
        made_before_judging=before,
    )


def test_the_same_is_the_same() -> None:
    then = made()
    assert made() == then
    assert compare(then, made()) == []
    assert len(then.digest) == 64
    assert then.n_questions == 4
    # Questions in another order are the same questions; when it was made is no part of it.
    reordered = made(questions={k: v[::-1] for k, v in QUESTIONS.items()}, before=False)
    assert reordered.digest == then.digest
    assert compare(then, reordered) == []


def test_it_survives_the_disk() -> None:
    then = made()
    assert Registration.model_validate_json(then.model_dump_json()) == then


@pytest.mark.parametrize(
    ("now", "difference"),
    [
        (made({**RULE, "smallest_effect": 0.0}), "verdict.smallest_effect was 0.02, is 0"),
        (made({**RULE, "metric": "similarity"}), "verdict.metric was win_rate, is similarity"),
        (made({**RULE, "against": "base"}), "verdict.against was not set, is base"),
        (
            made({k: v for k, v in RULE.items() if k != "level"}),
            "verdict.level was 0.95, is not there any more",
        ),
        (made({**RULE, "decompose": True}), "verdict.decompose was not there, is true"),
        (made(judge={**JUDGE, "model": "judge-2"}), "judge.model was judge-1, is judge-2"),
        (made(judge=None), "the judge is gone"),
        (
            made(questions={**QUESTIONS, "heldout": ["row-1", "row-4", "row-5", "row-6"]}),
            "questions of heldout were 3, are 4: 2 taken out and 3 put in",
        ),
        (
            made(questions={"heldout": QUESTIONS["heldout"]}),
            "questions of mt_bench were 1, are 0: 1 taken out",
        ),
        (
            made(opponents={**OPPONENTS, "heldout": ["fair-base", "base"]}),
            "opponents of heldout was base, fair-base, is fair-base, base",
        ),
        (
            made(protocols={"heldout": "another"}),
            "protocol of heldout was tuneproof-pairwise, is another",
        ),
    ],
)
def test_every_change_has_its_words(now: Registration, difference: str) -> None:
    then = made()
    assert compare(then, now) == [difference]
    assert now.digest != then.digest
    found = standing(then, now)
    assert not found.registered
    assert found.differences == (difference,)
    assert found.sentence == (
        "The verdict is no longer pre-registered, since what was fixed before judging was changed: "
        f"{difference}."
    )


def test_a_judge_that_came() -> None:
    assert compare(made(judge=None), made()) == ["there was no judge, and there is one"]


@pytest.mark.parametrize(
    "change",
    [
        {"concurrency": 99},
        {"timeout_s": 5.0},
        {"api_key_env": None},
        {"prices": {"input": 3.0, "output": 4.0}},
    ],
)
def test_speed_and_price_change_nothing(change: dict[str, JsonValue]) -> None:
    assert made(judge={**JUDGE, **change}) == made()


def test_replies_that_are_replayed_show() -> None:
    replayed = {**JUDGE, "kind": "replay", "journal": "elsewhere.jsonl"}
    assert compare(made(), made(judge=replayed)) == ["judge.kind was openai, is replay"]


def test_several_changes_are_all_told() -> None:
    now = made({**RULE, "level": 0.9, "max_unscored": 1.0}, judge={**JUDGE, "temperature": 1.0})
    assert compare(made(), now) == [
        "verdict.level was 0.95, is 0.9",
        "verdict.max_unscored was 0.02, is 1",
        "judge.temperature was 0, is 1",
    ]


def test_what_may_be_said() -> None:
    then = made()
    kept = standing(then, made(before=False))
    assert kept.registered
    assert kept.sentence == (
        "The verdict is pre-registered: its rule, the 4 questions, opponents and judge were "
        f"recorded before anything was judged ({then.digest[:12]}), and are as they were."
    )
    late = standing(made(before=False), made())
    assert not late.registered
    assert "judgments were there before its rule was recorded" in late.sentence
    none = standing(None, made())
    assert (none.registered, none.differences) == (False, ())
    assert none.sentence.startswith("The verdict is not pre-registered")
