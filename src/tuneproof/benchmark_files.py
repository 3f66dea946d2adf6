"""Files of the public benchmarks: where each comes from, its digest and licence, and getting it.

None of them is part of this project. A file is looked for in the folder that ``TUNEPROOF_ASSETS``
names, then in the cache, then on the hub; wherever it was found, its digest is compared before it
is used. Reading what is in them is left to ``data.questions``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tuneproof.assets import cache_dir
from tuneproof.errors import AssetError
from tuneproof.hub import is_reachable
from tuneproof.workspace import digest_file, write_atomic


@dataclass(frozen=True, kw_only=True)
class BenchmarkFile:
    """One file of a benchmark. ``folder`` and ``file`` are its place in a folder of assets."""

    folder: str
    file: str
    sha256: str
    bytes: int
    licence: str
    origin: str
    hub: tuple[Literal["dataset", "space"], str, str]

    @property
    def name(self) -> str:
        """What commands and errors call it."""
        return f"{self.folder}/{self.file}"


ALPACA_EVAL_QUESTIONS = BenchmarkFile(
    folder="alpaca_eval",
    file="alpaca_eval_gpt4_baseline.json",
    sha256="83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4",
    bytes=1_899_765,
    licence="CC BY-NC 4.0",
    origin="tatsu-lab/alpaca_eval: 805 instructions with the answers of gpt-4-1106-preview",
    hub=("dataset", "tatsu-lab/alpaca_eval", "alpaca_eval_gpt4_baseline.json"),
)
MT_BENCH_QUESTIONS = BenchmarkFile(
    folder="mt_bench",
    file="question.jsonl",
    sha256="119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7",
    bytes=48_929,
    licence="Apache-2.0",
    origin="FastChat's llm_judge: 80 questions of two turns in eight categories",
    hub=("space", "lmsys/mt-bench", "data/mt_bench/question.jsonl"),
)
BENCHMARK_FILES = (ALPACA_EVAL_QUESTIONS, MT_BENCH_QUESTIONS)


def cached_path(asset: BenchmarkFile) -> Path:
    """Where the file lies, or will lie, in the cache."""
    return cache_dir() / "benchmarks" / asset.folder / asset.file


def ensure_file(asset: BenchmarkFile) -> Path:
    """The file on this machine, checked; fetched from the hub if it is not here yet.

    Raises:
        AssetError: it is nowhere to be had, or what was found has another digest.
    """
    local = _in_assets_folder(asset)
    if local is not None:
        return _checked(asset, local, "Take it from the folder that TUNEPROOF_ASSETS names.")
    cached = cached_path(asset)
    if not cached.is_file():
        write_atomic(cached, _download(asset))
    return _checked(asset, cached, "Remove it; it is then fetched again.")


def _in_assets_folder(asset: BenchmarkFile) -> Path | None:
    root = os.environ.get("TUNEPROOF_ASSETS")
    if not root:
        return None
    for path in (Path(root) / asset.folder / asset.file, Path(root) / asset.file):
        if path.is_file():
            return path
    return None


def _checked(asset: BenchmarkFile, path: Path, remedy: str) -> Path:
    found = digest_file(path)
    if found != asset.sha256:
        raise AssetError(
            f"expected SHA-256 {asset.sha256}", place=str(path), value=found, remedy=remedy
        )
    return path


def _download(asset: BenchmarkFile) -> bytes:
    kind, repository, path = asset.hub
    by_hand = (
        f"Get it elsewhere ({asset.origin}), put it into FOLDER/{asset.folder}/ as {asset.file}, "
        "and set TUNEPROOF_ASSETS=FOLDER."
    )
    if not is_reachable():
        raise AssetError(
            "is not on this machine, and the hub cannot be reached",
            place=asset.name,
            remedy=by_hand,
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(repository, path, repo_type=kind)).read_bytes()
    except (HfHubHTTPError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise AssetError(
            f"could not be fetched from the hub: {reason}", place=asset.name, remedy=by_hand
        ) from None
