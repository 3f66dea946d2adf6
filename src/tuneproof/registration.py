"""Pre-registration: what will count as better, fixed and digested before anything is judged.

A registration holds the recipe's verdict rule, which questions are asked, of whom, and who judges
how. It is made when judging begins; when the report is made, the same is made again from the recipe
as it then is, and compared. Pure: when it is made, and where it is kept, is left to the stages.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from pydantic import Field, JsonValue

from tuneproof.records import Record
from tuneproof.results import Registered

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

WITHOUT_EFFECT: Final = frozenset(
    {
        "api_key_env",
        "concurrency",
        "journal",
        "limit_field",
        "timeout_s",
        "batch_api",
        "budget_usd",
        "prices",
    }
)
"""Settings of a judge that change how fast or dear its replies are, and where they are kept, but
not what it is asked. That replies were replayed stays visible: ``kind`` is not among them."""

DIGEST_SHOWN: Final = 12
"""Characters of a digest in a sentence."""


class Registration(Record):
    """What was fixed. ``digest`` is that of everything in it but ``made_before_judging``.

    ``rule`` and ``judge`` are sections of the recipe, by key; ``judge`` is None where there is
    none. ``questions`` holds the ids and ``opponents`` the arms by benchmark, and ``protocols``
    how each benchmark is judged.
    """

    digest: str
    rule: dict[str, JsonValue]
    questions: dict[str, tuple[str, ...]]
    opponents: dict[str, tuple[str, ...]]
    judge: dict[str, JsonValue] | None
    protocols: dict[str, str] = Field(default_factory=dict)
    made_before_judging: bool

    @property
    def n_questions(self) -> int:
        """Over all benchmarks."""
        return sum(map(len, self.questions.values()))


def register(
    rule: Mapping[str, JsonValue],
    *,
    questions: Mapping[str, Sequence[str]],
    opponents: Mapping[str, Sequence[str]],
    judge: Mapping[str, JsonValue] | None,
    protocols: Mapping[str, str] | None = None,
    made_before_judging: bool,
) -> Registration:
    """Fix what will count.

    The order of questions counts for nothing. That of opponents counts: where the rule names none,
    a win rate is of the first.

    Args:
        rule: the recipe's ``verdict`` section as JSON values, defaults included: the metric, the
            level, the smallest effect, the guards.
        questions: ids by benchmark.
        opponents: arms by benchmark, in the recipe's order.
        judge: the recipe's ``judge`` section as JSON values. What has no effect on what is asked is
            left out.
        protocols: the protocol's name by benchmark.
        made_before_judging: whether not one reply of the judge was there yet.
    """
    parts: dict[str, JsonValue] = {
        "rule": dict(rule),
        "questions": {name: [*sorted(ids)] for name, ids in questions.items()},
        "opponents": {name: list(arms) for name, arms in opponents.items()},
        "judge": None if judge is None else _flat(judge),
        "protocols": dict(protocols or {}),
    }
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return Registration.model_validate(
        {
            **parts,
            "digest": hashlib.sha256(text.encode()).hexdigest(),
            "made_before_judging": made_before_judging,
        }
    )


def _flat(judge: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Its settings that count, those of its subsections by a dotted key."""
    found: dict[str, JsonValue] = {}
    for key, value in judge.items():
        if key in WITHOUT_EFFECT:
            continue
        if isinstance(value, dict):
            found.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            found[key] = value
    return found


def compare(then: Registration, now: Registration) -> list[str]:
    """What is no longer as it was fixed, one clause each; empty where all is.

    ``verdict.smallest_effect was 0.02, is 0``.
    """
    return [
        *_settings("verdict", then.rule, now.rule),
        *_question_differences(then.questions, now.questions),
        *_settings("opponents of", _shown(then.opponents), _shown(now.opponents), sep=" "),
        *_judge(then.judge, now.judge),
        *_settings("protocol of", then.protocols, now.protocols, sep=" "),
    ]


def _judge(then: Mapping[str, JsonValue] | None, now: Mapping[str, JsonValue] | None) -> list[str]:
    if then is None or now is None:
        if then is now:
            return []
        return ["there was no judge, and there is one"] if then is None else ["the judge is gone"]
    return _settings("judge", then, now)


def _settings(
    prefix: str, then: Mapping[str, JsonValue], now: Mapping[str, JsonValue], *, sep: str = "."
) -> list[str]:
    found = []
    for key in dict.fromkeys([*then, *now]):
        name = f"{prefix}{sep}{key}"
        if key not in now:
            found.append(f"{name} was {_value(then[key])}, is not there any more")
        elif key not in then:
            found.append(f"{name} was not there, is {_value(now[key])}")
        elif then[key] != now[key]:
            found.append(f"{name} was {_value(then[key])}, is {_value(now[key])}")
    return found


def _question_differences(
    then: Mapping[str, Iterable[str]], now: Mapping[str, Iterable[str]]
) -> list[str]:
    found = []
    for name in dict.fromkeys([*then, *now]):
        before, after = set(then.get(name, ())), set(now.get(name, ()))
        if before == after:
            continue
        gone, new = len(before - after), len(after - before)
        changes = [f"{gone:,} taken out" if gone else "", f"{new:,} put in" if new else ""]
        found.append(
            f"questions of {name} were {len(before):,}, are {len(after):,}: "
            f"{' and '.join(c for c in changes if c)}"
        )
    return found


def _shown(arms: Mapping[str, Sequence[str]]) -> dict[str, JsonValue]:
    return {name: ", ".join(each) for name, each in arms.items()}


def _value(value: JsonValue) -> str:
    if value is None:
        return "not set"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


# --- what may be said of a verdict -----------------------------------------------------------


def standing(then: Registration | None, now: Registration) -> Registered:
    """What the report may say of its verdict.

    Args:
        then: made when judging began; None where none is kept.
        now: made from the recipe as it is.
    """
    if then is None:
        return Registered(
            registered=False,
            digest=None,
            sentence="The verdict is not pre-registered: its rule was not recorded before judging.",
        )
    differences = tuple(compare(then, now))
    if differences:
        return Registered(
            registered=False,
            digest=then.digest,
            sentence="The verdict is no longer pre-registered, since what was fixed before judging "
            f"was changed: {'; '.join(differences)}.",
            differences=differences,
        )
    shown = then.digest[:DIGEST_SHOWN]
    if not then.made_before_judging:
        return Registered(
            registered=False,
            digest=then.digest,
            sentence="The verdict is not pre-registered: judgments were there before its rule was "
            f"recorded ({shown}).",
        )
    return Registered(
        registered=True,
        digest=then.digest,
        sentence=f"The verdict is pre-registered: its rule, the {then.n_questions:,} questions, "
        f"opponents and judge were recorded before anything was judged ({shown}), and are as they "
        "were.",
    )
