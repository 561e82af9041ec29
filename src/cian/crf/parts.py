"""Pixels in parts, and threads that work on a part each.

Threads live for one call, and a worker process or thread gets one, so that forked and spawned workers are safe.
(numba's `parallel=True` is not: its OpenMP layer kills a process that forks after using it, as a DataLoader does.)
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeAlias

from cian.parallel import cores

PARTS = 2  # the same for any number of threads: the order of a sum, and so the result, does not depend on them

ForEachPart: TypeAlias = Callable[..., list[Any]]  # calls a function for each part, as `map` does


def bounds(start: int, stop: int) -> tuple[list[int], list[int]]:
    """Starts and ends of the parts of a range."""
    cuts = [start + (stop - start) * part // PARTS for part in range(PARTS + 1)]
    return cuts[:-1], cuts[1:]


def threads() -> int:
    """How many threads a call uses: one in a worker process or thread, whose siblings keep the other cores busy."""
    if multiprocessing.parent_process() is not None or threading.current_thread() is not threading.main_thread():
        return 1
    return min(cores(), PARTS)


def one_after_another(function: Callable[..., Any], *args: Any) -> list[Any]:
    """A `ForEachPart` that uses the calling thread alone."""
    return list(map(function, *args))


@contextmanager
def threaded() -> Iterator[ForEachPart]:
    """A `ForEachPart` that gives each part a thread."""
    count = threads()
    if count == 1:
        yield one_after_another
        return
    with ThreadPoolExecutor(count) as pool:
        yield lambda function, *args: list(pool.map(function, *args))
