"""The memory formula against what autograd really keeps, and its parts by hand."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tuneproof.plan.geometry import adapted_modules, shape_of
from tuneproof.plan.memory import (
    GIB,
    Adapted,
    Batch,
    Setting,
    Shape,
    activation_bytes,
    estimate_memory,
    kept_logits_bytes,
    packed_loss_bytes,
    peak_logits_bytes,
    peak_packed_loss_bytes,
)
from tuneproof.recipe import Lora
from tuneproof.train.model import ATTENTION, add_lora
from tuneproof.train.packed import Packing, micro_batch, packed_model

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def small(kind: str, **changes: Any) -> PreTrainedConfig:
    from transformers import AutoConfig

    sizes: dict[str, Any] = {
        "hidden_size": 128,
        "intermediate_size": 344,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": 500,
        "max_position_embeddings": 512,
    }
    return AutoConfig.for_model(kind, **(sizes | changes))


def kept_bytes(config: PreTrainedConfig, lora: Lora, batch: Batch, *, bf16: bool) -> int:
    """Bytes of the distinct storages that one forward pass leaves for the backward pass, weights
    aside."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    bare = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
        config, attn_implementation=ATTENTION, dtype=torch.bfloat16 if bf16 else torch.float32
    )
    model = add_lora(bare, lora)
    model.train()
    weights = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    kept: dict[int, torch.Tensor] = {}  # held, so that no storage is freed and used again

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept.setdefault(place, tensor)
        return tensor

    ids = torch.randint(0, config.vocab_size, (batch.rows, batch.length))
    mask = torch.ones_like(ids)
    if batch.padded:
        mask[-1, batch.length // 2 :] = 0
    watched = torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t)
    cast = torch.autocast("cpu", torch.bfloat16, enabled=bf16)
    if batch.packed:
        # One sequence: PyTorch's own attention then keeps what the variable-length one does.
        row = ids[0].tolist()
        inputs = micro_batch([{"input_ids": row, "labels": row}])
        with packed_model(model, Packing(attention="sdpa", loss="chunked")), watched, cast:
            model(**inputs, num_items_in_batch=1)
    else:
        with watched, cast:
            model(input_ids=ids, attention_mask=mask, labels=ids)
    return sum(t.untyped_storage().nbytes() for t in kept.values())


def estimated(config: PreTrainedConfig, lora: Lora, batch: Batch, *, bf16: bool) -> int:
    from tuneproof.plan.geometry import build_on_meta

    shape = shape_of(config)
    assert shape is not None
    adapted = adapted_modules(build_on_meta(config, lora))
    setting = Setting(r=lora.r, dropout=lora.dropout, bf16=bf16, device="cpu")
    of_loss = (
        packed_loss_bytes(shape, setting, batch)
        if batch.packed
        else kept_logits_bytes(shape, batch)
    )
    return activation_bytes(shape, adapted, setting, batch) + of_loss


@pytest.mark.parametrize("bf16", [True, False], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("dropout", [0.05, 0.0])
@pytest.mark.parametrize(
    ("kind", "changes", "targets", "padded", "packed"),
    [
        ("llama", {}, None, False, False),
        ("llama", {}, "all-linear", True, False),
        ("llama", {"num_key_value_heads": 2}, None, True, False),
        ("llama", {"num_key_value_heads": 2}, "all-linear", False, False),
        ("qwen3", {"num_key_value_heads": 2, "head_dim": 48}, None, False, False),
        ("llama", {}, None, False, True),
        ("llama", {"num_key_value_heads": 2}, "all-linear", False, True),
    ],
    ids=[
        "reference",
        "all padded",
        "grouped padded",
        "grouped all",
        "qwen3",
        "packed",
        "packed grouped all",
    ],
)
def test_the_formula_is_what_autograd_keeps(
    kind: str,
    changes: dict[str, Any],
    targets: str | None,
    padded: bool,
    packed: bool,
    dropout: float,
    bf16: bool,
) -> None:
    config = small(kind, **changes)
    lora = Lora(r=4, dropout=dropout, target_modules=targets)
    batch = Batch(rows=1 if packed else 2, length=96, padded=padded, packed=packed)
    kept = kept_bytes(config, lora, batch, bf16=bf16)
    # What differs does not grow with the batch (adapters' weights in bfloat16, rotary tables) or is
    # of the first layer alone.
    assert estimated(config, lora, batch, bf16=bf16) == pytest.approx(kept, rel=0.05)


LLAMA2 = Shape(
    layers=32,
    hidden=4096,
    intermediate=11008,
    heads=32,
    kv_heads=32,
    head_dim=128,
    vocabulary=32000,
)
QUERY_VALUE = tuple(
    Adapted(name=name, n=32, n_in=4096, n_out=4096) for name in ("q_proj", "v_proj")
)
REFERENCE = Setting(r=8, dropout=0.05, bf16=True)


def test_llama2_7b_by_hand() -> None:
    batch = Batch(rows=2, length=1024, padded=False)
    layer = (
        2 * (4 * 4096 + 4)  # two norms in float32
        + 2 * 4 * 4096 + 4 * 32  # query, key, value, output; a sum for each head
        + 3 * 2 * 11008  # the MLP
        + 2 * (2 * 4096 + 4096 + 2 * 8)  # two adapters: input, mask, A's output
    )  # fmt: skip
    by_hand = 2048 * (32 * layer - 2 * 4096)  # no masks in the first layer
    assert activation_bytes(LLAMA2, QUERY_VALUE, REFERENCE, batch) == by_hand
    assert kept_logits_bytes(LLAMA2, batch) == 2048 * (4 * 32000 + 8)
    assert peak_logits_bytes(LLAMA2, batch) == 2048 * (12 * 32000 + 8)
    # Padded, each of 32 layers has its mask of scores as well.
    padded = Batch(rows=2, length=1024, padded=True)
    more = activation_bytes(LLAMA2, QUERY_VALUE, REFERENCE, padded) - by_hand
    assert more == 32 * 2 * 1024 * 1024 * 2


def test_llama2_7b_packed_by_hand() -> None:
    batch = Batch(rows=1, length=2048, padded=False, packed=True)
    layer = (
        2 * (4 * 4096 + 4) + 2 * 4 * 4096 + 4 * 32 + 3 * 2 * 11008  # as above
        + 2 * 4096 + 2 * (4096 + 2 * 8)  # one input for two adapters, two masks, A's outputs
    )  # fmt: skip
    assert activation_bytes(LLAMA2, QUERY_VALUE, REFERENCE, batch) == 2048 * 32 * layer
    assert packed_loss_bytes(LLAMA2, REFERENCE, batch) == 2048 * (2 * 4096 + 8)
    # 1,024 rows of logits in bfloat16, later their gradient; and their copy in float32.
    chunk = 1024 * 32000 * (2 + 4)
    peak = peak_packed_loss_bytes(LLAMA2, REFERENCE, batch)
    assert peak == chunk + 2048 * (3 * 2 * 4096 + 8)
    # Never more than the padded recipe at its worst.
    padded = Batch(rows=2, length=1024, padded=True)
    sizes = {"frozen": 6_738_415_616, "trainable": 4_194_304}
    packed = estimate_memory(LLAMA2, QUERY_VALUE, REFERENCE, batch, **sizes)
    worst = estimate_memory(LLAMA2, QUERY_VALUE, REFERENCE, padded, **sizes)
    assert packed.activations < worst.activations
    assert packed.logits < worst.logits


def test_parts_and_total() -> None:
    batch = Batch(rows=2, length=1024, padded=True)
    parts = estimate_memory(
        LLAMA2, QUERY_VALUE, REFERENCE, batch, frozen=6_738_415_616, trainable=4_194_304
    )
    assert parts.weights == pytest.approx(6_738_415_616 * 2 / GIB, abs=0.001)
    assert parts.adapter == parts.optimizer == pytest.approx(2**25 / GIB, abs=0.001)
    summed = parts.weights + parts.adapter + parts.optimizer
    summed += parts.activations + parts.logits + parts.overhead
    assert parts.total == pytest.approx(summed, abs=0.005)
    # The document's run fitted an A100 of 40 GB.
    assert 20 < parts.total < 30


def test_checkpointing_keeps_the_inputs_of_layers_and_one_layer() -> None:
    batch = Batch(rows=2, length=1024, padded=False)
    plain = activation_bytes(LLAMA2, QUERY_VALUE, REFERENCE, batch)
    saving = Setting(r=8, dropout=0.05, bf16=True, checkpointing=True)
    inputs = 2048 * (32 * 4096 * 2 + 4 * 4096 + 4)
    assert activation_bytes(LLAMA2, QUERY_VALUE, saving, batch) == inputs + plain // 32


def test_float32_takes_twice_the_weights() -> None:
    batch = Batch(rows=1, length=64, padded=False)
    sizes = {"frozen": 1_000_000_000, "trainable": 1_000_000}
    half = estimate_memory(LLAMA2, QUERY_VALUE, REFERENCE, batch, **sizes)
    whole = estimate_memory(
        LLAMA2, QUERY_VALUE, Setting(r=8, dropout=0.05, bf16=False), batch, **sizes
    )
    assert whole.weights == pytest.approx(2 * half.weights, abs=0.002)
    assert whole.adapter == half.adapter  # adapters are float32 either way


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``bench/memory.py``, whose folder is that of a script: it imports its neighbours."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    return importlib.import_module("memory")


@pytest.mark.parametrize(("rows", "width", "new"), [(24, 700, 64), (3, 40, 300)])
def test_reading_and_answering_on_fake_tensors(bench: Any, rows: int, width: int, new: int) -> None:
    """Mostly reading, and mostly keys and values."""
    peak, estimate = bench.traced_answers(
        "HuggingFaceTB/SmolLM2-135M", Lora(), rows=rows, width=width, new=new, bf16=True
    )
    assert estimate.total - estimate.overhead == pytest.approx(peak, rel=0.05)


@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_whole_step_on_fake_tensors(bench: Any, checkpointing: bool, packed: bool) -> None:
    """The benchmark's witness: backward pass and optimizer included, all layers of SmolLM2."""
    peak, estimate = bench.traced_step(
        "HuggingFaceTB/SmolLM2-135M",
        Lora(),
        Batch(rows=1, length=1024, padded=False, packed=True)
        if packed
        else Batch(rows=2, length=512, padded=True),
        bf16=True,
        checkpointing=checkpointing,
    )
    # Without whole logits, what is not counted (gradients on their way, repeated keys) shows more.
    tolerance = 0.15 if packed else 0.10
    assert estimate.total - estimate.overhead == pytest.approx(peak, rel=tolerance)
