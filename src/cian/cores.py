"""How many processor cores this process may keep busy."""

from __future__ import annotations

import os


def cores() -> int:
    """This process's share: the cores that it may run on, divided by the processes that torchrun or accelerate started
    on this machine."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, count // int(os.environ.get("LOCAL_WORLD_SIZE") or 1))
