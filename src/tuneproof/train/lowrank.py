"""The adapter's part of a linear module, in fewer passes over memory than PEFT's.

What is computed is PEFT's ``B(A(dropout(x))) · scaling``. PEFT turns ``x`` into float32 and
autocast turns it back, a dropout's mask is float32 on a CPU, and each module keeps a copy of its
input. Here the input stays as it is and is shared by the modules that read it, a mask is one byte
an element, and a dropped input is made again in the backward pass. Each module still draws a mask
of its own.
"""

from __future__ import annotations

import contextlib
import functools
import os
from typing import TYPE_CHECKING, Any, cast

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from peft import PeftModel

ADAPTER = "default"
"""PEFT's name for the only adapter that is trained here."""


def dropped_places(like: torch.Tensor, p: float) -> tuple[torch.Tensor, float]:
    """Which elements are dropped, independently with the second value as probability.

    On a CPU 16 random bits decide on an element, a quarter of the time that PyTorch's own draw
    takes; the probability is then ``p`` rounded to a multiple of 2⁻¹⁶ (0.05 to 0.0500031), and what
    is kept must be scaled by that.
    """
    if like.device.type != "cpu":
        return torch.empty(like.shape, dtype=torch.bool, device=like.device).bernoulli_(p), p
    threshold = round(p * 2**16)
    n = like.numel()
    words = torch.empty(-(-n // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[:n].view(like.shape)
    return bits < threshold - 2**15, threshold / 2**16


class _LowRank(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, scaling: float, p: float
    ) -> torch.Tensor:
        """(…, n_in) → (…, n_out); a: (r, n_in), b: (n_out, r)."""
        rows = x.reshape(-1, x.shape[-1])
        dropped = None
        if p:
            dropped, p = dropped_places(rows, p)
            scaling = scaling / (1 - p)
        kept = rows if dropped is None else rows.masked_fill(dropped, 0)
        low = kept @ a.T
        ctx.save_for_backward(rows, dropped, low, a, b)
        ctx.scaling = scaling
        return (low * scaling @ b.T).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(
        ctx: Any, gradient: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor, torch.Tensor, None, None]:
        rows, dropped, low, a, b = ctx.saved_tensors
        above = gradient.reshape(-1, gradient.shape[-1])
        of_b = above.T @ low * ctx.scaling
        of_low = above @ b * ctx.scaling
        kept = rows if dropped is None else rows.masked_fill(dropped, 0)
        of_a = of_low.T @ kept
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = of_low @ a
            if dropped is not None:
                of_x.masked_fill_(dropped, 0)
            of_x = of_x.view(*gradient.shape[:-1], -1)
        return of_x, of_a, of_b, None, None


def low_rank(
    x: torch.Tensor, a: torch.Tensor, b: torch.Tensor, *, scaling: float, p: float
) -> torch.Tensor:
    """b · a · dropout(x, p) · scaling, in x's type.

    Args:
        x: (…, n_in). a: (r, n_in). b: (n_out, r).
    """
    found = _LowRank.apply(x, a.to(x.dtype), b.to(x.dtype), scaling, p)  # type: ignore[no-untyped-call]
    return cast("torch.Tensor", found)


def _forward(module: Any, x: torch.Tensor) -> torch.Tensor:
    result = module.base_layer(x)
    # The base layer's type, which autocast chooses; x itself is float32 after some norms.
    return cast("torch.Tensor", result) + low_rank(
        x.to(result.dtype),
        module.lora_A[ADAPTER].weight,
        module.lora_B[ADAPTER].weight,
        scaling=module.scaling[ADAPTER],
        p=module.lora_dropout[ADAPTER].p if _drops(module) else 0.0,
    )


def _drops(module: Any) -> bool:
    return bool(module.training and isinstance(module.lora_dropout[ADAPTER], torch.nn.Dropout))


def _is_plain(module: torch.nn.Module) -> bool:
    """Whether PEFT's forward would compute no more than ours."""
    from peft.tuners.lora import Linear

    return (
        type(module) is Linear
        and list(module.lora_A) == [ADAPTER] == list(module.active_adapters)
        and type(module.base_layer) is torch.nn.Linear
        and not module.lora_variant
        and not module.merged
        and not module.disable_adapters
        and module.lora_B[ADAPTER].bias is None
        and isinstance(module.lora_dropout[ADAPTER], torch.nn.Dropout | torch.nn.Identity)
    )


@contextlib.contextmanager
def fewer_passes(model: PeftModel) -> Iterator[None]:
    """For as long as the context lasts, plain LoRA modules are computed as here.

    Not under FSDP, which gathers a module's weights when that module is called.
    """
    sharded = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() in ("1", "true")
    plain = [] if sharded else [m for m in model.modules() if _is_plain(m)]
    for module in plain:
        module.forward = functools.partial(_forward, module)
    try:
        yield
    finally:
        for module in plain:
            del module.forward
