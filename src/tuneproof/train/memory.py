"""Giving memory back to the system.

On a CPU, tensors of changing sizes leave the C library's heap full of holes: SmolLM2-135M grew from
2.4 to 3.9 GB over 160 steps whose largest needs 2.4. Asking the library to return what is free
costs milliseconds and changes no result.
"""

from __future__ import annotations

import ctypes
import functools
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def return_freed_memory() -> None:
    """Collect garbage and hand free pages back; does nothing more where there is no glibc."""
    gc.collect()
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None
