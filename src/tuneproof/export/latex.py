"""The report's tables as LaTeX, to be taken into a paper with ``\\input``. They need booktabs.

Each file is one ``table`` with caption and label. Every text is escaped: what others wrote (names
of categories, models and judges) cannot be a command. What is said is chosen in ``report``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tuneproof.report import content, evidence
from tuneproof.report.build import own_tables
from tuneproof.report.experiment import experiment
from tuneproof.report.numbers import NOT_MEASURED, Shown, count, parts
from tuneproof.report.pairwise import part_shown
from tuneproof.report.untrusted import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tuneproof.recipe import Recipe
    from tuneproof.report.experiment import Rows
    from tuneproof.report.tables import Table
    from tuneproof.results import (
        ArmPair,
        BenchmarkResult,
        Decomposition,
        PairwiseResult,
        Results,
    )

_HEAD = "% Made by tuneproof export. Needs \\usepackage{booktabs}, and UTF-8 input.\n"
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\char34{}",
    "`": r"\textasciigrave{}", "'": r"\textquotesingle{}",
    "−": r"\ensuremath{-}", "–": r"\textendash{}", "—": r"\textemdash{}", "…": r"\ldots{}",
    "±": r"\ensuremath{\pm}", "×": r"\ensuremath{\times}", "→": r"\ensuremath{\rightarrow}",
    "“": r"\textquotedblleft{}", "”": r"\textquotedblright{}", "’": r"\textquoteright{}",
    "χ": r"\ensuremath{\chi}", "φ": r"\ensuremath{\varphi}",
}  # fmt: skip


def escape(text: str) -> str:
    """Text that LaTeX prints as it is, in one line.

    A character that its usual fonts have no glyph for is printed as its number, ``U+4E2D``: with
    pdfLaTeX it would end the run.
    """
    printed = "".join(_printed(c) for c in " ".join(visible(text).split()))
    # No line ends between a number and its unit.
    printed = re.sub(r"(?<=\d) (?=\\%|points\b)", "~", printed)
    # Two hyphens, question or exclamation marks in a row would become another character.
    return re.sub(r"(?<=-)-|(?<=[?!])(?=\\text)", lambda m: "{}" + m[0], printed)


def _printed(c: str) -> str:
    if c in _SPECIAL:
        return _SPECIAL[c]
    # Latin with its accents, which fonts in T1 and OT1 both give.
    if c.isascii() or ("\u00c0" <= c <= "\u017f" and c.isalpha()):
        return c
    return rf"\texttt{{U+{ord(c):04X}}}"


def latex_tables(results: Results, recipe: Recipe) -> dict[str, str]:
    """File name to LaTeX: the experiment's settings, the measures, the held-out loss of each
    category, the win rates, their parts, what the judge's word is worth, the benchmarks' own
    tables."""
    found = {"experiment.tex": _experiment(results, recipe), "measures.tex": _measures(results)}
    if results.heldout_loss is not None and results.heldout_loss.by_category:
        found["heldout_loss.tex"] = _by_category(results.heldout_loss.by_category, results)
    judged = [
        (name, found) for name, b in results.benchmarks.items()
        for found in content.pairwise_results(b)
    ]  # fmt: skip
    if judged:
        found["win_rates.tex"] = _win_rates(judged, results)
    parted = [(n, r, r.decomposition) for n, r in judged if r.decomposition is not None]
    parted = [it for it in parted if it[2].whole.value is not None]
    if parted:
        found["decomposition.tex"] = _decompositions(parted, results)
    judges = evidence.judges(results)
    if judges:
        found["judge.tex"] = _judges(judges)
    for name, table in own_tables(results).items():
        found[f"{name}.tex"] = _own(name, table)
    return found


def _measures(results: Results) -> str:
    lines = []
    for m in content.heldout_measures(results):
        lines += _measure(m)
    for name, result in results.benchmarks.items():
        shown = content.benchmark(name, result)
        lines.append("\\midrule")
        lines.append(_over(_asked(shown, result), 5))
        for m in shown.measures:
            lines += _measure(m)
        if shown.fair_measures:
            lines.append(_over("the same against fair-base", 5))
            for m in shown.fair_measures:
                lines += _measure(m)
    return _table(
        caption=f"Base and tuned on the same questions. Below each value its {_level(results)} "
        "interval, clustered by question; differences are paired, tuned less base. n is the number "
        "of questions.",
        label="measures",
        columns="lrrrr",
        head=("Measure", "Base", "Tuned", "Difference", "n"),
        lines=lines,
    )


def _by_category(pairs: Mapping[str, ArmPair], results: Results) -> str:
    lines = []
    for name, pair in pairs.items():
        lines += _measure(content.measure(content.HELDOUT_LOSS, pair), name)
    kind = content.HELDOUT_LOSS
    return _table(
        caption=f"{kind.label} by category, {kind.unit}; {kind.better} is better. Below each value "
        f"its {_level(results)} interval; n is the number of questions.",
        label="heldout-loss",
        columns="lrrrr",
        head=("Category", "Base", "Tuned", "Difference", "n"),
        lines=lines,
    )


def _level(results: Results) -> str:
    return f"{results.verdict.estimate.level * 100:g} %"


def _over(title: str, columns: int, how: str = "l") -> str:
    """A title over rows that belong together."""
    return rf"\multicolumn{{{columns}}}{{{how}}}{{\textit{{{escape(title)}}}}} \\"


def _asked(shown: content.Benchmark, result: BenchmarkResult) -> str:
    return f"{shown.title} ({count(result.n_questions)} questions)"


def _measure(m: content.Measure, name: str | None = None) -> list[str]:
    """Two lines: the values and n; the unit (of a row that is called after its measure), the
    intervals and what is unscored."""
    label = escape(name if name is not None else m.kind.label)
    if m.base is None or m.tuned is None or m.difference is None:
        return [rf"{label} & \multicolumn{{4}}{{l}}{{{escape(NOT_MEASURED)}}} \\"]
    three = (m.base, m.tuned, m.difference)
    # Almost always the same three times.
    scored, unscored = (" / ".join(dict.fromkeys(_n(s)[k] for s in three)) for k in (0, 1))
    lost = f"{unscored} unscored" if unscored != "0" else ""
    unit = m.kind.unit if name is None else ""
    below = (unit, *(s.interval for s in three), lost)
    return [
        _row([label, *(escape(s.value) for s in three), escape(scored)]),
        _row([(r"\quad " if unit else "") + _small(unit), *map(_small, below[1:])]),
    ]


def _small(text: str) -> str:
    return rf"{{\footnotesize {escape(text)}}}" if text else ""


def _row(cells: Iterable[str]) -> str:
    return " & ".join(cells) + r" \\"


def _win_rates(judged: Sequence[tuple[str, PairwiseResult]], results: Results) -> str:
    lines = []
    for i, (name, found) in enumerate(judged):
        if i:
            lines.append("\\midrule")
        title = content.TITLES.get(name, name)
        rows = [(f"{title}, against {found.opponent}", parts(found.win_rate, percent=True))]
        if found.length_controlled is not None:
            fitted = parts(found.length_controlled.fitted, percent=True)
            rows.append(("at equal length, fitted", fitted))
        rows += [(part, parts(e, percent=True)) for part, e in found.by_category.items()]
        for k, (what, shown) in enumerate(rows):
            indent = r"\quad " if k else ""
            cells = (shown.value, shown.interval, *_n(shown))
            lines.append(_row([indent + escape(what), *map(escape, cells)]))
    judges = "; ".join(dict.fromkeys(f"{r.judge} ({r.protocol})" for _, r in judged))
    return _table(
        caption=f"Win rates of tuned, ties counted half, with {_level(results)} intervals; n is "
        f"the number of questions. Judge: {judges}.",
        label="win-rates",
        columns="lrrrr",
        head=("Questions", "Win rate", "Interval", "n", "Unscored"),
        lines=lines,
    )


def _n(shown: Shown) -> tuple[str, str]:
    """Questions scored and unscored."""
    scored, _, unscored = shown.n.removeprefix("n = ").partition(", ")
    return scored, unscored.removesuffix(" unscored") or "0"


def _decompositions(
    parted: Sequence[tuple[str, PairwiseResult, Decomposition]], results: Results
) -> str:
    lines = []
    for i, (name, found, split) in enumerate(parted):
        if i:
            lines.append("\\midrule")
        title = f"{content.TITLES.get(name, name)}, against {found.opponent}"
        lines.append(_over(title, 4))
        for k, (what, e) in enumerate(
            (
                ("win rate less one half", split.whole),
                ("lost when cut where they run on", split.stopping),
                ("lost when also cut to equal length", split.length),
                ("what remains above one half", split.remaining),
            )
        ):
            shown = part_shown(split, e)
            indent = r"\quad " if k else ""
            cells = (shown.value.removesuffix(" points"), shown.interval, _n(shown)[0])
            lines.append(_row([indent + escape(what), *map(escape, cells)]))
    return _table(
        caption="Where the win rate comes from: answers were judged again, cut where they run on "
        f"into the template, and then to equal length. With {_level(results)} intervals; n is the "
        "number of questions.",
        label="decomposition",
        columns="lrrr",
        head=("", "Points", "Interval", "n"),
        lines=lines,
    )


def _judges(judges: Sequence[evidence.Judged]) -> str:
    parted = []
    for it in judges:
        rows = [
            (
                f"Control pairs, {c.name}" if c.name in evidence.CONTROL_KINDS.values() else c.name,
                f"named better in both orders: {c.accuracy.text}; orders contradict "
                f"{c.contradictions}, ties {c.ties}, unparsed {c.unparsed}",
            )
            for c in it.controls
        ]
        parted.append((it.title, (("Found", it.sentence), *rows, *it.rows)))
    return _settings("What the judge's word is worth.", "judge", parted)


def _experiment(results: Results, recipe: Recipe) -> str:
    parted = [(part.title, part.rows) for part in experiment(results, recipe)]
    return _settings("The experiment's settings.", "experiment", parted)


def _settings(caption: str, label: str, parted: Iterable[tuple[str, Rows]]) -> str:
    """Rows of two texts, which may be long, under a title for each part."""
    lines: list[str] = []
    for title, rows in parted:
        lines += ["\\midrule"] if lines else []
        lines.append(_over(title, 2, r"p{0.94\linewidth}"))
        lines += [
            rf"\raggedright {escape(a)} & \raggedright {escape(b)} \tabularnewline" for a, b in rows
        ]
    return _table(
        caption=caption,
        label=label,
        columns=r"p{0.34\linewidth}p{0.58\linewidth}",
        head=("Setting" if label == "experiment" else "Measure", "Value"),
        lines=lines,
    )


def _own(name: str, table: Table) -> str:
    return _table(
        caption=f"{table.caption}.",
        label=name,
        columns="l" + "r" * (len(table.columns) - 1),
        head=table.columns,
        lines=[_row(escape(cell) if cell else "--" for cell in row) for row in table.rows],
        wide=len(table.columns) > 5,
    )


def _table(
    *,
    caption: str,
    label: str,
    columns: str,
    head: Sequence[str],
    lines: Sequence[str],
    wide: bool = False,
) -> str:
    size = "\\scriptsize\n\\setlength{\\tabcolsep}{3pt}\n" if wide else "\\small\n"
    key = re.sub(r"[^a-z0-9]+", "-", label.lower())
    body = "\n".join(lines)
    return (
        f"{_HEAD}\\begin{{table}}\n\\centering\n\\caption{{{escape(caption)}}}\n"
        f"\\label{{tab:{key}}}\n{size}\\begin{{tabular}}{{{columns}}}\n\\toprule\n"
        f"{_row(escape(name) for name in head)}\n\\midrule\n{body}\n"
        "\\bottomrule\n\\end{tabular}\n\\end{table}\n"
    )
