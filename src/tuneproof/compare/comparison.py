"""Runs compared with the first of them, measure by measure, on the questions that both asked.

A question is the same where its id and all its texts are. A shared question that is in the other
run's training data is left out and counted: one of the two models was taught its answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from tuneproof.compare.measures import Common, common_measures
from tuneproof.compare.reading import RunRead, labels, read_run
from tuneproof.errors import UsageError
from tuneproof.records import Arm, Record
from tuneproof.results import Estimate  # noqa: TC001 (pydantic reads it at run time)
from tuneproof.stats.across import across, holm

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Says = Literal["better", "worse", "more", "less", "not told apart"]


class ComparedRun(Record):
    """One run: what it is called here, where it lies, and what its own report says."""

    label: str
    path: str
    outcome: str | None
    sentence: str | None


class SharedQuestions(Record):
    """How the questions of ``run`` and of the first one go together, on one benchmark.

    ``other_text`` have the same id and other words; ``in_training`` are the same, and were trained
    on in one of the runs. Neither is compared.
    """

    run: str
    benchmark: str
    shared: int
    only_first: int
    only_second: int
    other_text: int
    in_training: int


class ComparedMeasure(Record):
    """One measure of ``run`` against the first run. ``difference`` is ``second`` − ``first``.

    ``p_holm`` is corrected for all comparisons; ``says`` follows it, and is of ``run``. ``better``
    is the direction that is better, empty where none is. ``n_dropped`` turns of the questions that
    count have a value in one run alone, and are in no number here.
    """

    run: str
    benchmark: str
    measure: str
    against: Arm | None
    better: str
    first: Estimate
    second: Estimate
    difference: Estimate
    p: float | None
    p_holm: float | None
    says: Says
    n_dropped: int = 0


class LeftOut(Record):
    """A measure that is not compared, and why."""

    run: str
    benchmark: str
    measure: str
    against: Arm | None
    reason: str


class Differing(Record):
    """A setting that is another one in ``run`` than in the first run."""

    run: str
    stage: str
    setting: str
    first: str
    second: str


class Comparison(Record):
    """Everything that is shown. ``runs[0]`` is the one that the others are compared with, and
    ``level`` is that of its recipe's verdict."""

    runs: tuple[ComparedRun, ...]
    level: float
    correction: Literal["Holm"] = "Holm"
    n_comparisons: int
    measures: tuple[ComparedMeasure, ...]
    left_out: tuple[LeftOut, ...]
    questions: tuple[SharedQuestions, ...]
    differing: tuple[Differing, ...]


def compare_runs(paths: Sequence[Path]) -> Comparison:
    """Read the runs and compare each with the first.

    Raises:
        UsageError: fewer than two runs, one twice, or two that share no question.
        RunDirError: a folder is no run.
        StageError: a run has no answers yet, or a file that cannot be read.
    """
    if len(paths) < 2:
        raise UsageError("expected two runs or more", place="compare", value=len(paths))
    resolved = [path.resolve() for path in paths]
    twice = next((p for i, p in enumerate(paths) if resolved.index(resolved[i]) < i), None)
    if twice is not None:
        raise UsageError("this run is given twice", place="compare", value=str(twice))
    names = labels(list(paths))
    return compare([read_run(p, label=n) for p, n in zip(paths, names, strict=True)])


def compare(runs: Sequence[RunRead]) -> Comparison:
    """``compare_runs`` of runs that were read."""
    first, *others = runs
    found: list[ComparedMeasure] = []
    left_out: list[LeftOut] = []
    questions: list[SharedQuestions] = []
    for other in others:
        benchmarks = dict.fromkeys(p.benchmark for p in (*first.prompts, *other.prompts))
        any_shared = False
        for benchmark in benchmarks:
            counted, shared = _shared(first, other, benchmark)
            questions.append(counted)
            any_shared = any_shared or bool(shared)
            for common in common_measures(first, other, benchmark):
                reason = common.reason or (None if shared else "no question is in both runs")
                if reason is not None:
                    left_out.append(
                        LeftOut(
                            run=other.label,
                            benchmark=benchmark,
                            measure=common.id,
                            against=common.against,
                            reason=reason,
                        )
                    )
                else:
                    found.append(_measured(common, shared, first, other))
        if not any_shared:
            raise UsageError(
                f"shares no question with {first.path}: there is nothing to compare",
                place=str(other.path),
                remedy="Compare runs with the same data and split, or on the same benchmark.",
            )
    return Comparison(
        runs=tuple(
            ComparedRun(
                label=run.label,
                path=str(run.path),
                outcome=run.verdict.outcome if run.verdict is not None else None,
                sentence=run.verdict.sentence if run.verdict is not None else None,
            )
            for run in runs
        ),
        level=first.recipe.verdict.level,
        n_comparisons=sum(m.p is not None for m in found),
        measures=tuple(_corrected(found, level=first.recipe.verdict.level)),
        left_out=tuple(left_out),
        questions=tuple(questions),
        differing=tuple(d for other in others for d in _differing(first, other)),
    )


def _shared(first: RunRead, other: RunRead, benchmark: str) -> tuple[SharedQuestions, list[str]]:
    """The counts, and the questions that are compared, in the first run's order."""
    ours, theirs = (_texts(run, benchmark) for run in (first, other))
    both = [q for q in ours if q in theirs]
    same = [q for q in both if ours[q] == theirs[q]]
    trained = first.trained_on | other.trained_on
    clean = [q for q in same if not any((i, c) in trained for _, i, c, _, _ in ours[q])]
    counted = SharedQuestions(
        run=other.label,
        benchmark=benchmark,
        shared=len(clean),
        only_first=len(ours) - len(both),
        only_second=len(theirs) - len(both),
        other_text=len(both) - len(same),
        in_training=len(same) - len(clean),
    )
    return counted, clean


_Turn = tuple[int, str, str, str | None, bool]


def _texts(run: RunRead, benchmark: str) -> dict[str, list[_Turn]]:
    found: dict[str, list[_Turn]] = {}
    for p in run.prompts:
        if p.benchmark == benchmark:
            turn = (p.turn, p.instruction, p.context, p.reference, p.checkable)
            found.setdefault(p.question_id, []).append(turn)
    return found


def _measured(
    common: Common, shared: Sequence[str], first: RunRead, other: RunRead
) -> ComparedMeasure:
    kept = set(shared)
    sides = [
        [{p: v for p, v in values.items() if p[0] in kept} for values in side]
        for side in (common.first, common.second)
    ]
    made = across(
        *sides,
        questions=[q for q in shared if q in common.asked],
        level=first.recipe.verdict.level,
        bounds=common.bounds,
        unit=common.kind.unit,
        seeds=(first.recipe.seed, other.recipe.seed) if common.as_reported else None,
        known=_same_answers(first, other, common.benchmark) if common.of_answers else (),
    )
    return ComparedMeasure(
        run=other.label,
        benchmark=common.benchmark,
        measure=common.id,
        against=common.against,
        better=common.kind.better,
        first=made.first,
        second=made.second,
        difference=made.difference,
        p=made.p,
        p_holm=None,
        says="not told apart",
        n_dropped=made.n_dropped,
    )


def _same_answers(first: RunRead, other: RunRead, benchmark: str) -> set[str]:
    """The questions that both tuned models answered with the same texts, ended alike."""

    def said(run: RunRead) -> dict[str, dict[tuple[int, int], tuple[str, str]]]:
        found: dict[str, dict[tuple[int, int], tuple[str, str]]] = {}
        for a in run.answers:
            if a.benchmark == benchmark and a.arm is Arm.TUNED:
                found.setdefault(a.question_id, {})[a.turn, a.adapter] = (a.text, a.stop)
        return found

    ours, theirs = said(first), said(other)
    return {q for q, answers in ours.items() if theirs.get(q) == answers}


def _corrected(found: Sequence[ComparedMeasure], *, level: float) -> list[ComparedMeasure]:
    tested = [m for m in found if m.p is not None]
    adjusted = iter(holm([m.p for m in tested if m.p is not None]))
    done = []
    for m in found:
        p = next(adjusted) if m.p is not None else None
        done.append(m.model_copy(update={"p_holm": p, "says": _says(m, p, level=level)}))
    return done


def _says(m: ComparedMeasure, p: float | None, *, level: float) -> Says:
    if p is None or p >= 1 - level or not m.difference.value:
        return "not told apart"
    more = m.difference.value > 0
    if not m.better:
        return "more" if more else "less"
    return "better" if more == (m.better == "higher") else "worse"


def _differing(first: RunRead, other: RunRead) -> list[Differing]:
    """Settings that a stage's key has, by the manifests; the same one is told once."""
    found: dict[tuple[str, str, str], Differing] = {}
    for stage, manifest in first.manifests.items():
        theirs = other.manifests.get(stage)
        if theirs is None:
            continue
        for name in sorted(manifest.key_parts.keys() | theirs.key_parts.keys()):
            a, b = manifest.key_parts.get(name), theirs.key_parts.get(name)
            # Inputs are what the settings made; a stage's version is not the experiment's.
            if a == b or name.startswith("input ") or name in ("stage", "version"):
                continue
            shown = _plain(a), _plain(b)
            found.setdefault(
                (name, *shown),
                Differing(
                    run=other.label, stage=stage, setting=name, first=shown[0], second=shown[1]
                ),
            )
    return list(found.values())


def _plain(value: str | None) -> str:
    """A setting's JSON as it is shown."""
    if value is None:
        return "—"
    text = value.strip('"')
    return text if len(text) <= 40 else f"{text[:12]}…"
