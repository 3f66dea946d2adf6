"""Giving memory back to the system, and how much was taken.

On a CPU, tensors of changing sizes leave the C library's heap full of holes: a training that needs
2.4 GB at its largest step took 3.9 after 160 of them. Asking the library to return what is free
costs milliseconds and changes no result.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def trim_heap() -> None:
    """Hand free pages back to the system; does nothing where there is no glibc."""
    trim = _trim()
    if trim is not None:
        trim(0)


def return_freed_memory() -> None:
    """Collect garbage, and give back what is free here and on the GPU: between pieces of work."""
    gc.collect()
    trim_heap()
    if "torch" in sys.modules:
        import torch

        torch.cuda.empty_cache()


def peak_memory_gib() -> float:
    """The most memory so far: of the GPU where there is one, else of this process."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in KiB, macOS in bytes.
    return float(most) / (2**30 if sys.platform == "darwin" else 2**20)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None
