"""``report.md``: the report as plain Markdown, to be read in an editor, a pull request or a diff.

Text that others wrote stands in fences longer than any run of backticks in it, or is escaped where
it stands in a line or a table. What is said is chosen in ``content`` and ``cases``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.report import content, evidence
from tuneproof.report.experiment import experiment, in_one_line
from tuneproof.report.meanings import meanings
from tuneproof.report.numbers import NOT_MEASURED, Shown, count, duration, moment
from tuneproof.report.provenance import (
    ledger_rows,
    machine_notes,
    package_sets,
    plan_rows,
    preflight_groups,
    preflight_said,
    registration_rows,
    stage_runs,
    training_rows,
)
from tuneproof.report.tables import to_markdown
from tuneproof.report.untrusted import cell, fence, inline

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tuneproof.recipe import Recipe
    from tuneproof.records import Manifest
    from tuneproof.report.cases import Case, Cases, Reply, Side
    from tuneproof.report.pairwise import Pairwise
    from tuneproof.report.tables import Table
    from tuneproof.results import ArmPair, Results

_N_SAMPLES = 6


def render_markdown(
    results: Results,
    *,
    recipe: Recipe,
    recipe_text: str,
    cases: Cases,
    manifests: Mapping[str, Manifest],
    findings: Sequence[str],
) -> str:
    """The whole report."""
    blocks = [
        *_verdict(results, recipe, findings),
        *_measures(results),
        *_judges(results),
        *_experiment(results, recipe),
        *_training(results),
        *_data(results),
        *_answers(cases),
        *_ran(results, manifests),
        *_reproduce(results, recipe, recipe_text),
        "## What these numbers mean",
        _list(f"**{term}.** {cell(text)}" for term, text in meanings(results, recipe)),
    ]
    return "\n\n".join(blocks) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _shown(shown: Shown | None) -> str:
    return cell(shown.text if shown else NOT_MEASURED)


def _full(shown: Shown | None) -> str:
    """With the detectable effect: for differences and win rates."""
    return cell(shown.full if shown else NOT_MEASURED)


def _quote(text: str) -> str:
    """A warning, set apart."""
    return f"> **Warning.** {cell(text)}"


def _verdict(results: Results, recipe: Recipe, findings: Sequence[str]) -> list[str]:
    figure = content.verdict_figure(results)
    standing, beside = evidence.standing(results), evidence.beside_verdict(results)
    more = "".join(f"; {cell(part)}" for part in (beside, figure.explained) if part)
    blocks = [
        f"# {inline(results.name)}",
        f"**{cell(results.verdict.sentence)}**",
        inline(in_one_line(results, recipe)),
    ]
    if results.missing:
        blocks += [
            f"> **{content.not_whole(results)}** This is a report of what the run holds. Missing:",
            _list(f"{m.stage}: {inline(m.why)}. {inline(m.command)}" for m in results.missing),
        ]
    blocks += [
        f"Verdict: **{content.outcome(results)}**, {standing.badge}. {cell(figure.label)}: "
        f"{cell(figure.shown.text)}{more}.",
    ]
    alarms = evidence.alarms(results)
    if alarms:
        blocks += [_quote(evidence.ALARMED), _list(inline(alarm) for alarm in alarms)]
    if reasons := content.reasons(results):
        # Without words between them two lists are one.
        blocks += [
            "What the verdict rests on, and what to bear in mind:",
            _list(inline(reason) for reason in reasons),
        ]
    blocks += [cell(content.rule(recipe.verdict)), inline(standing.sentence)]
    if standing.changed:
        blocks.append(_list(inline(change) for change in standing.changed))
    if findings:
        blocks += ["## To keep in mind", _list(inline(finding) for finding in findings)]
    return blocks


def _measure_table(measures: Iterable[content.Measure], base: str = "Base") -> str:
    rows = []
    for m in measures:
        better = f"; {m.kind.better} is better" if m.kind.better else ""
        if m.base is None:
            rows.append((m.kind.label, NOT_MEASURED, "", ""))
        else:
            label = f"{m.kind.label} ({m.kind.unit}{better})"
            rows.append((label, _shown(m.base), _shown(m.tuned), _full(m.difference)))
    return _table(("Measure", base, "Tuned", f"Difference (tuned − {base.lower()})"), rows)


def _measures(results: Results) -> list[str]:
    blocks = ["## What was measured", "### Held-out loss"]
    loss = results.heldout_loss
    blocks.append(_measure_table(content.heldout_measures(results)))
    if loss is not None:
        blocks += _loss_split("By category:", "Category", loss.by_category)
        blocks += _loss_split("By adapter:", "Adapter", loss.by_adapter)
    if not results.benchmarks:
        blocks.append(f"Answers: {NOT_MEASURED}.")
    for name, result in results.benchmarks.items():
        shown = content.benchmark(name, result)
        blocks += [
            f"### {cell(shown.title)}",
            f"{cell(shown.asked)}.",
            _measure_table(shown.measures),
        ]
        if shown.fair_measures:
            blocks += [
                "Against fair-base, the base model at its best:",
                _measure_table(shown.fair_measures, "Fair-base"),
            ]
        if shown.rating_table is not None:
            blocks += [
                "#### Ratings",
                _pair_table(shown.rating_rows),
                *_own_table(shown.rating_table),
            ]
        elif not shown.pairwise:
            blocks.append(f"Pairwise win rate: {NOT_MEASURED} (no judge compared the answers).")
        for found in shown.pairwise:
            blocks += _pairwise(found, content.reasons(results))
    placebo = evidence.placebo(results)
    if placebo is not None:
        blocks += ["### Placebo", inline(placebo.sentence), f"{cell(placebo.caption)}:"]
        blocks.append(_pair_table(placebo.rows))
    return blocks


def _loss_split(title: str, what: str, pairs: Mapping[str, ArmPair]) -> list[str]:
    if not pairs:
        return []
    rows = []
    for name, pair in pairs.items():
        m = content.measure(content.HELDOUT_LOSS, pair)
        rows.append((cell(name), _shown(m.base), _shown(m.tuned), _full(m.difference)))
    return [title, _table((what, "Base", "Tuned", "Difference (tuned − base)"), rows)]


def _pairwise(p: Pairwise, said_above: Sequence[str]) -> list[str]:
    blocks = [
        f"#### {cell(p.title)}",
        f"{cell(p.caption)}:",
        _pair_table(p.rows),
    ]
    for split in p.splits:
        rows = [(cell(name), _full(shown)) for name, shown in split.rows]
        blocks.append(_table((split.title, "Win rate of tuned"), rows))
        blocks += [inline(split.note)] if split.note else []
    for table in p.tables:
        blocks += _own_table(table)
    if p.decomposed is not None:
        blocks.append(f"##### {cell(p.decomposed.title)}")
        if p.decomposed.sentence not in said_above:
            blocks.append(inline(p.decomposed.sentence))
        if p.decomposed.rows:
            blocks.append(_pair_table(p.decomposed.rows))
    return blocks


def _pair_table(rows: Iterable[tuple[str, str]]) -> str:
    return _table(("Measure", ""), [(cell(a), cell(b)) for a, b in rows])


def _judges(results: Results) -> list[str]:
    found = evidence.judges(results)
    if not found:
        return []
    blocks = ["## Does the judge earn its place?"]
    for it in found:
        blocks.append(f"### {cell(it.title)}")
        if it.sentence:
            blocks.append(_quote(it.sentence) if it.refused else inline(it.sentence))
        if it.controls:
            head = ("The right answer", "Named better in both orders", "Orders contradict", "Ties")
            rows = [
                (cell(c.name), cell(c.accuracy.text), c.contradictions, c.ties, c.unparsed)
                for c in it.controls
            ]
            blocks.append(_table((*head, "Unparsed"), rows))
        if it.cannot:
            reasons = _list(inline(reason) for reason in it.cannot)
            blocks += ["Controls that could not be built:", reasons]
        if it.rows:
            blocks.append(_pair_table(it.rows))
    return [*blocks, evidence.ALARMS_ABOVE if results.alarms else evidence.NO_ALARM]


def _own_table(table: Table) -> list[str]:
    """A benchmark's own table, as the original tool prints it."""
    return [f"{cell(table.caption)}:", to_markdown(table)]


def _experiment(results: Results, recipe: Recipe) -> list[str]:
    blocks = ["## The experiment"]
    for part in experiment(results, recipe):
        blocks += [
            f"{part.title}:",
            _table(("Setting", "Value"), [(cell(a), cell(b)) for a, b in part.rows]),
        ]
    return blocks


def _training(results: Results) -> list[str]:
    rows = [(a, cell(b)) for a, b in training_rows(results)]
    return [
        "## Training",
        "![Train and validation loss against the optimizer step](loss.svg)",
        "The same figure as [PNG](loss.png), its numbers as [CSV](loss.csv).",
        *([_table(("Training", ""), rows)] if rows else []),
    ]


def _data(results: Results) -> list[str]:
    rows = ledger_rows(results.ledger)
    rows += [(f"Split: {split}", count(n)) for split, n in results.rows.items()]
    table = _table(("Rows", "Count"), [(cell(a), b) for a, b in rows])
    found = [f for group in preflight_groups(results) for f in group.findings]
    listed = _list(
        f"{f.severity}, {f.id}: {inline(f.evidence)} → {inline(f.remedy)}" for f in found
    )
    return [
        "## Data",
        table if rows else f"Rows: {content.lacks(results, 'prepare') or 'not prepared'}.",
        "### Preflight",
        inline(preflight_said(results)),
        *([listed] if found else []),
    ]


def _answers(cases: Cases) -> list[str]:
    sample = cases.sample(_N_SAMPLES)
    if not sample:
        return ["## Answers side by side", f"Answers: {NOT_MEASURED}."]
    said = (
        f"{len(sample)} of {count(len(cases.cases))} questions, evenly spaced in their order and "
        "not chosen by their result. All of them are in index.html."
    )
    blocks = ["## Answers side by side", said]
    if cases.n_orphans:
        blocks.append(f"{count(cases.n_orphans)} answers belong to no question and are not shown.")
    several = len(cases.benchmarks) > 1
    if cases.adapters:
        blocks.append(f"Of {len(cases.adapters)} adapters, the answers of the first are shown.")
    for case in sample:
        blocks += _case(case, benchmark=several)
    return blocks


def _case(case: Case, *, benchmark: bool) -> list[str]:
    category = f", {cell(case.category)}" if case.category else ""
    of = f" ({cell(content.TITLES.get(case.benchmark, case.benchmark))})" if benchmark else ""
    blocks = [f"### Question {case.number}: {cell(case.question_id)}{category}{of}"]
    for turn in case.turns:
        if len(case.turns) > 1:
            blocks.append(f"Turn {turn.number}:")
        blocks.append(fence(turn.instruction))
        if turn.context:
            blocks += ["Context:", fence(turn.context)]
        if turn.reference is not None:
            blocks += ["Reference:", fence(turn.reference)]
        for side in turn.sides:
            if side.adapter <= 1:
                blocks += _side(side)
        for reply in turn.replies:
            if reply.adapter <= 1:
                blocks += _reply(reply)
    return blocks


def _reply(reply: Reply) -> list[str]:
    head = (
        f"Judge {cell(reply.judge)}, {reply.about}, {reply.first} shown first: {cell(reply.says)}."
    )
    return [head, fence(reply.text)]


def _side(side: Side) -> list[str]:
    name = side.name.capitalize()
    if side.text is None:
        return [f"**{name}**: {cell(side.problem)}"]
    mark = {True: "exact match", False: "no exact match", None: ""}[side.exact]
    notes = ", ".join(part for part in (side.stop, side.length, mark, side.chrf) if part)
    return [f"**{name}** ({notes}):", fence(side.text)]


def _ran(results: Results, manifests: Mapping[str, Manifest]) -> list[str]:
    blocks = ["## What was run"]
    if not manifests:
        return [*blocks, "No stage left a manifest."]
    rows = [
        (
            cell(run.stage),
            str(run.manifest.version),
            cell(moment(run.manifest.started)),
            duration(run.manifest.duration_s),
            cell(run.manifest.device),
            cell(run.checkout),
        )
        for run in stage_runs(manifests)
    ]
    blocks.append(_table(("Stage", "Version", "Started", "Duration", "Device", "Commit"), rows))
    blocks.append(_list(f"{cell(who)}: {cell(text)}" for who, text in package_sets(manifests)))
    blocks += [f"{what}: {cell(text)}" for what, text in plan_rows(manifests)]
    blocks += [f"{what}: {cell(text)}" for what, text in registration_rows(results)]
    return blocks


def _reproduce(results: Results, recipe: Recipe, recipe_text: str) -> list[str]:
    name = f"{results.name}.yaml"
    return [
        "## How to reproduce",
        f"Save this recipe, in which every default is written out, as {cell(name)}:",
        fence(recipe_text.rstrip("\n"), language="yaml"),
        *(inline(note) for note in machine_notes(recipe)),
        "and run it:",
        fence(f"tuneproof run {name}", language="sh"),
    ]
