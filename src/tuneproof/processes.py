"""Being one of several processes that train together, started by torchrun or accelerate launch.

The first process runs the whole pipeline; the others wait for the stages that all take part in.
"""

from __future__ import annotations

import os


def rank() -> int:
    """Which process this is, over all machines; 0 where there is one."""
    return int(os.environ.get("RANK", "0"))


def local_rank() -> int:
    """Which process of this machine this is: the number of its GPU."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def count() -> int:
    """How many there are, over all machines."""
    return int(os.environ.get("WORLD_SIZE", "1"))
