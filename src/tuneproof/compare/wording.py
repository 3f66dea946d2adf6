"""What a comparison says, before it is a terminal's table or a page. Escapes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.report.content import (
    EXACT_MATCH,
    HELDOUT_LOSS,
    RATING,
    SIMILARITY,
    STOPPED,
    TITLES,
    TOKENS,
    WIN_RATE,
    Kind,
)
from tuneproof.report.numbers import Shown, count, parts

if TYPE_CHECKING:
    from tuneproof.compare.comparison import (
        ComparedMeasure,
        Comparison,
        LeftOut,
        SharedQuestions,
    )
    from tuneproof.results import Estimate

KINDS = {
    "heldout_loss": HELDOUT_LOSS,
    "win_rate": WIN_RATE,
    "rating": RATING,
    "exact_match": EXACT_MATCH,
    "similarity": SIMILARITY,
    "stopped": STOPPED,
    "answer_tokens": TOKENS,
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """One measure: both models, the difference, and what it comes to. ``p`` is the corrected p
    value; empty where there is none. ``says`` names the run that it speaks of, ``verdict`` is its
    word alone, and ``dropped`` says what counts for neither run; empty where nothing is."""

    label: str
    unit: str
    better: str
    first: Shown
    second: Shown
    difference: Shown
    estimate: Estimate
    p: str
    says: str
    verdict: str
    dropped: str
    percent: bool


@dataclass(frozen=True, kw_only=True)
class Block:
    """One run against the first, on one benchmark: how the questions go together, the lines, and
    what is left out."""

    title: str
    questions: str
    lines: tuple[Line, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Against:
    """All blocks of one run, and its settings that differ: (setting, first run's, its own)."""

    label: str
    blocks: tuple[Block, ...]
    differing: tuple[tuple[str, str, str], ...]


def told(comparison: Comparison) -> list[Against]:
    """Everything, run by run."""
    found = []
    for run in comparison.runs[1:]:
        blocks = []
        for questions in comparison.questions:
            if questions.run != run.label:
                continue
            place = (run.label, questions.benchmark)
            lines = [
                _line(m, comparison) for m in comparison.measures if (m.run, m.benchmark) == place
            ]
            left = [_left_out(it) for it in comparison.left_out if (it.run, it.benchmark) == place]
            blocks.append(
                Block(
                    title=TITLES.get(questions.benchmark, questions.benchmark),
                    questions=_questions(questions, comparison),
                    lines=tuple(lines),
                    left_out=tuple(left),
                )
            )
        differing = [
            (f"{d.stage}: {d.setting}", d.first, d.second)
            for d in comparison.differing
            if d.run == run.label
        ]
        found.append(Against(label=run.label, blocks=tuple(blocks), differing=tuple(differing)))
    return found


def correction(comparison: Comparison) -> str:
    """How many comparisons there are, and what that means for their p values."""
    n = comparison.n_comparisons
    return (
        f"{comparison.level * 100:g} % intervals (verdict.level of {comparison.runs[0].label}'s "
        "recipe), each for itself, clustered by question; a run's win rate has one made as in its "
        "report, differences have Student's t. p is that of the difference, corrected for all "
        f"{count(n)} comparison{'s' * (n != 1)} in these tables (Holm): two runs are told apart "
        f"where it is below {1 - comparison.level:.2g}."
    )


def _line(m: ComparedMeasure, comparison: Comparison) -> Line:
    kind = KINDS[m.measure]
    return Line(
        label=_label(m.measure, m.against, kind),
        unit=kind.unit,
        better=kind.better,
        first=parts(m.first, percent=kind.percent, digits=kind.digits),
        second=parts(m.second, percent=kind.percent, digits=kind.digits),
        difference=parts(m.difference, percent=kind.percent, digits=kind.digits, signed=True),
        estimate=m.difference,
        p="" if m.p_holm is None else p_text(m.p_holm),
        says=_says(m, comparison),
        verdict=m.says,
        dropped=_dropped(m.n_dropped),
        percent=kind.percent,
    )


def _says(m: ComparedMeasure, comparison: Comparison) -> str:
    """``b is better``, ``a is better``, ``b has more``: whichever it is, by name."""
    if m.says in ("better", "worse"):
        return f"{m.run if m.says == 'better' else comparison.runs[0].label} is better"
    return f"{m.run} has {m.says}" if m.says in ("more", "less") else m.says


def _dropped(n: int) -> str:
    return f"{count(n)} turn{'s' * (n != 1)} left out: scored in one run alone" if n else ""


def p_text(p: float) -> str:
    """A p value: ``< 0.001``, ``0.024``, ``1``."""
    if p < 0.001:
        return "< 0.001"
    return "1" if p > 0.9995 else f"{p:.3f}"


def _label(measure: str, against: object, kind: Kind) -> str:
    return f"{kind.label} against {against}" if against is not None else kind.label


def _left_out(it: LeftOut) -> str:
    label = _label(it.measure, it.against, KINDS[it.measure])
    return f"{label}: left out, {it.reason}"


def _questions(q: SharedQuestions, comparison: Comparison) -> str:
    first = comparison.runs[0].label
    said = f"{count(q.shared)} questions in both"
    more = (
        (q.only_first, f"in {first} alone"),
        (q.only_second, f"in {q.run} alone"),
        (q.other_text, "left out: same id, other text"),
        (q.in_training, "left out: one of the runs was trained on them"),
    )
    return "; ".join([said, *(f"{count(n)} {what}" for n, what in more if n)])
