"""Where a text runs on into the template: the lines that begin a section, and the cut before them.

A base model that never learned to stop writes the template's next heading and goes on with a
question of its own. Where that begins, its answer ends: for an opponent at its best while it
generates, and for any answer when it is judged again without what came after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuneproof.data.templates import Template


def section_starts(template: Template) -> tuple[str, ...]:
    """The lines of the template's own that begin its sections, each after a line feed.

    What a template writes between its fields is a marker where it holds a letter or a digit; a
    template without any has no markers.
    """
    literals = [*template.pieces[::2], *template.pieces_without_context[::2], template.suffix]
    lines = (line.strip() for literal in literals for line in literal.splitlines())
    markers = dict.fromkeys(line for line in lines if len(line) > 1 and any(map(str.isalnum, line)))
    return tuple(f"\n{marker}" for marker in markers)


def first_marker(text: str, markers: Sequence[str]) -> int | None:
    """Where the first of the markers begins in an answer; None where none does.

    An answer's beginning counts as the beginning of a line.
    """
    begun = "\n" + text
    found = [i for i in (begun.find(marker) for marker in markers) if i >= 0]
    return max(0, min(found) - 1) if found else None
