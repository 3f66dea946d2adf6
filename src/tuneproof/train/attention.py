"""Attention inside packed sequences, and never across them.

Each way is registered with transformers under a name of ours, and without a mask function: these
ways take the boundaries from the batch, and for a name that has none transformers makes no mask and
does not look for boundaries in the positions, which at each forward pass would make a GPU wait.
Which way is right for a model is found out by ``proof.prove``, on the model itself; here are only
the ways.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

SEGMENTS: Final = "tuneproof_segments"
VARLEN: Final = "tuneproof_varlen"
FLEX: Final = "flex_attention"
POSITIONS: Final = "sdpa"

BLOCK: Final = 256
"""Queries at a time: keys after the last of them are not multiplied at all."""

_UNSUPPORTED: Final = ("softcap", "position_bias", "s_aux", "cache")
"""What some models pass to their attention and ours would leave out."""


def candidates(device: torch.device) -> tuple[str, ...]:
    """The ways to attend on the device, the fastest first; each as transformers' name for it.

    ``sdpa`` is PyTorch's own with a mask that transformers makes from restarting positions: right
    wherever it runs, and slow, since the mask spans the whole micro-batch. FlexAttention gets the
    same mask in blocks, and has to be compiled.
    """
    register()
    if device.type == "cuda":
        from transformers.utils.import_utils import is_flash_attn_2_available

        flash = ("flash_attention_2",) if is_flash_attn_2_available() else ()
        return (VARLEN, *flash, FLEX, POSITIONS)
    return (SEGMENTS, POSITIONS)


def register() -> None:
    """Make our ways known to transformers; a second time changes nothing."""
    from transformers import AttentionInterface

    for name, function in ((SEGMENTS, attend_segments), (VARLEN, attend_varlen)):
        AttentionInterface.register(name, function)


def _refuse_what_is_not_causal(module: torch.nn.Module, dropout: float, given: Any) -> None:
    extra = [name for name in _UNSUPPORTED if given.get(name) is not None]
    causal = given.get("is_causal")
    if causal is None:
        causal = getattr(module, "is_causal", True)
    if extra or dropout or not causal:
        what = ", ".join(extra) or ("dropout" if dropout else "attention in both directions")
        raise NotImplementedError(f"the model's attention uses {what}")
    if given.get("cu_seq_lens_q") is None:
        raise NotImplementedError("the batch does not say where its sequences begin")


def attend_segments(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **given: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention of each sequence by itself, with plain products, for a CPU.

    On a CPU these are faster than PyTorch's fused kernel at the lengths of instruction data
    (``docs/log.md``).

    Args:
        query: (1, heads, tokens, width); key and value: (1, groups, tokens, width).
        given: ``cu_seq_lens_q``, where each sequence begins, and the number of tokens.

    Returns:
        (1, tokens, heads, width).
    """
    _refuse_what_is_not_causal(module, dropout, given)
    groups, tokens, width = key.shape[1], key.shape[2], key.shape[3]
    shared = query.shape[1] // groups
    # Query heads that share a key are rows of one product.
    query = (query * scaling).view(groups, shared, tokens, width)
    ends: Sequence[int] = given["cu_seq_lens_q"].tolist()
    found = []
    for begin, end in pairwise(ends):
        k, v = key[0, :, begin:end].transpose(1, 2), value[0, :, begin:end]
        for a in range(0, end - begin, BLOCK):
            b = min(a + BLOCK, end - begin)
            q = query[:, :, begin + a : begin + b].reshape(groups, shared * (b - a), width)
            scores = torch.matmul(q, k[:, :, :b]).view(groups, shared, b - a, b)
            scores = scores + _mask(a, b, sliding_window, scores)
            # Computed in float32 inside and rounded once, as transformers' eager attention has it.
            p = torch.softmax(scores, dim=-1).view(groups, shared * (b - a), b)
            out = torch.matmul(p, v[:, :b]).view(groups * shared, b - a, width)
            found.append(out.transpose(0, 1))
    return torch.cat(found).unsqueeze(0), None


def _mask(a: int, b: int, window: int | None, like: torch.Tensor) -> torch.Tensor:
    """(b − a, b): 0 where the query at ``a + i`` may see the key at ``j``, else −∞."""
    mask = torch.full((b - a, b), float("-inf"), dtype=like.dtype, device=like.device)
    mask = mask.triu_(a + 1)
    if window is not None and b > window:
        mask += torch.full_like(mask, float("-inf")).tril_(a - window)
    return mask


def attend_varlen(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **given: Any,
) -> tuple[torch.Tensor, None]:
    """PyTorch's variable-length attention, for a GPU; arguments as in ``attend_segments``."""
    from torch.nn.attention.varlen import varlen_attn

    _refuse_what_is_not_causal(module, dropout, given)
    starts, longest = given["cu_seq_lens_q"], given["max_length_q"]
    window = (-1, 0) if sliding_window is None else (sliding_window - 1, 0)
    out = varlen_attn(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        starts,
        starts,
        longest,
        longest,
        scale=scaling,
        window_size=window,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(out, torch.Tensor)
    return out.unsqueeze(0), None
