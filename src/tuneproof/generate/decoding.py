"""The decoding loop: prompts in, tokens out; rows that are done leave the batch.

How rows are kept in the model is left to ``rows``, the choice of a token to ``sampling``, and what
the tokens say to ``transformers_backend``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from tuneproof.generate.rows import open_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from transformers import PreTrainedModel

    from tuneproof.generate.sampling import Sampler

LEAVE: Final = 8
"""Rows leave when one in so many is done: the others' keys and values are copied once then."""


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    sampler: Sampler,
    *,
    max_new_tokens: int,
    ends: Collection[int],
    stopped: Callable[[Sequence[list[int]]], Sequence[bool]] | None = None,
    on_tokens: Callable[[int], None] = lambda _: None,
) -> list[list[int]]:
    """The tokens that follow each prompt, the token that ended an answer included.

    Args:
        sampler: its rows are the prompts.
        ends: tokens that end an answer.
        stopped: of answers so far, which of them something else has ended.
        on_tokens: hears at each step how many tokens came.
    """
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    said: list[list[int]] = [[] for _ in prompts]
    rows = open_rows(model, max_new_tokens)
    logits = rows.read([prompts[i] for i in order])
    live, done = order, [False] * len(order)
    while True:
        tokens = sampler.choose(logits, live)
        # Rows that are done go on until they leave, unheard.
        n_heard = done.count(False)
        for place, token in enumerate(tokens.tolist()):
            if not done[place]:
                said[live[place]].append(token)
                done[place] = token in ends or len(said[live[place]]) == max_new_tokens
        on_tokens(n_heard)
        heard = [place for place, is_done in enumerate(done) if not is_done]
        if stopped is not None and heard:
            for place, stop in zip(heard, stopped([said[live[p]] for p in heard]), strict=True):
                done[place] = stop
        n_done = sum(done)
        if n_done == len(live):
            return said
        if n_done * LEAVE >= len(live):
            stay = [place for place, is_done in enumerate(done) if not is_done]
            rows.keep(stay)
            tokens = tokens[torch.tensor(stay, device=tokens.device)]
            live, done = [live[place] for place in stay], [False] * len(stay)
        logits = rows.step(tokens)
