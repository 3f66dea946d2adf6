"""A run whose answers a server gives: what it does where the server gives none."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.fakes import ChatServer, Status
from tests.pipeline.test_pipeline import execute, make_run
from tuneproof.errors import StageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="module")
def trained(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run until its adapter is trained."""
    from tests.conftest import write_tiny_recipe

    folder = tmp_path_factory.mktemp("trained")
    execute(make_run(write_tiny_recipe(folder, tiny_model), folder / "run"), until="train")
    return folder


@pytest.fixture
def generate(trained: Path, tmp_path: Path) -> Callable[..., Path]:
    """Generates in a copy of it; keywords are of the recipe's generate section."""

    def go(**section: Any) -> Path:
        folder = tmp_path / "run"
        shutil.copytree(trained / "run", folder, dirs_exist_ok=True)
        sets = [f"generate.{name}={value}" for name, value in section.items()]
        execute(make_run(trained / "tiny.yaml", folder, *sets), until="generate")
        return folder

    return go


def served(server: ChatServer, **more: object) -> dict[str, Any]:
    named = {"base_url": server.url, "base": "b", "adapters": ["t"]} | more
    return {"backend": "completions", "server": str(named)}


def test_a_server_that_refuses_every_prompt_ends_the_stage(
    generate: Callable[..., Path], tmp_path: Path
) -> None:
    with ChatServer(lambda _: Status(400, "no such thing as seed")) as server:
        with pytest.raises(StageError, match="none of 36 answers was given: 36 × HTTP 400: no suc"):
            generate(**served(server))
        assert len(server.received) == 36
    assert not (tmp_path / "run/generate/manifest.json").exists()


def test_a_context_that_no_prompt_fits_ends_the_stage(generate: Callable[..., Path]) -> None:
    with pytest.raises(StageError, match="exceed the context of 256") as caught:
        generate(max_new_tokens=255)
    assert "generate.max_new_tokens" in caught.value.remedy
