"""Memory: garbage collection while millions of objects are made, caches that grow, free memory that is kept."""

from __future__ import annotations

import ctypes
import functools
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CONVOLUTIONS = 128  # at one size; networks have up to about a hundred


def bound_caches() -> None:
    """Keeps oneDNN's two caches small, which is where PyTorch prepares convolutions on a CPU, for each size of images.

    They hold 1024 each, so that a process grew by 40 MB with each 1,000 images of different sizes. The environment is
    read at the first convolution of a process. What a user sets there is kept.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(_CONVOLUTIONS))


def give_back() -> None:
    """Gives free memory back to the system, with glibc; with others, this does nothing.

    On a CPU, what is freed is kept for the next step (see `training.device`), by each thread for itself. An image of 80
    megapixels left 600 MB to each.
    """
    _trim()(0)


@functools.cache
def _trim() -> Callable[[int], object]:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return lambda _: None


@contextmanager
def uncollected() -> Iterator[None]:
    """Stops the garbage collector during a block that makes many objects and keeps them. Otherwise it looks at all of
    them again and again. Also a decorator."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()
