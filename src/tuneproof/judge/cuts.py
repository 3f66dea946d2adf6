"""Cut answers, to see where a win comes from: at the first template marker, and to equal length.

A tuned model may be preferred because it stops, because of how long its answers are, or because of
what they say. The same pairs are judged again (a) with every answer cut where it runs on into the
template, (b) with both also cut to the length of the shorter. Only pairs whose texts a cut changed
are asked about; the others keep the judgment they have. Pure functions over matches: asking is left
to ``stage``, and what the three judgments come to, to ``tuneproof.stats.decomposition``.

What (a) sees of stopping is what the template's headings show; an answer that goes round in circles
without one counts as long. What (b) can show is limited, and ``n_shortened`` says how far: the
longer answer is cut off in the middle, and a judge may hold that against it. Where most of the
answers so cut are one side's, what seems to remain for the other side is an upper bound.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.data.sections import first_marker
from tuneproof.records import Arm, Condition, Exchange, Match

if TYPE_CHECKING:
    from collections.abc import Sequence


def cut_at_stop(text: str, markers: Sequence[str]) -> str:
    """The text up to where its first marker begins, without white space at its ends.

    A text without a marker stays as it is, white space included: nothing was cut.

    Args:
        text: an answer.
        markers: see ``tuneproof.data.sections.section_starts``.
    """
    end = first_marker(text, markers)
    return text if end is None else text[:end].strip()


def cut_to_equal_length(a: str, b: str) -> tuple[str, str]:
    """Both, with the longer one cut to at most the characters of the shorter.

    The cut is made before a word that would not fit; where not even the first word fits (or words
    have no spaces between them), within it.
    """
    if len(a) == len(b):
        return a, b
    if len(a) < len(b):
        return a, cut_at_word(b, len(a))
    return cut_at_word(a, len(b)), b


def cut_at_word(text: str, limit: int) -> str:
    """The beginning of a text, of at most ``limit`` characters, that ends at a word's end."""
    if len(text) <= limit:
        return text
    kept = text[:limit]
    within_a_word = limit > 0 and not text[limit].isspace() and not kept[-1].isspace()
    if within_a_word:
        head, *rest = kept.rsplit(maxsplit=1)
        return head if rest else kept
    return kept.rstrip()


@dataclass(frozen=True, kw_only=True)
class CutMatches:
    """What a cut made of the matches; each of them is in one of the three parts.

    ``changed`` are to be judged again; in ``alike`` the cut left the two sides the same texts, a
    tie that no judge need be asked about (or that a protocol asks about all the same);
    ``unchanged`` keep their judgment. By arm, over all turns shown: ``n_answers_cut`` counts the
    answers that were cut, ``n_shortened`` those that were cut for equal length (beyond a marker, or
    without one), and ``n_emptied`` those of which nothing was left. An answer counts once for every
    match that shows it.
    """

    cut: Condition
    changed: tuple[Match, ...]
    alike: tuple[Match, ...]
    unchanged: tuple[Match, ...]
    n_answers_cut: dict[Arm, int]
    n_shortened: dict[Arm, int]
    n_emptied: dict[Arm, int]


def cut_matches(matches: Sequence[Match], cut: Condition, *, markers: Sequence[str]) -> CutMatches:
    """Cut every answer that the matches show, those of earlier turns included.

    Both orders of a pair hold the same texts, so they change together. A later turn's answer was
    given to the conversation as it was; that is not undone.

    Args:
        matches: as they were judged.
        cut: which of the two.
        markers: where a section of the template begins.
    """
    changed: list[Match] = []
    alike: list[Match] = []
    unchanged: list[Match] = []
    n_cut: Counter[Arm] = Counter()
    n_shortened: Counter[Arm] = Counter()
    n_emptied: Counter[Arm] = Counter()
    for match in matches:
        arms = (match.first, match.opponent if match.first is Arm.TUNED else Arm.TUNED)
        turns = [(t.answer_a, t.answer_b) for t in match.earlier]
        turns.append((match.answer_a, match.answer_b))
        after = [_cut_pair(a, b, cut, markers) for a, b in turns]
        for old, new in zip(turns, after, strict=True):
            for arm, was, now in zip(arms, old, new, strict=True):
                n_cut[arm] += was != now
                n_shortened[arm] += cut_at_stop(was, markers) != now
                n_emptied[arm] += bool(was.strip()) and not now.strip()
        if after == turns:
            unchanged.append(match)
            continue
        part = alike if all(a == b for a, b in after) else changed
        part.append(_with_answers(match, after))
    return CutMatches(
        cut=cut,
        changed=tuple(changed),
        alike=tuple(alike),
        unchanged=tuple(unchanged),
        n_answers_cut={arm: n for arm, n in n_cut.items() if n},
        n_shortened={arm: n for arm, n in n_shortened.items() if n},
        n_emptied={arm: n for arm, n in n_emptied.items() if n},
    )


def _cut_pair(a: str, b: str, cut: Condition, markers: Sequence[str]) -> tuple[str, str]:
    a, b = cut_at_stop(a, markers), cut_at_stop(b, markers)
    return cut_to_equal_length(a, b) if cut is Condition.EQUAL_LENGTH else (a, b)


def _with_answers(match: Match, turns: Sequence[tuple[str, str]]) -> Match:
    """The match with other answers, turn by turn."""
    *earlier, (last_a, last_b) = turns
    return match.model_copy(
        update={
            "answer_a": last_a,
            "answer_b": last_b,
            "earlier": tuple(
                Exchange(instruction=t.instruction, answer_a=a, answer_b=b)
                for t, (a, b) in zip(match.earlier, earlier, strict=True)
            ),
        }
    )
