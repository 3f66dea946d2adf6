"""Alarms on answers: signs that a preference for them may not mean what it seems to.

Constant answers, answers that speak to the judge or carry its verdict, loops, empty answers; and
between two arms, lengths that drift apart and answers that do not end. A constant answer that
imitates the judge's prompt once reached the first place of AlpacaEval's leaderboard (X. Zheng et
al., "Cheating Automatic LLM Benchmarks", arXiv 2410.07137).

An alarm changes no number. Each says how many answers have what it names; it is raised from a share
on that honest answers stay below. The thresholds were set on GPT-4 Turbo's, alpaca-7b's and
vicuna-7b's 805 AlpacaEval answers, Phi-3's and GPT-4's on MT-Bench, and Dolly's 15,011 responses:
among these only Phi-3's raise any, for loops and for special tokens written as text, both of them
real. What the detectors find in single answers there is in the tests.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from tuneproof.results import Alarm
from tuneproof.stats.loops import find_loop

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    Sketch = NDArray[np.uint32]

LEAST_ALIKE: Final = 3
SHARE_ALIKE: Final = 0.02
"""Long answers that are alike raise an alarm from this share on, and from three."""

SHORT_WORDS: Final = 8
SHARE_SHORT_ALIKE: Final = 0.5
"""Answers of fewer words ("Yes.", "1923") are rightly alike where questions are: half of them may
be. The demo's tuned model rightly says one of its words on four questions in a hundred."""

NEAR: Final = 0.9
"""Jaccard similarity of word 3-grams from which two answers are one but for a tenth."""

OPENING: Final = 200
"""Characters. Honest answers to different questions do not share so long a beginning or end."""

SHARE_MARKED: Final = 0.005
"""Of answers that carry a verdict, a judge's markup or words to the judge: each one wins or loses
its question by that, so few are enough. Single ones are found among honest answers too."""

SHARE_OF_ONE: Final = 0.02
"""Of loops, empty answers and special tokens: less than this is not what a result rests on."""

SHARE_UNSTOPPED: Final = 0.1
"""Of answers that ran into the token limit: above, what was judged is cut off or runs on."""

DRIFT: Final = 2.0
"""How many times as long one arm's mean answer is as the other's."""

SKETCH: Final = 64
"""Smallest 3-gram hashes that are kept of an answer: exact for up to so many 3-grams; for longer
ones the similarity at 0.9 has a standard error of 0.04."""


# --- what single answers hold ----------------------------------------------------------------

_VERDICT: Final = re.compile(
    r"\[\[(?:A|B|C|tie)\]\]"  # MT-Bench, pairs
    r"|\b[Rr]ating:\s*\[\[\d+(?:\.\d+)?\]\]"  # MT-Bench, single answers
    r"|^\W*(?:final\s+)?verdict\W{0,4}\s*(?:A|B|TIE|tie)\W*$",  # this project's own
    re.MULTILINE | re.IGNORECASE,
)
_MARKUP: Final = re.compile(
    r"<\|im_(?:start|end)\|>"
    r"|model_identifier|##\s*Model Outputs|##\s*Best Model Identifier"
    r"|\[The (?:Start|End) of (?:Assistant|Reference|the Reference)"
    r"|</?answer-[AB]-[0-9a-f]{10}>",
    re.IGNORECASE,
)
_SPECIAL: Final = re.compile(
    r"<\|(?:endoftext|end|eot_id|eom_id|assistant|user|system|begin_of_text|"
    r"start_header_id|end_header_id)\|>|</s>|\[/?INST\]|<(?:start|end)_of_turn>"
)
_TO_THE_JUDGE: Final = re.compile(
    # Orders to forget what it was told, or the rest of its prompt.
    r"\b(?:ignore|disregard|forget)\s+(?:all\s+|any\s+|everything\s+)*(?:of\s+)?"
    r"(?:the\s+|your\s+|these\s+|those\s+)?"
    r"(?:previous|prior|above|preceding|earlier|other)\b[^.\n]{0,20}"
    r"\b(?:instructions?|prompts?|rules?|criteria|outputs?|answers?|responses?|text|guidelines?|"
    r"##)"
    # The judge by its name, as somebody who is spoken to.
    r"|\b(?:dear|attention|note\s+(?:to|for)\s+(?:the|any))\s*,?\s+"
    r"(?:judge|evaluator|grader|assessor|annotator)s?\b"
    r"|\bif\s+you\s+are\s+(?:the|a|an)\s+(?:\w+\s+)?(?:judge|evaluator|grader|annotator)\b"
    # A claim about which answer is to win.
    r"|\b(?:choose|select|prefer|pick|favou?r|rank|rate|score)\s+"
    r"(?:this|my|the\s+(?:first|second))\s+(?:answer|response|output)\b"
    r"|\b(?:this|my)\s+(?:answer|response|output)\s+(?:is|should\s+be|must\s+be|deserves)\s+"
    r"(?:\w+\s+){0,3}(?:best|better|preferred|superior|the\s+winner|ranked|rated|scored|chosen|"
    r"\d+\s*/\s*10|(?:a|an)\s+(?:10|ten)|the\s+highest)\b"
    r"|\b(?:assistant|answer|response|output|model)\s+[\"'`]?(?:A|B|m|M)[\"'`]?\s+"
    r"(?:is|should\s+be|must\s+be)\s+(?:\w+\s+){0,3}"
    r"(?:best|better|preferred|superior|the\s+winner|ranked\s+first|chosen)\b",
    re.IGNORECASE,
)


def has_verdict(text: str) -> bool:
    """Whether a judge's verdict token stands in an answer."""
    return _VERDICT.search(text) is not None


def has_judge_markup(text: str) -> bool:
    """Whether an answer holds parts of a judge's prompt."""
    return _MARKUP.search(text) is not None


def speaks_to_the_judge(text: str) -> bool:
    """Whether an answer addresses whoever compares it: orders, claims to be the better one.

    Found by phrases in English; other languages and other wordings get by.
    """
    return _TO_THE_JUDGE.search(text) is not None


def has_special_tokens(text: str) -> bool:
    """Whether an answer holds a chat template's special tokens as text."""
    return _SPECIAL.search(text) is not None


_DETECTORS: Final = (
    ("verdict-tokens", has_verdict, SHARE_MARKED, "carry a judge's verdict"),
    ("judge-markup", has_judge_markup, SHARE_MARKED, "hold markup of a judge's prompt"),
    ("speaks-to-judge", speaks_to_the_judge, SHARE_MARKED, "speak to the judge"),
    ("special-tokens", has_special_tokens, SHARE_OF_ONE, "hold a chat template's special tokens"),
)


class AnswerWatch:
    """Sees one arm's answers one by one; keeps counts and digests (about 1 KB each), not texts."""

    def __init__(self) -> None:
        self._n = 0
        self._empty = 0
        self._loops = 0
        self._marked: Counter[str] = Counter()
        self._whole: dict[bool, Counter[bytes]] = {True: Counter(), False: Counter()}
        self._ends: tuple[Counter[bytes], Counter[bytes]] = (Counter(), Counter())
        self._alike = _Alike()

    def see(self, answer: str, *, instruction: str) -> None:
        """One answer. What the instruction holds too is not held against it."""
        self._n += 1
        text = answer.strip()
        if not text:
            self._empty += 1
            return
        for name, holds, _, _ in _DETECTORS:
            self._marked[name] += holds(answer) and not holds(instruction)
        self._loops += find_loop(text) is not None and find_loop(instruction) is None
        short = len(text.split()) < SHORT_WORDS
        self._whole[short][_digest(text)] += 1
        if not short:
            self._alike.see(text)
        if len(text) > OPENING:
            self._ends[0][_digest(text[:OPENING])] += 1
            self._ends[1][_digest(text[-OPENING:])] += 1

    def alarms(self) -> tuple[Alarm, ...]:
        """What is to be reported of all answers seen."""
        few = max(LEAST_ALIKE, SHARE_ALIKE * self._n)
        same = max(self._whole[False].values(), default=0)
        short = max(self._whole[True].values(), default=0)
        ends = max((v for counts in self._ends for v in counts.values()), default=0)
        near = max(self._alike.most, ends)
        many = max(LEAST_ALIKE, SHARE_SHORT_ALIKE * self._n)
        found = [
            ("constant-answers", same, few, "are one and the same answer"),
            ("constant-answers", short, many, "are one and the same short answer"),
            (
                "near-constant-answers",
                near if near > same else 0,
                few,
                f"are one answer but for a tenth, or share {OPENING} characters at one end",
            ),
            *((name, self._marked[name], s * self._n, what) for name, _, s, what in _DETECTORS),
            (
                "repetition-loops",
                self._loops,
                SHARE_OF_ONE * self._n,
                "repeat themselves in a loop",
            ),
            ("empty-answers", self._empty, SHARE_OF_ONE * self._n, "are empty"),
        ]
        return tuple(
            Alarm(id=name, count=n, of=self._n, text=f"{n:,} of {self._n:,} answers {what}")
            for name, n, least, what in found
            if n and n >= least
        )


class _Alike:
    """Groups answers whose word 3-grams are nearly the same, by sketches.

    An answer joins the first group it is near to; groups are looked up by three independent minimal
    hashes, one of which two answers of similarity 0.9 share with probability 0.999.
    """

    def __init__(self) -> None:
        self._groups: list[tuple[Sketch, int]] = []
        self._by_minimum: dict[tuple[int, int], int] = {}

    @property
    def most(self) -> int:
        """Answers in the largest group."""
        return max((n for _, n in self._groups), default=0)

    def see(self, text: str) -> None:
        grams = _three_grams(text)
        sketch = grams[:SKETCH].copy()
        minima = list(enumerate(_minima(grams)))
        for key in minima:
            place = self._by_minimum.get(key)
            if place is not None and _similarity(self._groups[place][0], sketch) >= NEAR:
                self._groups[place] = (self._groups[place][0], self._groups[place][1] + 1)
                return
        for key in minima:
            self._by_minimum.setdefault(key, len(self._groups))
        self._groups.append((sketch, 1))


def _three_grams(text: str) -> Sketch:
    """Hashes of the distinct word 3-grams, ascending; a shorter text is one gram.

    Words are lower-case. The hash is portable: the same in every process.
    """
    import zlib

    import numpy as np

    words = np.array([zlib.crc32(w.encode()) for w in text.casefold().split()], dtype=np.uint64)
    width = min(3, len(words))
    n = len(words) - width + 1
    mixed = np.zeros(n, dtype=np.uint64)
    for offset in range(width):
        # splitmix64's constant and shift; overflow is meant.
        mixed = (mixed + words[offset : offset + n]) * np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(29)
    return np.unique((mixed >> np.uint64(32)).astype(np.uint32))


def _minima(grams: Sketch) -> tuple[int, int, int]:
    """The smallest hash under three orders."""
    import numpy as np

    second, third = (
        int((grams * np.uint32(odd)).min()) for odd in (0x9E3779B1, 0x85EBCA77)
    )  # overflow is meant
    return int(grams[0]), second, third


def _similarity(a: Sketch, b: Sketch) -> float:
    """Jaccard's, from the smallest hashes of each (bottom-k: E. Cohen and H. Kaplan, 2007)."""
    import numpy as np

    either = np.union1d(a, b)
    if len(a) == SKETCH or len(b) == SKETCH:
        either = either[:SKETCH]
    both = np.intersect1d(a, b, assume_unique=True)
    return len(np.intersect1d(either, both, assume_unique=True)) / len(either)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=8).digest()


# --- between two arms ------------------------------------------------------------------------


def length_drift(opponent: Mapping[str, float], tuned: Mapping[str, float]) -> Alarm | None:
    """Mean answers of which one is at least twice as long as the other, on the same questions.

    Judges like long answers, so such a difference is a rival explanation of a preference.

    Args:
        opponent: the length of its answer by question, in any unit.
        tuned: the same of tuned's. Questions that only one of them has are left out.
    """
    shared = [q for q in opponent if q in tuned]
    theirs = sum(opponent[q] for q in shared)
    ours = sum(tuned[q] for q in shared)
    if not shared or max(ours, theirs) < DRIFT * min(ours, theirs) or ours == theirs:
        return None
    longer = ours > theirs
    count = sum((tuned[q] > opponent[q]) == longer and tuned[q] != opponent[q] for q in shared)
    many = "many" if min(ours, theirs) == 0 else f"{max(ours, theirs) / min(ours, theirs):.1f}"
    side = ("tuned", "opponent's") if longer else ("opponent's", "tuned")
    return Alarm(
        id="length-drift",
        count=count,
        of=len(shared),
        text=f"the {side[0]} answers are {many} times as long as the {side[1]} ones on the mean, "
        f"and longer on {count:,} of {len(shared):,} questions",
    )


def unstopped(*, n_at_limit: int, n_answers: int) -> Alarm | None:
    """Answers that ran into the token limit, from a tenth of them on.

    Args:
        n_at_limit: how many did.
        n_answers: of so many that were generated without an error.
    """
    if n_answers == 0 or n_at_limit < SHARE_UNSTOPPED * n_answers or n_at_limit == 0:
        return None
    return Alarm(
        id="unstopped-answers",
        count=n_at_limit,
        of=n_answers,
        text=f"{n_at_limit:,} of {n_answers:,} answers did not end by themselves: they ran into "
        "the token limit",
    )
