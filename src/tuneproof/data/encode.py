"""From text to token ids, for training and for inference: the one prompt builder.

A prompt's ids are the tokenizer's ids of the prompt text, special tokens included (a tokenizer that
adds BOS adds it here and nowhere else). A training row's ids are those of the *whole* text, as the
reference has it; its prompt part is then compared with the prompt's own ids, and a row where they
differ (a tokenizer may merge across the boundary) is counted, never passed over.

Tokens of many texts can be kept in a folder under a digest of tokenizer and texts, since a large
data set takes seconds to tokenize and is tokenized again by every run.
"""

from __future__ import annotations

import io
import itertools
import math
import zipfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from tuneproof.data.prepare import template_text
from tuneproof.workspace import digest_value, write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

    from tuneproof.data.templates import Template
    from tuneproof.records import Example

IGNORED = -100
"""The label that PyTorch's cross-entropy leaves out."""


OverLength = Literal["cut", "shorten-context", "drop"]


@dataclass(frozen=True, kw_only=True)
class EncodedRow:
    """One training row.

    ``token_ids`` has the cut row; ``supervised`` is the half-open range of positions whose token is
    a target. ``n_prompt`` and ``n_whole`` count tokens before cutting; where the context was
    shortened, ``n_prompt`` is of the shortened prompt and ``n_whole`` still of the row as it was.
    """

    token_ids: tuple[int, ...]
    supervised: tuple[int, int]
    n_prompt: int
    n_whole: int
    ends_with_eos: bool
    prompt_matches: bool
    context_shortened: bool = False

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
    return token_ids(tokenizer, [template.prompt(i, c) for i, c in asked])


def encode_rows(
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    examples: Sequence[Example],
    *,
    max_length: int | None,
    append_eos: bool,
    loss_on: Literal["text", "response"],
    over_length: OverLength = "cut",
    cache: Path | None = None,
) -> list[EncodedRow]:
    """Training rows of the examples, in order.

    EOS is appended only to a row that fits with it: a row that was cut does not end, and must not
    teach that it does. With ``max_length`` None nothing is cut (held-out loss).

    Args:
        over_length: what becomes of a row that does not fit: ``shorten-context`` takes from its
            context as much as it must, so that the response stays whole where that is possible;
            the others cut its end (and the caller drops it, for ``drop``).
        cache: a folder for tokens that were counted before; None keeps nothing.
    """

    def encode(rows: Sequence[Example], kept: Path | None) -> list[EncodedRow]:
        prompts = token_ids(
            tokenizer, [template.prompt(e.instruction, e.context) for e in rows], cache=kept
        )
        wholes = token_ids(tokenizer, [template_text(template, e) for e in rows], cache=kept)
        return [
            _row(p, w, tokenizer.eos_token_id, max_length, append_eos, loss_on)
            for p, w in zip(prompts, wholes, strict=True)
        ]

    encoded = encode(examples, cache)
    if over_length == "shorten-context" and max_length is not None:
        todo = {i: examples[i] for i, r in enumerate(encoded) if r.was_cut and examples[i].context}
        whole = {i: encoded[i].n_whole for i in todo}
        while todo:
            contexts = token_ids(tokenizer, [e.context for e in todo.values()])
            todo = {
                i: _with_less_context(e, len(ids), encoded[i].n_whole - max_length)
                for (i, e), ids in zip(todo.items(), contexts, strict=True)
            }
            for i, row in zip(todo, encode(list(todo.values()), None), strict=True):
                encoded[i] = row
            todo = {i: e for i, e in todo.items() if encoded[i].was_cut and e.context}
        for i, n in whole.items():
            encoded[i] = replace(encoded[i], n_whole=n, context_shortened=True)
    return encoded


def _with_less_context(example: Example, n_tokens: int, excess: int) -> Example:
    """The example with the end of its context taken off, ``excess`` of the context's tokens long.

    A token is taken to be as long as the context's mean one, so that it may take another round.
    """
    n_characters = len(example.context)
    taken = max(1, math.ceil(excess * n_characters / n_tokens))
    kept = example.context[: max(0, n_characters - taken)]
    # The last word may have been cut in two.
    kept = kept.rpartition(" ")[0] if " " in kept else kept
    return example.model_copy(update={"context": kept.rstrip()})


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
        for body, row in zip(token_ids(tokenizer, texts), rows, strict=True)
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


def token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, cache: Path | None = None
) -> list[list[int]]:
    """The tokenizer's ids of each text, special tokens included, nothing cut.

    Args:
        cache: a folder in which the ids are kept under a digest of tokenizer and texts.
    """
    if not texts:
        return []
    if not tokenizer.is_fast:
        encoded = tokenizer(list(texts), return_attention_mask=False, verbose=False)
        return encoded["input_ids"]  # type: ignore[no-any-return]
    backend = tokenizer.backend_tokenizer
    # A tokenizer's file may ask for both; whoever needs them cuts and pads for himself.
    backend.no_truncation()
    backend.no_padding()
    if cache is None:
        # The library's own call also tracks where each token stands in the text, for a third more.
        return [e.ids for e in backend.encode_batch_fast(list(texts))]
    return _kept_ids(backend, texts, cache)


KEPT_FILES = 24
"""Files of tokens that are kept: a run of three splits writes six."""


def _kept_ids(backend: Tokenizer, texts: Sequence[str], cache: Path) -> list[list[int]]:
    """The ids from the cache, or counted and put there."""
    import numpy as np

    key = digest_value([backend.to_str(), list(texts)])
    file = cache / f"{key}.npz"
    try:
        with file.open("rb") as raw, np.load(raw) as kept:
            ids, ends = kept["ids"], kept["ends"]
        file.touch()
        flat, cuts = ids.tolist(), [0, *ends.tolist()]
        return [flat[a:b] for a, b in itertools.pairwise(cuts)]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        pass  # not there, or torn by a full disk: counted again
    found = [e.ids for e in backend.encode_batch_fast(list(texts))]
    try:
        content = io.BytesIO()
        np.savez(
            content,
            ids=np.fromiter(itertools.chain.from_iterable(found), dtype=np.int32),
            ends=np.cumsum([len(ids) for ids in found], dtype=np.int64),
        )
        write_atomic(file, content.getvalue())
        oldest_first = sorted(cache.glob("*.npz"), key=lambda p: p.stat().st_mtime)
        for old in oldest_first[:-KEPT_FILES]:
            old.unlink(missing_ok=True)
    except OSError:
        pass  # a cache that cannot be written is no reason to fail
    return found
