"""Mean-field inference in numpy and scipy: what `cian.crf.mean_field` computes, without compiled loops.

It is the reference for the tests of those loops, and takes their place where they do not compile.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from cian.crf.lattice import Lattice


def infer(unary: np.ndarray, lowest: np.ndarray, live: np.ndarray, lattice: Lattice, iterations: int) -> np.ndarray:
    """See `cian.crf.mean_field.infer`.

    Shape:
        unary: (K, N) energies; lowest: (N,), the lowest energy of each pixel; live: (L,) class ids. Returns (K, N).
    """
    from scipy.sparse import csr_matrix  # not at the top: it slows every start down

    pixels, corners = lattice.vertices.shape
    rows = np.arange(0, pixels * corners + 1, corners)
    shape = (pixels, lattice.first[-1] + 1)
    slices = csr_matrix((lattice.weights.ravel(), lattice.vertices.ravel().astype(np.int64), rows), shape)  # (N, V + 1)
    splats = slices.T.tocsr()  # (V + 1, N)
    with np.errstate(over="ignore"):  # beyond float32 is impossible, as +inf is
        energies = (unary[live] - lowest).T  # (N, L)
    q = _softmax(-energies)  # (N, L)
    for _ in range(iterations):
        q = _softmax(slices @ _blurred(splats @ q, lattice) - energies)
    result = np.zeros(unary.shape, np.float32)
    result[live] = q.T
    return result


def _blurred(values: np.ndarray, lattice: Lattice) -> np.ndarray:
    """Convolves with (1/2, 1, 1/2) along each axis of each kernel's lattice; (V + 1, L) → the same."""
    values[0] = 0
    for axes, (before, last) in zip(lattice.neighbours, pairwise(lattice.first), strict=True):
        own = np.concatenate([values[:1], values[before + 1 : last + 1]])  # vertex 0 stands for a missing neighbour
        for axis in axes:
            own = own + np.float32(0.5) * (own[axis[:, 0]] + own[axis[:, 1]])
        values[before + 1 : last + 1] = own[1:]
    return values


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Over the last axis; -inf becomes 0."""
    q = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return q / q.sum(axis=-1, keepdims=True)
