"""What only a GPU can show: PyTorch's variable-length attention isolates, and trains alike."""

from __future__ import annotations

import pytest
import torch

from tests.pipeline.test_packed import random_llama, sequences
from tuneproof.train import attention
from tuneproof.train.packed import Packing, choose_packing, micro_batch, packed_model

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

LENGTHS = [7, 600, 2, 130, 257]


def on_gpu(batch: dict[str, object]) -> dict[str, object]:
    return {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


def test_variable_length_attention_is_chosen_and_proved() -> None:
    model = random_llama(hidden_size=256, initializer_range=0.05).to("cuda", torch.bfloat16)
    chosen = choose_packing(model, sequences([60, 60]), longest=96)
    assert isinstance(chosen, Packing)
    assert (chosen.attention, chosen.passed_over) == (attention.VARLEN, ())


@pytest.mark.parametrize("way", [attention.VARLEN, attention.POSITIONS])
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
