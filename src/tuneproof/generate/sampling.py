"""Choosing the next token of each row, with randomness of the row's own.

A row's draws are named by what it answers, and one draw decides one token, so that no row's tokens
depend on which others are in its batch, or on the device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from tuneproof.recipe import rng

if TYPE_CHECKING:
    from collections.abc import Sequence

LIKELIEST: Final = 256
"""So many tokens are sorted first; all are only where these do not hold ``top_p``."""


class Sampler:
    """The rows' temperatures and draws. Temperature 0 is greedy, whatever ``top_p``."""

    def __init__(
        self,
        temperatures: Sequence[float],
        names: Sequence[Sequence[str | int]],
        *,
        seed: int,
        top_p: float,
    ) -> None:
        self._top_p = top_p
        self._temperatures = list(temperatures)
        self._draws = [
            rng(seed, "answer", *name) if t > 0 else None
            for t, name in zip(temperatures, names, strict=True)
        ]

    def choose(self, logits: torch.Tensor, rows: Sequence[int]) -> torch.Tensor:
        """A token for each of ``rows``, whose logits (rows, vocabulary) come in that order."""
        # Twice as fast as argmax on a CPU; of equal logits either takes one, always the same.
        chosen = logits.max(-1).indices
        drawn = [(i, row) for i, row in enumerate(rows) if self._temperatures[row] > 0]
        if not drawn:
            return chosen
        draws = []
        for _, row in drawn:
            own = self._draws[row]
            assert own is not None
            draws.append(own.random())
        places = torch.tensor([i for i, _ in drawn], device=logits.device)
        temperatures = [self._temperatures[row] for _, row in drawn]
        chosen[places] = sample(logits[places], temperatures, draws, top_p=self._top_p)
        return chosen


def sample(
    logits: torch.Tensor,
    temperatures: Sequence[float],
    draws: Sequence[float],
    *,
    top_p: float,
) -> torch.Tensor:
    """One token a row: where the row's draw falls in its cumulative distribution.

    With ``top_p`` below 1 that is the distribution over the likeliest tokens: the fewest that hold
    this probability together, likeliest first (nucleus sampling, Holtzman et al. 2020).

    Args:
        logits: (rows, vocabulary).
        temperatures: above 0, one a row.
        draws: uniform on [0, 1), one a row.
    """
    warmth = torch.tensor(temperatures, device=logits.device)[:, None]
    probabilities = torch.softmax(logits.float() / warmth, -1)
    u = torch.tensor(draws, dtype=torch.float64, device=logits.device)[:, None]
    if top_p >= 1:
        return _where(probabilities.double().cumsum(-1), u)
    found = probabilities.topk(min(LIKELIEST, probabilities.shape[-1]), dim=-1)
    chosen = _nucleus(found.values, found.indices, u, top_p)
    beyond = (found.values.double().sum(-1) < top_p).nonzero().flatten()
    if len(beyond):
        ordered = probabilities[beyond].sort(dim=-1, descending=True, stable=True)
        chosen[beyond] = _nucleus(ordered.values, ordered.indices, u[beyond], top_p)
    return chosen


def _nucleus(
    values: torch.Tensor, indices: torch.Tensor, u: torch.Tensor, top_p: float
) -> torch.Tensor:
    cumulative = values.double().cumsum(-1)
    inside = cumulative - values.double() < top_p
    last = inside.sum(-1, keepdim=True) - 1
    place = _where(cumulative, u, total=cumulative.gather(-1, last))
    return indices.gather(-1, torch.minimum(place[:, None], last)).squeeze(-1)


def _where(
    cumulative: torch.Tensor, u: torch.Tensor, total: torch.Tensor | None = None
) -> torch.Tensor:
    """The first place whose cumulative probability exceeds the draw."""
    total = cumulative[:, -1:] if total is None else total
    place = torch.searchsorted(cumulative, u * total, right=True).squeeze(-1)
    return place.clamp(max=cumulative.shape[-1] - 1)
