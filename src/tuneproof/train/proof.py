"""Which way of packing is right for a model, found out on the model itself before it is trained.

A way is an attention and a loss (``packed.Packing``). The first that ``prove`` finds right is
taken; what only sequences too long for a proof would show is refused by the model's configuration.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import torch

from tuneproof.train.attention import candidates
from tuneproof.train.loss import loss_ways
from tuneproof.train.packed import Packing, base_of, micro_batch, packed_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from peft import PeftModel
    from transformers import PreTrainedConfig

    from tuneproof.train.packed import Feature


def choose_packing(
    model: PeftModel, features: Sequence[Feature], *, longest: int
) -> Packing | tuple[str, ...]:
    """The fastest way that ``prove`` finds right for this model; else why none is.

    Args:
        features: the first of the rows; two are enough.
        longest: tokens of the longest row that there may be.
    """
    base = base_of(model)
    unfit = depends_on_the_batch(base.config, longest=longest)
    if unfit is not None:
        return (unfit,)
    refused: list[str] = []
    for attention in candidates(_weights(model).device):
        of_losses: list[str] = []
        for loss in loss_ways(base):
            packing = Packing(attention=attention, loss=loss, passed_over=(*refused, *of_losses))
            try:
                problem = prove(model, packing, features, longest=longest)
            except (NotImplementedError, ImportError, RuntimeError, ValueError, TypeError) as error:
                problem = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if problem is None:
                return packing
            of_losses.append(f"{attention}, loss {loss}: {problem}")
        # Wrong with the model's own head too, it is the attention's fault.
        refused.append(f"{attention}: {problem}")
    return tuple(refused)


def depends_on_the_batch(config: PreTrainedConfig, *, longest: int) -> str | None:
    """Why a sequence would be computed otherwise beside others than alone; None if it would not.

    What only shows in sequences longer than a proof can afford: Llama 4 cuts its attention where a
    row's chunks end, not a sequence's; and two kinds of rotary positions change their frequencies
    with the longest position of the whole batch, once it is beyond a length.
    """
    text = config.get_text_config()
    chunk = getattr(text, "attention_chunk_size", None)
    if chunk:
        return f"the model attends in chunks of {chunk:,} tokens, wherever a sequence begins"
    rope = getattr(text, "rope_parameters", None) or {}
    # Of the whole model, or of each type of layer.
    for one in [rope, *(v for v in rope.values() if isinstance(v, dict))]:
        kind = str(one.get("rope_type"))
        if kind not in ("dynamic", "longrope"):
            continue
        until = one.get("original_max_position_embeddings") or text.max_position_embeddings
        if longest > until:
            return (
                f"the model's rotary positions ({kind}) depend on the longest sequence of a batch "
                f"beyond {until:,} tokens, and a row may have {longest:,}"
            )
    return None


PROBE_TOKENS = 48
"""Of each of two rows: enough for several words of both."""

PROBE_NOISE = 0.01
"""Standard deviation of the B matrices in the proof: with B = 0 the adapter would add nothing."""

TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2}
"""Relative difference in a sequence's loss that rounding explains; a leak or a wrong position
gives much more, on a model that has learned anything."""


def prove(
    model: PeftModel, packing: Packing, features: Sequence[Feature], *, longest: int
) -> str | None:
    """Pack two sequences in that way; None if that is right for this model, else what is not.

    Three things are asked. What stands in one sequence must not change a bit of the other's loss.
    The loss must be the model's own of each sequence alone. And a training step's gradient must be
    there, and finite. The sequences are short, but longer than a sliding window that is shorter
    than ``longest``. The model is left as it was, and no random number is drawn.
    """
    first, second = _probes(model, features, longest=longest)
    changed = [*first[::-1]]
    if changed == first:
        changed = [*first[:-1], first[-1] + 1 if first[-1] == 0 else first[-1] - 1]
    was_training = model.training
    with _noise_in_the_adapter(model):
        model.eval()
        try:
            alone = [_own_loss(model, i) for i in (first, second)]
            with packed_model(model, packing):
                one, two = _packed_losses(model, [first, second])
                _, beside_another = _packed_losses(model, [changed, second])
                second_first, _ = _packed_losses(model, [second, changed])
                model.train()
                finite = _has_finite_gradient(model, [first, second])
        finally:
            model.train(was_training)
    if not torch.equal(two, beside_another):
        return "what stands in one sequence changes the loss of the next"
    tolerance = TOLERANCE[_weights(model).dtype]
    for own, found in (*zip(alone, (one, two), strict=True), (alone[1], second_first)):
        if not abs(found.mean().item() - own) <= tolerance * max(1.0, abs(own)):
            return (
                f"the loss of a packed sequence is {found.mean().item():.4f} and that of the same "
                f"sequence alone {own:.4f}"
            )
    return None if finite else "the gradient of a training step is no finite number"


def _probes(
    model: PeftModel, features: Sequence[Feature], *, longest: int
) -> tuple[list[int], list[int]]:
    """The beginnings of two rows, repeated where they are shorter than a window asks for."""
    window = getattr(base_of(model).config.get_text_config(), "sliding_window", None)
    least = 2
    if window and window < longest:
        least = min(longest, window + PROBE_TOKENS)
    found = []
    for feature in [*features, *features][:2]:
        ids = feature["input_ids"][: max(least, PROBE_TOKENS)]
        found.append((ids * -(-least // len(ids)))[: max(least, len(ids))])
    return found[0], found[1]


@contextlib.contextmanager
def _noise_in_the_adapter(model: PeftModel) -> Iterator[None]:
    """Small numbers in the B matrices, which begin as 0, and what was there afterwards."""
    draw = torch.Generator().manual_seed(0)
    matrices = [p for n, p in model.named_parameters() if "lora_B" in n]
    before = [p.detach().clone() for p in matrices]
    with torch.no_grad():
        for p in matrices:
            p.add_(PROBE_NOISE * torch.randn(p.shape, generator=draw).to(p))
    try:
        yield
    finally:
        with torch.no_grad():
            for p, b in zip(matrices, before, strict=True):
                p.copy_(b)


def _weights(model: PeftModel) -> torch.Tensor:
    """One of the base model's weights: the type and the device that it computes with."""
    return next(p for n, p in model.named_parameters() if "lora_" not in n)


def _autocast(model: PeftModel) -> Any:
    weights = _weights(model)
    bf16 = weights.dtype == torch.bfloat16
    return torch.autocast(weights.device.type, torch.bfloat16, enabled=bf16)


def _own_loss(model: PeftModel, ids: Sequence[int]) -> float:
    tensor = torch.tensor([list(ids)], device=_weights(model).device)
    with torch.no_grad(), _autocast(model):
        return float(model(input_ids=tensor, labels=tensor, use_cache=False).loss)


def _probe_batch(model: PeftModel, ids: Sequence[Sequence[int]]) -> dict[str, Any]:
    batch = micro_batch([{"input_ids": list(i), "labels": list(i)} for i in ids])
    device = _weights(model).device
    return {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in batch.items()}


def _packed_losses(model: PeftModel, ids: Sequence[Sequence[int]]) -> Sequence[torch.Tensor]:
    with torch.no_grad(), _autocast(model):
        nll = model(**_probe_batch(model, ids), each=True).loss
    return nll.split([len(i) - 1 for i in ids])  # type: ignore[no-any-return]


def _has_finite_gradient(model: PeftModel, ids: Sequence[Sequence[int]]) -> bool:
    """Of a training step, dropout included; the gradients that the parameters hold stay theirs."""
    device = _weights(model).device
    trained = [p for p in model.parameters() if p.requires_grad]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        with _autocast(model):
            loss = model(**_probe_batch(model, ids), num_items_in_batch=sum(map(len, ids))).loss
        found = torch.autograd.grad(loss, trained, allow_unused=True)
    return all(bool(torch.isfinite(g).all()) for g in found if g is not None)
