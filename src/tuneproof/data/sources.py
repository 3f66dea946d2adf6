"""Reading records: a hub dataset, a local file, or the bundled sample.

A row comes out as a plain mapping from column name to value, in the source's order. What the
columns mean and which rows are usable is the business of ``cleaning``.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuneproof.errors import DataError
from tuneproof.hub import commit_of
from tuneproof.workspace import digest_bytes, digest_file

if TYPE_CHECKING:
    from tuneproof.recipe import Source

Row = Mapping[str, Any]

SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")


def read_rows(source: Source) -> list[Row]:
    """All rows of a source, in its order.

    Raises:
        DataError: the source is missing, cannot be reached or is malformed; names file and line.
    """
    if source.sample:
        return _parse_jsonl(_sample_bytes(), "the bundled sample")
    if source.path is not None:
        return _read_file(Path(source.path))
    assert source.hub is not None
    return _read_hub(source.hub, source.revision)


def source_digest(source: Source) -> str:
    """What identifies the source's content: SHA-256 of the bytes, or a hub dataset's revision."""
    if source.sample:
        return digest_bytes(_sample_bytes())
    if source.path is not None:
        check_source(source)
        return digest_file(Path(source.path))
    assert source.hub is not None
    return commit_of(source.hub, source.revision, kind="dataset", place="data.source.hub")


def check_source(source: Source) -> None:
    """Refuse a local file that is missing or of an unknown kind, before anything is read."""
    if source.path is None:
        return
    path = Path(source.path)
    if not path.is_file():
        what = "a folder, not a file" if path.is_dir() else "no such file"
        raise DataError(
            what,
            place="data.source.path",
            value=source.path,
            remedy=f"Relative paths start at the working directory, {Path.cwd()}.",
        )
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"expected a file ending in {', '.join(SUFFIXES)}",
            place="data.source.path",
            value=source.path,
        )


def _sample_bytes() -> bytes:
    return resources.files("tuneproof.data").joinpath("sample.jsonl").read_bytes()


def _read_file(path: Path) -> list[Row]:
    kind = path.suffix.lower()
    if kind == ".parquet":
        return _read_parquet(path)
    raw = path.read_bytes()
    if kind == ".jsonl":
        return _parse_jsonl(raw, str(path))
    text = _decode(raw, str(path))
    if kind == ".json":
        return _parse_json(text, str(path))
    return _parse_csv(text, str(path))


def _decode(raw: bytes, name: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise DataError(
            f"not UTF-8 text: byte 0x{raw[error.start]:02x}",
            place=f"{name}:{line}",
            remedy="Save the file as UTF-8.",
        ) from None


def _parse_jsonl(raw: bytes, name: str) -> list[Row]:
    rows: list[Row] = []
    # Only "\n" ends a record: str.splitlines would also split at U+2028, which JSON allows inside.
    for number, line in enumerate(_decode(raw, name).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"not valid JSON: {error.msg} at column {error.colno}",
                place=f"{name}:{number}",
                value=_excerpt(line, error.pos),
            ) from None
        if not isinstance(row, dict):
            raise DataError(
                "expected one JSON object a line", place=f"{name}:{number}", value=_excerpt(line, 0)
            )
        rows.append(row)
    return rows


def _parse_json(text: str, name: str) -> list[Row]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"not valid JSON: {error.msg}",
            place=f"{name}:{error.lineno}",
            value=_excerpt(text, error.pos),
        ) from None
    if not isinstance(value, list):
        raise DataError("expected a list of objects", place=name, value=type(value).__name__)
    for index, row in enumerate(value):
        if not isinstance(row, dict):
            raise DataError(
                f"expected a list of objects: item {index} is {type(row).__name__}", place=name
            )
    return value


def _parse_csv(text: str, name: str) -> list[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise DataError(
                    f"expected {len(reader.fieldnames or [])} fields, as the header has",
                    place=f"{name}:{reader.line_num}",
                )
            rows.append(row)
    except csv.Error as error:
        raise DataError(f"not valid CSV: {error}", place=f"{name}:{reader.line_num}") from None
    return rows


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        return pyarrow.parquet.read_table(path).to_pylist()  # type: ignore[no-any-return]
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise DataError(f"not a Parquet file: {error}", place=str(path)) from None


def _read_hub(name: str, revision: str | None) -> list[Row]:
    # First, since it also tells the hub's client not to retry where there is no network.
    commit = commit_of(name, revision, kind="dataset", place="data.source.hub")
    import datasets
    from datasets.exceptions import DatasetNotFoundError

    remedy = "Check the name and the network, or give a local file: --set data.source.path=FILE."
    try:
        table = datasets.load_dataset(name, revision=commit, split="train")
    except DatasetNotFoundError as error:
        raise DataError(str(error), place="data.source.hub", value=name, remedy=remedy) from None
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(
            f"could not be loaded: {reason}", place="data.source.hub", value=name, remedy=remedy
        ) from None
    return list(table.to_list())


def _excerpt(text: str, position: int, width: int = 60) -> str:
    start = max(0, position - width // 2)
    return repr(text[start : start + width])
