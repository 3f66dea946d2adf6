"""What a report is made with, as a digest: with other code or other templates it is another report.

A report is made in seconds, so it is made again rather than a number raised by hand.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

_MADE_BY = ("report", "stats")


@functools.cache
def code_digest(package: Path = Path(__file__).parents[1]) -> str:
    """SHA-256 of the names and bytes of the code that computes and writes reports, templates, style
    and script included."""
    digest = hashlib.sha256()
    for room in _MADE_BY:
        for path in sorted((package / room).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                raw = path.read_bytes()
                digest.update(f"{path.relative_to(package).as_posix()} {len(raw)}\n".encode())
                digest.update(raw)
    return digest.hexdigest()
