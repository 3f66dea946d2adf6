"""Rows out of JSON files: arrays and lines, whole and broken."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import pytest

from tuneproof.errors import DataError
from tuneproof.score import reading
from tuneproof.score.reading import array_rows, line_rows

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [{"a": 1, "text": 'quote " brace } bracket ] and ü'}, {"a": None, "deep": [{"b": [[]]}]}]


def write(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "file.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2, ensure_ascii=False),
        "\ufeff" + json.dumps(ROWS),
        " \n" + json.dumps(ROWS, indent="\t") + "\n\n",
    ],
)
@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_an_array_is_read_row_by_row(
    text: str, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However the text is cut into chunks."""
    monkeypatch.setattr(reading, "_CHUNK", chunk)
    assert list(array_rows(write(tmp_path, text))) == [(1, ROWS[0]), (2, ROWS[1])]


def test_gzip_is_known_by_its_bytes_not_by_its_name(tmp_path: Path) -> None:
    path = write(tmp_path, gzip.compress(json.dumps(ROWS).encode()))
    assert [row for _, row in array_rows(path)] == ROWS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "expected a JSON array"),
        ("{}", "expected a JSON array"),
        ("hello", "expected a JSON array"),
        ("[]", "holds no rows"),
        ("[1]", "expected an object"),
        ('[{"a": 1}, 2]', "expected an object"),
        ('[{"a": 1}', "ends at after row 1"),
        ('[{"a": 1},', "ends at row 2"),
        ('[{"a": 1}, {"b": "half a te', "ends at row 2"),
        ('[{"a": 1}, {"b": tru', "ends at row 2"),
        ('[{"a": 1} {"b": 2}]', "expected an object, a comma"),
        ('[{"a": 1},]', "expected an object"),
        ('[{"a": 1}] trailing', "more after the end"),
        ('[{"a" 1, "and": "something long after the place"}]', "not JSON"),
    ],
)
def test_what_is_no_array_of_rows_is_an_error_that_says_where(
    text: str, problem: str, tmp_path: Path
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(DataError) as caught:
        list(array_rows(path))
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_broken_row_is_found_before_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "_CHUNK", 64)
    path = write(tmp_path, '[{"a" 1' + " " * 5000 + "}]")
    with pytest.raises(DataError, match="row 1"):
        list(array_rows(path))


def test_a_cut_gzip_and_other_bytes_are_errors(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps(ROWS * 500).encode())
    with pytest.raises(DataError, match="cannot be unpacked"):
        list(array_rows(write(tmp_path, whole[: len(whole) // 2])))
    with pytest.raises(DataError, match="not UTF-8"):
        list(array_rows(write(tmp_path, b'[{"a": "\xff\xfe"}]')))
    with pytest.raises(DataError, match="no such file"):
        list(array_rows(tmp_path / "absent.json"))
    with pytest.raises(DataError, match="cannot be read"):
        list(array_rows(tmp_path))


def test_lines_are_numbered_as_in_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, '{"a": 1}\n\n  \n{"a": 2}')
    assert list(line_rows(path)) == [(1, {"a": 1}), (4, {"a": 2})]


def test_lines_that_python_wrote_are_read(tmp_path: Path) -> None:
    """A lone surrogate, which a strict parser refuses; a mark at the beginning."""
    path = write(tmp_path, '\ufeff{"a": 1}\n{"a": "\\ud83d", "b": NaN}\n')
    rows = [row for _, row in line_rows(path)]
    assert rows[0] == {"a": 1}
    assert rows[1]["a"] == "\ud83d"


@pytest.mark.parametrize(
    ("text", "problem", "remedy"),
    [
        ('{"a": 1}\n{"a": ', "line 2", "cut off"),
        ('{"a": 1}\nnot json\n{"a": 2}\n', "line 2", "Mend the line"),
        ('{"a": 1}\n[1]\n', "expected a JSON object", "model_judgment"),
        ("\n\n", "holds no rows", ""),
        ("{" + '"a":[' * 100_000, "line 1", "cut off"),
    ],
)
def test_a_broken_line_is_named(text: str, problem: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        list(line_rows(write(tmp_path, text)))
    assert problem in str(caught.value)
    assert remedy in caught.value.remedy
