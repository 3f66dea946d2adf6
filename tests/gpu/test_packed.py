"""What only a GPU can show: its ways to attend isolate, and train alike; so does a whole stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer

from tests.pipeline.test_packed import random_llama, sequences
from tests.pipeline.test_pipeline import execute, make_run
from tuneproof.records import LossPoint, TrainingSummary
from tuneproof.train import attention
from tuneproof.train.packed import Packing, micro_batch, packed_model
from tuneproof.train.proof import choose_packing
from tuneproof.workspace import RunDir, read_records

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

LENGTHS = [7, 600, 2, 130, 257]


def on_gpu(batch: dict[str, object]) -> dict[str, object]:
    return {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


def test_variable_length_attention_is_chosen_and_proved() -> None:
    model = random_llama(hidden_size=256, initializer_range=0.05).to("cuda", torch.bfloat16)
    chosen = choose_packing(model, sequences([60, 60]), longest=96)
    assert isinstance(chosen, Packing)
    assert (chosen.attention, chosen.passed_over) == (attention.VARLEN, ())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's own, while it compiles
@pytest.mark.parametrize("way", [attention.VARLEN, attention.FLEX, attention.POSITIONS])
def test_packed_losses_and_gradients_are_those_of_each_sequence_alone(way: str) -> None:
    """In bfloat16: loss to 1 %, gradient to 3 % in norm."""
    attention.register()
    model = random_llama(hidden_size=256, initializer_range=0.05).to("cuda", torch.bfloat16).train()
    features = sequences(LENGTHS)
    n = sum(LENGTHS) - len(LENGTHS)
    with packed_model(model, Packing(attention=way, loss="chunked")):
        packed = model(**on_gpu(micro_batch(features)), num_items_in_batch=n).loss
        packed.backward()
    found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    total = 0.0
    for feature in features:
        ids = torch.tensor([feature["input_ids"]], device="cuda")
        loss = model(input_ids=ids, labels=ids, num_items_in_batch=n).loss
        loss.backward()
        total += loss.item()
    alone = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert packed.item() == pytest.approx(total, rel=0.01)
    assert (found - alone).norm() < 0.03 * alone.norm()


class Killed(BaseException):
    """As good as SIGKILL: nothing of ours catches it."""


def adapter(folder: Path) -> torch.Tensor:
    weights = load_file(folder / "train/adapter/adapter_model.safetensors")
    return torch.cat([weights[name].flatten() for name in sorted(weights)])


def test_a_whole_training_and_one_that_was_killed(
    tmp_path: Path, tiny_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed, with dropout, validated and resumed: losses of the two to 0.05, adapters to 5 %."""
    recipe = tiny_recipe(
        n_rows=120,
        model={"id": str(tiny_recipe.args[1]), "dtype": "bfloat16"},  # type: ignore[attr-defined]
        lora={"r": 4, "alpha": 8, "dropout": 0.05, "target_modules": "all-linear"},
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    execute(make_run(recipe, whole), until="train")
    summary = TrainingSummary.model_validate_json((whole / "train/summary.json").read_bytes())
    assert summary.packing.startswith("attention ")
    assert summary.dtype == "bfloat16"
    save = Trainer._save_checkpoint

    def save_and_die(self: Any, *given: Any, **more: Any) -> None:
        save(self, *given, **more)
        if self.state.global_step == 8:
            raise Killed

    monkeypatch.setattr(Trainer, "_save_checkpoint", save_and_die)
    with pytest.raises(Killed):
        execute(make_run(recipe, killed), until="train")
    monkeypatch.undo()
    execute(make_run(recipe, killed), until="train")
    manifest = RunDir(killed).manifest("train")
    assert manifest is not None
    assert manifest.resumed == 8
    curves = [read_records(f / "train/loss.jsonl", LossPoint) for f in (whole, killed)]
    for one, other in zip(*curves, strict=True):
        assert other.step == one.step
        for name in ("train_loss", "eval_loss", "eval_token_loss"):
            assert getattr(other, name) == pytest.approx(getattr(one, name), abs=0.05)
    assert (adapter(killed) - adapter(whole)).norm() < 0.05 * adapter(whole).norm()
