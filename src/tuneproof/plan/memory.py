"""GPU memory of a training, by part, from the model's shape alone.

What is computed here is the training as ``train.trainer`` runs it on one GPU: adapters in float32,
autocast to bfloat16 where the weights are bfloat16. Packed, that is attention by segments, the
adapters of ``train.lowrank`` and the loss of ``train.loss``; padded, plain transformers and PEFT,
with a mask for attention and the loss over a float32 copy of all logits. Each term is a tensor that
autograd keeps for the backward pass, with the place that makes it.
``tests/unit/test_plan_memory.py`` counts those of a small model and compares; ``bench/memory.py``
does so for 7B without needing its memory, and with real tensors where there is a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tuneproof.records import Record

if TYPE_CHECKING:
    from collections.abc import Sequence

GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """Linear modules of one kind that get an adapter: name (``q_proj``), number, features."""

    name: str
    n: int
    n_in: int
    n_out: int


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The numbers of a decoder that its memory depends on.

    ``normed_heads`` says that queries and keys have a norm of their own (Qwen3).
    """

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    normed_heads: bool = False


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A micro-batch of ``rows`` sequences of ``length`` tokens; ``padded`` if some are shorter.

    ``packed`` is one row of ``length`` tokens, sequences end to end.
    """

    rows: int
    length: int
    padded: bool
    packed: bool = False

    @property
    def tokens(self) -> int:
        """Positions computed, padding included."""
        return self.rows * self.length


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What else decides how much is kept.

    ``bf16`` is weights and autocast in bfloat16, else all is float32. ``device`` matters because a
    dropout's mask takes one byte an element on a GPU and is float32 on a CPU.
    """

    r: int
    dropout: float
    bf16: bool
    checkpointing: bool = False
    device: Literal["cuda", "cpu"] = "cuda"

    @property
    def element(self) -> int:
        """Bytes of one activation."""
        return 2 if self.bf16 else 4

    @property
    def mask(self) -> int:
        """Bytes of one element of a dropout mask: ``native_dropout`` on a GPU, noise on a CPU."""
        return 1 if self.device == "cuda" else 4


class MemoryGib(Record):
    """Peak GPU memory in GiB, by part; ``total`` is their sum.

    ``adapter`` holds its weights and gradients, ``optimizer`` AdamW's two moments, ``activations``
    what the backward pass needs, ``logits`` the loss at its largest moment. ``overhead`` is not
    the model's: the CUDA context, and what the allocator loses between tensors of many sizes.
    """

    weights: float
    adapter: float
    optimizer: float
    activations: float
    logits: float
    overhead: float
    total: float


# --- activations: bytes a token --------------------------------------------------------------

_READERS = {"norm1": ("q_proj", "k_proj", "v_proj"), "norm2": ("gate_proj", "up_proj")}
"""Which modules read the same tensor."""


def _norm_bytes(width: int) -> int:
    """``LlamaRMSNorm`` of one vector: its float32 input and the float32 root.

    In bfloat16 that input is a copy; in float32 it is the residual stream itself. The norm's weight
    is frozen, so the normed vector is not kept.
    """
    return 4 * width + 4


def _layer_bytes(shape: Shape, setting: Setting, *, padded: bool) -> int:
    """One decoder layer without adapters. Its linear modules are frozen: they keep nothing."""
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    # transformers' sdpa_attention_forward repeats keys and values to all heads under a mask.
    keys_and_values = 2 * (q if padded else kv)
    # scaled_dot_product_attention: query, key, value, output; a float32 log-sum-exp for each head.
    attention = setting.element * (2 * q + keys_and_values) + 4 * shape.heads
    if shape.normed_heads:
        attention += (shape.heads + shape.kv_heads) * _norm_bytes(shape.head_dim)
    # LlamaMLP: the gate for silu; silu(gate) and up for their product.
    mlp = 3 * setting.element * shape.intermediate
    return 2 * _norm_bytes(shape.hidden) + attention + mlp


def _adapters_bytes(adapted: Sequence[Adapted], setting: Setting, *, packed: bool) -> int:
    """All adapters (``peft.tuners.lora.Linear.forward``: ``B(A(dropout(x)))``).

    A keeps its input: under autocast a bfloat16 copy of its own; in float32 the dropped x, or,
    without dropout, x itself, which modules share. Dropout keeps its mask, B the r numbers from A.
    ``train.lowrank`` shares x in every type, and its masks are one byte an element.
    """
    own_copy = not packed and (setting.bf16 or setting.dropout > 0)
    kept = 0
    shared: dict[str, int] = {}
    for module in adapted:
        kept += module.n * setting.r * setting.element
        if own_copy:
            kept += module.n * module.n_in * setting.element
        elif module.name != "o_proj":  # its input is the attention's output, kept already
            owner = next((k for k, v in _READERS.items() if module.name in v), module.name)
            shared[owner] = module.n * module.n_in * setting.element
        if setting.dropout and packed:
            kept += module.n * module.n_in
        elif setting.dropout:
            # The first layer's input needs no gradient (the embeddings are frozen), so no mask.
            masked = module.n - (module.name in _READERS["norm1"])
            kept += masked * module.n_in * setting.mask
    return kept + sum(shared.values())


def activation_bytes(
    shape: Shape, adapted: Sequence[Adapted], setting: Setting, batch: Batch
) -> int:
    """Bytes that autograd keeps of one forward pass, the loss aside.

    With gradient checkpointing the layers' inputs, and one layer that is computed again.
    """
    layers = shape.layers * _layer_bytes(shape, setting, padded=batch.padded)
    # The first layer's first norm keeps nothing, the one before the head does: no correction.
    inside = batch.tokens * (layers + _adapters_bytes(adapted, setting, packed=batch.packed))
    if batch.padded:
        # The boolean mask becomes one of the scores' type in each layer's attention.
        inside += shape.layers * batch.rows * batch.length**2 * setting.element
    if not setting.checkpointing:
        return inside
    inputs = batch.tokens * shape.layers * shape.hidden * setting.element
    last_norm = batch.tokens * _norm_bytes(shape.hidden)
    return inputs + last_norm + inside // shape.layers


def kept_logits_bytes(shape: Shape, batch: Batch) -> int:
    """What cross_entropy keeps: float32 log-probabilities of all tokens, and the labels."""
    assert not batch.packed
    return batch.tokens * (4 * shape.vocabulary + 8)


def peak_logits_bytes(shape: Shape, batch: Batch) -> int:
    """The loss at its largest moment, the begin of the backward pass.

    Three float32 arrays of tokens × vocabulary: log-probabilities (``ForCausalLMLoss`` makes the
    logits float32), the gradient of ``nll_loss``, and that of ``log_softmax``.
    """
    return batch.tokens * (12 * shape.vocabulary + 8)


def packed_loss_bytes(shape: Shape, setting: Setting, batch: Batch) -> int:
    """What ``train.loss.linear_nll`` keeps: the gradient of the hidden states, and the targets."""
    return batch.tokens * (setting.element * shape.hidden + 8)


def peak_packed_loss_bytes(shape: Shape, setting: Setting, batch: Batch) -> int:
    """The same at its largest moment: a chunk's logits, and their copy in float32.

    Every token is taken to be a target; the hidden states selected and what their norm gave are of
    the same size as the gradient.
    """
    from tuneproof.train.loss import CHUNK, CHUNK_ON_GPU

    rows = min(batch.tokens, CHUNK_ON_GPU if setting.device == "cuda" else CHUNK)
    chunk = rows * shape.vocabulary * (4 + (setting.element if setting.element < 4 else 0))
    selected = 2 * batch.tokens * setting.element * shape.hidden
    return packed_loss_bytes(shape, setting, batch) + selected + chunk


# --- all of it -------------------------------------------------------------------------------

CONTEXT_GIB = 0.6
"""CUDA context, cuBLAS workspaces and loaded kernels: 0.4 to 0.7 GiB by card and driver."""

ALLOCATOR_SHARE = 0.10
"""Of activations and logits: blocks that are rounded up, or too small for a longer batch."""


def estimate_memory(
    shape: Shape,
    adapted: Sequence[Adapted],
    setting: Setting,
    batch: Batch,
    *,
    frozen: int,
    trainable: int,
) -> MemoryGib:
    """Peak memory of training with the largest micro-batch.

    Args:
        frozen: parameters of the base model, in bfloat16 or float32 as ``setting`` says.
        trainable: parameters of the adapter, always float32 (PEFT), as are their gradients and
            AdamW's moments.
    """
    activations = activation_bytes(shape, adapted, setting, batch) / GIB
    if batch.packed:
        logits = peak_packed_loss_bytes(shape, setting, batch) / GIB
    else:
        logits = peak_logits_bytes(shape, batch) / GIB
    parts = {
        "weights": frozen * setting.element / GIB,
        "adapter": 8 * trainable / GIB,
        "optimizer": 8 * trainable / GIB,
        "activations": activations,
        "logits": logits,
        "overhead": CONTEXT_GIB + ALLOCATOR_SHARE * (activations + logits),
    }
    rounded = {name: round(value, 3) for name, value in parts.items()}
    return MemoryGib(**rounded, total=round(sum(parts.values()), 3))
