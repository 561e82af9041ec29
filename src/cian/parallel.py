"""How many processor cores this process may keep busy, and work for them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """This process's share: the cores that it may run on, or that its container has the time of, divided by the
    processes that torchrun or accelerate started on this machine."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, _quota() or count) // int(os.environ.get("LOCAL_WORLD_SIZE") or 1))


def _quota() -> int | None:
    """The CPU quota of this process's container (cgroup version 2, or 1) in cores, rounded up; None without one."""
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = map(int, " ".join((CGROUP / name).read_text() for name in names).split())
        except (OSError, ValueError):  # not there; "max"
            continue
        if quota > 0:
            return -(-quota // period)
    return None


def map_ahead(
    pool: ThreadPoolExecutor, work: Callable[[Item], Result], items: Iterable[Item], depth: int = 64
) -> Iterator[Result]:
    """`work` of each item in order, at most `depth` of them under way."""
    pending: deque[Future[Result]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) >= depth:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()
