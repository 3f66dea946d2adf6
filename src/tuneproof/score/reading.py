"""Rows of JSON files, one at a time: arrays and lines, packed with gzip or not.

A file of judgments holds prompts and replies and can be large; no more than a few of its rows are
in memory at once. What a row must hold is left to those who read it.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import re
import zlib
from typing import TYPE_CHECKING, BinaryIO, cast

from tuneproof.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

JsonRow = dict[str, object]

_CHUNK = 1 << 20
_SPACE = re.compile(r"[ \t\r\n]*")
_MISSING_END = "It was cut off: copy it, or write it, again."
_NEAR_THE_END = 16


def array_rows(path: Path) -> Iterator[tuple[int, JsonRow]]:
    """The objects of a JSON array, numbered from 1.

    Raises:
        DataError: the file cannot be read, is no array of objects, or is cut off.
    """
    with _text(path) as file:
        buffer = _Buffer(file)
        first = buffer.next_character()
        if first != "[":
            shown = "nothing" if first == "" else buffer.excerpt()
            raise DataError(
                "expected a JSON array of rows",
                place=str(path),
                value=shown,
                remedy="Give the annotations.json that alpaca_eval writes (or its .gz).",
            )
        buffer.position += 1
        if buffer.next_character() == "]":
            raise DataError("holds no rows", place=str(path))
        number = 0
        while True:
            number += 1
            yield number, _object(buffer, path, number)
            separator = buffer.next_character()
            buffer.position += 1
            if separator == "]":
                break
            if separator != ",":
                raise _broken(path, f"after row {number}", buffer, at_end=separator == "")
        if buffer.next_character() != "":
            raise DataError(
                "holds more after the end of its array", place=str(path), value=buffer.excerpt()
            )


def line_rows(path: Path) -> Iterator[tuple[int, JsonRow]]:
    """The objects of a file with one a line, numbered by line from 1; empty lines are passed over.

    Raises:
        DataError: the file cannot be read, or a line is not a JSON object.
    """
    found = False
    with _binary(path) as file:
        for number, line in enumerate(file, start=1):
            if line.isspace():
                continue
            found = True
            try:
                row = _parsed(line)
            except (ValueError, RecursionError) as error:
                cut = not line.endswith(b"\n")
                raise DataError(
                    f"not JSON: {error}",
                    place=f"{path}: line {number}",
                    value=_shorten(line.decode("utf-8", "replace")),
                    remedy=_MISSING_END if cut else "Mend the line, or remove it.",
                ) from None
            if not isinstance(row, dict):
                raise DataError(
                    "expected a JSON object",
                    place=f"{path}: line {number}",
                    value=_shorten(repr(row)),
                    remedy="Give the .jsonl that FastChat writes under model_judgment/.",
                )
            yield number, row
    if not found:
        raise DataError("holds no rows", place=str(path))


def _parsed(line: bytes) -> object:
    from pydantic_core import from_json

    try:
        return from_json(line)
    except ValueError:
        # Three times as slow, but it reads whatever Python wrote: lone surrogates, a mark at the
        # beginning of the file; and its errors are those that people know.
        return json.loads(line)


@contextlib.contextmanager
def _binary(path: Path) -> Iterator[BinaryIO]:
    """The file's bytes, unpacked if they begin as gzip's do (whatever its name says)."""
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not packed:
                yield raw
                return
            with gzip.open(raw) as unpacked:
                yield cast("BinaryIO", unpacked)
    except FileNotFoundError:
        raise DataError("no such file", place=str(path)) from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"cannot be unpacked: {error}", place=str(path), remedy=_MISSING_END
        ) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", place=str(path)) from None


@contextlib.contextmanager
def _text(path: Path) -> Iterator[io.TextIOWrapper]:
    with _binary(path) as raw:
        try:
            yield io.TextIOWrapper(raw, encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8: {error.reason}", place=str(path)) from None


class _Buffer:
    """What has been read of a text and not yet used."""

    def __init__(self, file: io.TextIOWrapper) -> None:
        self._file = file
        self.text = ""
        self.position = 0
        self.ended = False

    def grow(self) -> None:
        """Read on; what lies before the position is forgotten."""
        more = self._file.read(_CHUNK)
        self.ended = more == ""
        self.text = self.text[self.position :] + more
        self.position = 0

    def next_character(self) -> str:
        """The first character from the position on that is not white space; "" at the end."""
        while True:
            found = _SPACE.match(self.text, self.position)
            assert found is not None
            self.position = found.end()
            if self.position < len(self.text):
                return self.text[self.position]
            if self.ended:
                return ""
            self.grow()

    def excerpt(self) -> str:
        """A few characters from the position on, for an error."""
        return _shorten(self.text[self.position : self.position + 200])


_DECODER = json.JSONDecoder()


def _object(buffer: _Buffer, path: Path, number: int) -> JsonRow:
    first = buffer.next_character()
    if first != "{":
        raise _broken(path, f"row {number}", buffer, at_end=first == "")
    while True:
        try:
            row, buffer.position = _DECODER.raw_decode(buffer.text, buffer.position)
        except json.JSONDecodeError as error:
            # Broken, or only not read to its end yet? An open string is reported at its beginning,
            # everything else that is cut off at the end of what has been read.
            open_ended = error.msg.startswith("Unterminated string")
            if not open_ended and error.pos < len(buffer.text) - _NEAR_THE_END:
                raise DataError(
                    f"not JSON: {error.msg}",
                    place=f"{path}: row {number}",
                    value=_shorten(buffer.text[error.pos : error.pos + 200]),
                    remedy="Mend the row, or write the file again.",
                ) from None
            if buffer.ended:
                raise _broken(path, f"row {number}", buffer, at_end=True) from None
            buffer.grow()
        except RecursionError:
            raise DataError("nested too deeply", place=f"{path}: row {number}") from None
        else:
            return cast("JsonRow", row)


def _broken(path: Path, where: str, buffer: _Buffer, *, at_end: bool) -> DataError:
    if at_end:
        return DataError(f"ends at {where}", place=str(path), remedy=_MISSING_END)
    return DataError(
        "expected an object, a comma or the array's end",
        place=f"{path}: {where}",
        value=buffer.excerpt(),
    )


def _shorten(text: str) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= 60 else flat[:57] + "..."
