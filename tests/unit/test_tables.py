"""The document's two tables, printed: its own figures digit for digit, and text that attacks."""

from __future__ import annotations

import csv
import io
from html.parser import HTMLParser

import pytest

from tests.conftest import SHARED
from tuneproof.audit.audit import audit_text
from tuneproof.report.tables import (
    AlpacaEvalRow,
    MtBenchRow,
    alpaca_eval_bands,
    alpaca_eval_table,
    mt_bench_table,
    percentage,
    share,
    to_csv,
    to_html,
    to_markdown,
)

ALPACA_EVAL = AlpacaEvalRow(
    model="finetuned",
    win_rate=100 * 249 / 300,
    standard_error=100 * (0.83 * 0.17 / 299) ** 0.5,
    mode="community",
    avg_length=1884,
    n_wins_base=51,
    n_draws=0,
    n_total=300,
    discrete_win_rate=100 * 249 / 300,
    length_controlled_winrate=68.8332534900001,
)
MT_BENCH = [
    MtBenchRow(
        model=model,
        win=w,
        loss=n,
        tie=34,
        win_rate=w / 80,
        loss_rate=n / 80,
        win_rate_adjusted=(w + 17) / 80,
    )
    for model, w, n in (("finetuned", 28, 18), ("base", 18, 28))
]


def printed(header: str, n: int) -> list[list[str]]:
    """The reference document's lines under one of its headers, cell by cell."""
    document = SHARED.parent / "reference-experiment.txt"
    if not document.exists():
        pytest.skip(f"needs the reference document: {document} is not on this machine")
    lines = document.read_text("utf-8").splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(header))
    return [line.rstrip("\t").split("\t") for line in lines[at : at + 1 + n]]


def test_alpaca_eval_is_printed_as_in_the_document() -> None:
    first, second = alpaca_eval_bands([ALPACA_EVAL])
    assert [list(first.columns), list(first.rows[0])] == printed("Model\twin_rate", 1)
    assert [list(second.columns), list(second.rows[0])] == printed("Model\tn_wins_base", 1)
    assert first.rows == (("finetuned", "83", "2.172340568", "community", "1884"),)


def test_mt_bench_is_printed_as_in_the_document_but_for_its_slip() -> None:
    table = mt_bench_table(MT_BENCH)
    assert table.rows == (
        ("finetuned", "28", "18", "34", "0.350", "0.225", "0.5625"),
        ("base", "18", "28", "34", "0.225", "0.350", "0.4375"),
    )
    theirs = printed("Model\twin\tloss", 2)
    assert theirs[1].pop(2) == "19"
    theirs[1].insert(2, "18")
    assert [list(table.columns), *map(list, table.rows)] == theirs


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.35, "0.350"), (0.5625, "0.5625"), (0.56875, "0.56875"), (28 / 81, "0.345679"), (0, "0.000"),
     (1, "1.000")],
)  # fmt: skip
def test_shares(value: float, text: str) -> None:
    assert share(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(83.0, "83"), (2.1723405677, "2.172340568"), (100.0, "100"), (0.0, "0"), (0.00001, "0.00001"),
     (None, ""), (49.5, "49.5"), (76.91979180386511, "76.9197918")],
)  # fmt: skip
def test_percentages(value: float | None, text: str) -> None:
    assert percentage(value) == text


def test_the_wide_table_as_csv() -> None:
    assert to_csv(alpaca_eval_table([ALPACA_EVAL])) == (
        "Model,win_rate,standard_error,mode,avg_length,n_wins_base,n_draws,n_total,"
        "discrete_win_rate,length_controlled_winrate\n"
        "finetuned,83,2.172340568,community,1884,51,0,300,83,68.83325349\n"
    )


def test_n_wins_has_a_column_where_it_is_known() -> None:
    known = AlpacaEvalRow(**{**ALPACA_EVAL.__dict__, "n_wins": 249, "model": "b"})
    table = alpaca_eval_table([ALPACA_EVAL, known])
    at = table.columns.index("n_wins")
    assert table.columns[at + 1] == "n_wins_base"
    assert [row[at] for row in table.rows] == ["", "249"]
    assert to_markdown(alpaca_eval_bands([known, ALPACA_EVAL])[1]).splitlines()[3] == (
        "| finetuned | — | 51 | 0 | 300 | 83 | 68.83325349 |"
    )


def test_markdown() -> None:
    assert to_markdown(mt_bench_table(MT_BENCH)).splitlines()[:3] == [
        "| Model | win | loss | tie | win_rate | loss_rate | win_rate_adjusted |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| finetuned | 28 | 18 | 34 | 0.350 | 0.225 | 0.5625 |",
    ]


class Cells(HTMLParser):
    """Tags in order, and the text of each cell."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("th", "td"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data.strip("\n")


HOSTILE = 'a|b_c* <script>alert("1")</script> & `x`\n\x1b[31m\u202ered'


def test_html_is_semantic_and_escaped() -> None:
    row = AlpacaEvalRow(**{**ALPACA_EVAL.__dict__, "model": HOSTILE, "standard_error": None})
    page = to_html(alpaca_eval_bands([row])[0])
    parser = Cells()
    parser.feed(page)
    assert parser.tags == [
        *("table", "caption", "thead", "tr"), *["th"] * 5, *("tbody", "tr", "th"), *["td"] * 4,
    ]  # fmt: skip
    assert "script" not in parser.tags
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert parser.cells[5].startswith('a|b_c* <script>alert("1")</script> & `x`')
    assert parser.cells[7] == "—"
    assert page.count('scope="col"') == 5
    assert page.count('scope="row"') == 1


def test_a_hostile_name_stays_in_its_cell() -> None:
    rows = [MtBenchRow(**{**MT_BENCH[0].__dict__, "model": HOSTILE}), MT_BENCH[1]]
    text = to_markdown(mt_bench_table(rows))
    assert len(text.splitlines()) == 4
    audited = audit_text(text, name="t.md").tables[0].table
    assert audited.rows[0].model.startswith('a|b_c* <script>alert("1")</script> & `x')
    again = list(csv.reader(io.StringIO(to_csv(mt_bench_table(rows)))))
    assert len(again) == 3
    assert {len(line) for line in again} == {7}


@pytest.mark.parametrize("form", [to_csv, to_markdown])
def test_what_is_printed_passes_the_audit(form: object) -> None:
    assert callable(form)
    text = "\n\n".join(
        form(table) for table in (*alpaca_eval_bands([ALPACA_EVAL]), mt_bench_table(MT_BENCH))
    )
    audit = audit_text(text, name="ours")
    assert [t.table.benchmark for t in audit.tables] == ["alpaca_eval", "mt_bench"]
    assert audit.problems == []
    assert audit.n_held > 30
