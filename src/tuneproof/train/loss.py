"""The loss at supervised positions, without the logits of a whole batch.

A causal model's own forward multiplies its last hidden states with the vocabulary and then computes
the loss. Here it is told to keep the supervised positions alone, its head becomes a pass-through,
and its loss function gets the hidden states: they meet the vocabulary a few rows at a time. All of
it happens inside the model's forward, so that what wraps the model sees it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel

LossWay = Literal["chunked", "supervised logits"]

CHUNK: Final = 256
"""Rows that meet the vocabulary at a time: on a CPU the fastest of 64 to 512; a GPU takes more."""

CHUNK_ON_GPU: Final = 1024


def linear_nll(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood of each target under softmax(hidden · weightᵀ), in float32.

    ``weight`` must be frozen: the gradient of ``hidden`` is computed with the loss, chunk by chunk,
    and nothing of the size of the vocabulary is kept (the idea is Liger's fused linear
    cross-entropy and torchtune's chunked one).

    Args:
        hidden: (n, width). weight: (vocabulary, width). targets: (n,).

    Returns:
        (n,).

    Raises:
        ValueError: there are not as many hidden states as targets.
        NotImplementedError: ``weight`` is trained.
    """
    if len(hidden) != len(targets):
        raise ValueError(f"{len(hidden)} hidden states for {len(targets)} targets")
    if weight.requires_grad and torch.is_grad_enabled():
        raise NotImplementedError("the head is trained")
    if torch.is_autocast_enabled(hidden.device.type):
        hidden = hidden.to(torch.get_autocast_dtype(hidden.device.type))
    return cast("torch.Tensor", _LinearNll.apply(hidden, weight.to(hidden.dtype), targets))  # type: ignore[no-untyped-call]


class _LinearNll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
    ) -> torch.Tensor:
        n = len(targets)
        nll = torch.empty(n, dtype=torch.float32, device=hidden.device)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        rows = max(1, min(n, CHUNK_ON_GPU if hidden.is_cuda else CHUNK))
        # Made once and written over: new memory for each chunk costs a CPU a quarter of the time.
        logits = torch.empty(rows, len(weight), dtype=hidden.dtype, device=hidden.device)
        exact = logits.float()
        for a in range(0, n, rows):
            b = min(a + rows, n)
            wanted, chunk, log_p = targets[a:b, None], logits[: b - a], exact[: b - a]
            torch.mm(hidden[a:b], weight.T, out=chunk)
            log_p.copy_(chunk)
            torch.log_softmax(log_p, dim=1, out=log_p)
            nll[a:b] = -log_p.gather(1, wanted)[:, 0]
            if gradient is not None:
                # Of the loss with respect to the logits: p, less one at the target.
                slope = log_p.exp_()
                slope.scatter_add_(1, wanted, torch.full_like(slope[:, :1], -1.0))
                chunk.copy_(slope)
                torch.mm(chunk, weight, out=gradient[a:b])
        ctx.save_for_backward(gradient)
        return nll

    @staticmethod
    def backward(ctx: Any, nll_gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * nll_gradient[:, None].to(gradient.dtype), None, None


class _PassThrough(torch.nn.Module):
    """In place of a model's head: hidden states in, hidden states out."""

    def __init__(self, head: torch.nn.Linear) -> None:
        super().__init__()
        self.head = head

    @property
    def weight(self) -> torch.Tensor:
        """The head's own, which some models tie to their embeddings."""
        return self.head.weight

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Nothing is done."""
        return hidden


def loss_ways(model: PreTrainedModel) -> tuple[LossWay, ...]:
    """The ways to compute the model's loss, the fastest first.

    ``chunked`` where the head is a frozen linear map and nothing is known to come after it;
    anywhere ``supervised logits``: the model's own head, at supervised positions alone.
    """
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    plain = type(head) is torch.nn.Linear and head.bias is None and not head.weight.requires_grad
    capped = getattr(model.config, "final_logit_softcapping", None)
    own: tuple[LossWay, ...] = ("supervised logits",)
    return ("chunked", *own) if plain and not capped else own


@contextlib.contextmanager
def loss_inside(model: PreTrainedModel, way: LossWay) -> Iterator[None]:
    """For as long as the context lasts, the model's forward computes the loss in that way.

    The forward then takes ``labels`` (1, n), the targets at the positions ``logits_to_keep`` (n,),
    and either ``num_items_in_batch``, by which the summed loss is divided, or
    ``each=True`` for a loss of shape (n,).
    """
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]

    def loss(
        logits: torch.Tensor,
        labels: torch.Tensor,
        vocab_size: int,
        *,
        num_items_in_batch: float | None = None,
        each: bool = False,
        **_: Any,
    ) -> torch.Tensor:
        rows, targets = logits.flatten(0, 1), labels.flatten()
        if way == "chunked":
            nll = linear_nll(rows, head.weight, targets)
        else:
            nll = functional.cross_entropy(rows.float(), targets, reduction="none")
        if each:
            return nll
        assert num_items_in_batch is not None
        # An empty micro-batch has no target: its loss is 0 and still has a gradient, which is 0.
        return nll.sum() / num_items_in_batch

    had_own = "_loss_function" in vars(model)
    before = vars(model).get("_loss_function")
    model.loss_function = loss
    if way == "chunked":
        assert isinstance(head, torch.nn.Linear)
        model.set_output_embeddings(_PassThrough(head))  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.set_output_embeddings(head)  # type: ignore[no-untyped-call]
        if had_own:
            model.loss_function = before
        else:
            del model._loss_function
