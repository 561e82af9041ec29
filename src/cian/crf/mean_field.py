"""The inner loops of the CRF: rows of class scores as vector registers.

numba does not vectorise a short loop over a row of an array that it writes others from: it cannot tell whether they
overlap. The functions on rows are given to LLVM as vectors from the start, which makes an iteration two to three times
as fast. The length W of a row, 4 or 8 k, is that of the tuple `lanes`, and so known when loops are compiled.

All arrays are C-contiguous; indices are not checked.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending
from numba.core import types
from numba.np.arrayobj import make_array

from cian.compiled import jit, jit_fast

CORNERS = 9  # of a pixel: three in the lattice over position, six in that over position and colour
_BLOCK = 128  # pixels updated together, so that they stay in the first-level cache
_NEVER = np.float32(1e30)  # energy of an impossible class; finite, so that sums with it stay finite
_FAST = ("fast",)
_intrinsic: Any = extending.intrinsic
_FLOAT, _DOUBLE, _INT = ir.FloatType(), ir.DoubleType(), ir.IntType(64)


def padded(classes: int) -> int:
    """Classes and what fills them up to whole vector registers; a number that loops are compiled for.

    A quarter more at most, so that these are few.
    """
    if classes <= 4:
        return 4
    step = max(8, 2 ** (math.ceil(math.log2(classes)) - 3))
    return -(-classes // step) * step


@_intrinsic
def _gather_row(typingctx: Any, values, vertices, weights, energies, pixel, out, row, lanes):
    """out[row] = Σ over corners c of weights[pixel, c] · values[vertices[pixel, c]] - energies[pixel], minus its top.

    Shape:
        values: (V, W); vertices, weights: (N, 9) uint32, float32; energies: (N, W); out: (n, W).
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        make = _Builder(context, builder, lanes.count)
        values_, vertices_, weights_, energies_, pixel_, out_, row_, _ = make.pointers(signature, arguments)
        logits = [builder.fneg(energy, flags=_FAST) for energy in make.load(energies_, pixel_)]
        for vertex, weight in make.corners(vertices_, weights_, pixel_):
            logits = make.add(logits, weight, make.load(values_, vertex))
        top = make.everywhere(make.maximum(logits))
        make.store([builder.fsub(logit, top, flags=_FAST) for logit in logits], out_, row_)
        return context.get_dummy_value()

    return types.void(values, vertices, weights, energies, types.intp, out, types.intp, lanes), code


@_intrinsic
def _scatter_row(typingctx: Any, values, row, vertices, weights, pixel, out, lanes):
    """out[vertices[pixel, c]] += weights[pixel, c] · values[row] / values[row].sum(), for all corners c.

    Shape:
        values: (n, W); vertices, weights: (N, 9) uint32, float32; out: (V, W).
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        make = _Builder(context, builder, lanes.count)
        values_, row_, vertices_, weights_, pixel_, out_, _ = make.pointers(signature, arguments)
        source = make.load(values_, row_)
        scale = make.everywhere(builder.fdiv(ir.Constant(_FLOAT, 1), make.total(source)))
        source = [builder.fmul(part, scale, flags=_FAST) for part in source]
        for vertex, weight in make.corners(vertices_, weights_, pixel_):
            make.store(make.add(make.load(out_, vertex), weight, source), out_, vertex)
        return context.get_dummy_value()

    return types.void(values, types.intp, vertices, weights, types.intp, out, lanes), code


@_intrinsic
def _blur_row(typingctx: Any, values, neighbours, before, vertex, out, lanes):
    """out[vertex] = values[vertex] + the mean of those of its two neighbours.

    Shape:
        values, out: (V, W); neighbours: (V' + 1, 2) uint32 of vertex - before, in 1 … V', or 0 where there is none,
        and values[0] is 0.
    """

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        make = _Builder(context, builder, lanes.count)
        values_, neighbours_, before_, vertex_, out_, _ = make.pointers(signature, arguments)
        result = make.load(values_, vertex_)
        half = make.everywhere(ir.Constant(_FLOAT, 0.5))
        zero = ir.Constant(_INT, 0)
        for side in range(2):
            number = make.item(neighbours_, builder.sub(vertex_, before_), 2, side)
            number = builder.zext(number, _INT)
            there = builder.icmp_unsigned("!=", number, zero)
            neighbour = builder.select(there, builder.add(number, before_), zero)
            result = make.add(result, half, make.load(values_, neighbour))
        make.store(result, out_, vertex_)
        return context.get_dummy_value()

    return types.void(values, neighbours, types.intp, types.intp, out, lanes), code


class _Builder:
    """Writes LLVM code on rows of `width` floats, as lists of vectors."""

    def __init__(self, context: Any, builder: Any, width: int) -> None:
        self.context, self.builder, self.width = context, builder, width
        self.vector = ir.VectorType(_FLOAT, min(width, 8))
        self.count = width // self.vector.count

    def pointers(self, signature: Any, arguments: Any) -> list[Any]:
        """The arguments, of arrays the address of the first item."""
        return [
            make_array(kind)(self.context, self.builder, each).data if isinstance(kind, types.Array) else each
            for kind, each in zip(signature.args, arguments, strict=True)
        ]

    def item(self, array: Any, row: Any, width: int, column: int) -> Any:
        at = self.builder.add(self.builder.mul(row, ir.Constant(_INT, width)), ir.Constant(_INT, column))
        return self.builder.load(self.builder.gep(array, [at]))

    def corners(self, vertices: Any, weights: Any, pixel: Any) -> list[tuple[Any, Any]]:
        """Number and weight (in all lanes) of a pixel's corners."""
        return [
            (
                self.builder.zext(self.item(vertices, pixel, CORNERS, corner), _INT),
                self.everywhere(self.item(weights, pixel, CORNERS, corner)),
            )
            for corner in range(CORNERS)
        ]

    def _addresses(self, array: Any, row: Any) -> list[Any]:
        start = self.builder.gep(array, [self.builder.mul(row, ir.Constant(_INT, self.width))])
        start = self.builder.bitcast(start, self.vector.as_pointer())
        return [self.builder.gep(start, [ir.Constant(_INT, part)]) for part in range(self.count)]

    def load(self, array: Any, row: Any) -> list[Any]:
        return [self.builder.load(address, align=4) for address in self._addresses(array, row)]

    def store(self, parts: list[Any], array: Any, row: Any) -> None:
        for part, address in zip(parts, self._addresses(array, row), strict=True):
            self.builder.store(part, address, align=4)

    def everywhere(self, value: Any) -> Any:
        """A float in all lanes of a vector."""
        nothing = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), self.vector.count), [0] * self.vector.count)
        return self.builder.shuffle_vector(first, nothing, lanes)

    def add(self, parts: list[Any], weight: Any, others: list[Any]) -> list[Any]:
        """parts + weight · others"""
        products = [self.builder.fmul(weight, other, flags=_FAST) for other in others]
        return [self.builder.fadd(*each, flags=_FAST) for each in zip(parts, products, strict=True)]

    def maximum(self, parts: list[Any]) -> Any:
        top = parts[0]
        for part in parts[1:]:
            top = self.builder.select(self.builder.fcmp_ordered(">", part, top, flags=_FAST), part, top)
        return self._reduce("fmax", top)

    def total(self, parts: list[Any]) -> Any:
        """In double precision, so that the order of the classes does not matter."""
        total, *others = [self.builder.fpext(part, ir.VectorType(_DOUBLE, self.vector.count)) for part in parts]
        for other in others:
            total = self.builder.fadd(total, other, flags=_FAST)
        return self.builder.fptrunc(self._reduce("fadd", ir.Constant(_DOUBLE, 0), total), _FLOAT)

    def _reduce(self, name: str, *arguments: Any) -> Any:
        vector = arguments[-1].type
        kind = ir.FunctionType(vector.element, [each.type for each in arguments])
        full_name = f"llvm.vector.reduce.{name}.v{vector.count}f{64 if vector.element == _DOUBLE else 32}"
        return self.builder.call(self.builder.module.declare_intrinsic(full_name, (), kind), arguments, fastmath=_FAST)


@jit
def pack(unary, lowest, live, energies, start, stop):
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
def _update(energies, values, vertices, weights, lanes, start, q):
    """Mean-field update of the len(q) pixels from `start` on: q = softmax(messages - energies), not normalised."""
    for i in range(len(q)):
        _gather_row(values, vertices, weights, energies, start + i, q, i, lanes)
    flat = q.reshape(q.size)
    for j in range(flat.size):
        flat[j] = _exp(flat[j])


@jit_fast
def slice_and_splat(energies, values, vertices, weights, lanes, splat, start, stop):
    splat[:] = 0
    block = np.empty((_BLOCK, len(lanes)), np.float32)
    for begin in range(start, stop, _BLOCK):
        q = block[: min(_BLOCK, stop - begin)]
        _update(energies, values, vertices, weights, lanes, begin, q)
        for i in range(len(q)):
            _scatter_row(q, i, vertices, weights, begin + i, splat, lanes)


@jit_fast
def take_out(energies, values, vertices, weights, live, lanes, out, start, stop):
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
def merge(splats, out, start, stop):
    """Sums the splats of all parts; `out` may be the first of them."""
    size = (stop - start) * out.shape[1]
    first, total = splats[0, start:stop].reshape(size), out[start:stop].reshape(size)
    for j in range(size):
        total[j] = first[j]
    for part in range(1, len(splats)):
        other = splats[part, start:stop].reshape(size)
        for j in range(size):
            total[j] += other[j]


@jit_fast
def blur(values, neighbours, before, out, lanes, start, stop):
    """Convolves with (1/2, 1, 1/2) along one axis of a kernel's lattice, `before` which the others' vertices lie."""
    for v in range(start, stop):
        _blur_row(values, neighbours, before, v, out, lanes)
