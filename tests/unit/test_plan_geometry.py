"""The table of known models against transformers' own classes, and when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tuneproof.errors import ModelError
from tuneproof.plan import geometry
from tuneproof.plan.geometry import find_geometry, shape_of
from tuneproof.plan.known_models import KNOWN_MODELS, KnownModel, known_model
from tuneproof.recipe import Lora, Model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def without_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    from tuneproof import hub
    from tuneproof.train import model

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    hub.is_reachable.cache_clear()
    model._resolve.cache_clear()
    yield
    hub.is_reachable.cache_clear()
    model._resolve.cache_clear()


@pytest.mark.parametrize("known", KNOWN_MODELS, ids=lambda k: k.ids[0])
def test_published_totals(known: KnownModel) -> None:
    """From the classes on the meta device, adapter aside."""
    config = geometry.build_config(known)
    tuned = geometry.build_on_meta(config, Lora())
    trainable, total = tuned.get_nb_trainable_parameters()
    assert total - trainable == known.parameters
    assert shape_of(config) is not None


def test_ids_are_unique_and_case_does_not_matter() -> None:
    ids = [i.casefold() for k in KNOWN_MODELS for i in k.ids]
    assert len(set(ids)) == len(ids)
    assert known_model("META-LLAMA/llama-2-7B-hf") is KNOWN_MODELS[0]
    assert known_model("meta-llama/Llama-2-7b") is None


@pytest.mark.usefixtures("without_hub")
def test_the_reference_from_the_table() -> None:
    found = find_geometry(Model(id="meta-llama/Llama-2-7b-hf"), Lora())
    assert (found.trainable, found.total) == (4_194_304, 6_742_609_920)
    assert found.from_table
    assert found.context == 4096
    assert [(a.name, a.n, a.n_in, a.n_out) for a in found.adapted] == [
        ("q_proj", 32, 4096, 4096),
        ("v_proj", 32, 4096, 4096),
    ]
    assert "built-in table" in found.notes[0]


@pytest.mark.usefixtures("without_hub")
def test_an_unknown_model_says_which_are_known() -> None:
    with pytest.raises(ModelError, match="hub cannot be reached") as caught:
        find_geometry(Model(id="nobody/has-this"), Lora())
    assert "meta-llama/Llama-2-7b-hf" in caught.value.remedy


def test_a_local_folder_is_its_own_source(tiny_model: Path) -> None:
    found = find_geometry(
        Model(id=str(tiny_model)), Lora(r=4, target_modules="all-linear", dropout=0.0)
    )
    assert not found.from_table
    assert found.notes == ()
    assert found.context == 256
    # r (in + out) for q and o (64, 64), k and v (64, 32), gate, up and down (64, 128); two layers.
    assert found.trainable == 2 * 4 * (2 * 128 + 2 * 96 + 3 * 192)


def test_a_target_that_is_not_there(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="no adapter can be attached"):
        find_geometry(Model(id=str(tiny_model)), Lora(target_modules=("nowhere",)))


def test_a_configuration_with_other_names() -> None:
    from transformers import AutoConfig

    gpt2 = AutoConfig.for_model("gpt2", n_embd=64, n_layer=2, n_head=4, vocab_size=100)
    shape = shape_of(gpt2)
    assert shape is not None
    assert (shape.hidden, shape.layers, shape.kv_heads, shape.head_dim) == (64, 2, 4, 16)
    assert shape.intermediate == 256
    assert shape_of(AutoConfig.for_model("t5gemma")) is None
