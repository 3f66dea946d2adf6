"""Answers from elsewhere in a run: a server that gives none, and a double of vLLM."""

from __future__ import annotations

import gc
import shutil
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from tests.fakes import ChatServer, Status
from tests.pipeline.test_pipeline import execute, make_run
from tuneproof.errors import (
    CredentialError,
    EndpointError,
    ModelError,
    RecipeError,
    StageError,
    UsageError,
)
from tuneproof.generate.vllm_backend import VllmBackend
from tuneproof.recipe import Model
from tuneproof.records import Answer
from tuneproof.train.model import load_tokenizer
from tuneproof.workspace import read_records

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


def test_names_that_do_not_match_the_adapters_are_refused_before_training(
    tiny_recipe: Callable[..., Path], tmp_path: Path
) -> None:
    server = {"base_url": "http://127.0.0.1:9/v1", "base": "b", "adapters": ["t"]}
    recipe = tiny_recipe(generate={"backend": "completions", "server": server})
    folder = tmp_path / "run"
    for key, place in (
        ("train.seeds=2", "adapters"),
        ("generate.server.adapters=[t, u]", "adapters"),
        ("verdict.beat_placebo=true", "placebo"),
    ):
        with pytest.raises(RecipeError, match=f"generate.server.{place}") as caught:
            execute(make_run(recipe, folder, key))
        assert caught.value.exit_code == 2
    assert not folder.exists()


def test_a_server_that_is_down_is_found_before_losses_are_measured(
    generate: Callable[..., Path], tmp_path: Path
) -> None:
    with ChatServer(lambda _: "never") as server:
        section = served(server)
    with pytest.raises(EndpointError, match=r"server\.base_url.*cannot connect"):
        generate(**section)
    assert not (tmp_path / "run/generate/losses.journal.jsonl").exists()


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (Status(429, "pay", "insufficient_quota"), EndpointError),
        (Status(401, "no longer"), CredentialError),
    ],
)
def test_what_a_server_refuses_at_work_is_a_failure_and_no_bad_usage(
    generate: Callable[..., Path], status: Status, error: type[UsageError]
) -> None:
    with ChatServer(lambda _: status) as server, pytest.raises(error) as caught:
        generate(**served(server))
    assert caught.value.exit_code == 1
    assert error.exit_code == 2


def models_here() -> set[int]:
    """The models in this process, those of other tests among them."""
    from transformers import PreTrainedModel

    gc.collect()
    # By the type: asking some objects of torch for their class warns.
    return {id(o) for o in gc.get_objects() if issubclass(type(o), PreTrainedModel)}


class FakeEngine:
    """Stands for ``vllm.LLM``: keeps what it was made with, and says one word to every prompt."""

    made: ClassVar[dict[str, Any]] = {}

    def __init__(self, **how: Any) -> None:
        FakeEngine.made = {**how, "models here": models_here()}
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=256))

    def generate(self, prompts: list[object], settings: list[Any], **_: object) -> list[Any]:
        assert len(prompts) == len(settings)
        said = SimpleNamespace(text=" red", finish_reason="stop", stop_reason=None, token_ids=[5])
        return [SimpleNamespace(outputs=[said]) for _ in prompts]


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> type[FakeEngine]:
    """The double in the place of the package."""

    def module(name: str, **holds: object) -> None:
        made = ModuleType(name)
        made.__spec__ = ModuleSpec(name, None)
        vars(made).update(holds)
        monkeypatch.setitem(sys.modules, name, made)

    module("vllm", LLM=FakeEngine, SamplingParams=SimpleNamespace)
    module("vllm.lora")
    module("vllm.lora.request", LoRARequest=lambda *named: named)
    return FakeEngine


def test_vllm_gets_the_tokenizer_the_rank_and_the_gpu(
    vllm: type[FakeEngine], generate: Callable[..., Path], trained: Path, tiny_model: Path
) -> None:
    before = models_here()
    folder = generate(backend="vllm")
    answers = read_records(folder / "generate/answers.jsonl", Answer)
    assert len(answers) == 36
    assert {a.text for a in answers} == {"red"}
    made = vllm.made
    assert (made["model"], made["tokenizer"]) == (str(tiny_model), str(tiny_model))
    assert (made["max_loras"], made["max_lora_rank"]) == (1, 8)
    # The model that measured the held-out losses is gone when the engine takes its share.
    assert made["models here"] <= before


@pytest.mark.parametrize(("rank", "highest"), [(8, 8), (9, 16), (65, 128), (257, 320), (512, 512)])
def test_the_engine_takes_the_next_rank_that_vllm_knows(
    vllm: type[FakeEngine], tiny_model: Path, rank: int, highest: int
) -> None:
    own = tiny_model.parent / "words"
    shutil.copytree(tiny_model, own, dirs_exist_ok=True)
    model = Model(id=str(tiny_model), tokenizer=str(own))
    VllmBackend(model, load_tokenizer(model), {}, rank=rank)
    assert (vllm.made["max_lora_rank"], vllm.made["tokenizer"]) == (highest, str(own))


def test_what_vllm_cannot_do_is_refused_before_training(
    tiny_recipe: Callable[..., Path], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    recipe, folder = tiny_recipe(generate={"backend": "vllm"}), tmp_path / "run"
    with pytest.raises(ModelError, match="vLLM is not installed"):
        execute(make_run(recipe, folder))
    request.getfixturevalue("vllm")
    with pytest.raises(RecipeError, match="rank 512 at most"):
        execute(make_run(recipe, folder, "lora.r=513"))
    assert not folder.exists()
