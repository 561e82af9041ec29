"""Polygons and run lengths become pixels."""

from __future__ import annotations

import numpy as np

from cian.formats.shapes import decompress, fill_polygon


def encode(counts: list[int]) -> str:
    """COCO's compressed run lengths, written from its definition in maskApi.c."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            group = value & 31
            value >>= 5
            more = value != (-1 if group & 16 else 0)
            text += chr((group | 32 * more) + 48)
    return text


def test_triangle() -> None:
    """Pixels whose centre is inside. Parts outside the image are cut off."""
    triangle = np.array([[-1.0, 1.0], [4.0, 1.0], [4.0, 6.0]])
    expected = [[0, 0, 0, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 0], [0, 1, 1, 1, 0]]
    # on the diagonal x = y - 2: a centre on a left edge is within
    assert fill_polygon(triangle, 4, 5).astype(int).tolist() == expected


def test_polygons_agree_with_matplotlib() -> None:
    from matplotlib.path import Path as Outline

    rng = np.random.default_rng(0)
    y, x = np.mgrid[:40, :50]
    centres = np.stack([x.ravel() + 0.5, y.ravel() + 0.5], 1)
    for _ in range(50):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 9))
        radius = rng.uniform(5, 35, (9, 1))
        points = [25, 20] + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
        expected = Outline(points).contains_points(centres).reshape(40, 50)
        assert np.array_equal(fill_polygon(points, 40, 50), expected)


def test_long_run_lengths() -> None:
    """Numbers of several groups, and negative differences."""
    rng = np.random.default_rng(0)
    truth = rng.random((300, 40)) < 0.02
    truth[:, 5:30] = False
    truth[50:, 10] = True
    flat = truth.T.ravel()
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat]))).tolist()
    counts = np.diff([0, *edges, flat.size]).tolist()
    assert decompress(encode(counts)) == counts
