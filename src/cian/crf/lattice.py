"""The permutohedral lattice (Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice",
Eurographics 2010), which turns a Gaussian filter over all pixels into three cheap steps.

Splat: each pixel adds its values to the d + 1 corners of the simplex that it lies in. Blur: each vertex takes in its
two neighbours along each of the d + 1 axes. Slice: each pixel reads the result from its corners.

Symbols: N pixels, d dimensions of a feature, V vertices of the lattice, R corners of a pixel in all lattices together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np

from cian.compiled import jit
from cian.crf.parts import ForEachPart, bounds, one_after_another

_BLOCK = 128  # pixels worked on together, so that they stay in the first-level cache
_KEPT = 2**20  # largest image, in pixels, whose lattice over position is kept (24 bytes a pixel)


def position_features(height: int, width: int, sxy: float) -> np.ndarray:
    """Position in standard deviations, (2, N) float32."""
    features = np.empty((2, height, width), np.float32)
    features[0] = np.arange(width, dtype=np.float32) / np.float32(sxy)
    features[1] = (np.arange(height, dtype=np.float32) / np.float32(sxy))[:, None]
    return features.reshape(2, height * width)


def image_features(image: np.ndarray, sxy: float, srgb: float) -> np.ndarray:
    """Position and colour in standard deviations, (5, N) float32."""
    height, width, _ = image.shape
    features = np.empty((5, height * width), np.float32)
    features[:2] = position_features(height, width, sxy)
    np.divide(np.moveaxis(image, 2, 0).reshape(3, -1), np.float32(srgb), out=features[2:])
    return features


class Lattice(NamedTuple):
    """The lattices of all kernels side by side.

    Vertex 0 stands for "no such vertex" and always holds 0. Vertex numbers are unsigned, so that compiled loops do not
    check for negative ones. In `neighbours` each kernel numbers its own vertices, 1 … V'.
    """

    vertices: np.ndarray  # (N, R) uint32, corners of each pixel's simplices, in 1 … V
    weights: np.ndarray  # (N, R) float32, barycentric coordinates times the square root of what scales the kernel
    neighbours: list[np.ndarray]  # for each kernel: (d + 1, V' + 1, 2) uint32, both neighbours along each axis
    first: list[int]  # how many vertices come before each kernel's own; the last entry is V
    strength: float  # upper bound of what the kernels add to any logit


def build_lattice(
    image: np.ndarray, gaussian: Sequence[float], bilateral: Sequence[float], run: ForEachPart
) -> Lattice:
    """The lattice of both kernels for an image (H, W, 3). Its part over position is kept for images of the same size.

    Args:
        gaussian: (sxy, compat), as in `dense_crf`.
        bilateral: (sxy, srgb, compat).
        run: calls a function for each part of the pixels.
    """
    height, width, _ = image.shape
    build = _position_lattice if height * width <= _KEPT else _position_lattice.__wrapped__
    position = build(height, width, *map(float, gaussian))
    return _build(image_features(image, *bilateral[:2]), float(bilateral[2]), run, position)


@lru_cache(maxsize=2)
def _position_lattice(height: int, width: int, sxy: float, compat: float) -> Lattice:
    """The lattice of the kernel over position."""
    features = position_features(height, width, sxy)
    nothing = np.empty((len(features[0]), 0), np.uint32)
    empty = Lattice(nothing, nothing.astype(np.float32), [], [0], 0.0)
    return _build(features, compat, one_after_another, empty)


def _build(features: np.ndarray, compat: float, run: ForEachPart, others: Lattice) -> Lattice:
    """`others` and, beside it, the lattice of the kernel over `features` (d, N).

    Symmetric normalisation and the kernel's weight are folded into the barycentric coordinates.
    """
    n = features.shape[1]
    column = others.vertices.shape[1]
    end = column + len(features) + 1
    vertices = np.empty((n, end), np.uint32)
    weights = np.empty((n, end), np.float32)
    layout = key_layout(features)
    first = others.first[-1]
    pixels = bounds(0, n)

    def embed(start: int, stop: int) -> np.ndarray:
        vertices[start:stop, :column] = others.vertices[start:stop]
        weights[start:stop, :column] = others.weights[start:stop]
        return _embed(features, layout, column, vertices, weights, start, stop)

    keys = run(embed, *pixels)  # one array for each part
    numbers, known, table = _join(tuple(keys))
    neighbours = np.zeros((layout.strides.size, len(known), 2), np.uint32)
    run(partial(_neighbours, known, table, layout), range(len(neighbours)), neighbours)
    numbers = np.split(numbers, np.cumsum([len(part) for part in keys[:-1]]))

    def splat(numbers: np.ndarray, start: int, stop: int) -> np.ndarray:
        return _splat_ones(vertices, weights, column, numbers, neighbours.shape[:2], first, start, stop)

    ones = _blur_ones(sum(run(splat, numbers, *pixels)), neighbours)

    def normalise(start: int, stop: int) -> tuple[float, float]:
        return _normalise(vertices, weights, column, end, ones, first, compat, start, stop)

    norms = np.array(run(normalise, *pixels))  # (parts, 2)
    strength = others.strength + compat * norms[:, 1].max() / norms[:, 0].min()
    last = first + neighbours.shape[1] - 1
    return Lattice(vertices, weights, [*others.neighbours, neighbours], [*others.first, last], strength)


class Layout(NamedTuple):
    """How points become lattice coordinates, and coordinates become keys.

    A vertex's key is the sum of its coordinates times their strides, in 64 bits. A step to a neighbour adds a constant.
    """

    scale: np.ndarray  # (d,) float32, one for each feature
    strides: np.ndarray  # (d + 1,) int64, one for each coordinate; 0 for the last, which follows from the others
    diagonal: int  # sum of the strides


def key_layout(features: np.ndarray) -> Layout:
    """The layout for points (d, N) whose coordinates start at 0.

    Raises:
        ValueError: the points spread so far that keys would not fit into 64 bits.
    """
    d = len(features)
    j = np.arange(d)
    scale = (1 / np.sqrt((j + 1.0) * (j + 2.0)) * np.float32(math.sqrt(2 / 3) * (d + 1))).astype(np.float32)
    extent = features.max(axis=1).astype(np.float64) * scale  # features start at 0
    span = extent[::-1].cumsum()[::-1] + np.append(0, j[1:] * extent[:-1]) + 8 * (d + 1)  # room for neighbours
    if span.max() > 2**15 or np.log2(span.astype(int) + 1).sum() > 62:
        raise ValueError(
            f"sxy or srgb is too small: the image spans {features.max():.0f} standard deviations, more than the "
            "lattice can hold. Use larger ones"
        )
    strides = np.cumprod(np.append(1, span.astype(np.int64) + 1))
    strides[-1] = 0
    return Layout(scale, strides, int(strides.sum()))


@jit
def _embed(features, layout, column, vertices, weights, start, stop):
    """Finds the simplex of each point: its corners and barycentric coordinates.

    Corners are numbered from 1 in order of appearance. Nearby pixels then have nearby corners in memory, which speeds
    splat and slice up by more than sorted keys would speed up blur. Returns the keys (V + 1,); entry 0 is unused.

    The arithmetic is float32 in the order of the reference implementation. In photos many points lie exactly between
    two simplices, and there the last bit decides which vertices exist.
    """
    scale, strides, diagonal = layout
    d = scale.size
    size = np.float32(d + 1)
    inverse = np.float32(1) / size
    elevated = np.empty((d + 1, _BLOCK), np.float32)
    origin = np.empty((d + 1, _BLOCK), np.float32)
    rank = np.empty((d + 1, _BLOCK), np.int32)
    excess = np.empty(_BLOCK, np.int32)
    bary = np.empty(d + 2, np.float32)
    steps = np.empty(d + 1, np.int64)
    known = np.full(d + 1, -1, np.int64)  # corners of the previous point; most points share some
    table = np.zeros(1 << 12, np.uint32)
    keys = np.zeros(len(table), np.int64)
    count = 0
    for begin in range(start, stop, _BLOCK):
        n = min(_BLOCK, stop - begin)
        for i in range(n):
            excess[i] = 0
            elevated[0, i] = 0
            for j in range(d + 1):
                rank[j, i] = 0
        for j in range(d, 0, -1):
            for i in range(n):
                x = features[j - 1, begin + i] * scale[j - 1]
                elevated[j, i] = elevated[0, i] - np.float32(j) * x
                elevated[0, i] += x

        # The nearest vertex of remainder 0; `excess` says how far its coordinates are from summing to 0.
        for j in range(d + 1):
            for i in range(n):
                x = np.rint(elevated[j, i] * inverse)
                origin[j, i] = x * size
                excess[i] += np.int32(x)
        for j in range(d):
            for k in range(j + 1, d + 1):
                for i in range(n):
                    less = np.int32(elevated[j, i] - origin[j, i] < elevated[k, i] - origin[k, i])
                    rank[j, i] += less
                    rank[k, i] += np.int32(1) - less

        for j in range(d + 1):
            for i in range(n):
                r = rank[j, i] + excess[i]
                wrap = np.int32(r < 0) - np.int32(r > d)
                rank[j, i] = r + wrap * np.int32(d + 1)
                origin[j, i] += np.float32(wrap) * size
                elevated[j, i] = (elevated[j, i] - origin[j, i]) * inverse

        for i in range(n):
            for j in range(d + 2):
                bary[j] = 0
            key = 0
            for j in range(d + 1):
                r = rank[j, i]
                steps[r] = diagonal - (d + 1) * strides[j]
                bary[d - r] += elevated[j, i]
                bary[d - r + 1] -= elevated[j, i]
                key += np.int64(origin[j, i]) * strides[j]
            bary[0] += np.float32(1) + bary[d + 1]
            # The next corner: one step along the diagonal, then back by d + 1 along the axis of that rank.
            p = begin + i
            for r in range(d + 1):
                weights[p, column + r] = bary[r]
                if p > start and key == known[r]:
                    vertices[p, column + r] = vertices[p - 1, column + r]
                else:
                    known[r] = key
                    slot = _slot(key, keys, table)
                    if table[slot] == 0:
                        count += 1
                        keys[count] = key
                        table[slot] = count
                    vertices[p, column + r] = table[slot]
                key += steps[d - r]
            if 2 * (count + d + 1) > len(table):
                keys = np.append(keys, np.zeros_like(keys))
                table = _table(keys, count)
    return keys[: count + 1].copy()


@jit
def _slot(key, keys, table):
    """The slot of `key` in a hash table of vertex numbers. The slot holds 0 if the key is not in the table."""
    mask = np.uint64(len(table) - 1)
    slot = ((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while table[slot] != 0 and keys[table[slot]] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@jit
def _table(keys, count):
    """Hash table, as long as `keys`, of the vertex numbers 1 … count."""
    table = np.zeros(len(keys), np.uint32)
    for number in range(1, count + 1):
        table[_slot(keys[number], keys, table)] = number
    return table


@jit
def _join(parts):
    """Joins the vertices that several parts of the pixels have found, in order of appearance.

    Args:
        parts: the keys (V + 1,) that each part found.

    Returns:
        The common number of each of these keys, one part after the other; the keys (V + 1,); their hash table.
    """
    total = 0
    for part in parts:
        total += len(part)
    size = 1
    while size < 2 * total:
        size *= 2
    numbers = np.zeros(total, np.uint32)
    keys = np.zeros(size, np.int64)
    count = len(parts[0]) - 1  # the first part keeps its numbers
    keys[: count + 1] = parts[0]
    table = _table(keys, count)
    before = 0
    for part in parts:
        for v in range(1, len(part)):
            slot = _slot(part[v], keys, table)
            if table[slot] == 0:
                count += 1
                keys[count] = part[v]
                table[slot] = count
            numbers[before + v] = table[slot]
        before += len(part)
    return numbers, keys[: count + 1], table


@jit
def _neighbours(keys, table, layout, axis, out):
    """Writes the numbers of both neighbours of each vertex along an axis, (V + 1, 2). A missing neighbour stays 0."""
    step = layout.strides.size * layout.strides[axis] - layout.diagonal
    for v in range(1, len(keys)):
        w = table[_slot(keys[v] + step, keys, table)]
        if w != 0:
            out[v, 0] = w
            out[w, 1] = v


@jit
def _splat_ones(vertices, weights, column, numbers, shape, first, start, stop):
    """Splats a one at each pixel, (V + 1,), and replaces the numbers of a part by those of the whole lattice."""
    corners, count = shape
    values = np.zeros(count, np.float32)
    for i in range(start, stop):
        for c in range(column, column + corners):
            v = numbers[vertices[i, c]]
            values[v] += weights[i, c]
            vertices[i, c] = v + first
    return values


@jit
def _blur_ones(values, neighbours):
    """Convolves with (1/2, 1, 1/2) along each axis; (V + 1,) → the same."""
    for axis in neighbours:
        blurred = np.zeros_like(values)
        for v in range(1, len(values)):
            blurred[v] = values[v] + np.float32(0.5) * (values[axis[v, 0]] + values[axis[v, 1]])
        values = blurred
    return values


@jit
def _normalise(vertices, weights, column, end, ones, first, compat, start, stop):
    """Makes the rows of the kernel matrix sum to about 1, symmetrically, and multiplies the matrix by `compat`.

    Returns the smallest and the largest norm of a pixel.
    """
    alpha = 1 / (1 + 2.0 ** (1 - (end - column)))  # gain of splat, blur and slice, as in the reference
    low, high = np.inf, 0.0
    for i in range(start, stop):
        total = 0.0
        for c in range(column, end):
            total += weights[i, c] * ones[vertices[i, c] - first]
        norm = 1 / math.sqrt(alpha * total + 1e-20)
        low, high = min(low, norm), max(high, norm)
        factor = np.float32(norm * math.sqrt(alpha * compat))
        for c in range(column, end):
            weights[i, c] *= factor
    return low, high
