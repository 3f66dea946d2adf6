"""``index.html``: the report as one file that needs nothing else, neither network nor neighbours.

How text is made safe, and what may run, is ``frame``'s business; what the script shows went through
``embedded``. What is said is chosen in ``content`` and ``cases``, lines are placed in ``drawing``
and ``behaviour``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tuneproof.report import behaviour, content, drawing, evidence, frame
from tuneproof.report.cases import STOPS
from tuneproof.report.embedded import embedded
from tuneproof.report.experiment import experiment, in_one_line
from tuneproof.report.meanings import meanings
from tuneproof.report.numbers import Shown, are_numbers, count, duration, moment, size
from tuneproof.report.pairwise import decomposed
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
from tuneproof.report.tables import to_html
from tuneproof.stats.lengths import BANDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jinja2 import Environment

    from tuneproof.recipe import Recipe
    from tuneproof.records import LossPoint, Manifest
    from tuneproof.report.behaviour import Behaviour
    from tuneproof.report.cases import Case, Cases
    from tuneproof.report.pairwise import Decomposed, Split
    from tuneproof.results import Decomposition, Results

_WIDTHS = (736, 340)  # a drawing for wide screens and paper, one for narrow screens
_FOREST_WIDTH = 180
_RATES_WIDTH = 260
SCRIPTS = ("loss.js", "words.js", "question.js", "answers.js", "print.js")
"""The page's script, in this order."""
MOST_WITHOUT_SCRIPT = 900_000
"""Characters of the questions and answers that stand in the page for readers without scripts; of
more, a sample does."""
MOST_OF_ONE = 20_000
"""Characters of one text that they are shown."""


def render_page(
    results: Results,
    *,
    recipe: Recipe,
    recipe_text: str,
    curve: Sequence[LossPoint],
    cases: Cases,
    behaviours: Mapping[str, Sequence[Behaviour]],
    manifests: Mapping[str, Manifest],
    findings: Sequence[str],
) -> str:
    """The whole page."""
    from markupsafe import Markup

    behind = _behind(results)
    style, script = frame.part("style.css"), "".join(frame.part(name) for name in SCRIPTS)
    # These files are ours and hold no untrusted text. Nothing else on the page is marked safe but
    # the benchmarks' own tables, whose every cell ``to_html`` escapes, and the data, which
    # ``embedded`` lets hold no ``<``.
    return (
        _environment()
        .get_template("index.html.j2")
        .render(
            style=Markup(style),  # noqa: S704
            script=Markup(script),  # noqa: S704
            policy=frame.policy(style, script),
            results=results,
            outcome=content.outcome(results),
            setup=in_one_line(results, recipe),
            experiment=experiment(results, recipe),
            not_whole=content.not_whole(results),
            no_rows=content.lacks(results, "prepare") or "not prepared",
            no_losses=content.lacks(results, "train") or "not measured (no loss was logged)",
            figure=content.verdict_figure(results),
            beside=evidence.beside_verdict(results),
            standing=evidence.standing(results),
            alarms=evidence.alarms(results),
            alarmed=evidence.ALARMED,
            alarms_told=evidence.ALARMS_ABOVE if results.alarms else evidence.NO_ALARM,
            behind=behind,
            # Where the result comes from is said with its drawing.
            reasons=[r for r in content.reasons(results) if behind is None or r != behind.sentence],
            rule=content.rule(recipe.verdict),
            bars=_bars(results, recipe),
            findings=findings,
            key_figures=(figures := content.key_figures(results)),
            figure_columns=content.figure_columns(len(figures)),
            heldout=content.heldout_measures(results),
            splits=_splits(results),
            forest_width=_FOREST_WIDTH,
            benchmarks=[
                (content.benchmark(name, b), behaviours.get(name, ()))
                for name, b in results.benchmarks.items()
            ],
            behaviour_width=behaviour.WIDTH,
            placebo=evidence.placebo(results),
            judges=evidence.judges(results),
            charts=_charts(curve, results.best_step),
            losses=drawing.loss_rows(curve),
            training=training_rows(results),
            best_step=results.best_step,
            rows=[(split, count(n)) for split, n in results.rows.items()],
            ledger=ledger_rows(results.ledger),
            preflight=preflight_groups(results),
            preflight_said=preflight_said(results),
            cases=cases,
            data=Markup(embedded(cases, titles=content.TITLES)),  # noqa: S704
            plain=_without_script(cases),
            most_of_one=MOST_OF_ONE,
            bands=BANDS,
            stop_words=STOPS,
            titles=content.TITLES,
            stages=stage_runs(manifests),
            packages=package_sets(manifests),
            answer_plan=plan_rows(manifests),
            registration=registration_rows(results),
            recipe_text=recipe_text.rstrip("\n"),
            machine_notes=machine_notes(recipe),
            meanings=meanings(results, recipe),
        )
    )


def _environment() -> Environment:
    from markupsafe import Markup

    environment = frame.environment()
    environment.filters.update(
        count=count,
        duration=duration,
        moment=moment,
        size=size,
        waterfalls=_waterfalls,
        rates=_rates,
        are_numbers=are_numbers,
        html_table=lambda table: Markup(to_html(table)),  # noqa: S704
    )
    return environment


def _bars(results: Results, recipe: Recipe) -> list[drawing.IntervalBar]:
    """The verdict's interval for wide and for narrow screens; none where there is no interval."""
    kind = content.METRICS.get(results.verdict.metric)
    if kind is None:
        return []
    bars = [
        drawing.interval_bar(
            results.verdict.estimate,
            width=width,
            null=kind.null,
            smallest_effect=recipe.verdict.smallest_effect,
            lower_is_better=kind.better == "lower",
            percent=kind.percent,
        )
        for width in _WIDTHS
    ]
    return [bar for bar in bars if bar is not None]


def _behind(results: Results) -> Decomposed | None:
    """Where the verdict's win rate comes from; None where it rests on no win rate, or none is."""
    verdict = results.verdict
    if verdict.metric != "win_rate":
        return None
    for name, result in results.benchmarks.items():
        for found in content.pairwise_results(result):
            of_verdict = verdict.benchmark in (None, name) and verdict.against in (
                None,
                found.opponent,
            )
            if of_verdict and found.decomposition is not None and found.win_rate.n_scored:
                return decomposed(found.decomposition, found.opponent)
    return None


def _waterfalls(found: Decomposition) -> list[drawing.Waterfall]:
    """Where a win rate comes from, for wide and for narrow screens; none where it is not known."""
    drawn = [drawing.waterfall(found, width=width) for width in _WIDTHS]
    return [it for it in drawn if it is not None]


def _rates(split: Split) -> list[tuple[str, Shown, drawing.ForestRow | None]]:
    """Win rates with their intervals on one scale from 0 to 1."""
    drawn = drawing.forest(split.estimates, width=_RATES_WIDTH, null=0.5, ends=(0.0, 1.0))
    return [(name, shown, row) for (name, shown), row in zip(split.rows, drawn, strict=True)]


def _without_script(cases: Cases) -> tuple[Case, ...]:
    """The questions that stand in the page itself: all, or as many as there is room for."""
    size = sum(
        min(len(text or ""), MOST_OF_ONE)
        for case in cases.cases
        for turn in case.turns
        for text in (
            turn.instruction,
            turn.context,
            turn.reference,
            *(side.text for side in turn.sides),
            *(reply.text for reply in turn.replies),
        )
    )
    if size <= MOST_WITHOUT_SCRIPT:
        return cases.cases
    return cases.sample(max(1, len(cases.cases) * MOST_WITHOUT_SCRIPT // size))


def _charts(curve: Sequence[LossPoint], best_step: int | None) -> list[drawing.LossChart]:
    sizes = zip(_WIDTHS, (346, 276), strict=True)
    charts = [drawing.loss_chart(curve, width=w, height=h, best_step=best_step) for w, h in sizes]
    return [chart for chart in charts if chart is not None]


_Drawn = tuple[str, content.Measure, drawing.ForestRow | None]


_Split = tuple[str, str, list[_Drawn], tuple[drawing.Tick, ...]]


def _splits(results: Results) -> list[_Split]:
    """The held-out loss of the parts: (title, what a part is, (name, loss, difference drawn),
    the drawings' scale)."""
    if results.heldout_loss is None:
        return []
    found = []
    for what, pairs in (
        ("category", results.heldout_loss.by_category),
        ("adapter", results.heldout_loss.by_adapter),
    ):
        differences = [p.difference for p in pairs.values()]
        drawn = drawing.forest(differences, width=_FOREST_WIDTH)
        ticks = drawing.forest_ticks(differences, width=_FOREST_WIDTH)
        rows = [
            (name, content.measure(content.HELDOUT_LOSS, pair), row)
            for (name, pair), row in zip(pairs.items(), drawn, strict=True)
        ]
        if rows:
            found.append((f"Held-out loss by {what}", what.capitalize(), rows, ticks))
    return found
