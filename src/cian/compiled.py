"""Inner loops compiled by numba. The result is kept on disk, so that only the first process compiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import njit


def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`numba.njit` that releases the GIL and keeps the compiled function on disk where it finds a writable folder."""
    try:
        return njit(function, nogil=True, cache=True, **options)
    except RuntimeError:  # a read-only installation without a home folder: every process compiles for itself
        return njit(function, nogil=True, **options)


jit_fast = partial(jit, fastmath=True, error_model="numpy")
