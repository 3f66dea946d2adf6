"""From text to token ids, for training and for inference: the one prompt builder.

A prompt's ids are the tokenizer's ids of the prompt text, special tokens included (a tokenizer that
adds BOS adds it here and nowhere else). A training row's ids are those of the *whole* text, as the
reference has it; its prompt part is then compared with the prompt's own ids, and a row where they
differ (a tokenizer may merge across the boundary) is counted, never passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tuneproof.data.prepare import template_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.templates import Template
    from tuneproof.records import Example

IGNORED = -100
"""The label that PyTorch's cross-entropy leaves out."""


@dataclass(frozen=True, kw_only=True)
class EncodedRow:
    """One training row.

    ``token_ids`` has the cut row; ``supervised`` is the half-open range of positions whose token is
    a target. ``n_prompt`` and ``n_whole`` count tokens before cutting.
    """

    token_ids: tuple[int, ...]
    supervised: tuple[int, int]
    n_prompt: int
    n_whole: int
    ends_with_eos: bool
    prompt_matches: bool

    @property
    def was_cut(self) -> bool:
        """Whether tokens were lost to ``max_length``."""
        return self.n_whole > len(self.token_ids)

    @property
    def response_lost(self) -> bool:
        """Whether no token of the response is left."""
        return len(self.token_ids) <= self.n_prompt

    @property
    def n_targets(self) -> int:
        """Tokens that are predicted and count; the very first token of a row never is."""
        return max(0, self.supervised[1] - max(self.supervised[0], 1))

    @property
    def labels(self) -> list[int]:
        """``token_ids`` with positions outside ``supervised`` ignored."""
        start, end = self.supervised
        return [t if start <= i < end else IGNORED for i, t in enumerate(self.token_ids)]


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, template: Template, asked: Sequence[tuple[str, str]]
) -> list[list[int]]:
    """Token ids of the prompts for (instruction, context) pairs."""
    return _ids(tokenizer, [template.prompt(i, c) for i, c in asked])


def encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    examples: Sequence[Example],
    *,
    max_length: int | None,
    append_eos: bool,
    loss_on: Literal["text", "response"],
) -> list[EncodedRow]:
    """Training rows of the examples, in order.

    EOS is appended only to a row that fits with it: a row that was cut does not end, and must not
    teach that it does. With ``max_length`` None nothing is cut (held-out loss).
    """
    prompts = encode_prompts(tokenizer, template, [(e.instruction, e.context) for e in examples])
    wholes = _ids(tokenizer, [template_text(template, e) for e in examples])
    return [
        _row(p, w, tokenizer.eos_token_id, max_length, append_eos, loss_on)
        for p, w in zip(prompts, wholes, strict=True)
    ]


def response_ends(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    examples: Sequence[Example],
    rows: Sequence[EncodedRow],
) -> list[int]:
    """For each uncut row, the position where its response's text ends and the suffix begins.

    A token that merges the response's end with the suffix counts as suffix, so that the held-out
    loss is of response tokens only.
    """
    texts = [template_text(template, e).removesuffix(template.suffix) for e in examples]
    return [
        _common_prefix(body, list(row.token_ids))
        for body, row in zip(_ids(tokenizer, texts), rows, strict=True)
    ]


def _row(
    prompt: list[int],
    whole: list[int],
    eos: int,
    max_length: int | None,
    append_eos: bool,
    loss_on: Literal["text", "response"],
) -> EncodedRow:
    n_prompt = _common_prefix(prompt, whole)
    n_whole = len(whole) + append_eos
    limit = n_whole if max_length is None else max_length
    fits = n_whole <= limit
    ids = (*whole, eos) if append_eos and fits else tuple(whole[:limit])
    start = 0 if loss_on == "text" else n_prompt
    return EncodedRow(
        token_ids=ids,
        supervised=(min(start, len(ids)), len(ids)),
        n_prompt=n_prompt,
        n_whole=n_whole,
        ends_with_eos=append_eos and fits,
        prompt_matches=n_prompt == len(prompt),
    )


def _common_prefix(left: list[int], right: list[int]) -> int:
    if right[: len(left)] == left:  # the usual case, at C speed
        return len(left)
    n = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        n += 1
    return n


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    if not texts:
        return []
    encoded = tokenizer(
        list(texts), add_special_tokens=True, return_attention_mask=False, verbose=False
    )
    return encoded["input_ids"]  # type: ignore[no-any-return]
