"""The score of an MT-Bench judgments file: FastChat's tables, and what stands behind them.

Rates are shares and scores points, as in FastChat. ``as_dict`` is what ``tuneproof score mt-bench
--json`` prints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from tuneproof.data.questions import KNOWN_WRONG_REFERENCES
from tuneproof.errors import UsageError
from tuneproof.score.judgments import Judgments, Kind, read_judgments
from tuneproof.stats.mt_bench import (
    CATEGORIES,
    PairMatch,
    PairTable,
    Score,
    SingleRow,
    category_of,
    pair_table,
    single_table,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tuneproof.results import Estimate
    from tuneproof.stats.mt_bench import PairRow

Row = TypeVar("Row", PairMatch, Score)

LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class MtBenchScore:
    """All that is said of one file; ``pairs`` or ``singles`` is there, by ``kind``.

    ``n_on_wrong_references`` judgments are about the questions whose reference answer is known to
    be wrong; with ``excluded`` they are in no table.
    """

    file: str
    kind: Kind
    judges: tuple[str, ...]
    baseline: str | None
    n_rows: int
    n_repeated: int
    n_on_wrong_references: int
    excluded: bool
    pairs: PairTable | None
    pairs_by_turn: dict[str, PairTable]
    pairs_by_category: dict[str, PairTable]
    singles: dict[str, SingleRow] | None
    singles_by_category: dict[str, dict[str, SingleRow]]
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        found: dict[str, object] = {
            "file": self.file,
            "kind": self.kind,
            "judge": self.judges[0] if len(self.judges) == 1 else list(self.judges),
        }
        if self.pairs is not None:
            found["baseline"] = self.baseline
            found.update(_pairs(self.pairs))
            found["by_turn"] = {k: _pairs(t) for k, t in self.pairs_by_turn.items()}
            found["by_category"] = {k: _pairs(t) for k, t in self.pairs_by_category.items()}
        if self.singles is not None:
            found["models"] = _singles(self.singles)
            found["n_unscored"] = sum(row.n_unscored for row in self.singles.values())
            found["by_category"] = {k: _singles(t) for k, t in self.singles_by_category.items()}
        found["n_rows"] = self.n_rows
        found["n_repeated"] = self.n_repeated
        found["known_wrong_references"] = {
            "question_ids": sorted(KNOWN_WRONG_REFERENCES),
            "n_judgments": self.n_on_wrong_references,
            "excluded": self.excluded,
        }
        found["warnings"] = list(self.warnings)
        return found


def score_mt_bench(
    path: Path,
    *,
    baseline: str | None = None,
    exclude_known_wrong_references: bool = False,
    level: float = LEVEL,
) -> MtBenchScore:
    """Read a file and score it.

    Args:
        path: a judgments file as FastChat's ``gen_judgment`` writes it, packed with gzip or not.
        baseline: as FastChat's pairwise-baseline: only matches with this model, no line for it.
            None is its pairwise-all.
        exclude_known_wrong_references: leave out the questions of ``KNOWN_WRONG_REFERENCES``.
        level: the confidence level of the intervals.

    Raises:
        DataError: the file is broken or holds a value that is none of the protocol's.
        UsageError: the baseline is no model of the file, or the file is not pairwise.
    """
    found = read_judgments(path)
    wrong = sum(map(_is_wrong, found.matches)) + sum(map(_is_wrong, found.scores))
    matches = found.matches
    scores = found.scores
    if exclude_known_wrong_references:
        matches = tuple(m for m in matches if not _is_wrong(m))
        scores = tuple(s for s in scores if not _is_wrong(s))
    if baseline is not None:
        _check_baseline(baseline, found, path)

    def pairs_of(chosen: Sequence[PairMatch]) -> PairTable:
        return pair_table(chosen, level=level, baseline=baseline)

    pairwise = found.kind == "pairwise"
    turns = sorted({m.turn for m in matches})
    return MtBenchScore(
        file=str(path),
        kind=found.kind,
        judges=found.judges,
        baseline=baseline,
        n_rows=len(found.matches) + len(found.scores),
        n_repeated=found.repeated,
        n_on_wrong_references=wrong,
        excluded=exclude_known_wrong_references,
        pairs=pairs_of(matches) if pairwise else None,
        pairs_by_turn={str(t): pairs_of([m for m in matches if m.turn == t]) for t in turns},
        pairs_by_category={name: pairs_of(own) for name, own in _by_category(matches).items()},
        singles=None if pairwise else single_table(scores, level=level),
        singles_by_category={
            name: single_table(own, level=level) for name, own in _by_category(scores).items()
        },
        warnings=tuple(_warnings(found, wrong, excluded=exclude_known_wrong_references)),
    )


def _by_category(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """The rows of official questions, in the order of the categories."""
    found: dict[str, list[Row]] = {name: [] for name in CATEGORIES}
    for row in rows:
        name = category_of(row.question_id)
        if name is not None:
            found[name].append(row)
    return {name: own for name, own in found.items() if own}


def _is_wrong(row: PairMatch | Score) -> bool:
    return row.question_id in KNOWN_WRONG_REFERENCES


def _check_baseline(baseline: str, found: Judgments, path: Path) -> None:
    if found.kind != "pairwise":
        raise UsageError(
            "a baseline belongs to pairwise judgments", place=str(path), value=baseline
        )
    models = sorted({name for m in found.matches for name in (m.model_1, m.model_2)})
    if baseline not in models:
        raise UsageError(
            "no match is with this model",
            place="--baseline",
            value=baseline,
            remedy=f"The models are {', '.join(models)}.",
        )


def _warnings(found: Judgments, wrong: int, *, excluded: bool) -> list[str]:
    said = []
    if found.repeated:
        said.append(
            f"{found.repeated} rows repeat a question, turn, models and judge that another row has "
            "(FastChat appends when it runs again): each counts, as in its own table"
        )
    if len(found.judges) > 1:
        said.append(f"{len(found.judges)} judges ({', '.join(found.judges)}): scored as one")
    if wrong and not excluded:
        said.append(
            f"{wrong} judgments rest on reference answers that are known to be wrong "
            "(--exclude-known-wrong-references leaves them out)"
        )
    if wrong and excluded:
        said.append(f"{wrong} judgments left out: their reference answers are known to be wrong")
    foreign = sum(category_of(m.question_id) is None for m in found.matches)
    foreign += sum(category_of(s.question_id) is None for s in found.scores)
    if foreign:
        said.append(f"{foreign} rows are of questions that are not MT-Bench's (81 to 160)")
    return said


def _pairs(table: PairTable) -> dict[str, object]:
    return {
        "models": {
            name: {
                "win": row.win,
                "loss": row.loss,
                "tie": row.tie,
                "win_rate": row.win_rate,
                "loss_rate": row.loss_rate,
                "win_rate_adjusted": row.win_rate_adjusted,
                "interval": _interval(row.interval),
                "sign_test_p": row.sign_test_p,
            }
            for name, row in table.models.items()
        },
        "n_matches": table.n_matches,
        "n_dropped": table.n_dropped,
        "n_inconsistent": table.n_inconsistent,
        "n_contradictory": table.n_contradictory,
    }


def _singles(table: dict[str, SingleRow]) -> dict[str, object]:
    return {
        name: {
            "first_turn": row.first_turn,
            "second_turn": row.second_turn,
            "average": row.average,
            "n_scored": row.n_scored,
            "n_unscored": row.n_unscored,
            "interval": _interval(row.interval),
        }
        for name, row in table.items()
    }


def _interval(rate: Estimate) -> dict[str, object]:
    return {
        "low": rate.low,
        "high": rate.high,
        "level": rate.level,
        "method": rate.method,
        "n_questions": rate.n_scored,
        "note": rate.note,
    }


# --- for people ------------------------------------------------------------------------------


def score_lines(score: MtBenchScore) -> list[str]:
    """The score as lines of text."""
    lines = [f"judge  {', '.join(score.judges)}", ""]
    if score.pairs is not None:
        lines += _pair_lines(score.pairs)
        for name, table in {
            **{f"turn {k}": t for k, t in score.pairs_by_turn.items()},
            **score.pairs_by_category,
        }.items():
            rates = ", ".join(f"{m} {_pair_text(r)}" for m, r in table.models.items())
            lines.append(f"  {name:<11} {rates}")
    if score.singles is not None:
        width = _width(score.singles)
        lines.append(f"{'model':<{width}}  first_turn  second_turn  average")
        for name, row in score.singles.items():
            lines.append(
                f"{name:<{width}}  {_points(row.first_turn):>10}  {_points(row.second_turn):>11}"
                f"  {_points(row.average):>7}  {_span(row.interval)}"
            )
        unscored = sum(row.n_unscored for row in score.singles.values())
        lines.append(f"{score.n_rows} judgments, {unscored} unscored")
    lines += [f"warning: {text}" for text in score.warnings]
    return lines


def _pair_lines(table: PairTable) -> list[str]:
    width = _width(table.models)
    lines = [f"{'model':<{width}}  win  loss   tie  win_rate  loss_rate  win_rate_adjusted"]
    for name, row in table.models.items():
        lines.append(
            f"{name:<{width}}  {row.win:>3}  {row.loss:>4}  {row.tie:>4}  {row.win_rate:8.4f}"
            f"  {row.loss_rate:9.4f}  {row.win_rate_adjusted:17.4f}  {_span(row.interval)}, "
            f"sign test p = {row.sign_test_p:.3f}"
        )
    lines.append(
        f"{table.n_matches} matches; {table.n_dropped} dropped (a game without a winner); "
        f"{table.n_inconsistent} tied because the two games disagree "
        f"({table.n_contradictory} of them contradict each other)"
    )
    return lines


def _width(models: dict[str, PairRow] | dict[str, SingleRow]) -> int:
    return max([len("model"), *(len(name) for name in models)])


def _pair_text(row: PairRow) -> str:
    return f"{row.win_rate_adjusted:.3f} ({row.win}/{row.loss}/{row.tie})"


def _points(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _span(rate: Estimate) -> str:
    if rate.low is None or rate.high is None:
        return rate.note or ""
    return f"{rate.low:.3f} to {rate.high:.3f} ({rate.level:.0%} by question)"
