"""Files of the benchmarks: found, fetched, checked; real archives are made for the test."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import tarfile
import zipfile
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from tests.conftest import SHARED
from tuneproof import benchmark_files
from tuneproof.benchmark_files import (
    ALPACA_EVAL_INSTRUCTIONS,
    ALPACA_EVAL_PROMPT,
    ALPACA_EVAL_QUESTIONS,
    BENCHMARK_FILES,
    MT_BENCH_PROMPTS,
    BenchmarkFile,
    cached_path,
    ensure_file,
    find_benchmark_file,
    find_file,
    local_path,
    verified,
)
from tuneproof.cli import app
from tuneproof.errors import AssetError

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"a prompt {instruction}\n"


@pytest.fixture(autouse=True)
def _empty_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No folder of assets, an empty cache, and no way out."""
    monkeypatch.delenv("TUNEPROOF_ASSETS", raising=False)
    monkeypatch.setenv("TUNEPROOF_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setattr(benchmark_files, "is_reachable", lambda: False)


def with_content(asset: BenchmarkFile, content: bytes = CONTENT) -> BenchmarkFile:
    return dataclasses.replace(
        asset, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)
    )


@pytest.mark.parametrize("asset", BENCHMARK_FILES, ids=lambda a: a.name)
def test_every_file_says_whose_it_is_and_how_it_is_had(asset: BenchmarkFile) -> None:
    assert asset.origin
    assert asset.licence
    assert len(asset.sha256) == 64
    assert int(asset.sha256, 16)
    assert asset.hub or asset.packed
    assert find_benchmark_file(asset.name) is asset


def test_names_are_unique() -> None:
    assert len({a.name for a in BENCHMARK_FILES}) == len(BENCHMARK_FILES)


@pytest.mark.parametrize("asset", BENCHMARK_FILES, ids=lambda a: a.name)
def test_the_real_files_have_these_digests(
    asset: BenchmarkFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(SHARED))
    path = local_path(asset)
    if path is None:
        pytest.skip(f"needs the real data: {asset.name} is not on this machine")
    assert find_file(asset) == path
    assert path.stat().st_size == asset.bytes


def test_a_folder_of_assets_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asset = with_content(MT_BENCH_PROMPTS)
    cached_path(asset).parent.mkdir(parents=True)
    cached_path(asset).write_bytes(CONTENT)
    assert find_file(asset) == cached_path(asset)
    folder = tmp_path / "assets" / "mt_bench"
    folder.mkdir(parents=True)
    (folder / "judge_prompts.jsonl").write_bytes(CONTENT)
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(tmp_path / "assets"))
    assert ensure_file(asset) == folder / "judge_prompts.jsonl"


def test_a_wrong_digest_names_file_digests_and_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "mt_bench" / "judge_prompts.jsonl"
    path.parent.mkdir()
    path.write_bytes(CONTENT)
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(tmp_path))
    with pytest.raises(AssetError) as caught:
        ensure_file(MT_BENCH_PROMPTS)
    text = str(caught.value)
    assert str(path) in text
    assert hashlib.sha256(CONTENT).hexdigest() in text
    assert MT_BENCH_PROMPTS.sha256 in text
    assert "folder" in caught.value.remedy
    assert path.exists()


def test_a_wheel_in_the_folder_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asset = with_content(ALPACA_EVAL_PROMPT)
    assert asset.packed is not None
    with zipfile.ZipFile(tmp_path / asset.packed.archive, "w") as wheel:
        wheel.writestr(asset.packed.member, CONTENT)
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(tmp_path))
    assert find_file(asset) is None
    assert ensure_file(asset) == cached_path(asset)
    assert cached_path(asset).read_bytes() == CONTENT
    monkeypatch.delenv("TUNEPROOF_ASSETS")
    assert find_file(asset) == cached_path(asset)


def sdist(path: Path, member: str) -> None:
    with tarfile.open(path, "w:gz") as archive:
        found = tarfile.TarInfo(member)
        found.size = len(CONTENT)
        archive.addfile(found, io.BytesIO(CONTENT))


def test_an_sdist_in_the_folder_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asset = with_content(ALPACA_EVAL_INSTRUCTIONS)
    assert asset.packed is not None
    sdist(tmp_path / asset.packed.archive, asset.packed.member)
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(tmp_path))
    assert ensure_file(asset).read_bytes() == CONTENT


def test_an_archive_without_the_file_or_with_another_one_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    packed = ALPACA_EVAL_INSTRUCTIONS.packed
    assert packed is not None
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(tmp_path))
    sdist(tmp_path / packed.archive, "another")
    with pytest.raises(AssetError, match="is not the archive"):
        ensure_file(ALPACA_EVAL_INSTRUCTIONS)
    (tmp_path / packed.archive).write_bytes(b"no archive")
    with pytest.raises(AssetError, match="is not the archive"):
        ensure_file(ALPACA_EVAL_INSTRUCTIONS)
    sdist(tmp_path / packed.archive, packed.member)
    with pytest.raises(AssetError, match="expected SHA-256"):
        ensure_file(ALPACA_EVAL_INSTRUCTIONS)
    assert not cached_path(ALPACA_EVAL_INSTRUCTIONS).exists()


def test_what_cannot_be_had_says_what_was_tried_and_what_to_do() -> None:
    with pytest.raises(AssetError) as caught:
        ensure_file(ALPACA_EVAL_PROMPT)
    assert "package index" in caught.value.problem
    assert "alpaca_eval-0.6.6-py3-none-any.whl" in caught.value.remedy
    with pytest.raises(AssetError) as caught:
        ensure_file(ALPACA_EVAL_QUESTIONS)
    assert "the hub cannot be reached" in caught.value.problem
    assert "TUNEPROOF_ASSETS=FOLDER" in caught.value.remedy


def test_verifying_removes_a_damaged_cached_copy_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not verified(MT_BENCH_PROMPTS)
    cached = cached_path(MT_BENCH_PROMPTS)
    cached.parent.mkdir(parents=True)
    cached.write_bytes(CONTENT)
    with pytest.raises(AssetError, match="was removed"):
        verified(MT_BENCH_PROMPTS)
    assert not cached.exists()
    mine = tmp_path / "judge_prompts.jsonl"
    mine.write_bytes(CONTENT)
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(tmp_path))
    with pytest.raises(AssetError, match="expected SHA-256"):
        verified(MT_BENCH_PROMPTS)
    assert mine.exists()


def test_the_command_line_lists_fetches_and_verifies(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asset = with_content(MT_BENCH_PROMPTS)
    monkeypatch.setattr(benchmark_files, "BENCHMARK_FILES", (asset,))
    path = tmp_path / "judge_prompts.jsonl"
    path.write_bytes(CONTENT)
    monkeypatch.setenv("TUNEPROOF_ASSETS", str(tmp_path))
    run = CliRunner()
    listed = json.loads(run.invoke(app, ["assets", "list", "--json"]).stdout)
    assert listed[-1]["id"] == "mt_bench/judge_prompts.jsonl"
    assert listed[-1]["cached"] == str(path)
    fetched = run.invoke(app, ["assets", "fetch", "mt_bench/judge_prompts.jsonl"])
    assert fetched.stdout.strip() == str(path)
    verified_text = run.invoke(app, ["assets", "verify"]).stdout
    assert "mt_bench/judge_prompts.jsonl  intact" in verified_text
