"""Text that others wrote (questions, answers, judges' replies), made safe to look at.

What cannot be seen is made visible, what cannot be encoded is replaced. Escaping for HTML is the
template engine's work and escaping for Markdown that of ``markdown``; both run after this.
"""

from __future__ import annotations

import re

_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and line feed; DEL; C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # directions: they can reorder what is read
    "\u200b\u2028\u2029\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb"  # invisible or line-breaking
    "\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f]"  # no characters; tags
)
_SURROGATES = re.compile("[\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with its control characters shown as symbols and lone surrogates replaced.

    ``NUL`` becomes ``␀``, a right-to-left override ``⟨U+202E⟩``, a lone surrogate ``\ufffd``. Tab,
    line feed and what scripts and emoji need (joiners) stay; CR LF becomes LF.
    """
    return _CONTROLS.sub(_symbol, encodable(text.replace("\r\n", "\n")))


def encodable(text: str) -> str:
    """The text with lone surrogates replaced by ``\ufffd``: UTF-8 has no place for them."""
    return _SURROGATES.sub("\ufffd", text)


def _symbol(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"⟨U+{code:04X}⟩"
