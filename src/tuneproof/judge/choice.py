"""Which protocol judges which benchmark: the recipe's, or the project's own in its place.

A benchmark's official protocol needs files that are no part of this project. Where they cannot be
had, the project's own prompt serves, and says so: the protocol's name, which stands in every
judgment, tells which was used. A file that is there but is another one is an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuneproof.benchmark_files import (
    ALPACA_EVAL_PROMPT,
    MT_BENCH_PROMPTS,
    MT_BENCH_REFERENCES,
    ensure_file,
    find_file,
)
from tuneproof.errors import MissingAssetError
from tuneproof.judge.alpaca_eval import AlpacaEvalPairwise
from tuneproof.judge.mt_bench import MtBenchPairwise, MtBenchSingle, MtBenchTexts
from tuneproof.judge.own import OwnPairwise
from tuneproof.judge.ratings import OwnRating
from tuneproof.judge.reference import ReferencePairwise
from tuneproof.recipe import AlpacaEval, MtBench

if TYPE_CHECKING:
    from pathlib import Path

    from tuneproof.benchmark_files import BenchmarkFile
    from tuneproof.judge.protocol import JudgeProtocol
    from tuneproof.judge.ratings import RatingProtocol
    from tuneproof.recipe import Evaluation, Judge


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """How one benchmark is judged. ``ratings`` is there where answers are rated one by one.

    ``missing`` names the files for want of which the project's own prompt serves.
    """

    pairwise: JudgeProtocol
    ratings: RatingProtocol | None = None
    missing: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The protocol's name."""
        return self.pairwise.name if self.ratings is None else self.ratings.name

    @property
    def notice(self) -> str | None:
        """That the project's own prompt takes the official one's place; None where it does not."""
        if not self.missing:
            return None
        return f"judged with this project's own prompt, for want of {' and '.join(self.missing)}"


def choose(evaluation: Evaluation, judge: Judge, *, assets: str | None = None) -> Chosen:
    """The protocol of a benchmark, by what is on this machine; nothing is fetched.

    Args:
        evaluation: the benchmark's section of the recipe.
        judge: the recipe's judge.
        assets: the recipe's folder of benchmark files.

    Raises:
        AssetError: a file is here and is not what it should be.
    """
    if judge.kind == "reference":
        # Its references come with the prompts.
        return Chosen(pairwise=ReferencePairwise(references={}))
    needed = needed_files(evaluation)
    found = {file.name: find_file(file, assets) for file in needed}
    missing = tuple(name for name, path in found.items() if path is None)
    single = isinstance(evaluation, MtBench) and evaluation.mode == "single"
    own = Chosen(
        # Both games are FastChat's way of playing MT-Bench, whatever the prompt.
        pairwise=OwnPairwise(orders=2 if isinstance(evaluation, MtBench) else judge.orders),
        ratings=OwnRating() if single else None,
        missing=missing,
    )
    if missing or not needed:
        return own
    if isinstance(evaluation, AlpacaEval):
        assert evaluation.protocol != "own"
        return Chosen(
            pairwise=AlpacaEvalPairwise(
                kind=evaluation.protocol,
                prompt=_there(found, ALPACA_EVAL_PROMPT).read_text("utf-8"),
                orders=judge.orders,
            )
        )
    assert isinstance(evaluation, MtBench)
    texts = MtBenchTexts.read(
        _there(found, MT_BENCH_PROMPTS),
        _there(found, MT_BENCH_REFERENCES),
        max_tokens=evaluation.max_tokens,
    )
    return Chosen(
        pairwise=MtBenchPairwise(texts=texts),
        ratings=MtBenchSingle(texts=texts) if single else None,
    )


def needed_files(evaluation: Evaluation) -> tuple[BenchmarkFile, ...]:
    """The files of a benchmark's official protocol; none where the recipe does not ask for it."""
    if isinstance(evaluation, AlpacaEval) and evaluation.protocol != "own":
        return (ALPACA_EVAL_PROMPT,)
    if isinstance(evaluation, MtBench) and evaluation.protocol == "official":
        return (MT_BENCH_PROMPTS, MT_BENCH_REFERENCES)
    return ()


def fetch_files(evaluation: Evaluation, *, assets: str | None = None) -> None:
    """Get the files of a benchmark's official protocol, as far as they can be had.

    Raises:
        AssetError: what was found is not what it should be.
    """
    for file in needed_files(evaluation):
        try:
            ensure_file(file, assets)
        except MissingAssetError:
            return  # ``choose`` says what is missing


def _there(found: dict[str, Path | None], file: BenchmarkFile) -> Path:
    path = found[file.name]
    assert path is not None
    return path
