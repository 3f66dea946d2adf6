"""What computes: the device and the machine around it, in words. Loads torch where it is asked."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path


def describe_device() -> str:
    """The device that computed: the GPU's name, or the CPU's thread count."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    n = torch.get_num_threads()
    return f"cpu, {n} thread{'' if n == 1 else 's'}"


def describe_hardware() -> dict[str, str]:
    """The machine's parts by name, with sizes in GiB; what the system does not tell is left out."""
    import torch

    found = {}
    if torch.cuda.is_available():
        memory = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        found["GPU memory"] = f"{memory / 2**30:.1f} GiB"
        found["CUDA"] = str(torch.version.cuda or "none")
    cpu = _cpu_model()
    if cpu:
        found["CPU"] = f"{cpu}, {os.cpu_count()} logical cores"
    with contextlib.suppress(AttributeError, OSError, ValueError):  # not every system counts pages
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        found["Memory"] = f"{memory / 2**30:.1f} GiB"
    return found


def _cpu_model() -> str:
    """As Linux names it, else as Python does; empty where neither knows."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return " ".join(value.split())
    return platform.processor()
