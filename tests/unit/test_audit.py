"""The audit: the reference's own slip, every rule by hand, tables as people write them, and 200
random tables with one cell changed.

The module is long, being mostly tables.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

import pytest

from tests.conftest import SHARED, shared
from tuneproof.audit.audit import Problem, audit_file, audit_text
from tuneproof.audit.wording import audit_lines
from tuneproof.errors import DataError
from tuneproof.report.tables import (
    AlpacaEvalRow,
    MtBenchRow,
    Table,
    alpaca_eval_bands,
    alpaca_eval_table,
    mt_bench_table,
    to_csv,
    to_markdown,
)

if TYPE_CHECKING:
    from pathlib import Path

MT_BENCH = """\
Model\twin\tloss\ttie\twin_rate\tloss_rate\twin_rate_adjusted
finetuned\t28\t19\t34\t0.350\t0.225\t0.5625
base\t18\t28\t34\t0.225\t0.350\t0.4375
"""
ALPACA_EVAL = """\
Model\twin_rate\tstandard_error\tmode\tavg_length\t
finetuned\t83\t2.172340568\tcommunity\t1884\t
Model\tn_wins_base\tn_draws\tn_total\tdiscrete_win_rate\tlength_controlled_winrate
finetuned\t51\t0\t300\t83\t68.83325349
"""


def problems(text: str) -> list[Problem]:
    return audit_text(text, name="table").problems


def cells(text: str) -> dict[tuple[str, str], float | None]:
    """Expected values of the cells to blame."""
    return {(p.row, p.column): p.expected for p in problems(text)}


def alpaca(**changed: str) -> str:
    """The document's row with cells changed, one wide CSV."""
    row = {
        "Model": "m", "win_rate": "83", "standard_error": "2.172340568", "n_wins": "249",
        "n_wins_base": "51", "n_draws": "0", "n_total": "300", "discrete_win_rate": "83",
        "length_controlled_winrate": "68.83325349",
    } | changed  # fmt: skip
    row = {k: v for k, v in row.items() if v}
    return f"{','.join(row)}\n{','.join(row.values())}\n"


# --- the reference ---------------------------------------------------------------------------


def test_the_documents_one_wrong_cell() -> None:
    (problem,) = problems(MT_BENCH)
    assert (problem.row, problem.column) == ("finetuned", "loss")
    assert (problem.given, problem.expected) == (19, 18)
    assert (problem.candidates, problem.line) == (1, 2)
    # 28/81, 19/81, 45/81; 81 against 80 matches; and the base model won 18.
    assert problem.rule == "win-rate, loss-rate, win-rate-adjusted, counts-sum, mirror"


def test_the_documents_other_table_is_right() -> None:
    audit = audit_text(ALPACA_EVAL, name="table")
    assert audit.problems == []
    (table,) = audit.tables
    assert table.table.columns[-1] == "length_controlled_winrate"
    # Eight ranges, counts, discrete rate, win rate within the counts, equal to the discrete rate
    # and to the counts, and the standard error.
    assert table.n_held == 14


def test_the_whole_document() -> None:
    document = SHARED.parent / "reference-experiment.txt"
    if not document.exists():
        pytest.skip(f"needs the reference document: {document} is not on this machine")
    audit = audit_file(document)
    told = audit.to_json()
    assert told["rows"] == 3
    assert told["checks"] == 14 + 22
    assert told["problems"] == [
        {
            "row": "finetuned", "column": "loss", "given": 19, "expected": 18,
            "rule": "win-rate, loss-rate, win-rate-adjusted, counts-sum, mirror",
            "allowed": "18", "candidates": 1, "line": 144,
        }
    ]  # fmt: skip
    text = "\n".join(audit_lines(audit))
    assert "finetuned, loss (line 144): given 19, expected 18; with it all 27 checks hold" in text
    assert "AlpacaEval (line 131), finetuned: 14 checks held, none failed" in text


def test_the_published_leaderboard_has_one_wrong_cell() -> None:
    """223 rows. (371 + 17/2)/805 = 47.14 %, where 40.19 is printed; found by this audit."""
    audit = audit_file(shared("alpaca_eval/leaderboard.csv"))
    assert audit.n_rows == 223
    (problem,) = audit.problems
    assert problem.row == "aligner-2b_gpt-4-turbo-2024-04-09"
    assert problem.column == "discrete_win_rate"
    assert problem.expected == pytest.approx(100 * 379.5 / 805, abs=1e-9)


# --- rules, one by one -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "cell", "expected"),
    [
        ({"standard_error": "2.182340568"}, "standard_error", 2.172340568),
        ({"standard_error": "1.9"}, "standard_error", 2.2),
        ({"win_rate": "84"}, "win_rate", 83),
        ({"discrete_win_rate": "82.9"}, "discrete_win_rate", 83),
        ({"n_wins": "250"}, "n_wins", 249),
        ({"n_wins_base": "50"}, "n_wins_base", 51),
        ({"n_draws": "1"}, "n_draws", 0),
        ({"n_total": "305"}, "n_total", 300),
        # Without n_wins the others say it.
        ({"n_wins": "", "n_wins_base": "50"}, "n_wins_base", 51),
        ({"n_wins": "", "n_total": "301"}, "n_total", 300),
        ({"n_total": "", "n_wins": "250"}, "n_wins", 249),
        ({"length_controlled_winrate": "168.83325349"}, "length_controlled_winrate", None),
    ],
)
def test_one_wrong_cell_of_alpaca_eval(
    changed: dict[str, str], cell: str, expected: float | None
) -> None:
    assert cells(alpaca(**changed)) == {("m", cell): expected}


def test_the_standard_error_of_draws() -> None:
    """Half-points spread less: 199 wins, 2 draws, 604 losses, from the published leaderboard."""
    p = 200 / 805
    error = 100 * math.sqrt((199 + 2 / 4 - 805 * p * p) / (805 * 804))
    row = alpaca(
        win_rate="24.84472049689441", standard_error="1.521406431103307", n_wins="199",
        n_wins_base="604", n_draws="2", n_total="805", discrete_win_rate="24.84472049689441",
    )  # fmt: skip
    assert error == pytest.approx(1.521406431103307, rel=1e-12)
    assert cells(row) == {}
    assert cells(row.replace("1.5214", "1.5239")) == {
        ("m", "standard_error"): pytest.approx(error, rel=1e-9)
    }


def test_weighted_preferences_are_held_to_what_they_must() -> None:
    """A judge that gives probabilities: win rate and discrete rate differ, and rightly."""
    weighted = alpaca(win_rate="79.123456789", standard_error="1.987654321")
    assert cells(weighted) == {}
    # 100·√(0.79123·0.20877/299) = 2.3504 is the most they can spread.
    found = {p.column: p for p in problems(alpaca(win_rate="79.123456789", standard_error="2.451"))}
    assert found.keys() == {"win_rate", "standard_error"}
    assert found["standard_error"].rule == "standard-error-bound"
    assert found["standard_error"].expected is None
    assert found["standard_error"].allowed == "0 to 2.35"
    # 100·√(p(1 − p)/299) is 2.451 at p = 0.7658; that and less would do, but not below 41.5.
    assert found["win_rate"].allowed == "41.5 to 76.5"
    # 249 preferences above ½ are a win rate of 41.5 at the very least.
    low = problems(alpaca(win_rate="41.123456789", standard_error="1.987654321"))
    assert {p.column for p in low} >= {"win_rate"}
    assert low[0].rule == "win-rate-within-counts"


def test_rounded_for_people_is_not_held_to_digits_it_does_not_have() -> None:
    for changed in (
        {"win_rate": "83.0", "standard_error": "2.17", "length_controlled_winrate": "68.8"},
        {"win_rate": "83.0 %", "standard_error": "2.2", "length_controlled_winrate": ""},
        {"win_rate": "83.2", "standard_error": "1.9", "length_controlled_winrate": "68.8"},
    ):
        assert cells(alpaca(**changed)) == {}


def test_a_length_is_not_negative() -> None:
    (problem,) = problems("Model,win_rate,avg_length\nm,83,-5\n")
    assert (problem.column, problem.allowed, problem.rule) == ("avg_length", "0 or more", "range")


def test_where_several_cells_could_be_wrong_all_are_named() -> None:
    found = problems("Model,n_wins,n_wins_base,n_draws,n_total\nm,249,52,0,300\n")
    assert {(p.column, p.expected) for p in found} == {
        ("n_wins", 248),
        ("n_wins_base", 51),
        ("n_total", 301),
    }
    assert {p.candidates for p in found} == {3}


def test_where_no_cell_explains_it_the_broken_rules_are_listed() -> None:
    """Two cells of one comparison: its adjusted rate, and the other model's ties."""
    text = MT_BENCH.replace("19", "18").replace("0.5625", "0.7")
    text = text.replace("28\t34\t0.225", "28\t35\t0.225")
    found = problems(text)
    assert {p.candidates for p in found} == {0}
    told = {(p.rule, p.row, p.column, p.given, p.expected) for p in found}
    assert ("win-rate-adjusted", "finetuned", "win_rate_adjusted", 0.7, 0.6) in told
    assert ("mirror", "finetuned", "tie", 34, 35) in told
    assert ("counts-sum", "finetuned", "win + loss + tie of finetuned", 80, 81) in told
    assert "no change of a single cell mends this" in "\n".join(
        audit_lines(audit_text(text, name="t"))
    )


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("finetuned\t28", "finetuned\t29", {("finetuned", "win"): 28}),
        ("28\t34\t0.225", "28\t35\t0.225", {("base", "tie"): 34}),
        ("0.350\t0.225", "0.351\t0.225", {("finetuned", "win_rate"): 0.35}),
        ("0.350\t0.4375", "0.355\t0.4375", {("base", "loss_rate"): 0.35}),
        ("0.4375", "0.4376", {("base", "win_rate_adjusted"): 0.4375}),
    ],
)
def test_one_wrong_cell_of_mt_bench(
    old: str, new: str, expected: dict[tuple[str, str], float]
) -> None:
    right = MT_BENCH.replace("19", "18")
    assert cells(right) == {}
    assert cells(right.replace(old, new)) == expected


def test_n_matches() -> None:
    table = "Model,win,loss,tie,n_matches\na,28,18,34,{}\nb,18,28,34,80\n"
    assert cells(table.format(80)) == {}
    assert cells(table.format(82)) == {("a", "n_matches"): 80}


def test_rates_without_counts_are_checked_against_each_other() -> None:
    table = "Model,win_rate,loss_rate,win_rate_adjusted\nm,0.350,{},0.5625\n"
    assert cells(table.format("0.225")) == {}
    assert cells(table.format("0.325"))[("m", "loss_rate")] == 0.225


def test_two_models_against_a_third_mirror_nothing() -> None:
    text = "Model,win,loss,tie,win_rate\na,20,52,8,0.250\nb,30,42,10,0.366\n"
    assert cells(text) == {}
    assert cells(text.replace("0.366", "0.364")) == {("b", "win_rate"): 0.366}
    assert "do not mirror" in "\n".join(audit_lines(audit_text(text, name="t")))


# --- reading ---------------------------------------------------------------------------------

FORMS = {
    "tabs": MT_BENCH,
    "csv": MT_BENCH.replace("\t", ","),
    "csv with carriage returns and a mark": "\ufeff"
    + MT_BENCH.replace("\t", ",").replace("\n", "\r\n"),
    "semicolons": MT_BENCH.replace("\t", "; "),
    "other names": MT_BENCH.replace("\t", ",").replace(
        "Model,win,loss,tie,win_rate,", "Name,Wins,Losses,TIES,Win rate,"
    ),
    "markdown": """
Text, and more, text.

| Model | Win | `loss` | tie | win\\_rate | loss-rate | win_rate_adjusted |
|:------|----:|-------:|----:|----------:|----------:|:-----------------:|
| **finetuned** | 28 | **19** | 34 | 35.0 % | 22.5% | 0.5625 |
| base | 18 | 28 | 34 | 22.5 % | 35.0% | 0.4375 |

| Stage | Version |
| --- | --- |
| train | 3 |
""",
    "percent in the heading": """
Model | win | loss | tie | win_rate (%) | loss_rate (%)
--- | --- | --- | --- | --- | ---
finetuned | 28 | 19 | 34 | 35.0 | 22.5
base | 18 | 28 | 34 | 22.5 | 35.0
""",
    "pandas": """
           win  loss  tie  win_rate  loss_rate  win_rate_adjusted
model
finetuned   28    19   34     0.350      0.225             0.5625
base        18    28   34     0.225      0.350             0.4375
""",
    "pandas, numbered": """
       model  win  loss  tie  win_rate  loss_rate  win_rate_adjusted
0  finetuned   28    19   34     0.350      0.225             0.5625
1       base   18    28   34     0.225      0.350             0.4375
""",
    "a column more": """
Model,win,loss,tie,win_rate,p_value
finetuned,28,19,34,0.350,0.18
base,18,28,34,0.225,0.18
""",
    "intervals": """
Model,win,loss,tie,win_rate,loss_rate
finetuned,28,19,34,0.350 (0.25 to 0.46),0.225 ± 0.05
base,18,28,34,0.225,0.350
""",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_in_any_form(form: str) -> None:
    assert cells(FORMS[form]) == {("finetuned", "loss"): 18}


def test_unknown_columns_are_listed() -> None:
    audit = audit_text(FORMS["a column more"], name="t")
    assert audit.tables[0].table.unknown == ("p_value",)
    assert "no rule knows them: p_value" in "\n".join(audit_lines(audit))


@pytest.mark.parametrize("absent", ["", "—", "n/a", "NaN", "not measured"])
def test_what_is_not_given_is_not_checked(absent: str) -> None:
    text = f"Model,win,loss,tie,win_rate,loss_rate\nm,28,19,{absent},0.350,0.225\n"
    assert cells(text) == {}


def test_thousands_may_be_apart() -> None:
    table = 'Model,n_wins,n_wins_base,n_draws,n_total,avg_length\nm,"1,249",51,0,"1{}300","1,884"\n'
    for mark in (",", "\u202f", "\u00a0"):
        assert cells(table.format(mark)) == {}
    assert ("m", "n_total") in cells(table.replace("51", "52").format(","))


def test_a_two_band_table_with_words_between() -> None:
    first, second = ALPACA_EVAL.split("Model\tn_wins_base")
    assert cells(f"{first}\nand then\n\nModel\tn_wins_base{second}") == {}
    wrong = second.replace("51", "52")
    assert cells(f"{first}\nand then\n\nModel\tn_wins_base{wrong}") == {
        ("finetuned", "n_wins_base"): 51
    }


def test_two_runs_one_after_the_other_are_two_tables() -> None:
    other = ALPACA_EVAL.replace("51\t0\t300", "51\t0\t301")
    found = problems(ALPACA_EVAL + "\n" + other)
    assert {(p.column, p.expected, p.line) for p in found} == {("n_total", 300, 7)}


def test_a_table_in_an_answer_is_not_the_reports() -> None:
    """A model can answer with a table; our report quotes answers in fenced blocks."""
    right = MT_BENCH.replace("19", "18")
    quoted = f"## Results\n\n{right}\n## Answers\n\n```text\n{MT_BENCH}```\n"
    assert problems(quoted) == []
    assert len(audit_text(quoted, name="t").tables) == 1
    # Where nothing else is there, it is what was meant.
    assert cells(f"```\n{MT_BENCH}```\n") == {("finetuned", "loss"): 18}


def test_rows_of_one_name_are_told_apart() -> None:
    text = "Model,n_wins,n_wins_base,n_draws,n_total\nm,1,1,0,2\nm,1,1,0,3\n"
    assert {p.row for p in problems(text)} == {"m (row 2)"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "t.csv: holds no table of AlpacaEval or MT-Bench results"),
        ("Just words, and commas, and win, and loss.\n", "holds no table"),
        ("step,loss\n1,2.3\n", "holds no table"),
        ("Model,win,loss\n", "holds no table"),
        ("Model,win,loss\nm,28,1x9\n", "t.csv:2: loss = 1x9: expected a number"),
        ("Model,win_rate,loss_rate\nm,0.5,0,350\n", "t.csv:2: has 4 cells under a header of 3"),
        ("Model|win_rate|loss_rate\nm|0.5|0,350\n", "t.csv:2: loss_rate = 0,350: expected"),
    ],
)
def test_what_cannot_be_audited_says_why(text: str, message: str) -> None:
    with pytest.raises(DataError) as refused:
        audit_text(text, name="t.csv")
    assert message in str(refused.value)
    assert refused.value.remedy


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "table.xlsx").write_bytes(b"PK\x03\x04\xff\xfe")
    for name, message in (("none.csv", "no such file"), ("", "directory"), ("table.xlsx", "UTF-8")):
        with pytest.raises(DataError, match=message):
            audit_file(tmp_path / name)


# --- random tables, one cell changed ---------------------------------------------------------


def random_mt_bench(draw: random.Random) -> Table:
    n = draw.randint(10, 200)
    win = draw.randint(0, n)
    loss = draw.randint(0, n - win)
    tie = n - win - loss
    return mt_bench_table(
        [
            MtBenchRow(
                model=model,
                win=w,
                loss=s,
                tie=tie,
                win_rate=w / n,
                loss_rate=s / n,
                win_rate_adjusted=(w + tie / 2) / n,
            )
            for model, w, s in (("tuned", win, loss), ("base", loss, win))
        ]
    )


def random_alpaca_eval(draw: random.Random) -> AlpacaEvalRow:
    """A row of binary preferences, with draws now and then."""
    n = draw.randint(20, 805)
    draws = draw.choice((0, 0, draw.randint(0, n // 4)))
    wins = draw.randint(1, n - draws - 1)
    scores = [1.0] * wins + [0.5] * draws + [0.0] * (n - wins - draws)
    mean = sum(scores) / n
    deviation = math.sqrt(sum((s - mean) ** 2 for s in scores) / (n - 1))
    return AlpacaEvalRow(
        model="tuned",
        win_rate=100 * mean,
        standard_error=100 * deviation / math.sqrt(n),
        mode="community",
        avg_length=draw.randint(100, 4000),
        n_wins=draw.choice((wins, None)),
        n_wins_base=n - wins - draws,
        n_draws=draws,
        n_total=n,
        discrete_win_rate=100 * mean,
        length_controlled_winrate=draw.uniform(10, 90),
    )


def other(text: str, draw: random.Random) -> str:
    """Another number, written with as many decimals; it differs by a unit of the last or more."""
    decimals = len(text.partition(".")[2])
    step = draw.choice((1, 1, 2, 9, 10, 90)) / 10**decimals
    up = draw.random() < 0.5 or float(text) < step
    return f"{float(text) + (step if up else -step):.{decimals}f}"


def changed_cell(table: Table, row: int, column: str, draw: random.Random) -> tuple[Table, str]:
    at = table.columns.index(column)
    cells = [list(r) for r in table.rows]
    cells[row][at] = wrong = other(cells[row][at], draw)
    return Table(caption=table.caption, columns=table.columns, rows=tuple(map(tuple, cells))), wrong


@pytest.mark.parametrize("seed", range(200))
def test_the_cell_that_was_changed_is_named(seed: int) -> None:
    draw = random.Random(seed)
    if seed % 2:
        table = random_mt_bench(draw)
        columns = table.columns[1:]
    else:
        table = alpaca_eval_table([random_alpaca_eval(draw)])
        columns = tuple(set(table.columns) - {"Model", "mode", "avg_length"})
        columns = tuple(sorted(set(columns) - {"length_controlled_winrate"}))
    form = draw.choice((to_csv, to_markdown))
    assert problems(form(table)) == []

    row, column = draw.randrange(len(table.rows)), draw.choice(columns)
    wrong, text = changed_cell(table, row, column, draw)
    found = problems(form(wrong))
    model = table.rows[row][0]
    assert (model, column) in {(p.row, p.column) for p in found}, (table, wrong)
    right = float(table.rows[row][table.columns.index(column)])
    mine = next(p for p in found if (p.row, p.column) == (model, column))
    assert mine.given == float(text)
    if len(found) == 1 and mine.expected is not None:
        assert mine.expected == pytest.approx(right, abs=1e-8)


@pytest.mark.parametrize("seed", range(200))
def test_a_right_table_is_never_blamed(seed: int) -> None:
    """Weighted or binary preferences, any rounding that a person might choose, rows left out."""
    draw = random.Random(seed)
    n = draw.randint(5, 805)
    sharp = draw.choice((0.1, 1.0, 8.0))
    scores = [
        draw.choice((0.0, 0.5, 1.0)) if seed % 3 == 0 else draw.betavariate(1 / sharp, 1 / sharp)
        for _ in range(n)
    ]
    wins, draws = sum(s > 0.5 for s in scores), sum(s == 0.5 for s in scores)
    mean = sum(scores) / n
    error = math.sqrt(sum((s - mean) ** 2 for s in scores) / (n - 1) / n)
    digits = draw.choice((0, 1, 2, 3, 9))
    row = {
        "Model": "m",
        "win_rate": f"{100 * mean:.{digits}f}",
        "standard_error": f"{100 * error:.{max(1, digits)}f}",
        "n_wins": str(wins),
        "n_wins_base": str(n - wins - draws),
        "n_draws": str(draws),
        "n_total": str(n),
        "discrete_win_rate": f"{100 * (wins + draws / 2) / n:.{digits}f}",
    }
    for name in draw.sample(sorted(row.keys() - {"Model"}), draw.randint(0, 3)):
        row[name] = ""
    if sum(map(bool, row.values())) > 3:
        assert problems(f"{','.join(row)}\n{','.join(row.values())}\n") == []

    table = random_mt_bench(draw)
    rounded = [
        [*cells[:4], *(f"{float(r):.{min(digits, 6)}f}" for r in cells[4:])] for cells in table.rows
    ]
    text = "\n".join(",".join(cells) for cells in ([*table.columns], *rounded))
    assert problems(text) == []


def test_most_changed_cells_are_named_alone() -> None:
    """Over the same tables: how often one cell is named, and how often a list that holds it."""
    alone = 0
    for seed in range(200):
        draw = random.Random(seed)
        table = random_mt_bench(draw)
        wrong, _ = changed_cell(table, draw.randrange(2), draw.choice(table.columns[1:]), draw)
        alone += len(problems(to_csv(wrong))) == 1
    assert alone >= 195


def test_bands_in_markdown_are_one_table() -> None:
    row = random_alpaca_eval(random.Random(3))
    text = "\n\n".join(to_markdown(band) for band in alpaca_eval_bands([row]))
    (table,) = audit_text(text, name="t").tables
    assert set(table.table.columns) >= {"win_rate", "n_total", "discrete_win_rate"}
    assert table.n_broken == 0
