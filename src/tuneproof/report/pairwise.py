"""What the report says of a judge's preferences: one block for each benchmark and opponent.

Labels, order and words for both outputs; computes and escapes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.records import Arm
from tuneproof.report.numbers import Shown, count, parts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tuneproof.records import Estimate, PairwiseResult, Tally

PROTOCOLS = {"tuneproof-pairwise": "this project's own prompt"}
"""What a protocol's name stands for."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """The win rate of the parts of a benchmark: its turns, categories or adapters."""

    title: str
    rows: tuple[tuple[str, Shown], ...]


@dataclass(frozen=True, kw_only=True)
class Pairwise:
    """What a judge preferred between tuned and one opponent."""

    title: str
    caption: str
    rows: tuple[tuple[str, str], ...]
    splits: tuple[Split, ...]


def opponent_name(opponent: Arm) -> str:
    """In a sentence: ``base``, or what fair-base is."""
    return "fair-base (base at its best)" if opponent is Arm.FAIR_BASE else opponent.value


def pairwise(result: PairwiseResult) -> Pairwise:
    """The block of one opponent."""
    orders = "both orders" if result.orders == 2 else "one order"
    named = PROTOCOLS.get(result.protocol)
    protocol = f"{named} ({result.protocol})" if named else result.protocol
    rows = [
        ("Win rate of tuned, ties counted half", parts(result.win_rate, percent=True).text),
        ("Questions: tuned wins / ties / losses", _tally(result.questions)),
    ]
    # With one turn and one adapter a question is one pair.
    if result.pairs.total > result.questions.total:
        rows.append(("Pairs of answers: tuned wins / ties / losses", _tally(result.pairs)))
    rows += [
        (
            "Judgments",
            f"{count(result.n_judgments)}, {count(result.n_unparsed)} of them unparsed",
        ),
        ("Both orders agree", parts(result.order_agreement, percent=True).text),
        ("Answer shown first preferred", parts(result.first_preferred, percent=True).text),
    ]
    splits = (
        _split("By turn", {f"turn {name}": e for name, e in result.by_turn.items()}),
        _split("By category", result.by_category),
        _split("By adapter", {f"adapter {name}": e for name, e in result.by_adapter.items()}),
    )
    against = opponent_name(result.opponent)
    return Pairwise(
        title=f"Pairwise win rate against {against}",
        caption=f"Tuned against {against}, judged by {result.judge} in {orders}, with {protocol}",
        rows=tuple(rows),
        splits=tuple(split for split in splits if split.rows),
    )


def _tally(tally: Tally) -> str:
    text = f"{count(tally.wins)} / {count(tally.ties)} / {count(tally.losses)}"
    return f"{text}, {count(tally.unscored)} unscored" if tally.unscored else text


def _split(title: str, estimates: Mapping[str, Estimate]) -> Split:
    return Split(
        title=title,
        rows=tuple((name, parts(e, percent=True)) for name, e in estimates.items()),
    )
