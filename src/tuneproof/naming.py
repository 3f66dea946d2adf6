"""What benchmarks are called in a sentence, and how several things are listed in one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SPOKEN = {"heldout": "the held-out set", "alpaca_eval": "AlpacaEval 2", "mt_bench": "MT-Bench"}


def spoken(benchmark: str) -> str:
    """A benchmark's name as a reader knows it: ``the held-out set``, ``AlpacaEval 2``."""
    return _SPOKEN.get(benchmark, benchmark)


def listed(names: Iterable[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last
