"""Judging pairs again with their answers cut, so that a win can be decomposed.

Which games that takes, and what they come to by pair. Pairs that a cut leaves as they are keep the
preference they have, and cost nothing. Pure functions; how texts are cut is ``cuts``' business, and
what the preferences say of a win that of ``tuneproof.stats.decomposition``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tuneproof.judge.cuts import cut_matches
from tuneproof.judge.games import Game, judgments
from tuneproof.judge.matches import Pair, preferences
from tuneproof.records import Arm, Condition, CutPreference

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuneproof.judge.clients import Reply
    from tuneproof.records import Judgment, Preference

CUTS = (Condition.STOPPED, Condition.EQUAL_LENGTH)


@dataclass(frozen=True, kw_only=True)
class CutPair:
    """One pair and its games in each condition that changed them.

    ``shortened_*`` is how many answers of a side were cut for equal length, over all turns shown.
    """

    pair: Pair
    games: dict[Condition, tuple[Game, ...]]
    shortened_tuned: int = 0
    shortened_opponent: int = 0

    def asked(self, condition: Condition) -> list[str]:
        """The requests of a condition; those of another that left the same texts are the same."""
        return [game.key for game in self.games.get(condition, ())]


def cut_pairs(
    pairs: Sequence[Pair], games: Sequence[Game], *, markers: Sequence[str]
) -> list[CutPair]:
    """Cut the answers of every pair, judged or not.

    Args:
        pairs: of one protocol.
        games: theirs, with the answers as they are.
        markers: where a section of the template begins.
    """
    by_pair: dict[tuple[str, int, Arm, int], list[Game]] = {pair.place: [] for pair in pairs}
    for game in games:
        m = game.match
        by_pair[m.question_id, m.turn, m.opponent, m.adapter].append(game)
    return [_cut(pair, by_pair[pair.place], markers) for pair in pairs]


def _cut(pair: Pair, games: Sequence[Game], markers: Sequence[str]) -> CutPair:
    if not games:
        return CutPair(pair=pair, games={})
    made = {
        condition: cut_matches([g.match for g in games], condition, markers=markers)
        for condition in CUTS
    }
    # Both orders of a pair hold the same texts: each answer was counted once for every order.
    shortened = made[Condition.EQUAL_LENGTH].n_shortened
    return CutPair(
        pair=pair,
        games={
            condition: tuple(
                replace(game, match=match, condition=condition)
                for game, match in zip(games, (*cut.changed, *cut.alike), strict=True)
            )
            for condition, cut in made.items()
            if not cut.unchanged
        },
        shortened_tuned=shortened.get(Arm.TUNED, 0) // len(games),
        shortened_opponent=shortened.get(pair.opponent, 0) // len(games),
    )


def cut_preferences(
    cuts: Sequence[CutPair], as_answered: Sequence[Preference], replies: Mapping[str, Reply]
) -> tuple[list[CutPreference], list[Judgment]]:
    """The preferences of every pair in the three conditions, and all judgments of cut answers.

    Args:
        cuts: see ``cut_pairs``.
        as_answered: the preference of each of these pairs, in the same order.
        replies: by key; a request that failed has none, and its pair then no preference.
    """
    rows, said = [], []
    for cut, whole in zip(cuts, as_answered, strict=True):
        values = [whole.value]
        for condition in CUTS:
            games = cut.games.get(condition)
            if not games:
                values.append(values[-1])
                continue
            found = judgments(games, replies)
            said += found
            [preference] = preferences(found, [cut.pair], games[0].protocol)
            values.append(preference.value)
        rows.append(
            CutPreference(
                question_id=whole.question_id,
                benchmark=whole.benchmark,
                turn=whole.turn,
                opponent=whole.opponent,
                adapter=whole.adapter,
                as_answered=values[0],
                stopped=values[1],
                equal_length=values[2],
                cut_at_stop=Condition.STOPPED in cut.games,
                cut_to_length=cut.asked(Condition.EQUAL_LENGTH) != cut.asked(Condition.STOPPED),
                shortened_tuned=cut.shortened_tuned,
                shortened_opponent=cut.shortened_opponent,
            )
        )
    return rows, said
