"""Sources, cleaning, templates: good rows kept, bad ones refused or counted."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tuneproof.data.cleaning import clean
from tuneproof.data.prepare import check_data, prepare, split_examples
from tuneproof.data.sources import Row, read_rows, source_digest
from tuneproof.data.templates import parse_template
from tuneproof.errors import DataError, RecipeError
from tuneproof.recipe import Columns, Data, Shares, Source
from tuneproof.records import Split

ROWS: list[Row] = [
    {"instruction": " a ", "context": "", "response": "b\n", "category": "x"},
    {"instruction": "ü{response}", "context": "line\u2028sep", "response": "d", "category": "y"},
]


def written(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    if name.endswith(".jsonl"):
        path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in ROWS) + "\n\n")
    elif name.endswith(".json"):
        path.write_text(json.dumps(ROWS))
    elif name.endswith(".csv"):
        path.write_text(
            'instruction,context,response,category\n" a ",,"b\n",x\n'
            "ü{response},line\u2028sep,d,y\n",
            encoding="utf-8-sig",
        )
    else:
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([dict(r) for r in ROWS]), path)
    return path


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "A.JSONL"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str) -> None:
    if name == "A.JSONL":
        path = written(tmp_path, "a.jsonl").rename(tmp_path / name)
    else:
        path = written(tmp_path, name)
    assert read_rows(Source(path=str(path))) == ROWS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"a": 1}\n{"a": \n', r"a\.jsonl:2 .*not valid JSON"),
        ("a.jsonl", b'{"a": 1}\n[1]\n', r"a\.jsonl:2 .*expected one JSON object a line"),
        ("a.jsonl", b'{"a": "\xff"}\n', r"a\.jsonl:1: not UTF-8 text: byte 0xff"),
        ("a.jsonl", b"", r"has no rows"),
        ("a.json", b'{"a": 1}', r"expected a list of objects"),
        ("a.json", b'[{"a": 1}, 3]', r"item 1 is int"),
        ("a.json", b"[1,\n2,,]", r"a\.json:2 .*not valid JSON"),
        ("a.csv", b"instruction,response\na,b\nc\n", r"a\.csv:3: expected 2 fields"),
        ("a.csv", b"instruction,response\na,b,c\n", r"a\.csv:2: expected 2 fields"),
        ("a.parquet", b"no parquet", r"not a Parquet file"),
        ("a.txt", b"hello", r"expected a file ending in \.jsonl"),
    ],
)
def test_malformed_files_are_refused_by_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    data = Data(source=Source(path=str(path)))

    def check_and_prepare() -> None:
        check_data(data)
        prepare(data, 42)

    with pytest.raises(DataError, match=message):
        check_and_prepare()


def test_a_missing_file_says_where_it_was_looked_for() -> None:
    with pytest.raises(DataError, match=r"data.source.path = nowhere.jsonl: no such file") as error:
        source_digest(Source(path="nowhere.jsonl"))
    assert str(Path.cwd()) in str(error.value)


def test_cleaning_strips_and_counts() -> None:
    rows: list[Row] = [
        *ROWS,
        {"instruction": "c", "context": None, "response": " \n", "category": "x"},
        {"instruction": 3, "context": "", "response": "r", "category": "x"},
        {"instruction": "cut emoji \ud83d", "context": "", "response": "r", "category": "x"},
        {"instruction": "no context", "response": "r", "category": 7},
    ]
    examples, ledger = clean(rows, Columns(), name="rows")
    assert [e.instruction for e in examples] == ["a", "ü{response}", "no context"]
    assert [e.id for e in examples] == ["row-00000", "row-00001", "row-00005"]
    assert examples[0].response == "b"
    assert examples[2].category == "7"
    assert ledger.dropped == {
        "empty response": 1,
        "instruction is not text": 1,
        "instruction is not valid Unicode": 1,
    }
    assert (ledger.read, ledger.kept) == (6, 3)


def test_a_column_that_is_nowhere_is_named_with_those_that_are() -> None:
    with pytest.raises(DataError, match=r"data.columns.response = output: no such column") as error:
        clean(ROWS, Columns(response="output"), name="rows")
    assert "Columns there: category, context, instruction, response" in str(error.value)


def test_columns_can_be_renamed_or_absent() -> None:
    rows: list[Row] = [{"question": "q", "answer": "a", "ok": 1}]
    columns = Columns(
        instruction="question", response="answer", context=None, category=None, checkable="ok"
    )
    examples, _ = clean(rows, columns, name="rows")
    assert examples[0].checkable
    assert (examples[0].context, examples[0].category) == ("", None)


def test_nothing_left_says_why() -> None:
    with pytest.raises(DataError, match="no row is left after cleaning: 1 × empty response"):
        clean([{"instruction": "a", "context": "", "response": ""}], Columns(), name="rows")


def test_splits_are_cut_as_the_reference_cuts_them() -> None:
    examples, _ = clean(
        [{"instruction": str(i), "context": "", "response": "r"} for i in range(15)],
        Columns(),
        name="rows",
    )
    splits = split_examples(examples, Shares(), 42, name="rows")
    assert [len(splits[s]) for s in Split] == [12, 1, 2]
    with pytest.raises(DataError, match="5 rows leave none for the validation split"):
        split_examples(examples[:5], Shares(), 42, name="rows")


def test_the_reference_template_is_as_stated() -> None:
    template = parse_template("instruction-context-response")
    assert template.text("i", "", "r") == (
        "### Instruction:\ni\n\n### Context:\n\n\n### Response:\nr\n"
    )
    assert template.text("i", "c", "r").startswith(template.prompt("i", "c"))


def test_placeholders_inside_fields_stay_what_they_are() -> None:
    template = parse_template("{instruction}|{context}|{response}!")
    assert template.text("{context}", "{response}{", "{instruction}") == (
        "{context}|{response}{|{instruction}!"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("alpacca", "no such template"),
        ("Q: {instruction}\nA:", r"has no \{response\}"),
        ("{response} {instruction}", r"must end with one \{response\}"),
        ("{response}{response}", r"must end with one \{response\}"),
        ("{context}{response}", r"has no \{instruction\}"),
    ],
)
def test_templates_that_cannot_work(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_template(text)


def test_the_bundled_sample_is_a_source() -> None:
    prepared = prepare(Data(source=Source(sample=True), columns=Columns(checkable="checkable")), 42)
    assert prepared.ledger.kept >= 600
    assert any(e.checkable for e in prepared.splits[Split.TEST])
