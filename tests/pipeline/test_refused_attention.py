"""Models whose class refuses PyTorch's attention are planned, trained and asked all the same."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.pipeline.test_pipeline import execute, make_run
from tuneproof.plan.geometry import find_geometry
from tuneproof.recipe import Lora, Model
from tuneproof.records import Answer, Stop, TrainingSummary
from tuneproof.train.model import load_model
from tuneproof.workspace import read_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
}

PADDED = "none, padding instead (not tuneproof_segments: the model's attention uses "


@pytest.mark.parametrize(
    ("kind", "changes", "packing"),
    [
        ("gemma2", {}, PADDED + "softcap"),
        ("gemma2", {"attn_logit_softcapping": None}, "attention tuneproof_segments, loss"),
        ("gpt_oss", {"num_local_experts": 4}, PADDED + "s_aux"),
    ],
)
def test_a_model_without_pytorchs_attention(
    tmp_path: Path,
    tiny_model: Path,
    tiny_recipe: Callable[..., Path],
    kind: str,
    changes: dict[str, Any],
    packing: str,
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path / kind
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.*"))
    torch.manual_seed(0)
    sizes = SIZES | {"vocab_size": 400} | changes
    config = AutoConfig.for_model(kind, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)  # type: ignore[no-untyped-call]
    targets = {"target_modules": ["q_proj", "v_proj"], "r": 2, "dropout": 0.0}
    recipe = tiny_recipe(model={"id": str(folder), "dtype": "float32"}, lora=targets)
    assert find_geometry(Model(id=str(folder)), Lora(target_modules=("q_proj",))).trainable > 0
    said: list[str] = []
    run = make_run(recipe, tmp_path / "run", "train.max_steps=2")
    run.reporter.stage = lambda name, text: said.append(text)  # type: ignore[method-assign]
    execute(run, until="generate")
    assert sum(text.startswith("attention eager: ") for text in said) == 2  # to train, to answer
    summary = TrainingSummary.model_validate_json(
        (tmp_path / "run/train/summary.json").read_bytes()
    )
    assert summary.steps == 2
    assert summary.packing.startswith(packing)
    answers = read_records(tmp_path / "run/generate/answers.jsonl", Answer)
    assert answers
    assert Stop.ERROR not in {a.stop for a in answers}


def test_another_reason_is_still_told(tmp_path: Path, tiny_model: Path) -> None:
    from tuneproof.errors import ModelError

    shutil.copytree(tiny_model, tmp_path / "broken")
    (tmp_path / "broken/config.json").write_text('{"model_type": "no-such-model"}')
    with pytest.raises(ModelError, match=r"model\.id = .*cannot be loaded"):
        load_model(Model(id=str(tmp_path / "broken")))
