"""How long tuned's answers are beside its opponent's, in bands, and which pairs fall into which.

In characters, because an answer that was read from a file has no tokens that we know. What is won
in each band is in ``pairwise``; an estimate at equal length is in ``length_control``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.records import Arm, Stop

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tuneproof.records import Answer, Preference

BANDS = (
    "under half as long",
    "shorter",
    "about as long",
    "longer",
    "over twice as long",
)
"""About as long is within a tenth of the longer one."""


def length_band(tuned: int, opponent: int) -> str:
    """The band of two lengths: ``longer`` is said of tuned."""
    if 10 * min(tuned, opponent) >= 9 * max(tuned, opponent):
        return BANDS[2]
    if tuned < opponent:
        return BANDS[0] if 2 * tuned < opponent else BANDS[1]
    return BANDS[4] if tuned > 2 * opponent else BANDS[3]


def bands(
    answers: Iterable[Answer], preferences: Sequence[Preference]
) -> dict[str, list[Preference]]:
    """The preferences of each band that occurs, from short to long. A pair with an answer missing
    or failed is in none."""
    lengths = {
        (a.question_id, a.turn, a.arm, a.adapter if a.arm is Arm.TUNED else 1): len(a.text)
        for a in answers
        if a.stop is not Stop.ERROR
    }
    found: dict[str, list[Preference]] = {band: [] for band in BANDS}
    for p in preferences:
        tuned = lengths.get((p.question_id, p.turn, Arm.TUNED, p.adapter))
        opponent = lengths.get((p.question_id, p.turn, p.opponent, 1))
        if tuned is not None and opponent is not None:
            found[length_band(tuned, opponent)].append(p)
    return {band: pairs for band, pairs in found.items() if pairs}
