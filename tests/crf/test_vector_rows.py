"""The hand-written row functions, each against its definition in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from cian.compiled import jit_fast
from cian.crf.vector_rows import blur_row, gather_row, scatter_row

PIXELS, VERTICES, CORNERS = 6, 40, 9
widths = pytest.mark.parametrize("width", [4, 8, 24])


@jit_fast
def gather(values, vertices, weights, energies, out, lanes):
    for i in range(len(out)):
        gather_row(values, vertices, weights, energies, i, out, i, lanes)


@jit_fast
def scatter(values, vertices, weights, out, lanes):
    for i in range(len(values)):
        scatter_row(values, i, vertices, weights, i, out, lanes)


@jit_fast
def blur(values, neighbours, before, out, lanes):
    for v in range(before + 1, before + len(neighbours)):
        blur_row(values, neighbours, before, v, out, lanes)


def drawn(width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.random.Generator]:
    """Values at the vertices, and the corners of each pixel with their weights."""
    rng = np.random.default_rng(width)
    values = rng.normal(size=(VERTICES, width)).astype(np.float32)
    vertices = rng.integers(1, VERTICES, (PIXELS, CORNERS), dtype=np.uint32)
    weights = rng.random((PIXELS, CORNERS), dtype=np.float32)
    return values, vertices, weights, rng


@widths
def test_gather(width):
    values, vertices, weights, rng = drawn(width)
    energies = rng.normal(size=(PIXELS, width)).astype(np.float32)
    out = np.empty((PIXELS, width), np.float32)
    gather(values, vertices, weights, energies, out, (0,) * width)
    expected = np.einsum("nc,ncw->nw", weights, values[vertices]) - energies
    np.testing.assert_allclose(out, expected - expected.max(axis=1, keepdims=True), atol=1e-5)


@widths
def test_scatter(width):
    _, vertices, weights, rng = drawn(width)
    q = rng.random((PIXELS, width), dtype=np.float32)
    out = np.ones((VERTICES, width), np.float32)
    scatter(q, vertices, weights, out, (0,) * width)
    expected = np.ones((VERTICES, width))
    shares = q / q.sum(axis=1, keepdims=True)
    np.add.at(expected, vertices, weights[..., None] * shares[:, None])
    np.testing.assert_allclose(out, expected, atol=1e-5)


@widths
@pytest.mark.parametrize("before", [0, 7])
def test_blur(width, before):
    values, _, _, rng = drawn(width)
    values[0] = 0
    neighbours = rng.integers(0, VERTICES - before, (VERTICES - before, 2), dtype=np.uint32)
    neighbours[1:5] = 0
    out = np.full((VERTICES, width), 3, np.float32)
    blur(values, neighbours, before, out, (0,) * width)
    numbers = np.where(neighbours > 0, neighbours + before, 0)  # (V' + 1, 2) among all vertices
    own = slice(before + 1, None)
    np.testing.assert_allclose(out[own], values[own] + values[numbers[1:]].mean(axis=1), atol=1e-5)
    assert (out[: before + 1] == 3).all()  # vertices of other kernels
