"""Which measures two runs have in common, and the tuned model's values of each.

A measure is comparable where its number means the same in both runs: a loss a token needs the same
tokenizer, a length the same limit, a win rate the same judge and the same opponent. Where it is
not, the reason is the result. What is made of the values is left to ``comparison``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tuneproof.records import Answer, Arm, Preference, Rating, SequenceLoss, Similarity, Stop
from tuneproof.report.content import (
    EXACT_MATCH,
    HELDOUT_LOSS,
    RATING,
    SIMILARITY,
    STOPPED,
    TOKENS,
    WIN_RATE,
    Kind,
)
from tuneproof.stats.estimates import NOT_NEGATIVE, SHARE, Bounds
from tuneproof.stats.mt_bench import HIGHEST, LOWEST

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from tuneproof.compare.reading import RunRead
    from tuneproof.stats.across import Place, Weighed

Values = list[dict["Place", "Weighed"]]
"""The tuned model's values, for each of its adapters."""

Row = TypeVar("Row", SequenceLoss, Answer, Similarity, Rating, Preference)

_TOKENIZER = ("tokenizer", "the runs have different tokenizers, and it is counted in tokens")
_LIMIT = ("generate.max_new_tokens", "the answers had different limits")
_ASKED = (
    ("model", "another model"),
    ("model.dtype", "another dtype"),
    ("data.template", "asked with another template"),
    ("generate.max_new_tokens", "another limit of its answers"),
    ("generate.temperature", "another temperature"),
    ("generate.top_p", "another top_p"),
)
"""What makes an opponent the same; on another machine its bfloat16 answers may still differ."""

_JUDGED = (
    ("judge.temperature", "another temperature"),
    ("judge.max_tokens", "another limit of its replies"),
)


@dataclass(frozen=True, kw_only=True)
class Common:
    """One measure that both runs have, on one benchmark: the values of each run, or the reason why
    it is left out. ``against`` is a win rate's opponent.

    ``asked`` are the questions that it could be measured on in either run, scored or not.
    ``as_reported`` measures have, for each run by itself, the bootstrap of its report;
    ``of_answers`` measures follow from an answer, so that the same one has the same value.
    """

    id: str
    kind: Kind
    benchmark: str
    against: Arm | None = None
    bounds: Bounds | None = None
    first: Values
    second: Values
    asked: frozenset[str] = frozenset()
    as_reported: bool = False
    of_answers: bool = False
    reason: str | None = None


def common_measures(first: RunRead, second: RunRead, benchmark: str) -> list[Common]:
    """All measures of one benchmark that either run has."""
    referenced = benchmark == "heldout"
    found = [_loss(first, second)] if referenced else []
    found += _win_rates(first, second, benchmark)
    found += _ratings(first, second, benchmark)
    found += _similarities(first, second) if referenced else []
    for name, kind, value, bounds, needed in (
        ("stopped", STOPPED, _stopped, SHARE, [_LIMIT]),
        ("answer_tokens", TOKENS, _length, NOT_NEGATIVE, [_LIMIT, _TOKENIZER]),
    ):
        found.append(
            _common(
                name, kind, benchmark, first, second,
                rows=lambda run: [a for a in run.answers if a.benchmark == benchmark],
                value=value,
                bounds=bounds,
                of_answers=True,
                reason=_differing(first, second, "generate", needed),
            )
        )  # fmt: skip
    # What neither run has was not asked for.
    return [it for it in found if it.first or it.second or it.reason]


def _stopped(a: Answer) -> Weighed | None:
    return None if a.stop is Stop.ERROR else (float(a.stop.by_itself), 1.0)


def _length(a: Answer) -> Weighed | None:
    return None if a.stop is Stop.ERROR else (float(a.n_tokens), 1.0)


def _common(
    name: str,
    kind: Kind,
    benchmark: str,
    first: RunRead,
    second: RunRead,
    *,
    rows: Callable[[RunRead], Sequence[Row]],
    value: Callable[[Row], Weighed | None],
    bounds: Bounds | None = None,
    reason: str | None = None,
    against: Arm | None = None,
    as_reported: bool = False,
    of_answers: bool = False,
) -> Common:
    """``value`` is None where a row is unscored."""
    theirs = [_of_tuned(rows(run)) for run in (first, second)]
    sides = [_values(mine, value) for mine in theirs]
    for run, side in zip((first, second), sides, strict=True):
        if reason is None and any(sides) and not side:
            reason = f"{run.label} does not have it"
    return Common(
        id=name,
        kind=kind,
        benchmark=benchmark,
        against=against,
        bounds=bounds,
        first=sides[0],
        second=sides[1],
        asked=frozenset(row.question_id for mine in theirs for row in mine),
        as_reported=as_reported,
        of_answers=of_answers,
        reason=reason,
    )


def _of_tuned(rows: Iterable[Row]) -> list[Row]:
    """A preference is about the tuned model; the others say whose they are."""
    return [row for row in rows if isinstance(row, Preference) or row.arm is Arm.TUNED]


def _values(rows: Iterable[Row], value: Callable[[Row], Weighed | None]) -> Values:
    found: dict[int, dict[Place, Weighed]] = {}
    for row in rows:
        scored = value(row)
        if scored is not None:
            turn = row.turn if isinstance(row, Answer | Rating | Preference) else 1
            found.setdefault(row.adapter, {})[row.question_id, turn] = scored
    return [found[number] for number in sorted(found)]


def _loss(first: RunRead, second: RunRead) -> Common:
    return _common(
        "heldout_loss", HELDOUT_LOSS, "heldout", first, second,
        rows=lambda run: run.losses,
        value=lambda row: (row.response_nll, float(row.n_tokens)),
        bounds=NOT_NEGATIVE,
        reason=_differing(first, second, "generate", [_TOKENIZER]),
    )  # fmt: skip


def _similarities(first: RunRead, second: RunRead) -> list[Common]:
    missing = _not_judged(first, second)
    return [
        _common(
            "exact_match", EXACT_MATCH, "heldout", first, second,
            rows=lambda run: [s for s in run.similarities if s.exact is not None],
            value=lambda s: (float(s.exact is True), 1.0),
            bounds=SHARE,
            reason=missing,
            of_answers=True,
        ),
        _common(
            "similarity", SIMILARITY, "heldout", first, second,
            rows=lambda run: run.similarities,
            value=lambda s: (s.chrf, 1.0),
            bounds=SHARE,
            reason=missing,
            of_answers=True,
        ),
    ]  # fmt: skip


def _win_rates(first: RunRead, second: RunRead, benchmark: str) -> list[Common]:
    def of(run: RunRead, opponent: Arm) -> list[Preference]:
        # The placebo is each run's own, and no opponent that two runs share.
        return [p for p in run.preferences if p.benchmark == benchmark and p.opponent is opponent]

    def compared(opponent: Arm) -> Common:
        both = [of(run, opponent) for run in (first, second)]
        return _common(
            "win_rate", WIN_RATE, benchmark, first, second,
            rows=lambda run: of(run, opponent),
            value=lambda p: None if p.value is None else (p.value, 1.0),
            bounds=SHARE,
            as_reported=True,
            reason=_not_judged(first, second)
            or _other_judge(first, second, both, benchmark)
            or _other_opponent(first, second, opponent),
            against=opponent,
        )  # fmt: skip

    opponents = dict.fromkeys(
        p.opponent
        for run in (first, second)
        for p in run.preferences
        if p.benchmark == benchmark and p.opponent is not Arm.PLACEBO
    )
    return [compared(opponent) for opponent in opponents]


def _ratings(first: RunRead, second: RunRead, benchmark: str) -> list[Common]:
    rated = [[r for r in run.ratings if r.benchmark == benchmark] for run in (first, second)]
    if not any(rated):
        return []
    return [
        _common(
            "rating", RATING, benchmark, first, second,
            rows=lambda run: [r for r in run.ratings if r.benchmark == benchmark],
            value=lambda r: None if r.score is None else (r.score, 1.0),
            bounds=(LOWEST, HIGHEST),
            reason=_not_judged(first, second)
            or _unlike([{(r.judge, r.protocol) for r in rows} for rows in rated])
            or _differing(first, second, "judge", _JUDGED, what="another judge"),
        )
    ]  # fmt: skip


# --- why not ---------------------------------------------------------------------------------


def _not_judged(first: RunRead, second: RunRead) -> str | None:
    said = [
        f"{run.label}: {run.absent['judge']}" for run in (first, second) if "judge" in run.absent
    ]
    return "; ".join(said) or None


def _differing(
    first: RunRead,
    second: RunRead,
    stage: str,
    settings: Sequence[tuple[str, str]],
    *,
    what: str = "",
) -> str | None:
    for name, text in settings:
        a, b = first.setting(stage, name), second.setting(stage, name)
        if a != b:
            shown = f"{text} ({name}: {_short(a)} and {_short(b)})"
            return f"{what}: {shown}" if what else shown
    return None


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 24 else f"{text[:12]}…"


def _unlike(judges: Sequence[Collection[tuple[str, ...]]]) -> str | None:
    """Why two sets of (judge, protocol, …) are not the same; None where they are, or one is empty,
    which has a reason of its own."""
    if not all(judges) or set(judges[0]) == set(judges[1]):
        return None
    said = [", ".join(sorted(" with ".join(parts) for parts in side)) for side in judges]
    return f"another judge: {said[0]} and {said[1]}"


def _other_judge(
    first: RunRead, second: RunRead, preferences: Sequence[Sequence[Preference]], benchmark: str
) -> str | None:
    judges = []
    for run, rows in zip((first, second), preferences, strict=True):
        names = {j.judge for j in run.judgments if j.benchmark == benchmark}
        asked = {(p.protocol, f"{p.orders} order{'s' * (p.orders > 1)}") for p in rows}
        judges.append({(name, *how) for name in names for how in asked})
    return _unlike(judges) or _differing(first, second, "judge", _JUDGED, what="another judge")


def _other_opponent(first: RunRead, second: RunRead, opponent: Arm) -> str | None:
    if opponent is Arm.BASELINE:
        return None
    return _differing(first, second, "generate", _ASKED, what=f"another opponent, {opponent}")
