"""The score of an AlpacaEval annotations file: the leaderboard's columns, and what stands behind.

Rates are percentages, as on the leaderboard. A number that cannot be had is None, and its reason is
beside it. ``as_dict`` is what ``tuneproof score alpaca-eval --json`` prints.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.score.annotations import Annotations, read_annotations
from tuneproof.score.official import N_INSTRUCTIONS, LengthControl, official_length_control
from tuneproof.stats.alpaca_eval import (
    Interval,
    LeaderboardNumbers,
    average_length,
    is_binary,
    leaderboard_numbers,
    wilson,
    win_rate,
)
from tuneproof.stats.length_control import FittedRate, LengthRow, fitted_rate

if TYPE_CHECKING:
    from pathlib import Path

    from tuneproof.results import Alarm, Estimate

LEVEL = 0.95
SEED = 42
"""Of the bootstrap behind the fitted rate's interval."""

MODES = ("minimal", "verified", "community", "dev")
"""The leaderboard's words for a row's standing. They are in no file: a person gives them."""


@dataclass(frozen=True, kw_only=True)
class AlpacaEvalScore:
    """All that is said of one file. Estimates are shares here, percentages in ``as_dict``."""

    file: str
    models: tuple[str, ...]
    references: tuple[str, ...]
    judges: tuple[str, ...]
    mode: str | None
    numbers: LeaderboardNumbers
    average_length: int | None
    n_rows: int
    n_questions: int
    unscored: dict[str, int]
    rate: Estimate
    wilson: Interval | None
    by_dataset: dict[str, Estimate]
    length_control: LengthControl
    fitted: FittedRate
    alarms: tuple[Alarm, ...]
    warnings: tuple[str, ...]

    @property
    def n_unscored(self) -> int:
        """Rows without a preference."""
        return sum(self.unscored.values())

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON; rates in percent."""
        control, numbers = self.length_control, self.numbers
        return {
            "file": self.file,
            "model": _one(self.models),
            "reference": _one(self.references),
            "judge": _one(self.judges),
            "win_rate": numbers.win_rate,
            "standard_error": numbers.standard_error,
            "n_wins": numbers.n_wins,
            "n_wins_base": numbers.n_wins_base,
            "n_draws": numbers.n_draws,
            "n_total": numbers.n_total,
            "discrete_win_rate": numbers.discrete_win_rate,
            "mode": self.mode,
            "avg_length": self.average_length,
            "length_controlled_winrate": None if control.rate is None else control.rate.value,
            "lc_standard_error": None if control.rate is None else control.rate.standard_error,
            "length_controlled_source": control.source,
            "length_controlled_reason": control.reason,
            "length_controlled_win_rate_fitted": {
                **_percent(self.fitted.rate),
                "length_effect": self.fitted.length_effect,
                "n_longer": self.fitted.n_longer,
                "n_shorter": self.fitted.n_shorter,
                "extrapolated": self.fitted.extrapolated,
            },
            "n_rows": self.n_rows,
            "n_questions": self.n_questions,
            "n_unscored": self.n_unscored,
            "unscored": self.unscored,
            "interval": {
                **_percent(self.rate),
                "wilson": None
                if self.wilson is None
                else {"low": 100 * self.wilson.low, "high": 100 * self.wilson.high},
            },
            "by_dataset": {name: _percent(rate) for name, rate in self.by_dataset.items()},
            "alarms": [a.model_dump(include={"id", "count", "of", "text"}) for a in self.alarms],
            "warnings": list(self.warnings),
        }


def score_alpaca_eval(
    path: Path, *, mode: str | None = None, level: float = LEVEL, seed: int = SEED
) -> AlpacaEvalScore:
    """Read a file and score it.

    Args:
        path: an ``annotations.json`` as alpaca_eval writes it, packed with gzip or not.
        mode: the leaderboard's word for the row, passed on.
        level: the confidence level of all intervals.
        seed: of the bootstrap.

    Raises:
        DataError: the file is broken or holds a value that is none of the protocol's.
        AssetError: a file of the benchmark on this machine is not the right one.
    """
    found = read_annotations(path)
    rows = found.rows
    scored = [(row.question, row.preference) for row in rows if row.preference is not None]
    preferences = [q for _, q in scored]
    questions = [question for question, _ in scored]
    asked = dict.fromkeys(row.question for row in rows)
    n_unscored = len(asked) - len(set(questions))
    return AlpacaEvalScore(
        file=str(path),
        models=found.models,
        references=found.references,
        judges=found.judges,
        mode=mode,
        numbers=leaderboard_numbers(preferences),
        average_length=average_length([r.model_length for r in rows if r.model_length is not None]),
        n_rows=len(rows),
        n_questions=len(asked),
        unscored=found.unscored,
        rate=win_rate(preferences, questions, level=level, n_unscored=n_unscored),
        wilson=_wilson(preferences, questions, level=level),
        by_dataset=_by_dataset(found, level=level),
        length_control=official_length_control(found),
        fitted=fitted_rate(
            [
                LengthRow(
                    question=row.question,
                    preference=row.preference,
                    difference=row.reference_length - row.model_length,
                )
                for row in rows
                if row.preference is not None
                and row.reference_length is not None
                and row.model_length is not None
            ],
            level=level,
            seed=seed,
            n_unscored=n_unscored,
        ),
        alarms=found.alarms,
        warnings=tuple(_warnings(found)),
    )


def _wilson(preferences: list[float], questions: list[str], *, level: float) -> Interval | None:
    """Only for wins and losses of different questions: it supposes independent trials."""
    if not is_binary(preferences) or len(set(questions)) != len(questions):
        return None
    return wilson(sum(q == 1.0 for q in preferences), len(preferences), level=level)


def _by_dataset(found: Annotations, *, level: float) -> dict[str, Estimate]:
    """The win rate of each source of instructions, where the rows name more than one."""
    names = sorted({row.dataset for row in found.rows if row.dataset is not None})
    if len(names) < 2:
        return {}
    rates = {}
    for name in names:
        mine = [row for row in found.rows if row.dataset == name]
        scored = [(r.preference, r.question) for r in mine if r.preference is not None]
        asked = {row.question for row in mine}
        rates[name] = win_rate(
            [q for q, _ in scored],
            [question for _, question in scored],
            level=level,
            n_unscored=len(asked - {question for _, question in scored}),
        )
    return rates


def _warnings(found: Annotations) -> list[str]:
    said = [f"{n} rows are unscored: {reason}" for reason, n in found.unscored.items() if n]
    said += [f"{n} rows have no {key}" for key, n in sorted(found.lacking.items())]
    both = sorted(set(found.models) & set(found.references))
    if both:
        said.append(f"output_1 and output_2 are of the same generator, {both[0]}")
    for names, key in (
        (found.models, "generator_2"),
        (found.references, "generator_1"),
        (found.judges, "annotator"),
    ):
        if len(names) > 1:
            some = ", ".join(names[:3])
            said.append(f"the rows have {len(names)} values of {key} ({some}): scored as one")
    counts = Counter(row.question for row in found.rows)
    repeated = sum(n - 1 for n in counts.values())
    if repeated:
        said.append(
            f"{repeated} rows repeat the instruction of another: each counts, as in the original, "
            "and the interval takes them together"
        )
    n = len(found.rows)
    if n > N_INSTRUCTIONS:
        said.append(f"{n} rows, where AlpacaEval has {N_INSTRUCTIONS} instructions")
    elif n < N_INSTRUCTIONS:
        said.append(
            f"{n} rows of {N_INSTRUCTIONS}: avg_length is over these; the leaderboard's is over "
            "all answers, of rows that were dropped too"
        )
    return said


def _one(names: tuple[str, ...]) -> str | list[str] | None:
    if len(names) > 1:
        return list(names)
    return names[0] if names else None


def _percent(rate: Estimate) -> dict[str, object]:
    def times_100(value: float | None) -> float | None:
        return None if value is None else 100 * value

    return {
        "value": times_100(rate.value),
        "low": times_100(rate.low),
        "high": times_100(rate.high),
        "level": rate.level,
        "method": rate.method,
        "n_scored": rate.n_scored,
        "n_unscored": rate.n_unscored,
        "note": rate.note,
    }


# --- for people ------------------------------------------------------------------------------


def score_lines(score: AlpacaEvalScore) -> list[str]:
    """The score as lines of text."""
    numbers, control = score.numbers, score.length_control
    lines = [
        f"model      {_names(score.models)}",
        f"reference  {_names(score.references)}",
        f"judge      {_names(score.judges)}",
        "",
        f"win_rate                   {_number(numbers.win_rate)}   {_span(score.rate)}",
        f"standard_error             {_number(numbers.standard_error)}",
        f"discrete_win_rate          {_number(numbers.discrete_win_rate)}",
        f"n_wins / base / draws      {numbers.n_wins} / {numbers.n_wins_base} / {numbers.n_draws}",
        f"n_total                    {numbers.n_total} ({score.n_unscored} unscored)",
        f"avg_length                 {_number(score.average_length)} characters",
    ]
    if score.wilson is not None:
        lines.insert(
            5, f"{'':<27}  Wilson {100 * score.wilson.low:.2f} to {100 * score.wilson.high:.2f}"
        )
    if score.mode is not None:
        lines.append(f"mode                       {score.mode}")
    if control.rate is not None:
        lines.append(
            f"length_controlled_winrate  {_number(control.rate.value)}   from {control.source}"
        )
    else:
        lines.append(f"length_controlled_winrate  none: {control.reason}")
    fitted = score.fitted
    lines.append(
        f"  fitted to this match     {_number(_times_100(fitted.rate.value))}   "
        f"{fitted.rate.note or _span(fitted.rate)}"
    )
    for name, rate in score.by_dataset.items():
        lines.append(
            f"  {name:<24} {_number(_times_100(rate.value))}   {_span(rate)}, n = {rate.n_scored}"
        )
    lines += [f"alarm: {alarm.text}" for alarm in score.alarms]
    lines += [f"warning: {text}" for text in score.warnings]
    return lines


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "not named"


def _times_100(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _number(value: float | None) -> str:
    if value is None:
        return "  none"
    return str(value) if isinstance(value, int) else f"{value:6.2f}"


def _span(rate: Estimate) -> str:
    if rate.low is None or rate.high is None:
        return rate.note or ""
    return f"{100 * rate.low:.2f} to {100 * rate.high:.2f} ({rate.level:.0%}, {rate.method})"
