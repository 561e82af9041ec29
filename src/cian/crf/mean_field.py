"""Mean-field inference by compiled loops over rows of class scores.

A pixel is visited once per iteration: it slices what the last iteration left, takes the softmax, and splats the result
for the next one. `cian.crf.plain_mean_field` does the same in numpy.

Arrays are C-contiguous; compiled loops do not check indices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import numpy as np

from cian.compiled import jit, jit_fast
from cian.crf.lattice import Lattice
from cian.crf.parts import PARTS, ForEachPart, bounds
from cian.crf.vector_rows import blur_row, gather_row, scatter_row

_BLOCK = 128  # pixels updated together, so that they stay in the first-level cache
_NEVER = np.float32(1e30)  # energy of an impossible class; finite, so that sums with it stay finite


def infer(
    unary: np.ndarray, lowest: np.ndarray, live: np.ndarray, lattice: Lattice, iterations: int, run: ForEachPart
) -> np.ndarray:
    """Class probabilities after mean-field inference. Classes that are not live get 0.

    Args:
        run: calls a function for each part of the pixels, or of the lattice's vertices.

    Shape:
        unary: (K, N) energies; lowest: (N,), the lowest energy of each pixel; live: (L,) class ids. Returns (K, N).
    """
    n = unary.shape[1]
    vertices, weights, neighbours, first, _ = lattice
    width = padded(live.size)
    lanes = (0,) * width
    energies = _aligned((n, width))
    splats = _aligned((PARTS, first[-1] + 1, width))
    values = _aligned((first[-1] + 1, width))
    values[:] = 0
    probabilities = np.zeros(unary.shape, np.float32)
    pixels = bounds(0, n)
    nodes = list(zip(*(zip(*bounds(b + 1, e + 1), strict=True) for b, e in pairwise(first)), strict=True))

    def blur_axis(number: int, ranges: Sequence[tuple[int, int]]) -> None:
        """Blurs every kernel along one axis, if it has that one; -1 sums the parts. The last axis ends in `values`."""
        for axes, before, (start, stop) in zip(neighbours, first[:-1], ranges, strict=True):
            source, target = (values, splats[0]) if (len(axes) - number) % 2 == 0 else (splats[0], values)
            if number < 0:
                _merge(splats, target, start, stop)
            elif number < len(axes):
                _blur(source, axes[number], before, target, lanes, start, stop)

    run(partial(_pack, unary, lowest, live, energies), *pixels)
    for _ in range(iterations):
        run(partial(_slice_and_splat, energies, values, vertices, weights, lanes), splats, *pixels)
        for number in range(-1, max(map(len, neighbours))):  # all kernels in one call, as a call costs 60 µs
            run(partial(blur_axis, number), nodes)
    run(partial(_take_out, energies, values, vertices, weights, live, lanes, probabilities), *pixels)
    return probabilities


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Empty float32 array that starts at a cache line, so that fewer vectors span two."""
    buffer = np.empty(math.prod(shape) + 16, np.float32)
    offset = -buffer.ctypes.data % 64 // 4
    return buffer[offset : offset + math.prod(shape)].reshape(shape)


def padded(classes: int) -> int:
    """The width of a row: the classes, and impossible ones that fill it up to whole vector registers.

    Loops are compiled once for each width, so there are few widths.
    """
    if classes <= 4:
        return 4
    step = max(8, 2 ** (math.ceil(math.log2(classes)) - 3))
    return -(-classes // step) * step


@jit
def _pack(unary, lowest, live, energies, start, stop):
    """Writes each pixel's energies above its lowest one, (K, N) → (N, W), padded with impossible classes."""
    for i in range(start, stop):
        for k in range(live.size):
            energies[i, k] = min(unary[live[k], i] - lowest[i], _NEVER)
        for k in range(live.size, energies.shape[1]):
            energies[i, k] = _NEVER


@jit_fast
def _exp(x):
    """exp(x) for x <= 0 in vector instructions (the polynomial of Cephes).

    Below -50 it is 0: products with so small a number would become denormal, which is slow.
    """
    z = max(x, np.float32(-50))
    y = np.rint(z * np.float32(1.44269504088896341))
    r = z - y * np.float32(0.693359375) + y * np.float32(2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1)
    power = np.int32((np.int32(y) + np.int32(127)) << np.int32(23)).view(np.float32)
    return p * power if x > np.float32(-50) else np.float32(0)


@jit_fast
def _update(energies, values, vertices, weights, lanes, start, q):
    """Writes q = exp(messages - energies), not normalised, for the len(q) pixels from `start` on."""
    for i in range(len(q)):
        gather_row(values, vertices, weights, energies, start + i, q, i, lanes)
    flat = q.reshape(q.size)
    for j in range(flat.size):
        flat[j] = _exp(flat[j])


@jit_fast
def _slice_and_splat(energies, values, vertices, weights, lanes, splat, start, stop):
    """Updates a part of the pixels from `values`, and splats their probabilities into `splat`, (V + 1, W) each."""
    splat[:] = 0
    block = np.empty((_BLOCK, len(lanes)), np.float32)
    for begin in range(start, stop, _BLOCK):
        q = block[: min(_BLOCK, stop - begin)]
        _update(energies, values, vertices, weights, lanes, begin, q)
        for i in range(len(q)):
            scatter_row(q, i, vertices, weights, begin + i, splat, lanes)


@jit_fast
def _take_out(energies, values, vertices, weights, live, lanes, out, start, stop):
    """Updates a part of the pixels from `values`, and writes their probabilities into `out`, (K, N)."""
    block = np.empty((_BLOCK, len(lanes)), np.float32)
    for begin in range(start, stop, _BLOCK):
        q = block[: min(_BLOCK, stop - begin)]
        _update(energies, values, vertices, weights, lanes, begin, q)
        for i in range(len(q)):
            total = 0.0
            for k in range(len(lanes)):
                total += q[i, k]
            scale = np.float32(1 / total)
            for k in range(live.size):
                out[live[k], begin + i] = q[i, k] * scale


@jit_fast
def _merge(splats, out, start, stop):
    """Sums the splats of all parts. `out` may be the first of them."""
    size = (stop - start) * out.shape[1]
    first, total = splats[0, start:stop].reshape(size), out[start:stop].reshape(size)
    for j in range(size):
        total[j] = first[j]
    for part in range(1, len(splats)):
        other = splats[part, start:stop].reshape(size)
        for j in range(size):
            total[j] += other[j]


@jit_fast
def _blur(values, neighbours, before, out, lanes, start, stop):
    """Convolves with (1/2, 1, 1/2) along one axis of a kernel whose vertices come after `before` others."""
    for v in range(start, stop):
        blur_row(values, neighbours, before, v, out, lanes)
