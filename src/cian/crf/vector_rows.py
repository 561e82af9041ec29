"""The three innermost operations of the dense CRF, on rows of class scores held in vector registers.

numba does not vectorise a short loop over a row of an array whose other rows it writes, because it cannot tell whether
the rows overlap. These functions write the vector code themselves, in LLVM's language, which makes an iteration two to
three times as fast. The width W of a row, 4 or 8 k, is the length of the tuple `lanes`, and so known at compile time.

Arrays are C-contiguous; indices are not checked. The functions use internals of numba, which may change: see
`cian.crf.plain_mean_field` for what replaces them then.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import types
from numba.np.arrayobj import make_array

_CORNERS = 9  # of a pixel: three in the lattice over position, six in that over position and colour
_FAST = ("fast",)
_intrinsic: Any = extending.intrinsic
_FLOAT, _DOUBLE, _INT = ir.FloatType(), ir.DoubleType(), ir.IntType(64)


@_intrinsic
def gather_row(typingctx: Any, values, vertices, weights, energies, pixel, out, row, lanes):
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
def scatter_row(typingctx: Any, values, row, vertices, weights, pixel, out, lanes):
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
def blur_row(typingctx: Any, values, neighbours, before, vertex, out, lanes):
    """out[vertex] = values[vertex] + the mean of the values of its two neighbours.

    Shape:
        values, out: (V, W); neighbours: (V' + 1, 2) uint32, indexed by vertex - before and numbered 1 … V' in the same
        way; 0 stands for a missing neighbour, and values[0] is 0.
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
            exists = builder.icmp_unsigned("!=", number, zero)
            neighbour = builder.select(exists, builder.add(number, before_), zero)
            result = make.add(result, half, make.load(values_, neighbour))
        make.store(result, out_, vertex_)
        return context.get_dummy_value()

    return types.void(values, neighbours, types.intp, types.intp, out, lanes), code


class _Builder:
    """Writes LLVM code for rows of `width` floats. A row is a list of vectors."""

    def __init__(self, context: Any, builder: Any, width: int) -> None:
        self.context, self.builder, self.width = context, builder, width
        self.vector = ir.VectorType(_FLOAT, min(width, 8))
        self.count = width // self.vector.count

    def pointers(self, signature: Any, arguments: Any) -> list[Any]:
        """The arguments; an array becomes the address of its first item."""
        return [
            make_array(kind)(self.context, self.builder, each).data if isinstance(kind, types.Array) else each
            for kind, each in zip(signature.args, arguments, strict=True)
        ]

    def item(self, array: Any, row: Any, width: int, column: int) -> Any:
        """array[row, column] of an array with `width` columns."""
        at = self.builder.add(self.builder.mul(row, ir.Constant(_INT, width)), ir.Constant(_INT, column))
        return self.builder.load(self.builder.gep(array, [at]))

    def corners(self, vertices: Any, weights: Any, pixel: Any) -> list[tuple[Any, Any]]:
        """The vertex number and the weight, in all lanes, of each corner of a pixel."""
        return [
            (
                self.builder.zext(self.item(vertices, pixel, _CORNERS, corner), _INT),
                self.everywhere(self.item(weights, pixel, _CORNERS, corner)),
            )
            for corner in range(_CORNERS)
        ]

    def _addresses(self, array: Any, row: Any) -> list[Any]:
        start = self.builder.gep(array, [self.builder.mul(row, ir.Constant(_INT, self.width))])
        start = self.builder.bitcast(start, self.vector.as_pointer())
        return [self.builder.gep(start, [ir.Constant(_INT, part)]) for part in range(self.count)]

    def load(self, array: Any, row: Any) -> list[Any]:
        """A row of an array."""
        return [self.builder.load(address, align=4) for address in self._addresses(array, row)]

    def store(self, parts: list[Any], array: Any, row: Any) -> None:
        """Writes a row of an array."""
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
        """The largest float of a row."""
        top = parts[0]
        for part in parts[1:]:
            top = self.builder.select(self.builder.fcmp_ordered(">", part, top, flags=_FAST), part, top)
        return self._reduce("fmax", top)

    def total(self, parts: list[Any]) -> Any:
        """The sum of a row, in double precision, so that the order of the classes does not matter."""
        total, *others = [self.builder.fpext(part, ir.VectorType(_DOUBLE, self.vector.count)) for part in parts]
        for other in others:
            total = self.builder.fadd(total, other, flags=_FAST)
        return self.builder.fptrunc(self._reduce("fadd", ir.Constant(_DOUBLE, 0), total), _FLOAT)

    def _reduce(self, name: str, *arguments: Any) -> Any:
        vector = arguments[-1].type
        kind = ir.FunctionType(vector.element, [each.type for each in arguments])
        full_name = f"llvm.vector.reduce.{name}.v{vector.count}f{64 if vector.element == _DOUBLE else 32}"
        return self.builder.call(self.builder.module.declare_intrinsic(full_name, (), kind), arguments, fastmath=_FAST)
