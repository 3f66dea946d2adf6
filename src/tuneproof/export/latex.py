"""The report's tables as LaTeX, to be taken into a paper with ``\\input``. They need booktabs.

Each file is one ``table`` with caption and label. Every text is escaped: what others wrote (names
of categories, models and judges) cannot be a command. What is said is chosen in ``report``.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tuneproof.report import content
from tuneproof.report.build import own_tables
from tuneproof.report.numbers import NOT_MEASURED, Shown, count, parts
from tuneproof.report.untrusted import visible

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from tuneproof.report.tables import Table
    from tuneproof.results import (
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
    # Two hyphens, question or exclamation marks in a row would become another character.
    return re.sub(r"(?<=-)-|(?<=[?!])(?=\\text)", lambda m: "{}" + m[0], printed)


def _printed(c: str) -> str:
    if c in _SPECIAL:
        return _SPECIAL[c]
    # Latin with its accents, which fonts in T1 and OT1 both give.
    if c.isascii() or ("\u00c0" <= c <= "\u017f" and c.isalpha()):
        return c
    return rf"\texttt{{U+{ord(c):04X}}}"


def latex_tables(results: Results) -> dict[str, str]:
    """File name to LaTeX: the measures, the win rates, their parts, the benchmarks' own tables."""
    found = {"measures.tex": _measures(results)}
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
        lines.append(rf"\multicolumn{{4}}{{l}}{{\textit{{{escape(_asked(shown, result))}}}}} \\")
        for m in shown.measures:
            lines += _measure(m)
        if shown.fair_measures:
            lines.append(r"\multicolumn{4}{l}{\textit{the same against fair-base}} \\")
            for m in shown.fair_measures:
                lines += _measure(m)
    level = f"{results.verdict.estimate.level * 100:g} %"
    return _table(
        caption=f"Base and tuned on the same questions. Below each value its {level} interval, "
        "clustered by question; differences are paired, tuned less base.",
        label="measures",
        columns="lrrr",
        head=("Measure", "Base", "Tuned", "Difference"),
        lines=lines,
    )


def _asked(shown: content.Benchmark, result: BenchmarkResult) -> str:
    return f"{shown.title} ({count(result.n_questions)} questions)"


def _measure(m: content.Measure) -> list[str]:
    label = escape(m.kind.label)
    if m.base is None or m.tuned is None or m.difference is None:
        return [rf"{label} & \multicolumn{{3}}{{l}}{{{escape(NOT_MEASURED)}}} \\"]
    three = (m.base, m.tuned, m.difference)
    return [
        _row([label, *(escape(s.value) for s in three)]),
        _row([rf"\quad {{\footnotesize {escape(m.kind.unit)}}}", *map(_interval, three)]),
    ]


def _interval(shown: Shown) -> str:
    return rf"{{\footnotesize {escape(shown.interval)}}}" if shown.interval else ""


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
            cells = (escape(shown.value), escape(shown.interval), escape(_n(shown)))
            lines.append(_row([indent + escape(what), *cells]))
    level = f"{results.verdict.estimate.level * 100:g} %"
    judges = "; ".join(dict.fromkeys(f"{r.judge} ({r.protocol})" for _, r in judged))
    return _table(
        caption=f"Win rates of tuned, ties counted half, with {level} intervals. Judge: {judges}.",
        label="win-rates",
        columns="lrrr",
        head=("Questions", "Win rate", "Interval", "n"),
        lines=lines,
    )


def _n(shown: Shown) -> str:
    return shown.n.removeprefix("n = ")


def _decompositions(
    parted: Sequence[tuple[str, PairwiseResult, Decomposition]], results: Results
) -> str:
    lines = []
    for i, (name, found, split) in enumerate(parted):
        if i:
            lines.append("\\midrule")
        title = f"{content.TITLES.get(name, name)}, against {found.opponent}"
        lines.append(rf"\multicolumn{{3}}{{l}}{{\textit{{{escape(title)}}}}} \\")
        for k, (what, e) in enumerate(
            (
                ("win rate less one half", split.whole),
                ("lost when cut where they run on", split.stopping),
                ("lost when also cut to equal length", split.length),
                ("what remains above one half", split.remaining),
            )
        ):
            shown = parts(e, percent=True, signed=True)
            indent = r"\quad " if k else ""
            lines.append(_row([indent + escape(what), escape(shown.value), escape(shown.interval)]))
    return _table(
        caption="Where the win rate comes from: answers were judged again, cut where they run on "
        "into the template, and then to equal length.",
        label="decomposition",
        columns="lrr",
        head=("", "Points", "Interval"),
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
