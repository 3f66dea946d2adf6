"""From rows to examples: column mapping, whitespace, and the ledger of what was dropped and why."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tuneproof.errors import DataError
from tuneproof.records import Example, Ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.data.sources import Row
    from tuneproof.recipe import Columns


def clean(rows: Sequence[Row], columns: Columns, *, name: str) -> tuple[list[Example], Ledger]:
    """Strip the fields of each row and drop the rows that cannot be trained on.

    Dropped, and counted in the ledger: rows whose response is empty after stripping, and rows where
    a field holds something that is not text (a number, half a surrogate pair).

    Args:
        rows: as the source gave them, in order.
        columns: the source's names of the fields.
        name: what errors call the source.

    Raises:
        DataError: a named column is in no row, or no row is left.
    """
    if not rows:
        raise DataError("has no rows", place=name)
    _check_columns(rows, columns, name)
    examples: list[Example] = []
    dropped: Counter[str] = Counter()
    for index, row in enumerate(rows):
        fields: dict[str, str] = {}
        reason = None
        for field in ("instruction", "context", "response", "category"):
            value = _get(row, getattr(columns, field))
            if field == "category":
                value = str(value)  # class labels are often numbers
            if not isinstance(value, str):
                reason = f"{field} is not text"
                break
            if not _is_unicode(value):
                reason = f"{field} is not valid Unicode"
                break
            fields[field] = value.strip()
        if reason is None and not fields["response"]:
            reason = "empty response"
        if reason is not None:
            dropped[reason] += 1
            continue
        examples.append(
            Example(
                id=f"row-{index:05d}",
                instruction=fields["instruction"],
                context=fields["context"],
                response=fields["response"],
                category=fields["category"] or None,
                checkable=_truth(_get(row, columns.checkable)),
            )
        )
    ledger = Ledger(read=len(rows), kept=len(examples), dropped=dict(dropped))
    if not examples:
        reasons = ", ".join(f"{n} × {reason}" for reason, n in dropped.most_common())
        raise DataError(
            f"no row is left after cleaning: {reasons}",
            place=name,
            remedy="Check data.columns: each key names a column of the source.",
        )
    return examples, ledger


def _check_columns(rows: Sequence[Row], columns: Columns, name: str) -> None:
    present = {key for row in rows for key in row}
    for field, column in columns.model_dump().items():
        # Category is a convenience: a source without one is a source with one category.
        if column is None or column in present or (field == "category" and column == "category"):
            continue
        raise DataError(
            f"no such column in {name}",
            place=f"data.columns.{field}",
            value=column,
            remedy=f"Columns there: {', '.join(sorted(map(str, present)))}. "
            f"Set it with --set data.columns.{field}=NAME"
            + (" (or =null)." if field in ("context", "checkable") else "."),
        )


def _get(row: Row, column: str | None) -> Any:
    value = row.get(column) if column is not None else None
    return "" if value is None else value


def _truth(value: object) -> bool:
    return str(value).strip().lower() in ("true", "1", "1.0", "yes")


def _is_unicode(text: str) -> bool:
    """False for a lone surrogate, which JSON can write and no file can hold."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
