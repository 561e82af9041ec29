"""How many cores this process may use, and ways to keep them busy."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Given = TypeVar("Given")
Result = TypeVar("Result")
Done = TypeVar("Done")

CGROUP = Path("/sys/fs/cgroup")
_ON_GPU = 4  # results at a time in its memory
MOST_PIXELS = 128_000_000  # of the images whose results wait, unless one alone has more


def cores() -> int:
    """The number of cores for this process: those it may run on, or the CPU quota of its container. They are divided by
    the number of processes that torchrun or accelerate started on this machine."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(count, _quota() or count) // int(os.environ.get("LOCAL_WORLD_SIZE") or 1))


def _quota() -> int | None:
    """The CPU quota of this process's container (cgroup version 2, or 1) in cores, rounded up. None if it has none."""
    for names in (["cpu.max"], ["cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"]):
        try:
            quota, period = map(int, " ".join((CGROUP / name).read_text() for name in names).split())
        except (OSError, ValueError):  # no such file, or the word "max"
            continue
        if quota > 0:
            return -(-quota // period)
    return None


def map_ahead(
    pool: ThreadPoolExecutor,
    work: Callable[[Item], Result],
    items: Iterable[Item],
    depth: int = 64,
    pixels: Callable[[Item], int] | None = None,
) -> Iterator[Result]:
    """Yields `work(item)` for each item in order. The pool works on at most `depth` items ahead.

    Args:
        pixels: of an item. The pool works on fewer items ahead if they have more than `MOST_PIXELS` together.
    """
    pending: deque[tuple[int, Future[Result]]] = deque()
    for item in items:
        size = 0 if pixels is None else pixels(item)
        while pending and sum(each for each, _ in pending) + size > MOST_PIXELS:
            yield pending.popleft()[1].result()
        pending.append((size, pool.submit(work, item)))
        if len(pending) >= depth:
            yield pending.popleft()[1].result()
    while pending:
        yield pending.popleft()[1].result()


def overlapped(
    on_cpu: bool,
    items: Iterable[Item],
    read: Callable[[Item], Given | None],
    compute: Callable[[Given], Result],
    finish: Callable[[Given, Result], Done],
    pixels: Callable[[Item], int] | None = None,
) -> Generator[Done | None, None, None]:
    """Reads items, computes with them and finishes the results, several at a time. Yields in the order of the items.

    On a CPU each core takes an item from `read` to `finish`, with one thread for PyTorch, so that no core waits for
    another. On a GPU the calling thread computes, while other threads read ahead and finish; only a few results are in
    its memory at a time.

    Args:
        read: returns None for an item to leave out, which yields None.
        finish: takes what `read` and `compute` returned.
        pixels: see `map_ahead`; for results that hold their images.
    """
    import torch

    threads = cores()
    before = torch.get_num_threads()

    def whole(item: Item) -> Done | None:
        given = read(item)
        return None if given is None else finish(given, compute(given))

    def measured(item: Item) -> tuple[int, Given | None]:
        return 0 if pixels is None else pixels(item), read(item)

    def end(step: tuple[int, tuple[Given, Result] | None]) -> Done | None:
        return None if step[1] is None else finish(*step[1])

    with ThreadPoolExecutor(threads, initializer=partial(torch.set_num_threads, 1) if on_cpu else None) as pool:
        if on_cpu:
            jobs = map_ahead(pool, whole, items, 2 * threads, pixels)
        else:
            ahead = map_ahead(pool, measured, items, 2 * threads, pixels)
            steps = ((size, None if given is None else (given, compute(given))) for size, given in ahead)
            jobs = map_ahead(pool, end, steps, min(2 * threads, _ON_GPU), lambda step: step[0])
        try:
            yield from jobs
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            if on_cpu:
                torch.set_num_threads(before)  # for threads that start later
