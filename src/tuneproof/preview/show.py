"""A preview for people: in colour on a terminal, in words everywhere.

Every line says what its tokens are, so that nothing rests on colour alone. Between tokens stands a
blank; a space inside a token is ``␣``, a line feed ``⏎``, and the line ends there as the text does.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from tuneproof.preview.rows import Preview, PreviewRow, PreviewToken, Role
from tuneproof.preview.tokens import seen
from tuneproof.progress import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HEAD, AROUND, TAIL = 40, 14, 14
"""Tokens of a long row that are shown: at its start, to either side of every change, at its end."""

_STYLES = {
    "heading": "bold",
    "warning": "bold yellow",
    "quiet": "dim",
    "supervised": "green",
    "masked": "dim",
    "first": "dim",
    "cut": "red strike",
    "bos": "cyan",
    "eos": "bold magenta",
}
_LABELS = {
    Role.SUPERVISED: "supervised",
    Role.MASKED: "masked",
    Role.FIRST: "first",
    Role.CUT: "cut",
}
_LABEL_WIDTH = 24


@dataclass(frozen=True)
class Piece:
    """Text in one style; the plain form is the text alone."""

    text: str
    style: str = ""


Line = tuple[Piece, ...]


def preview_lines(preview: Preview, *, width: int, long: bool) -> list[Line]:
    """The whole preview, no line wider than ``width`` columns but for a single wide token.

    Args:
        long: show every token; else the middle of long stretches is left out, with its count.
    """
    lines: list[Line] = [*_legend(preview)]
    for row in preview.rows:
        lines += [(), *_heading(row, preview)]
        for tokens in _stretches(row.tokens, long=long):
            lines += _stretch(tokens, width)
    return lines


def plain(lines: Sequence[Line]) -> str:
    """The lines without colour."""
    return "\n".join("".join(p.text for p in line).rstrip() for line in lines)


def print_preview(preview: Preview, *, long: bool) -> None:
    """To standard output: rich decides whether there can be colour (terminal, ``NO_COLOR``)."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, emoji=False, markup=False)
    for line in preview_lines(preview, width=max(60, console.width), long=long):
        text = Text.assemble(*((p.text, _STYLES.get(p.style, "")) for p in line))
        text.rstrip()
        console.print(text, soft_wrap=True)


def _legend(preview: Preview) -> Iterator[Line]:
    yield (
        Piece(f"{printable(preview.name)}: {len(preview.rows)} of {preview.n_rows:,} rows of the "),
        Piece(f"{preview.split} split"),
    )
    yield (
        Piece(f"At most {preview.max_length:,} tokens ({preview.over_length}), loss on the "),
        Piece(f"{preview.loss_on}, EOS {'appended' if preview.append_eos else 'not appended'}."),
    )
    for name, style, meaning in (
        ("supervised", "supervised", "a target: predicted, counts in the loss"),
        ("masked", "masked", "read by the model, no target"),
        ("cut", "cut", "lost to the length limit, never seen"),
        ("BOS, first", "bos", "a row's first token: nothing before it, never predicted"),
        ("EOS learned, EOS masked", "eos", "the end: a target, or no target"),
    ):
        yield (Piece(f"  {name:<{_LABEL_WIDTH}}", style), Piece(meaning))
    yield (
        Piece("  A blank parts tokens; ␣ is a space, ⏎ a line feed, ⇥ a tab, <0xE2> a byte.", ""),
    )


def _heading(row: PreviewRow, preview: Preview) -> Iterator[Line]:
    yield (
        Piece(printable(row.id), "heading"),
        Piece(f" (line {row.line} of {row.split}): {', '.join(row.why)}"),
    )
    masked = row.n_tokens - row.n_supervised
    whole = f"{row.n_whole:,} cut to " if row.n_cut else ""
    yield (
        Piece(
            f"  {whole}{_count(row.n_tokens)}: {row.n_supervised:,} supervised, {masked:,} not; "
            f"the prompt is {_count(row.n_prompt)}"
        ),
    )
    for warning in _warnings(row, preview):
        yield (Piece(f"  ! {warning}", "warning"),)


def _warnings(row: PreviewRow, preview: Preview) -> Iterator[str]:
    if row.left_out:
        yield f"left out of training: {row.left_out}"
    if row.n_cut:
        how = "taken from the context" if row.context_shortened else "cut off"
        lost = "; the whole response is lost" if row.response_lost else ""
        yield f"{_count(row.n_cut)} {how} to fit {preview.max_length:,}{lost}"
    if not row.prompt_matches:
        yield (
            f"the prompt's tokens differ from those asked at inference after token {row.n_prompt:,}"
        )
    ends = [t for t in row.tokens if t.role is Role.EOS]
    if not ends or not ends[-1].target:
        yield "no EOS is learned here: " + (
            "the collator masks it with the padding" if ends else "the row does not end with one"
        )


def _count(n: int) -> str:
    return f"{n:,} token{'s' if n != 1 else ''}"


# --- tokens ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """Neighbours of one part and role; ``left_out`` counts tokens that are not shown instead."""

    part: str
    label: str
    style: str
    texts: tuple[str, ...] = ()
    left_out: int = 0


def _stretches(tokens: Sequence[PreviewToken], *, long: bool) -> Iterator[_Stretch]:
    shown = [True] * len(tokens) if long else _shown(tokens)
    keyed = [(t.part, _label(t), t.role.value, s) for t, s in zip(tokens, shown, strict=True)]
    at = 0
    for (part, label, style, is_shown), group in groupby(keyed):
        n = len(list(group))
        texts = tuple(seen(t.text) for t in tokens[at : at + n])
        at += n
        if is_shown:
            yield _Stretch(part=part, label=label, style=style, texts=texts)
        else:
            yield _Stretch(part=part, label=label, style=style, left_out=n)


def _label(token: PreviewToken) -> str:
    if token.role is Role.EOS:
        return "EOS learned" if token.target else "EOS masked"
    if token.role is Role.BOS:
        return "BOS learned" if token.target else "BOS"
    return _LABELS[token.role]


def _shown(tokens: Sequence[PreviewToken]) -> list[bool]:
    """Which tokens are shown: start, end, and what lies near a change; no gap of a few tokens."""
    n = len(tokens)
    keys = [(t.part, t.role) for t in tokens]
    changes = [i for i in range(1, n) if keys[i] != keys[i - 1]]
    shown = [i < HEAD or i >= n - TAIL for i in range(n)]
    for change in changes:
        for i in range(max(0, change - AROUND), min(n, change + AROUND)):
            shown[i] = True
    start = 0
    for is_shown, group in groupby(list(shown)):
        length = len(list(group))
        if not is_shown and length <= AROUND:
            shown[start : start + length] = [True] * length
        start += length
    return shown


def _stretch(stretch: _Stretch, width: int) -> Iterator[Line]:
    from rich.cells import cell_len

    label = f"  {stretch.part:<9} {stretch.label:<11}"
    label += " " * (_LABEL_WIDTH - len(label))
    if stretch.left_out:
        yield (Piece(label), Piece(f"… {_count(stretch.left_out)} …", "quiet"))
        return
    line: list[str] = []
    used = 0
    for text in stretch.texts:
        n = cell_len(text) + 1
        if line and _LABEL_WIDTH + used + n > width:
            yield (Piece(label), Piece(" ".join(line), stretch.style))
            label, line, used = " " * _LABEL_WIDTH, [], 0
        line.append(text)
        used += n
        if text.endswith("⏎"):
            yield (Piece(label), Piece(" ".join(line), stretch.style))
            label, line, used = " " * _LABEL_WIDTH, [], 0
    if line:
        yield (Piece(label), Piece(" ".join(line), stretch.style))
