"""Dense conditional random field: sharpens class scores along the edges of the photo.

Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NeurIPS 2011: every
pixel is tied to every other one by two Gaussian kernels, one over position and one over position and colour; mean-field
inference needs one high-dimensional Gaussian filter per kernel and iteration. The filter is the permutohedral lattice
of Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010: splat the
pixels onto the vertices of their simplices, blur along the d + 1 axes of the lattice, slice the result at the pixels.

Symbols: N pixels, K classes, d feature dimensions, V vertices of both lattices together.
"""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numba import njit

_LANES = 8  # classes are padded to whole SIMD registers, so that each loop over classes is a few vector instructions
_PARTS = 2  # the image is always cut in this many parts, so that the sums do not depend on the number of threads
_NEVER = np.float32(1e30)  # energy of a padding class: far below any other, and nothing overflows
_NEGLIGIBLE = 1e-7  # one float32 rounding step of a probability
_ROWS = 3  # vertices of a pixel come in threes: 3 of the position lattice, 6 of the colour lattice


# nogil and plain threads instead of numba's parallel=True: its OpenMP layer kills a process that forks after use, as
# a DataLoader does, and its workqueue layer must not be entered from two threads.
_jit: Callable[..., Any] = njit(nogil=True, cache=True)
_jit_fast: Callable[..., Any] = njit(nogil=True, cache=True, fastmath=True, error_model="numpy")


class Lattice(NamedTuple):
    """Permutohedral lattice of a set of points. Vertex 0 stands for "not there" and always holds zeros."""

    vertices: np.ndarray  # (N, d + 1) int32, the corners of each point's simplex, 1 … V
    weights: np.ndarray  # (N, d + 1) float32, its barycentric coordinates
    neighbours: np.ndarray  # (d + 1, V + 1, 2) int32, the two neighbours of each vertex along each axis


@_jit
def _embed(features, scale, strides, start, stop, keys, weights):
    """Finds the simplex of each point: the keys of its corners and its barycentric coordinates.

    All in float32 and in the order of the reference implementation: photos are full of points that lie exactly between
    two simplices, and there the last bit decides which vertices exist at all.
    """
    d = scale.size
    one = np.float32(1)
    up, down = np.float32(d + 1), one / np.float32(d + 1)
    elevated = np.empty(d + 1, np.float32)
    origin = np.empty(d + 1, np.float32)
    rank = np.empty(d + 1, np.int64)
    axis = np.empty(d + 1, np.int64)
    bary = np.empty(d + 2, np.float32)
    diagonal = 0
    for j in range(d):
        diagonal += strides[j]
    for i in range(start, stop):
        total = np.float32(0)
        for j in range(d, 0, -1):
            x = features[i, j - 1] * scale[j - 1]
            elevated[j] = total - np.float32(j) * x
            total += x
        elevated[0] = total

        # The nearest vertex of remainder 0, and how far its coordinates are from summing to 0.
        excess = 0
        for j in range(d + 1):
            v = np.rint(elevated[j] * down)
            origin[j] = v * up
            excess += int(v)
            rank[j] = 0
        for j in range(d):
            x = elevated[j] - origin[j]
            for k in range(j + 1, d + 1):
                if x < elevated[k] - origin[k]:
                    rank[j] += 1
                else:
                    rank[k] += 1
        for j in range(d + 1):
            rank[j] += excess
            if rank[j] < 0:
                rank[j] += d + 1
                origin[j] += up
            elif rank[j] > d:
                rank[j] -= d + 1
                origin[j] -= up
            axis[rank[j]] = j

        bary[:] = 0
        for j in range(d + 1):
            x = (elevated[j] - origin[j]) * down
            bary[d - rank[j]] += x
            bary[d - rank[j] + 1] -= x
        bary[0] += one + bary[d + 1]

        # From one corner to the next: one step along all axes, d + 1 back along the one whose turn it is.
        key = 0
        for j in range(d):
            key += int(origin[j]) * strides[j]
        for r in range(d + 1):
            keys[i, r] = key
            weights[i, r] = bary[r]
            key += diagonal - (d + 1) * strides[axis[d - r]]


@_jit
def _slot(key, table, ids, shift):
    """Slot of the open-addressing hash table that holds `key`, or the empty one where it belongs."""
    slot = (np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(shift)
    mask = np.uint64(ids.size - 1)
    while ids[slot] != 0 and table[slot] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@_jit
def _number(keys, steps):
    """Numbers the vertices 1 … V in order of appearance and finds their neighbours."""
    n, corners = keys.shape
    vertices = np.empty((n, corners), np.int32)
    shift = 64 - 15
    table = np.empty(1 << 15, np.int64)
    ids = np.zeros(1 << 15, np.int32)
    count = 0
    for i in range(n):
        for r in range(corners):
            key = keys[i, r]
            if i > 0 and key == keys[i - 1, r]:  # most pixels share corners with the one before
                vertices[i, r] = vertices[i - 1, r]
                continue
            slot = _slot(key, table, ids, shift)
            if ids[slot] == 0:
                count += 1
                table[slot] = key
                ids[slot] = count
                vertices[i, r] = count
                if 2 * count > ids.size:
                    old_table, old_ids = table, ids
                    shift -= 1
                    table = np.empty(2 * old_ids.size, np.int64)
                    ids = np.zeros(2 * old_ids.size, np.int32)
                    for s in range(old_ids.size):
                        if old_ids[s] != 0:
                            slot = _slot(old_table[s], table, ids, shift)
                            table[slot] = old_table[s]
                            ids[slot] = old_ids[s]
            else:
                vertices[i, r] = ids[slot]

    vertex_keys = np.empty(count + 1, np.int64)
    for s in range(ids.size):
        if ids[s] != 0:
            vertex_keys[ids[s]] = table[s]
    neighbours = np.zeros((corners, count + 1, 2), np.int32)
    for j in range(corners):
        for v in range(1, count + 1):
            w = ids[_slot(vertex_keys[v] + steps[j], table, ids, shift)]
            if w != 0:
                neighbours[j, v, 0] = w
                neighbours[j, w, 1] = v
    return vertices, neighbours


@_jit_fast
def _infer(unary, mixed, vertices, weights, start, stop, q):
    """One pixel row: slice, ..."""


@_jit_fast
def _pixel(i, unary, values, vertices, weights, q):
    """Mean-field update of pixel i: q = softmax(message - unary)."""
    k_padded = q.size
    for k in range(k_padded):
        q[k] = -unary[i, k]
    for r in range(0, vertices.shape[1], 3):
        v0, v1, v2 = vertices[i, r], vertices[i, r + 1], vertices[i, r + 2]
        w0, w1, w2 = weights[i, r], weights[i, r + 1], weights[i, r + 2]
        for b in range(0, k_padded, _LANES):
            for k in range(b, b + _LANES):
                q[k] += w0 * values[v0, k] + w1 * values[v1, k] + w2 * values[v2, k]
    top = q[0]
    for k in range(k_padded):
        top = max(top, q[k])
    total = np.float32(0)
    for b in range(0, k_padded, _LANES):
        for k in range(b, b + _LANES):
            e = _exp(q[k] - top)
            q[k] = e
            total += e
    total = np.float32(1) / total
    for b in range(0, k_padded, _LANES):
        for k in range(b, b + _LANES):
            q[k] *= total


@_jit_fast
def _exp(x):
    """exp(x) for x <= 0 in vector instructions; 0 below -50, so that no denormal number slows the filter down."""
    y = max(x, np.float32(-50)) * np.float32(1.44269504)
    n = np.rint(y)
    f = (y - n) * np.float32(0.693147181)
    p = np.float32(1.9875691500e-4)
    p = p * f + np.float32(1.3981999507e-3)
    p = p * f + np.float32(8.3334519073e-3)
    p = p * f + np.float32(4.1665795894e-2)
    p = p * f + np.float32(1.6666665459e-1)
    p = p * f + np.float32(5.0000001201e-1)
    p = p * f * f + f + np.float32(1)
    scale = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return p * scale if x > np.float32(-50) else np.float32(0)


@_jit_fast
def _update_and_splat(unary, values, vertices, weights, start, stop, out):
    out[:] = 0
    q = np.empty(unary.shape[1], np.float32)
    for i in range(start, stop):
        _pixel(i, unary, values, vertices, weights, q)
        for r in range(vertices.shape[1]):
            v, w = vertices[i, r], weights[i, r]
            for b in range(0, q.size, _LANES):
                for k in range(b, b + _LANES):
                    out[v, k] += w * q[k]


@_jit_fast
def _update(unary, values, vertices, weights, start, stop, out):
    q = np.empty(unary.shape[1], np.float32)
    for i in range(start, stop):
        _pixel(i, unary, values, vertices, weights, q)
        for k in range(out.shape[0]):
            out[k, i] = q[k]


@_jit_fast
def _blur(values, neighbours, start, stop, out):
    half = np.float32(0.5)
    for v in range(start, stop):
        a, c = neighbours[v, 0], neighbours[v, 1]
        for b in range(0, values.shape[1], _LANES):
            for k in range(b, b + _LANES):
                out[v, k] = values[v, k] + half * (values[a, k] + values[c, k])
