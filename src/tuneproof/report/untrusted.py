"""Text that others wrote (questions, answers, judges' replies), made safe to look at.

What cannot be seen is made visible, what cannot be encoded is replaced; for Markdown it is escaped
or fenced after that. Escaping for HTML is the template engine's work.
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
_MARKUP = re.compile(r"[\\`*\[\]<>|~$&]|(?<![^\W_])_|_(?![^\W_])")
_BLOCK_START = re.compile(r"^([#+\-=>:~]|\d+(?=[.)]))")


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


# --- in Markdown -----------------------------------------------------------------------------


def cell(text: str) -> str:
    """Text for a table's cell: no markup in it takes effect, line feeds become spaces."""
    line = " ".join(visible(text).split())
    return _MARKUP.sub(lambda m: {"<": "&lt;", "&": "&amp;"}.get(m[0], "\\" + m[0]), line)


def inline(text: str) -> str:
    """Text for a line of its own: as ``cell``, and it begins no block either."""
    return _BLOCK_START.sub(lambda m: m[0] + "\\" if m[0].isdigit() else "\\" + m[0], cell(text))


def fence(text: str, *, language: str = "text") -> str:
    """A fenced block that the text cannot end."""
    text = visible(text)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{text}\n{ticks}"
