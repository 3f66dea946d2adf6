"""The run on disk: atomic writes, append-only journals, digests, manifests.

A file appears whole or not at all (written beside its place, flushed, renamed). A journal grows by
whole lines; a line torn by a kill is cut off when the journal is opened again. A stage's manifest
is written last. What a stage *does* is not known here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, TypeVar

from pydantic import ValidationError

from tuneproof.errors import BusyRunError, RunDirError, StageError
from tuneproof.records import Manifest, OutputFile, Record

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

R = TypeVar("R", bound=Record)


# --- writing ---------------------------------------------------------------------------------


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = content.encode("utf-8") if isinstance(content, str) else content
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """``write_atomic`` of indented JSON with a newline at its end."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_records(path: Path, records: Iterable[Record]) -> None:
    """``write_atomic`` of one JSON object a line."""
    write_atomic(path, "".join(r.model_dump_json() + "\n" for r in records))


def read_records(path: Path, kind: type[R]) -> list[R]:
    """The records of a JSONL file.

    Raises:
        StageError: the file is missing, or a line is not such a record; names the line.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise StageError(
            "missing", place=str(path), remedy="Run the stage that writes it again."
        ) from None
    records = []
    for number, line in enumerate(raw.splitlines(), start=1):
        try:
            records.append(kind.model_validate_json(line))
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]["msg"]
            raise StageError(
                f"not a {kind.__name__}: {problem}", place=f"{path}:{number}"
            ) from None
    return records


def read_record(path: Path, kind: type[R]) -> R:
    """The one record of a JSON file.

    Raises:
        StageError: the file is missing, or is not such a record: it is damaged, or another version
            of tuneproof wrote it; names the field.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise StageError(
            "missing", place=str(path), remedy="Run the stage that writes it again."
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise StageError(
            f"not a {kind.__name__} of this version: {where and where + ': '}{first['msg']}",
            place=str(path),
            remedy="Run the stage that writes it again, or use the version that wrote it.",
        ) from None


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, put in the place of ``path`` when the block ends without an error."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        shutil.rmtree(path, ignore_errors=True)
        partial.replace(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


JOURNAL_SUFFIX = "journal.jsonl"
"""How the name of every journal ends."""


class Journal(Generic[R]):
    """An append-only JSONL file of records with keys, safe against a kill at any moment.

    Opening it cuts off a torn last line and reads what is there; of two records with one key the
    first counts. ``append`` returns after the lines are on disk.

    Raises:
        StageError: a line that is not the last cannot be read: the file was edited or is another.
    """

    def __init__(self, path: Path, kind: type[R]) -> None:
        self.path = path
        self._kind = kind
        self._records: dict[str, R] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._read_and_mend()
        self._file = path.open("ab")

    def _read_and_mend(self) -> None:
        if not self.path.exists():
            return
        raw = self.path.read_bytes()
        whole = raw.rfind(b"\n") + 1
        if whole < len(raw):
            with self.path.open("r+b") as file:
                file.truncate(whole)
        for number, line in enumerate(raw[:whole].splitlines(), start=1):
            try:
                record = self._kind.model_validate_json(line)
            except ValidationError as error:
                raise StageError(
                    f"not a {self._kind.__name__}: {error.errors(include_url=False)[0]['msg']}",
                    place=f"{self.path}:{number}",
                    remedy="Remove the line, or the file: what it held is then done again.",
                ) from None
            self._records.setdefault(self._key(record), record)

    @staticmethod
    def _key(record: Record) -> str:
        key = getattr(record, "key", None)
        assert isinstance(key, str), f"{type(record).__name__} has no key"
        return key

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: str) -> R | None:
        """The record of that key, if there is one."""
        return self._records.get(key)

    def records(self) -> Iterable[R]:
        """All records, in the order in which they were added."""
        return self._records.values()

    def append(self, records: Sequence[R]) -> None:
        """Add records whose keys are not there yet, in one write."""
        new = [r for r in records if self._key(r) not in self._records]
        if not new:
            return
        self._file.write("".join(r.model_dump_json() + "\n" for r in new).encode("utf-8"))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._records.update((self._key(r), r) for r in new)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Journal[R]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


# --- digests ---------------------------------------------------------------------------------


def digest_bytes(content: bytes) -> str:
    """SHA-256, in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def digest_value(value: object) -> str:
    """SHA-256 of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return digest_bytes(text.encode("utf-8"))


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe_file(path: Path, root: Path) -> OutputFile:
    """Path (relative to ``root`` where it lies inside), size and digest of a file."""
    shown = path.relative_to(root) if path.is_relative_to(root) else path
    return OutputFile(path=shown.as_posix(), bytes=path.stat().st_size, sha256=digest_file(path))


# --- the run ---------------------------------------------------------------------------------


class RunDir:
    """One recipe's folder. ``recipe.yaml`` in it names the recipe it belongs to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def recipe_file(self) -> Path:
        """The resolved recipe."""
        return self.path / "recipe.yaml"

    @property
    def preflight_file(self) -> Path:
        """What the preflight found; there once something was to be trained."""
        return self.path / "preflight.json"

    def stage(self, name: str) -> Path:
        """The folder of a stage."""
        return self.path / name

    @property
    def owner(self) -> str:
        """The name of the recipe that this is a run of; it stands in the first line."""
        first = self.recipe_file.read_text("utf-8").partition("\n")[0]
        return first.removeprefix("name:").strip().strip("'\"")

    def must_be_run(self) -> None:
        """Refuse a folder that no recipe was run in.

        Raises:
            RunDirError: it holds no ``recipe.yaml``.
        """
        if not self.recipe_file.is_file():
            raise RunDirError(
                "is no run: it holds no recipe.yaml",
                place=str(self.path),
                remedy="A run is made by: tuneproof run RECIPE [--run-dir DIR]",
            )

    def claim(self, name: str, resolved: str) -> None:
        """Make this the run of the recipe ``name`` and write its resolved text.

        Raises:
            RunDirError: the folder belongs to another recipe, or holds something else.
        """
        self.check_owner(name)
        if not self.recipe_file.exists() or self.recipe_file.read_text("utf-8") != resolved:
            write_atomic(self.recipe_file, resolved)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from working in this run; the lock ends with the process.

        Raises:
            BusyRunError: another process is working in it.
        """
        try:
            import fcntl
        except ImportError:  # Windows: no lock, and no worse than without this method
            yield
            return
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BusyRunError(
                    "another process is working in this run",
                    place=str(self.path),
                    remedy="Wait for it, or choose another folder with --run-dir.",
                ) from None
            yield

    def check_owner(self, name: str) -> None:
        """Refuse a folder that is not, and cannot become, the run of the recipe ``name``."""
        if self.path.exists() and not self.path.is_dir():
            raise RunDirError("expected a folder", place=str(self.path))
        if self.recipe_file.exists():
            if self.owner != name:
                raise RunDirError(
                    f"is the run of another recipe, {self.owner!r}; this one is {name!r}",
                    place=str(self.path),
                    remedy="Choose another folder with --run-dir, or remove this one.",
                )
        elif self.path.is_dir() and any(p.name != ".lock" for p in self.path.iterdir()):
            raise RunDirError(
                "is not empty and holds no recipe.yaml, so it is no run",
                place=str(self.path),
                remedy="Choose another folder with --run-dir.",
            )

    def manifest(self, stage: str) -> Manifest | None:
        """The stage's manifest; None if the stage has not finished (or its manifest is torn)."""
        path = self.stage(stage) / "manifest.json"
        try:
            return Manifest.model_validate_json(path.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def overtaken(self, stages: Sequence[str]) -> dict[str, str]:
        """Of these stages, in their order, those whose result is not that of what lies there now:
        why, for each. One that has not finished, or that read what was written anew since."""
        wrote: dict[str, str] = {}
        found: dict[str, str] = {}
        for stage in stages:
            manifest = self.manifest(stage)
            if manifest is None:
                found[stage] = f"{stage} has not finished"
                continue
            changed = next(
                (f.path for f in manifest.inputs if wrote.get(f.path, f.sha256) != f.sha256), None
            )
            behind = next((s for s in found if any(_of(s, f.path) for f in manifest.inputs)), None)
            if changed is not None:
                found[stage] = f"{stage} read an older {changed} than there is now"
            elif behind is not None:
                found[stage] = f"{stage} rests on {behind}, and {found[behind]}"
            wrote.update((f.path, f.sha256) for f in manifest.outputs)
        return found

    def write_manifest(self, manifest: Manifest) -> None:
        """Write the manifest: the last thing a stage does."""
        write_atomic(
            self.stage(manifest.stage) / "manifest.json", manifest.model_dump_json(indent=2) + "\n"
        )

    def resolve(self, path: str) -> Path:
        """A path as a manifest holds it: relative to the run, or absolute."""
        return self.path / path


def _of(stage: str, path: str) -> bool:
    return path.startswith(f"{stage}/")


def damaged_output(manifest: Manifest, run: RunDir) -> str | None:
    """The first output that is missing or is not the bytes that the stage wrote; None if intact."""
    for output in manifest.outputs:
        path = run.resolve(output.path)
        if not path.is_file():
            return f"{output.path} is missing"
        if path.stat().st_size != output.bytes or digest_file(path) != output.sha256:
            return f"{output.path} was changed"
    return None


def empty_stage(folder: Path) -> None:
    """Remove a stage's files but its journals: those are keyed by request, and were paid for."""
    if folder.is_dir():
        for entry in folder.iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif not entry.name.endswith(JOURNAL_SUFFIX):
                entry.unlink()


def sweep(folder: Path) -> None:
    """Remove what a killed process had half written; only under the run's lock."""
    for partial in folder.glob(".*.partial"):
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink()


# --- provenance ------------------------------------------------------------------------------

_PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets", "openai", "numpy", "scipy")


def package_versions() -> dict[str, str]:
    """Versions of the packages that results depend on, without importing them."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def git_state(file: Path) -> tuple[str | None, bool | None]:
    """Commit, and whether there are uncommitted changes, of the checkout that tracks ``file``.

    None, None where no checkout does: an installed package may lie in somebody else's.
    """
    git = shutil.which("git")
    if git is None:
        return None, None

    def ask(*words: str) -> str | None:
        done = subprocess.run(  # noqa: S603
            [git, "-C", str(file.parent), *words], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    if ask("ls-files", "--error-unmatch", file.name) is None:
        return None, None
    commit = ask("rev-parse", "HEAD")
    changes = ask("status", "--porcelain", "--untracked-files=no") if commit else None
    return commit, (bool(changes) if changes is not None else None)


def flatten(prefix: str, value: object) -> Mapping[str, str]:
    """A nested value as dotted names and JSON texts, to be compared name by name."""
    if isinstance(value, Mapping):
        flat: dict[str, str] = {}
        for key, inner in value.items():
            flat.update(flatten(f"{prefix}.{key}" if prefix else str(key), inner))
        return flat
    return {prefix: json.dumps(value, sort_keys=True, ensure_ascii=False)}
