"""What a token says, by itself: spaces kept, bytes that are no character by their numbers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedTokenizerBase

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_REPLACED = "\N{REPLACEMENT CHARACTER}"


def token_texts(tokenizer: PreTrainedTokenizerBase, token_ids: Iterable[int]) -> dict[int, str]:
    """The text of each token as it stands inside a line.

    A token is decoded behind another one, since decoders drop the space at the start of a text.
    What is only a part of a character is written as its bytes (``<0xE2>``).
    """
    unique = sorted(set(token_ids))
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"]
    whole = tokenizer.batch_decode(
        [[*anchor, i] for i in unique], clean_up_tokenization_spaces=False
    )
    n_anchor = len(tokenizer.decode(anchor, clean_up_tokenization_spaces=False))
    pieces = tokenizer.convert_ids_to_tokens(unique)
    return {
        i: _text(text[n_anchor:], piece)
        for i, text, piece in zip(unique, whole, pieces, strict=True)
    }


def _text(decoded: str, piece: str | None) -> str:
    if piece is None:  # an id that the tokenizer does not know
        return "<unknown id>"
    if decoded and _REPLACED not in decoded:
        return decoded
    if _BYTE.fullmatch(piece):
        return piece
    codes = [_BYTES.get(c) for c in piece]
    if decoded and None not in codes:
        return "".join(f"<0x{code:02X}>" for code in codes)
    return piece


def _byte_alphabet() -> dict[str, int]:
    """The byte of each letter of byte-level vocabularies (GPT-2's and its descendants').

    Bytes that print in Latin-1 stand for themselves, the others for letters from U+0100 on.
    """
    themselves = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [b for b in range(0x100) if b not in themselves]
    alphabet = {chr(b): b for b in themselves}
    return alphabet | {chr(0x100 + n): b for n, b in enumerate(others)}


_BYTES = _byte_alphabet()

_SEEN = {" ": "␣", "\n": "⏎", "\t": "⇥", "\r": "␍"}


def seen(text: str) -> str:
    """A token's text with its white space made visible; what does not print is named: <U+00A0>."""
    return "".join(_SEEN.get(c) or (c if c.isprintable() else f"<U+{ord(c):04X}>") for c in text)
