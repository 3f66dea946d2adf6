"""What the report says of a judge's preferences: one block for each benchmark and opponent, with
where its win rate comes from.

Labels, order and words for both outputs; computes and escapes nothing. What speaks for and against
the judge is in ``evidence``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tuneproof.records import Arm
from tuneproof.report.numbers import Shown, count, number, parts
from tuneproof.report.tables import (
    AlpacaEvalRow,
    MtBenchRow,
    MtBenchSingleRow,
    Table,
    alpaca_eval_bands,
    mt_bench_single_table,
    mt_bench_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tuneproof.results import (
        AlpacaEvalLine,
        Decomposition,
        Estimate,
        LengthControlled,
        MtBenchLine,
        MtBenchMatches,
        PairwiseResult,
        RatingsResult,
        Tally,
    )

PROTOCOLS = {
    "tuneproof-pairwise": "this project's own prompt",
    "tuneproof-rating": "this project's own prompt",
    "alpaca-eval-weighted": "AlpacaEval's prompt, by the probabilities of the judge's first token",
    "alpaca-eval-binary": "AlpacaEval's prompt, by the judge's first token",
    "mt-bench-pairwise": "FastChat's prompts and its rule for ties",
    "mt-bench-single": "FastChat's prompts",
}
"""What a protocol's name stands for."""
NOTHING_CUT = "nothing was cut"
_DECIDES = "reference-chrf"
"""The protocol that asks nobody: every match is decided by nearness to the reference."""


TURNS_APART = (
    "The win rate of all turns is not between those of the turns: it is the mean over questions of "
    "what was scored of each, so that where one turn is unscored, the other counts for the whole "
    "question."
)
PAIRS_BY_LENGTH = (
    "The lengths are those of single pairs of answers, one a turn and adapter; the filter among "
    "the answers below takes all turns of a question together."
)


@dataclass(frozen=True, kw_only=True)
class Split:
    """The win rate of the parts of a benchmark: its turns, categories, lengths or adapters.

    ``note`` is what to know when it is read beside other numbers; empty where nothing is.
    """

    title: str
    rows: tuple[tuple[str, Shown], ...]
    estimates: tuple[Estimate, ...]
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Decomposed:
    """Where a win rate comes from. ``found`` is to be drawn; ``rows`` are empty where no pair was
    scored throughout."""

    title: str
    sentence: str
    found: Decomposition
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, kw_only=True)
class Pairwise:
    """What a judge preferred between tuned and one opponent."""

    title: str
    caption: str
    rows: tuple[tuple[str, str], ...]
    splits: tuple[Split, ...]
    tables: tuple[Table, ...] = ()
    decomposed: Decomposed | None = None


def opponent_name(opponent: Arm) -> str:
    """In a sentence: ``base``, or what fair-base and baseline are."""
    return {
        Arm.FAIR_BASE: "fair-base (base at its best)",
        Arm.PLACEBO: "placebo (trained on shuffled responses)",
        Arm.BASELINE: "baseline (the benchmark's stored answers of gpt-4-1106-preview)",
    }.get(opponent, opponent.value)


def protocol_name(protocol: str) -> str:
    """What a protocol's name stands for, and the name."""
    named = PROTOCOLS.get(protocol)
    return f"{named} ({protocol})" if named else protocol


def not_asked(protocol: str) -> str:
    """Why a judgment needed no reply."""
    return "decided without asking" if protocol == _DECIDES else "the answers are equal: not asked"


def pairwise(result: PairwiseResult) -> Pairwise:
    """The block of one opponent."""
    orders = "both orders" if result.orders == 2 else "one order"
    rows = [
        ("Win rate of tuned, ties counted half", parts(result.win_rate, percent=True).full),
        ("Questions: tuned wins / ties / losses", _tally(result.questions)),
    ]
    # With one turn and one adapter a question is one pair.
    if result.pairs.total > result.questions.total:
        rows.append(("Pairs of answers: tuned wins / ties / losses", _tally(result.pairs)))
    rows += [
        ("Judgments", _judgments(result)),
        *_length_controlled(result.length_controlled),
        *_matches(result.mt_bench),
    ]
    splits = (
        _split(
            "By turn",
            {f"turn {name}": e for name, e in result.by_turn.items()},
            of=result,
            note=TURNS_APART if _outside(result.win_rate, result.by_turn.values()) else "",
        ),
        _split("By category", result.by_category, of=result),
        _split(
            "By length",
            {f"tuned {name}": e for name, e in result.by_length.items()},
            of=result,
            note=PAIRS_BY_LENGTH if result.pairs.total > result.questions.total else "",
        ),
        _split("By adapter", {f"adapter {n}": e for n, e in result.by_adapter.items()}, of=result),
    )
    against = opponent_name(result.opponent)
    return Pairwise(
        title=f"Pairwise win rate against {against}",
        caption=f"Tuned against {against}, judged by {result.judge} in {orders}, with "
        f"{protocol_name(result.protocol)}",
        rows=tuple(rows),
        splits=tuple(split for split in splits if any(e.n_scored for e in split.estimates)),
        tables=result_tables(result),
        decomposed=decomposed(result.decomposition, result.opponent)
        if result.decomposition is not None and result.win_rate.n_scored
        else None,
    )


def _judgments(result: PairwiseResult) -> str:
    if result.protocol == _DECIDES and not result.n_judgments:
        return f"{count(result.n_not_asked)}, decided without asking"
    told = f"{count(result.n_judgments)}, {count(result.n_unparsed)} of them unparsed"
    if result.n_not_asked:
        told += f"; {count(result.n_not_asked)} not asked, the answers being equal"
    return told


def decomposed(found: Decomposition, opponent: Arm) -> Decomposed:
    """Where the win rate against an opponent comes from."""
    return Decomposed(
        title=f"Where the {_result_word(found.whole)} comes from",
        sentence=found.sentence,
        found=found,
        rows=_decomposed_rows(found, opponent) if found.whole.value is not None else (),
    )


def uncut(found: Decomposition, part: Estimate) -> bool:
    """Whether a part is known to be nought, because no text was cut for it."""
    return (part is found.stopping and found.n_cut_at_stop == 0) or (
        part is found.length and found.n_cut_to_length == 0
    )


def part_shown(found: Decomposition, part: Estimate) -> Shown:
    """The whole or a part in words. Where nothing was cut, that stands in its interval's place."""
    shown = parts(part, percent=True, signed=True)
    return replace(shown, interval=NOTHING_CUT, detectable="") if uncut(found, part) else shown


def _result_word(whole: Estimate) -> str:
    """A win or a loss where the interval says so."""
    if whole.low is not None and whole.low > 0:
        return "win"
    return "loss" if whole.high is not None and whole.high < 0 else "result"


def _decomposed_rows(found: Decomposition, opponent: Arm) -> tuple[tuple[str, str], ...]:
    estimates = (
        ("Win rate as answered, less one half", found.whole),
        ("Stopping: lost when answers are cut where they run on into the template", found.stopping),
        ("Length: lost when both are also cut to the shorter one's length", found.length),
        ("What remains above one half", found.remaining),
    )
    left_out = f"{count(found.n_pairs)}; {count(found.n_left_out)} not, being unscored"
    if found.n_lost_to_cuts:
        left_out += f", {count(found.n_lost_to_cuts)} of them only after a cut"
    return (
        *((what, part_shown(found, e).full) for what, e in estimates),
        ("Pairs in this", left_out),
        (
            "Answers cut off for equal length",
            f"{count(found.shortened_tuned)} of tuned, "
            f"{count(found.shortened_opponent)} of {opponent}",
        ),
        ("Replies asked for this", count(found.n_rejudged)),
    )


def _length_controlled(found: LengthControlled | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    official = f"none: {found.reason}" if found.reason else "for each adapter in the table"
    if found.official is not None:
        official = f"{number(found.official, digits=2)} % ({found.source})"
    return [
        ("Length-controlled win rate (AlpacaEval's)", official),
        (
            "Win rate at equal length, fitted to this match",
            parts(found.fitted, percent=True).full
            + f"; of the pairs, tuned is longer in {count(found.n_longer)} and shorter in "
            f"{count(found.n_shorter)}",
        ),
    ]


def _matches(found: MtBenchMatches | None) -> list[tuple[str, str]]:
    if found is None:
        return []
    lost = f", {count(found.n_dropped)} dropped (a game without a winner)"
    if found.n_without_answers:
        lost += f", {count(found.n_without_answers)} not played (an answer failed)"
    if found.n_excluded:
        lost += f", {count(found.n_excluded)} left out (reference answer known to be wrong)"
    return [
        ("MT-Bench matches of two games", count(found.n_matches) + lost),
        (
            "Matches tied because the two games disagree",
            f"{count(found.n_inconsistent)}, {count(found.n_contradictory)} of them with another "
            "winner in each game",
        ),
        *(
            [
                (
                    "Matches that rest on a reference answer known to be wrong",
                    count(found.n_known_wrong),
                )
            ]
            if found.n_known_wrong
            else []
        ),
    ]


def result_tables(result: PairwiseResult) -> tuple[Table, ...]:
    """The benchmark's own table of one opponent, as the original tools print it."""
    if result.alpaca_eval:
        return alpaca_eval_bands([alpaca_eval_row(line) for line in result.alpaca_eval])
    if result.mt_bench is not None and result.mt_bench.lines:
        return (mt_bench_table([mt_bench_row(line) for line in result.mt_bench.lines]),)
    return ()


def ratings_rows(found: RatingsResult) -> list[tuple[str, str]]:
    """Counts and provenance of answers that were rated one by one."""
    rows = [
        ("Judge and prompt", f"{found.judge}, with {protocol_name(found.protocol)}"),
        ("Ratings", f"{count(found.n_ratings)}, {count(found.n_unparsed)} of them unparsed"),
    ]
    if found.n_known_wrong:
        what = "Ratings that rest on a reference answer known to be wrong"
        rows.append((what, count(found.n_known_wrong)))
    return rows


def ratings_table(found: RatingsResult) -> Table:
    """FastChat's single-answer table."""
    return mt_bench_single_table(
        [
            MtBenchSingleRow(
                model=line.model,
                first_turn=line.first_turn,
                second_turn=line.second_turn,
                average=line.average,
            )
            for line in found.lines
        ]
    )


def alpaca_eval_row(line: AlpacaEvalLine, *, against: bool = False) -> AlpacaEvalRow:
    """A line as the tables take it; ``against`` names the opponent, where there are several."""
    return AlpacaEvalRow(
        model=f"{line.model} against {line.reference}" if against else line.model,
        win_rate=line.win_rate,
        standard_error=line.standard_error,
        mode=line.mode,
        avg_length=line.avg_length,
        n_wins=line.n_wins,
        n_wins_base=line.n_wins_base,
        n_draws=line.n_draws,
        n_total=line.n_total,
        discrete_win_rate=line.discrete_win_rate,
        length_controlled_winrate=line.length_controlled_winrate,
    )


def mt_bench_row(line: MtBenchLine, *, against: str | None = None) -> MtBenchRow:
    """A line as the tables take it; ``against`` names the other side, where there are several."""
    return MtBenchRow(
        model=f"{line.model} against {against}" if against else line.model,
        win=line.win,
        loss=line.loss,
        tie=line.tie,
        win_rate=line.win_rate,
        loss_rate=line.loss_rate,
        win_rate_adjusted=line.win_rate_adjusted,
    )


def _tally(tally: Tally) -> str:
    text = f"{count(tally.wins)} / {count(tally.ties)} / {count(tally.losses)}"
    return f"{text}, {count(tally.unscored)} unscored" if tally.unscored else text


def _outside(whole: Estimate, parts_of: Iterable[Estimate]) -> bool:
    """Whether a rate is above or below those of all its parts."""
    values = [e.value for e in parts_of if e.value is not None]
    return (
        whole.value is not None and bool(values) and (not min(values) <= whole.value <= max(values))
    )


def _split(
    title: str, estimates: Mapping[str, Estimate], *, of: PairwiseResult, note: str = ""
) -> Split:
    """With a word where an interval is not of the kind that the whole win rate's is."""

    def label(name: str, e: Estimate) -> str:
        students = "bootstrap" in of.win_rate.method and e.method.startswith("t(")
        return f"{name} (Student's t)" if students else name

    return Split(
        note=note,
        title=title,
        rows=tuple((label(name, e), parts(e, percent=True)) for name, e in estimates.items()),
        estimates=tuple(estimates.values()),
    )
