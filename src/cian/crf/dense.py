"""Dense conditional random field: sharpens class scores along the edges of the photo.

Krähenbühl & Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NeurIPS 2011: every
pixel is tied to every other one by two Gaussian kernels, one over position and one over position and colour, so that a
mean-field iteration is a Gaussian filter in 2 and one in 5 dimensions. The filter is the permutohedral lattice of
Adams, Baek & Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010: splat each
pixel onto the d + 1 corners of its simplex, blur along the d + 1 axes of the lattice, slice the result at the pixels.

Symbols: N pixels, K classes, d dimensions of a feature, V vertices of the lattice.

Safe in forked and spawned workers: threads live as long as one call, and a worker process or thread gets
one. (numba's `parallel=True` is not: its OpenMP layer kills a process that forks after use, as a DataLoader does.)
"""

from __future__ import annotations

import math
import multiprocessing
import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import lru_cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from cian.compiled import jit
from cian.config import CrfConfig
from cian.crf.mean_field import blur, merge, pack, padded, slice_and_splat, take_out
from cian.errors import CianError
from cian.parallel import cores

_PARTS = 2  # pixels are always summed in this many parts, so that the result is the same for any number of threads
_BLOCK = 128  # pixels worked on together, so that they stay in the first-level cache
_KEPT = 2**20  # pixels of an image whose lattice over position is kept, in 24 bytes each
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

    threads = _threads()
    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:

        def run(function: Callable[..., Any], *args: Iterable[Any]) -> list[Any]:
            return list((pool.map if pool else map)(function, *args))

        lattice = _lattice(image, gaussian, bilateral, run)
        results = [
            _mean_field(unary, lowest, _live(unary, lowest, lattice.strength), lattice, iterations, run)
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
    """One in a worker process or thread, whose siblings keep the other cores busy."""
    if multiprocessing.parent_process() is not None or threading.current_thread() is not threading.main_thread():
        return 1
    return min(cores(), _PARTS)


def one_after_another(function: Callable[..., Any], *args: Iterable[Any]) -> list[Any]:
    """`map` by this thread alone, where a pool's could stand."""
    return list(map(function, *args))


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

    Vertex 0 stands for "not in the lattice" and always holds 0. Numbers are unsigned: numba then need not ask whether
    they count from the end.
    """

    vertices: np.ndarray  # (N, R) uint32, corners of each pixel's simplices, in 1 … V
    weights: np.ndarray  # (N, R) float32, barycentric coordinates times the square root of what scales the kernel
    neighbours: list[np.ndarray]  # of each kernel: (d + 1, V' + 1, 2) uint32, both along each axis, in its own 0 … V'
    first: list[int]  # of each kernel: how many vertices come before its own; at the end V
    strength: float  # an upper bound of what the kernels add to any logit


def _lattice(image: np.ndarray, gaussian: Sequence[float], bilateral: Sequence[float], run: Callable) -> _Lattice:
    """Of both kernels; that over position is kept for the next image of the size."""
    height, width, _ = image.shape
    build = _position_lattice if height * width <= _KEPT else _position_lattice.__wrapped__
    position = build(height, width, *map(float, gaussian))
    return _build(image_features(image, *bilateral[:2]), float(bilateral[2]), run, position)


@lru_cache(maxsize=2)
def _position_lattice(height: int, width: int, sxy: float, compat: float) -> _Lattice:
    features = position_features(height, width, sxy)
    nothing = np.empty((len(features[0]), 0), np.uint32)
    empty = _Lattice(nothing, nothing.astype(np.float32), [], [0], 0.0)
    return _build(features, compat, one_after_another, empty)


def _build(features: np.ndarray, compat: float, run: Callable, others: _Lattice) -> _Lattice:
    """Lattice of the kernel over `features` (d, N), beside those of `others`.

    Symmetric normalisation and weight are folded into the barycentric coordinates: W' B W' with the blur B.
    """
    n = features.shape[1]
    column = others.vertices.shape[1]
    end = column + len(features) + 1
    vertices = np.empty((n, end), np.uint32)
    weights = np.empty((n, end), np.float32)
    layout = key_layout(features)
    first = others.first[-1]
    pixels = _bounds(0, n)

    def embed(start: int, stop: int) -> np.ndarray:
        vertices[start:stop, :column] = others.vertices[start:stop]
        weights[start:stop, :column] = others.weights[start:stop]
        return _embed(features, layout, column, vertices, weights, start, stop)

    keys = run(embed, *pixels)  # of each part
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
    return _Lattice(vertices, weights, [*others.neighbours, neighbours], [*others.first, last], strength)


def check_kernels(setting: str, kernels: CrfConfig, side: int) -> None:
    """
    Args:
        setting: that gives the kernels, for the error.
        side: of the largest image, in px.

    Raises:
        CianError: the kernels are so narrow that the lattice of such an image would not fit.
    """
    gaussian, bilateral = kernels.gaussian, kernels.bilateral
    try:
        for sxy, colours in ((gaussian[0], []), (bilateral[0], [255 / bilateral[1]] * 3)):
            key_layout(np.array([[0, extent] for extent in (side / sxy, side / sxy, *colours)]))
    except ValueError as error:
        raise CianError(
            f"{setting}: gaussian = {gaussian}, bilateral = {bilateral}: {error} (sxy in px, srgb in levels of 255)."
        ) from None


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
def _embed(features, layout, column, vertices, weights, start, stop):
    """Finds the simplex of each point: its corners and barycentric coordinates.

    Corners are numbered from 1 in order of appearance, so that those of nearby pixels are nearby in memory, which
    matters more to splat and slice than sorted ones would to blur. Returns their keys (V + 1,), that of 0 unused.

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
    steps = np.empty(d + 1, np.int64)
    known = np.full(d + 1, -1, np.int64)  # the corners of the point before: most points share some
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
            # From corner to corner: a step along the diagonal, and back by d + 1 along the axis whose turn it is.
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
    """Where in a hash table of numbers that of `key` is, or where it belongs if there is a 0."""
    mask = np.uint64(len(table) - 1)
    slot = ((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)) & mask
    while table[slot] != 0 and keys[table[slot]] != key:
        slot = (slot + np.uint64(1)) & mask
    return slot


@jit
def _table(keys, count):
    """Hash table of the numbers 1 … count of keys, as long as `keys`."""
    table = np.zeros(len(keys), np.uint32)
    for number in range(1, count + 1):
        table[_slot(keys[number], keys, table)] = number
    return table


@jit
def _join(parts):
    """Joins the vertices of a kernel that several parts of the pixels have found, in order of appearance.

    Args:
        parts: of each part the keys (V + 1,) of its own numbers.

    Returns:
        The number of each of these keys, one part after the other; the keys (V + 1,); their hash table.
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
    """Numbers of both neighbours of each vertex along an axis, (V + 1, 2); 0 is left where there is none."""
    step = layout.strides.size * layout.strides[axis] - layout.diagonal
    for v in range(1, len(keys)):
        w = table[_slot(keys[v] + step, keys, table)]
        if w != 0:
            out[v, 0] = w
            out[w, 1] = v


@jit
def _splat_ones(vertices, weights, column, numbers, shape, first, start, stop):
    """Splats a one at each pixel, (V + 1,), and replaces a part's own numbers by `numbers` of the whole lattice."""
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
    for axis in neighbours:
        blurred = np.zeros_like(values)
        for v in range(1, len(values)):
            blurred[v] = values[v] + np.float32(0.5) * (values[axis[v, 0]] + values[axis[v, 1]])
        values = blurred
    return values


@jit
def _normalise(vertices, weights, column, end, ones, first, compat, start, stop):
    """Makes the rows of the kernel matrix sum to about 1, symmetrically, and multiplies it by `compat`.

    Returns the smallest and the largest norm of a pixel.
    """
    alpha = 1 / (1 + 2.0 ** (1 - (end - column)))  # gain of splat, blur and slice (a constant of the reference)
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


def _mean_field(
    unary: np.ndarray, lowest: np.ndarray, live: np.ndarray, lattice: _Lattice, iterations: int, run: Callable
) -> np.ndarray:
    """Probabilities (K, N) of energies (K, N), among the classes `live`. `lowest` (N,): lowest energy per pixel."""
    n = unary.shape[1]
    vertices, weights, neighbours, first, _ = lattice
    width = padded(live.size)
    lanes = (0,) * width
    energies = _aligned((n, width))
    splats = _aligned((_PARTS, first[-1] + 1, width))
    values = _aligned((first[-1] + 1, width))
    values[:] = 0
    probabilities = np.zeros(unary.shape, np.float32)
    pixels = _bounds(0, n)
    nodes = list(zip(*(zip(*_bounds(b + 1, e + 1), strict=True) for b, e in pairwise(first)), strict=True))

    def blur_axis(number: int, bounds: Sequence[tuple[int, int]]) -> None:
        """Of every kernel that has so many; before the first, the parts are summed. The last one ends in `values`."""
        for axes, before, (start, stop) in zip(neighbours, first[:-1], bounds, strict=True):
            source, target = (values, splats[0]) if (len(axes) - number) % 2 == 0 else (splats[0], values)
            if number < 0:
                merge(splats, target, start, stop)
            elif number < len(axes):
                blur(source, axes[number], before, target, lanes, start, stop)

    # A pixel is visited once per iteration: slice what the last one left, softmax, splat for the next.
    run(partial(pack, unary, lowest, live, energies), *pixels)
    for _ in range(iterations):
        run(partial(slice_and_splat, energies, values, vertices, weights, lanes), splats, *pixels)
        for number in range(-1, max(map(len, neighbours))):  # all kernels at once: a call costs some 60 µs
            run(partial(blur_axis, number), nodes)
    run(partial(take_out, energies, values, vertices, weights, live, lanes, probabilities), *pixels)
    return probabilities


def _aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Empty float32 array that starts on a cache line, so that fewer vectors lie across two."""
    buffer = np.empty(math.prod(shape) + 16, np.float32)
    offset = -buffer.ctypes.data % 64 // 4
    return buffer[offset : offset + math.prod(shape)].reshape(shape)
