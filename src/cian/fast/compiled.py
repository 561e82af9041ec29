"""Inner loops compiled by numba, kept on disk so that only the first process ever compiles them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from numba import njit


def jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`numba.njit` without the GIL, that keeps the compiled function on disk where it finds a folder it may write."""
    try:
        return njit(function, nogil=True, cache=True, **options)
    except RuntimeError:  # a read-only installation without a home folder: compiled anew by each process
        return njit(function, nogil=True, **options)


jit_fast = partial(jit, fastmath=True, error_model="numpy")
