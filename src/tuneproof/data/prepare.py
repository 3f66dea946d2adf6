"""The prepare stage: source → cleaned, shuffled, split examples → three text files and a sidecar.

``split_examples`` is the reference's rule exactly: Python's ``random.Random(seed).shuffle`` over
the rows in source order, then ``int(share · n)`` rows each for train and validation, the rest test.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuneproof.data.cleaning import clean
from tuneproof.data.sources import read_rows
from tuneproof.data.templates import Template, parse_template
from tuneproof.errors import DataError
from tuneproof.records import Example, Ledger, PreparedRow, Split
from tuneproof.workspace import write_atomic, write_records

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from tuneproof.recipe import Data, Shares, Source


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The three splits, in file order, and the ledger of the way there."""

    splits: Mapping[Split, Sequence[Example]]
    ledger: Ledger

    def rows(self) -> dict[str, int]:
        """Number of rows of each split."""
        return {split.value: len(examples) for split, examples in self.splits.items()}


def prepare(data: Data, seed: int) -> Prepared:
    """Read, clean, shuffle and split. Touches no disk but the source.

    Raises:
        DataError: see ``read_rows`` and ``clean``; also when a split would be empty.
    """
    name = source_name(data.source)
    examples, ledger = clean(read_rows(data.source), data.columns, name=name)
    return Prepared(splits=split_examples(examples, data.split, seed, name=name), ledger=ledger)


def split_examples(
    examples: Sequence[Example], shares: Shares, seed: int, *, name: str
) -> dict[Split, list[Example]]:
    """Shuffle with ``random.Random(seed)`` and cut at ``int(share · n)``."""
    shuffled = list(examples)
    random.Random(seed).shuffle(shuffled)
    n_train = int(shares.train * len(shuffled))
    n_validation = int(shares.validation * len(shuffled))
    splits = {
        Split.TRAIN: shuffled[:n_train],
        Split.VALIDATION: shuffled[n_train : n_train + n_validation],
        Split.TEST: shuffled[n_train + n_validation :],
    }
    for split, rows in splits.items():
        if not rows:
            raise DataError(
                f"{len(shuffled)} rows leave none for the {split} split",
                place=name,
                remedy="Give more rows, or other shares under data.split.",
            )
    return splits


def write_prepared(
    prepared: Prepared, template: Template, *, text_dir: Path, sidecar: Path
) -> list[Path]:
    """Write ``{train,validation,test}.jsonl`` and the sidecar; returns their paths in order."""
    paths = []
    for split, examples in prepared.splits.items():
        path = text_dir / f"{split}.jsonl"
        lines = (
            json.dumps({"text": template_text(template, e)}, ensure_ascii=False) for e in examples
        )
        write_atomic(path, "".join(line + "\n" for line in lines))
        paths.append(path)
    write_records(
        sidecar,
        (
            PreparedRow(split=split, line=number, example=example)
            for split, examples in prepared.splits.items()
            for number, example in enumerate(examples, start=1)
        ),
    )
    return [*paths, sidecar]


def template_text(template: Template, example: Example) -> str:
    """The training text of an example."""
    return template.text(example.instruction, example.context, example.response)


def source_name(source: Source) -> str:
    """What errors and reports call the source."""
    return source.path or source.hub or "the bundled sample"


def check_targets(data: Data, mine: Collection[str]) -> None:
    """Refuse an ``output_dir`` that holds files of the three names which this run did not write.

    Args:
        mine: absolute paths of the files that the run's last prepare wrote.

    Raises:
        DataError: a file there would be overwritten; it may be the source itself.
    """
    if data.output_dir is None:
        return
    for split in Split:
        target = (Path(data.output_dir) / f"{split}.jsonl").absolute()
        if target.exists() and str(target) not in mine:
            raise DataError(
                f"holds a {target.name} that this run did not write",
                place="data.output_dir",
                value=data.output_dir,
                remedy="Choose another folder, or move the file away.",
            )


def check_data(data: Data) -> Template:
    """Everything about the data section that can be refused before a row is read."""
    from tuneproof.data.sources import check_source

    template = parse_template(data.template)
    check_source(data.source)
    return template
