"""Dense conditional random field: sharpens class scores along the edges of the photo.

Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NeurIPS 2011: every
pixel is tied to every other one by two Gaussian kernels, one over position and one over position and colour, so that a
mean-field iteration is a Gaussian filter in 2 and one in 5 dimensions. The filter is the permutohedral lattice of
Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010: splat each
pixel onto the d + 1 corners of its simplex, blur along the d + 1 axes of the lattice, slice the result at the pixels.

Symbols: N pixels, K classes, d dimensions of a feature, V vertices of the lattice.

Safe in forked and spawned workers: threads live as long as one call, and a worker process gets one. (numba's
`parallel=True` is not: its OpenMP layer kills a process that forks after use, as a DataLoader does.)
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from cian.compiled import jit, jit_fast
from cian.cores import cores

_PARTS = 2  # pixels are always summed in this many parts, so that the result is the same for any number of threads
_BLOCK = 128  # pixels updated together, so that they stay in the first-level cache
_NEVER = np.float32(1e30)  # energy of an impossible class; finite, so that sums with it stay finite
_NEGLIGIBLE = 1e-7  # about one rounding step of a float32 probability


def dense_crf(
    image: np.ndarray,
    unary: np.ndarray,
    *,
    gaussian: tuple[float, float] = (3, 3),
    bilateral: tuple[float, float, float] = (80, 13, 10),
    iterations: int = 10,
) -> np.ndarray:
    """Class probabilities after mean-field inference in a fully connected CRF (Potts model, symmetric normalisation).

    Agrees with `pydensecrf` and gives the same bits on every call. A class that no pixel can take, because its
    probability provably stays below 1e-7 everywhere, costs nothing and gets 0.

    Args:
        image: (H, W, 3) uint8, the photo.
        unary: (K, H, W) floating point, energies in nats: minus the logits or minus the log-probabilities. Any finite
            value; +inf where a class is impossible.
        gaussian: (sxy, compat) of the kernel over position: standard deviation in pixels, and weight.
        bilateral: (sxy, srgb, compat) of the kernel over position and colour: standard deviations in pixels and in
            grey levels (of 255), and weight. A weight of 0 switches a kernel off.
        iterations: mean-field iterations; 0 gives softmax(-unary).

    Returns:
        (K, H, W) float32, not negative, sums to 1 over the classes.

    Raises:
        ValueError: wrong shape or type, NaN or -inf, a pixel without a possible class, a parameter out of range.
    """
    return dense_crfs(image, [unary], gaussian=gaussian, bilateral=bilateral, iterations=iterations)[0]


def dense_crfs(
    image: np.ndarray,
    unaries: Sequence[np.ndarray],
    *,
    gaussian: tuple[float, float] = (3, 3),
    bilateral: tuple[float, float, float] = (80, 13, 10),
    iterations: int = 10,
) -> list[np.ndarray]:
    """`dense_crf` of several unaries of one image, whose lattice is built once."""
    image = np.asarray(image)
    energies = [_energies(image, np.asarray(unary), gaussian, bilateral, iterations) for unary in unaries]
    height, width, _ = image.shape
    if iterations == 0:
        results = []
        for unary, lowest in energies:
            with np.errstate(over="ignore"):
                q = np.exp(lowest - unary)
            results.append(q / q.sum(axis=0))
        return [result.reshape(-1, height, width) for result in results]

    features = [image_features(image, gaussian[0]), image_features(image, *bilateral[:2])]
    threads = _threads()
    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:

        def run(function: Callable[..., Any], *args: Iterable[Any]) -> list[Any]:
            return list((pool.map if pool else map)(function, *args))

        lattice, strength = _build(features, (gaussian[1], bilateral[2]), run)
        results = [
            _mean_field(unary, lowest, _live(unary, lowest, strength), lattice, iterations, run)
            for unary, lowest in energies
        ]
    return [result.reshape(-1, height, width) for result in results]


def _energies(
    image: np.ndarray, unary: np.ndarray, gaussian: Sequence, bilateral: Sequence, iterations: int
) -> tuple[np.ndarray, np.ndarray]:
    """A checked unary as (K, N) float32, and its lowest energy at each pixel (N,)."""
    floating = np.issubdtype(unary.dtype, np.floating)
    check(image, unary.shape, floating, str(unary.dtype), gaussian, bilateral, iterations)
    with np.errstate(over="ignore"):  # beyond float32 is as good as +inf
        unary = np.ascontiguousarray(unary, np.float32).reshape(len(unary), -1)
    lowest = unary.min(axis=0)
    if not np.isfinite(lowest).all():
        raise ValueError("unary has NaN, -inf, or a pixel where every class is +inf: use finite energies")
    return unary, lowest


def image_features(image: np.ndarray, sxy: float, srgb: float | None = None) -> np.ndarray:
    """Position, and colour if `srgb` is given, in standard deviations: (2, N) or (5, N) float32."""
    height, width, _ = image.shape
    features = np.empty((2 if srgb is None else 5, height, width), np.float32)
    features[0] = np.arange(width, dtype=np.float32) / np.float32(sxy)
    features[1] = (np.arange(height, dtype=np.float32) / np.float32(sxy))[:, None]
    if srgb is not None:
        levels = np.arange(256, dtype=np.float32) / np.float32(srgb)
        for channel in range(3):
            features[2 + channel] = levels[image[..., channel]]
    return features.reshape(len(features), height * width)


def check(
    image: np.ndarray,
    shape: tuple[int, ...],
    floating: bool,
    dtype: str,
    gaussian: Sequence,
    bilateral: Sequence,
    iterations: int,
) -> None:
    """
    Raises:
        ValueError: as `dense_crf`, of the image, the shape and type of the energies, and the parameters.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"image is {image.dtype} of shape {image.shape}, not uint8 of shape (H, W, 3): open it with "
            "PIL.Image.open(file).convert('RGB')"
        )
    if len(shape) != 3 or not floating:
        raise ValueError(
            f"unary is {dtype} of shape {shape}, not floating point of shape (K, H, W): give one map of "
            "energies per class, for instance -logits"
        )
    if shape[1:] != image.shape[:2]:
        raise ValueError(
            f"unary is {shape[1:]} pixels, image {image.shape[:2]}: resize the logits to the size of the image"
        )
    if 0 in shape:
        raise ValueError(f"unary has shape {shape}: at least one class and one pixel are needed")
    for name, value, meaning in (("gaussian", gaussian, "sxy, compat"), ("bilateral", bilateral, "sxy, srgb, compat")):
        valid = np.shape(value) == (meaning.count(",") + 1,) and np.isfinite(value).all()
        if not valid or min(value[:-1]) <= 0 or value[-1] < 0:
            raise ValueError(
                f"{name} is {value!r}: give ({meaning}), standard deviations above 0 and a weight from 0 up"
            )
    if iterations != int(iterations) or iterations < 0:
        raise ValueError(f"iterations is {iterations}: give a whole number from 0 up")


def _threads() -> int:
    """One in a worker process, whose siblings keep the other cores busy."""
    if multiprocessing.parent_process() is not None:
        return 1
    return min(cores(), _PARTS)


def _bounds(start: int, stop: int) -> tuple[list[int], list[int]]:
    cuts = [start + (stop - start) * part // _PARTS for part in range(_PARTS + 1)]
    return cuts[:-1], cuts[1:]


def _live(unary: np.ndarray, lowest: np.ndarray, strength: float) -> np.ndarray:
    """Indices of the classes that can win a pixel.

    Messages are not negative, and that of a class whose probability is at most e everywhere is at most strength · e. If
    that is at most 1, an energy of log(1 / e) + 1 above the lowest keeps its probability below e in every iteration.
    """
    if strength * _NEGLIGIBLE > 1:
        return np.arange(len(unary))
    with np.errstate(over="ignore"):
        gap = np.array([np.min(energy - lowest) for energy in unary])
    return np.flatnonzero(gap < 1 - math.log(_NEGLIGIBLE))


class _Lattice(NamedTuple):
    """The lattices of all kernels side by side, with R corners per pixel in all.

    Vertex 0 stands for "not in the lattice" and always holds 0. Indices are unsigned: numba then need not ask whether
    they count from the end, and can use vector instructions.
    """

    vertices: np.ndarray  # (N, R) uint32, corners of each pixel's simplices, in 1 … V
    weights: np.ndarray  # (N, R) float32, barycentric coordinates times the square root of what scales the kernel
    neighbours: np.ndarray  # (axes, V + 1, 2) uint32, both neighbours of each vertex along each axis


def _build(features: list[np.ndarray], compats: Sequence[float], run: Callable) -> tuple[_Lattice, float]:
    """Lattice of the kernels over `features` (d, N), and an upper bound of what they add to any logit.

    Symmetric normalisation and weight are folded into the barycentric coordinates: W' B W' with the blur B.
    """
    n = features[0].shape[1]
    columns = np.cumsum([0] + [len(f) + 1 for f in features])
    keys = np.empty((n, columns[-1]), np.int64)
    vertices = np.empty((n, columns[-1]), np.uint32)
    weights = np.empty((n, columns[-1]), np.float32)
    layouts = [key_layout(f) for f in features]
    for f, layout, column in zip(features, layouts, columns[:-1], strict=True):
        run(partial(_embed, f, layout, column, keys, weights), *_bounds(0, n))
    tables = run(partial(_number, keys, vertices), layouts, columns[:-1])
    first = np.cumsum([0] + [table.shape[1] - 1 for table in tables])
    ranges = run(partial(_normalise, vertices, weights), columns[:-1], tables, first[:-1], map(float, compats))
    strength = sum(compat * high / low for compat, (low, high) in zip(compats, ranges, strict=True))

    # A lattice with fewer axes has no neighbours along the others: blurring there leaves it as it is.
    neighbours = np.zeros((max(map(len, tables)), first[-1] + 1, 2), np.uint32)
    for k, table in enumerate(tables):
        neighbours[: len(table), first[k] + 1 : first[k + 1] + 1] = np.where(table > 0, table + first[k], 0)[:, 1:]
    return _Lattice(vertices, weights, neighbours), strength


def check_widths(side: int, gaussian: Sequence[float], bilateral: Sequence[float]) -> None:
    """
    Args:
        side: of the largest image, in px.

    Raises:
        ValueError: the kernels are so narrow that the lattice of such an image would not fit.
    """
    for sxy, colours in ((gaussian[0], []), (bilateral[0], [255 / bilateral[1]] * 3)):
        key_layout(np.array([[0, extent] for extent in (side / sxy, side / sxy, *colours)]))


class _Layout(NamedTuple):
    """How points become lattice coordinates, and these become 64 bit keys: the sum of coordinate times stride.

    A step to a neighbour then adds a constant to the key.
    """

    scale: np.ndarray  # (d,) float32, of each feature
    strides: np.ndarray  # (d + 1,) int64, of each coordinate; 0 for the last, which follows from the others
    diagonal: int  # sum of the strides


def key_layout(features: np.ndarray) -> _Layout:
    d = len(features)
    j = np.arange(d)
    scale = (1 / np.sqrt((j + 1.0) * (j + 2.0)) * np.float32(math.sqrt(2 / 3) * (d + 1))).astype(np.float32)
    extent = features.max(axis=1).astype(np.float64) * scale  # features start at 0
    span = extent[::-1].cumsum()[::-1] + np.append(0, j[1:] * extent[:-1]) + 8 * (d + 1)  # room for neighbours
    if span.max() > 2**15 or np.log2(span.astype(int) + 1).sum() > 62:
        raise ValueError(
            f"sxy or srgb is too small: the image spans {features.max():.0f} standard deviations, and the lattice "
            "would not fit; use larger ones"
        )
    strides = np.cumprod(np.append(1, span.astype(np.int64) + 1))
    strides[-1] = 0
    return _Layout(scale, strides, int(strides.sum()))


@jit
def _embed(features, layout, column, keys, weights, start, stop):
    """Finds the simplex of each point: keys of its corners and barycentric coordinates.

    float32 in the reference implementation's order: in photos many points lie exactly between two simplices, and there
    the last bit decides which vertices exist.
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
    axis = np.empty(d + 1, np.int64)
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

        # The nearest vertex of remainder 0; `excess` is how far its coordinates are from summing to 0.
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

        for i in range(n):
            for j in range(d + 2):
                bary[j] = 0
            key = 0
            for j in range(d + 1):
                r = rank[j, i] + excess[i]
                base = origin[j, i]
                if r < 0:
                    r += d + 1
                    base += size
                elif r > d:
                    r -= d + 1
                    base -= size
                axis[r] = j
                x = (elevated[j, i] - base) * inverse
                bary[d - r] += x
                bary[d - r + 1] -= x
                key += np.int64(base) * strides[j]
            bary[0] += np.float32(1) + bary[d + 1]
            # From corner to corner: a step along the diagonal, and back by d + 1 along the axis whose turn it is.
            for r in range(d + 1):
                keys[begin + i, column + r] = key
                weights[begin + i, column + r] = bary[r]
                key += diagonal - (d + 1) * strides[axis[d - r]]


@jit
def _slot(key, table, bits):
    """Row of a hash table of (key, number) where `key` is, or where it belongs if the row is empty (number 0)."""
    slot = (np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - bits)
    while table[slot, 1] != 0 and table[slot, 0] != key:
        slot = (slot + np.uint64(1)) & np.uint64(len(table) - 1)
    return slot


@jit
def _number(keys, vertices, layout, column):
    """Numbers the vertices from 1 in order of appearance; returns their neighbours (d + 1, V + 1, 2).

    In this order the vertices of nearby pixels are nearby in memory, which matters more to splat and slice than sorted
    vertices would to blur.
    """
    corners = layout.strides.size
    bits = np.int64(15)
    table = np.zeros((1 << bits, 2), np.int64)
    count = 0
    for i in range(len(keys)):
        for c in range(column, column + corners):
            key = keys[i, c]
            if i > 0 and key == keys[i - 1, c]:  # most pixels share corners with the one before
                vertices[i, c] = vertices[i - 1, c]
                continue
            slot = _slot(key, table, bits)
            if table[slot, 1] == 0:
                count += 1
                table[slot, 0] = key
                table[slot, 1] = count
            vertices[i, c] = table[slot, 1]
            if count > len(table) // 2:
                bits += 1
                old_table = table
                table = np.zeros((1 << bits, 2), np.int64)
                for row in old_table:
                    if row[1] != 0:
                        slot = _slot(row[0], table, bits)
                        table[slot, 0] = row[0]
                        table[slot, 1] = row[1]

    vertex_keys = np.empty(count + 1, np.int64)
    for row in table:
        if row[1] != 0:
            vertex_keys[row[1]] = row[0]
    neighbours = np.zeros((corners, count + 1, 2), np.uint32)
    for j in range(corners):
        step = corners * layout.strides[j] - layout.diagonal
        for v in range(1, count + 1):
            w = table[_slot(vertex_keys[v] + step, table, bits), 1]
            if w != 0:
                neighbours[j, v, 0] = w
                neighbours[j, w, 1] = v
    return neighbours


@jit
def _normalise(vertices, weights, column, neighbours, first, compat):
    """Makes the rows of the kernel matrix sum to about 1, symmetrically, and multiplies it by `compat`.

    Moves the vertex numbers up by `first`. Returns the smallest and the largest norm of a pixel.
    """
    corners, count, _ = neighbours.shape
    values = np.zeros(count, np.float32)
    for i in range(len(vertices)):
        for c in range(column, column + corners):
            values[vertices[i, c]] += weights[i, c]
    for j in range(corners):
        blurred = np.zeros(count, np.float32)
        for v in range(1, count):
            blurred[v] = values[v] + np.float32(0.5) * (values[neighbours[j, v, 0]] + values[neighbours[j, v, 1]])
        values = blurred
    alpha = 1 / (1 + 2.0 ** (1 - corners))  # gain of splat, blur and slice (a constant of the reference)
    low, high = np.inf, 0.0
    for i in range(len(vertices)):
        total = 0.0
        for c in range(column, column + corners):
            total += weights[i, c] * values[vertices[i, c]]
        norm = 1 / math.sqrt(alpha * total + 1e-20)
        low, high = min(low, norm), max(high, norm)
        factor = np.float32(norm * math.sqrt(alpha * compat))
        for c in range(column, column + corners):
            weights[i, c] *= factor
            vertices[i, c] += first
    return low, high


def _mean_field(
    unary: np.ndarray, lowest: np.ndarray, live: np.ndarray, lattice: _Lattice, iterations: int, run: Callable
) -> np.ndarray:
    """Probabilities (K, N) of energies (K, N), among the classes `live`. `lowest` (N,): lowest energy per pixel."""
    n = unary.shape[1]
    vertices, weights, neighbours = lattice
    count = neighbours.shape[1]
    width = padded(live.size)
    energies = _aligned((n, width))
    splats = _aligned((_PARTS, count, width))
    values = _aligned((count, width))
    values[:] = 0
    probabilities = np.zeros(unary.shape, np.float32)
    pixels, nodes = _bounds(0, n), _bounds(1, count)

    # A pixel is visited once per iteration: slice what the last one left, softmax, splat for the next.
    run(partial(_pack, unary, lowest, live, energies), *pixels)
    for _ in range(iterations):
        run(partial(_slice_and_splat, energies, values, vertices, weights), splats, *pixels)
        run(partial(_merge, splats, values), *nodes)
        source, target = values, splats[0]
        for axis in neighbours:  # an even number, so that the result is in `values` again
            run(partial(_blur, source, axis, target), *nodes)
            source, target = target, source
    run(partial(_slice, energies, values, vertices, weights, live, probabilities), *pixels)
    return probabilities


def padded(classes: int) -> int:
    """Classes and what fills them up to whole vector registers."""
    return 4 if classes <= 4 else -(-classes // 8) * 8


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Empty float32 array that starts on a cache line, so that fewer vectors lie across two."""
    buffer = np.empty(math.prod(shape) + 16, np.float32)
    offset = -buffer.ctypes.data % 64 // 4
    return buffer[offset : offset + math.prod(shape)].reshape(shape)


@jit
def _pack(unary, lowest, live, energies, start, stop):
    """Energies above the lowest of each pixel, (N, width) instead of (K, N), padded with impossible classes."""
    for i in range(start, stop):
        for k in range(live.size):
            energies[i, k] = min(unary[live[k], i] - lowest[i], _NEVER)
        for k in range(live.size, energies.shape[1]):
            energies[i, k] = _NEVER


@jit_fast
def _exp(x):
    """exp(x) for x <= 0 in vector instructions (Cephes' polynomial).

    0 below -50: a probability of 1e-22 is nothing, and products with it would become denormal, which is slow.
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
def _softmax(logits):
    """Softmax of each row, in place."""
    n, width = logits.shape
    for i in range(n):
        top = logits[i, 0]
        for k in range(1, width):
            top = max(top, logits[i, k])
        for k in range(width):
            logits[i, k] -= top
    flat = logits.reshape(n * width)
    for j in range(flat.size):
        flat[j] = _exp(flat[j])
    for i in range(n):
        total = np.float32(0)
        for k in range(width):
            total += logits[i, k]
        total = np.float32(1) / total
        for k in range(width):
            logits[i, k] *= total


@jit_fast
def _update(energies, values, vertices, weights, start, q):
    """Mean-field update of the len(q) pixels from `start` on: q = softmax(messages - energies).

    The nine corners (three over position, six over position and colour) are written out: their sum then stays in
    registers, which makes it twice as fast.
    """
    n, width = q.shape
    for i in range(n):
        p = start + i
        v0, v1, v2 = vertices[p, 0], vertices[p, 1], vertices[p, 2]
        v3, v4, v5 = vertices[p, 3], vertices[p, 4], vertices[p, 5]
        v6, v7, v8 = vertices[p, 6], vertices[p, 7], vertices[p, 8]
        w0, w1, w2 = weights[p, 0], weights[p, 1], weights[p, 2]
        w3, w4, w5 = weights[p, 3], weights[p, 4], weights[p, 5]
        w6, w7, w8 = weights[p, 6], weights[p, 7], weights[p, 8]
        for k in range(width):
            q[i, k] = (
                w0 * values[v0, k] + w1 * values[v1, k] + w2 * values[v2, k]
                + w3 * values[v3, k] + w4 * values[v4, k] + w5 * values[v5, k]
                + w6 * values[v6, k] + w7 * values[v7, k] + w8 * values[v8, k]
                - energies[p, k]
            )  # fmt: skip
    _softmax(q)


@jit_fast
def _slice_and_splat(energies, values, vertices, weights, splat, start, stop):
    splat[:] = 0
    block = np.empty((_BLOCK, energies.shape[1]), np.float32)
    for begin in range(start, stop, _BLOCK):
        q = block[: min(_BLOCK, stop - begin)]
        _update(energies, values, vertices, weights, begin, q)
        n, width = q.shape
        for i in range(n):
            p = begin + i
            for c in range(vertices.shape[1]):
                v, w = vertices[p, c], weights[p, c]
                for k in range(width):
                    splat[v, k] += w * q[i, k]


@jit_fast
def _slice(energies, values, vertices, weights, live, out, start, stop):
    block = np.empty((_BLOCK, energies.shape[1]), np.float32)
    for begin in range(start, stop, _BLOCK):
        q = block[: min(_BLOCK, stop - begin)]
        _update(energies, values, vertices, weights, begin, q)
        for k in range(live.size):
            for i in range(len(q)):
                out[live[k], begin + i] = q[i, k]


@jit_fast
def _merge(splats, values, start, stop):
    """Sums the splats of all parts."""
    for v in range(start, stop):
        for k in range(values.shape[1]):
            values[v, k] = splats[0, v, k]
        for part in range(1, len(splats)):
            for k in range(values.shape[1]):
                values[v, k] += splats[part, v, k]


@jit_fast
def _blur(values, neighbours, out, start, stop):
    """Convolves with (1/2, 1, 1/2) along one axis of the lattice."""
    half = np.float32(0.5)
    for v in range(start, stop):
        before, after = neighbours[v, 0], neighbours[v, 1]
        for k in range(values.shape[1]):
            out[v, k] = values[v, k] + half * (values[before, k] + values[after, k])
