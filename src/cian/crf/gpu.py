"""The dense CRF in PyTorch operations, for tensors on a GPU.

On a CPU, `cian.crf.dense.dense_crf` is faster. Both place the lattice by the same arithmetic, and agree to rounding.

Splat and slice are products with a sparse matrix that has a row for each pixel and a column for each lattice vertex.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cian.crf.dense import check
from cian.crf.lattice import image_features, key_layout, position_features


@torch.no_grad()
def dense_crf(
    image: np.ndarray,
    unary: Tensor,
    *,
    gaussian: tuple[float, float] = (3, 3),
    bilateral: tuple[float, float, float] = (80, 13, 10),
    iterations: int = 10,
) -> Tensor:
    """Class probabilities after mean-field inference in a fully connected CRF; see `cian.crf.dense.dense_crf`.

    Args:
        image: (H, W, 3) uint8, in main memory.
        unary: (K, H, W) floating point energies, finite or +inf, on any device.

    Returns:
        (K, H, W) float32 on the device of `unary`.

    Raises:
        ValueError: a shape or type is wrong, or a parameter is out of range.
    """
    check(image, tuple(unary.shape), unary.dtype.is_floating_point, str(unary.dtype), gaussian, bilateral, iterations)
    classes, height, width = unary.shape
    energies = unary.float().reshape(classes, -1).T.clamp(max=1e30)  # (N, K)
    energies = energies - energies.amin(1, keepdim=True)
    q = (-energies).softmax(1)
    if iterations:
        features = [position_features(height, width, gaussian[0]), image_features(image, *bilateral[:2])]
        lattice = _build(features, (gaussian[1], bilateral[2]), unary.device)
        for _ in range(iterations):
            q = (lattice.filter(q) - energies).softmax(1)
    return q.T.reshape(classes, height, width)


class _Lattice:
    """The filter W B W': row i of W holds the weights of pixel i's corners, and B blurs.

    Vertex 0 stands for "no such vertex" and always holds 0.

    Shape:
        vertices: (N, R), in 1 … V; weights: (N, R); neighbours: (axes, V + 1, 2), 0 where there is none.
    """

    def __init__(self, vertices: Tensor, weights: Tensor, neighbours: Tensor):
        count = neighbours.shape[1]
        self.neighbours = neighbours
        self.slice, self.splat = _matrix(vertices, weights, count), _transposed(vertices, weights, count)

    def filter(self, q: Tensor) -> Tensor:
        """(N, K) → (N, K)."""
        values = self.splat @ q
        for axis in self.neighbours:  # convolves with (1/2, 1, 1/2)
            values = values + 0.5 * (values[axis[:, 0]] + values[axis[:, 1]])
        return self.slice @ values


def _build(features: list[np.ndarray], compats: tuple[float, float], device: torch.device) -> _Lattice:
    """The lattices of all kernels side by side; symmetric normalisation and `compats` are folded into the weights."""
    vertices, weights, tables = [], [], []
    first = 0
    for points, compat in zip(features, compats, strict=True):
        corners, shares, table = _embed(points, device)
        alpha = 1 / (1 + 2.0 ** -(corners.shape[1] - 1))  # gain of splat, blur and slice, as in the reference
        norms = alpha * _Lattice(corners, shares, table).filter(torch.ones(len(corners), 1, device=device)) + 1e-20
        vertices.append(corners + first)
        weights.append(shares * (alpha * compat / norms).sqrt())
        tables.append(torch.where(table > 0, table + first, 0)[:, 1:])
        first += table.shape[1] - 1
    axes = max(map(len, tables))
    neighbours = torch.cat([F.pad(table, (0, 0, 0, 0, 0, axes - len(table))) for table in tables], 1)
    return _Lattice(torch.cat(vertices, 1), torch.cat(weights, 1), F.pad(neighbours, (0, 0, 1, 0)))


def _matrix(vertices: Tensor, weights: Tensor, count: int) -> Tensor:
    """(N, R) corners and their weights → sparse (N, V)."""
    n, corners = vertices.shape
    rows = torch.arange(n + 1, device=vertices.device) * corners
    order = vertices.argsort(1)  # columns of a row in order
    columns = vertices.gather(1, order)
    return _csr(rows, columns.flatten(), weights.gather(1, order).flatten(), (n, count))


def _transposed(vertices: Tensor, weights: Tensor, count: int) -> Tensor:
    """(N, R) corners and their weights → sparse (V, N)."""
    n, corners = vertices.shape
    order = vertices.flatten().argsort(stable=True)
    rows = torch.zeros(count + 1, dtype=torch.int64, device=vertices.device)
    rows[1:] = torch.bincount(vertices.flatten(), minlength=count).cumsum(0)
    return _csr(rows, order.div(corners, rounding_mode="floor"), weights.flatten()[order], (count, n))


def _csr(rows: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")
        return torch.sparse_csr_tensor(rows, columns, values, size, check_invariants=False)


def _embed(features: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the simplex of each point.

    The arithmetic is float32 in the order of `cian.crf.lattice`: many points lie exactly between two simplices, and the
    last bit decides.

    Shape:
        features: (d, N). Returns the corners (N, d + 1), in 1 … V; their barycentric coordinates (N, d + 1); and both
        neighbours of each vertex along each axis (d + 1, V + 1, 2), 0 for a missing one.
    """
    d, n = features.shape
    layout = key_layout(features)
    strides = torch.from_numpy(layout.strides).to(device)
    points = torch.from_numpy(features * layout.scale[:, None]).to(device)  # (d, N)
    elevated = torch.zeros(d + 1, n, device=device)
    for j in range(d, 0, -1):
        elevated[j] = elevated[0] - j * points[j - 1]
        elevated[0] += points[j - 1]
    inverse = float(np.float32(1) / np.float32(d + 1))
    rounded = (elevated * inverse).round()
    origin = rounded * (d + 1)
    excess = rounded.sum(0).long()  # how far the coordinates of the nearest vertex are from summing to 0
    offset = elevated - origin
    rank = torch.zeros(d + 1, n, dtype=torch.int64, device=device)
    for j in range(d):
        for k in range(j + 1, d + 1):
            less = offset[j] < offset[k]
            rank[j] += less
            rank[k] += ~less
    rank += excess
    low, high = rank < 0, rank > d
    rank += (d + 1) * (low.long() - high.long())
    origin += (d + 1) * (low.float() - high.float())
    x = (elevated - origin) * inverse
    axis = torch.empty_like(rank).scatter_(0, rank, torch.arange(d + 1, device=device)[:, None].expand(-1, n))
    sorted_x = x.gather(0, axis)  # by rank
    shares = torch.empty(n, d + 1, device=device)
    shares[:, 0] = 1 + sorted_x[d] - sorted_x[0]
    for r in range(1, d + 1):
        shares[:, r] = sorted_x[d - r] - sorted_x[d - r + 1]

    # The next corner: one step along the diagonal, then back by d + 1 along the axis of that rank.
    keys = torch.empty(n, d + 1, dtype=torch.int64, device=device)
    keys[:, 0] = (origin.long() * strides[:, None]).sum(0)
    for r in range(d):
        keys[:, r + 1] = keys[:, r] + layout.diagonal - (d + 1) * strides[axis[d - r]]
    known, corners = keys.unique(return_inverse=True)  # (V,), (N, d + 1)
    steps = ((d + 1) * strides - layout.diagonal)[:, None, None] * torch.tensor([1, -1], device=device)
    wanted = known[:, None] + steps  # (d + 1, V, 2)
    places = torch.searchsorted(known, wanted).clamp(max=len(known) - 1)
    neighbours = torch.where(known[places] == wanted, places + 1, 0)
    return corners + 1, shares, F.pad(neighbours, (0, 0, 1, 0))
