"""Polygons along the edges of pixels give the same pixels when they are drawn again."""

from __future__ import annotations

import numpy as np
import pytest

from cian.formats.outlines import joined, trace
from cian.formats.shapes import fill_polygon


def redrawn(mask: np.ndarray) -> np.ndarray:
    """The mask drawn again from its rings: even-odd, so holes are holes."""
    again = np.zeros(mask.shape, bool)
    for part in trace(mask):
        for ring in part:
            again ^= fill_polygon(ring.astype(float), *mask.shape)
    return again


def redrawn_joined(mask: np.ndarray) -> np.ndarray:
    """The mask drawn again from one ring a part."""
    again = np.zeros(mask.shape, bool)
    for part in trace(mask):
        again |= fill_polygon(joined(part).astype(float), *mask.shape)
    return again


def shapes() -> dict[str, np.ndarray]:
    y, x = np.mgrid[:24, :31]
    distance = np.hypot(y - 12, x - 15)
    return {
        "ring": (distance < 10) & (distance > 6),
        "rings": ((distance < 11) & (distance > 9)) | ((distance < 7) & (distance > 3)),
        "line across": y == 5,
        "line down": x == 30,
        "diagonal": y == x,
        "other diagonal": y == 20 - x,
        "chess board": (y + x) % 2 == 0,
        "pixel": (y == 3) & (x == 4),
        "all": np.ones((24, 31), bool),
        "net": (y % 3 == 0) | (x % 4 == 1),
        "frame of one pixel": (y == 0) | (x == 0) | (y == 23) | (x == 30),
    }


@pytest.mark.parametrize("name", shapes())
def test_drawn_again(name: str) -> None:
    mask = shapes()[name]
    assert np.array_equal(redrawn(mask), mask)
    assert np.array_equal(redrawn_joined(mask), mask)


@pytest.mark.parametrize("seed", range(40))
def test_random_masks_drawn_again(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random(rng.integers(1, 40, 2)) < rng.random()
    assert np.array_equal(redrawn(mask), mask)
    assert np.array_equal(redrawn_joined(mask), mask)


def test_a_square_has_four_corners() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:7] = True
    (part,) = trace(mask)
    assert sorted(map(tuple, part[0].tolist())) == [(2, 1), (2, 4), (7, 1), (7, 4)]
    assert len(part) == 1


def test_parts_and_holes() -> None:
    """Pixels that touch at a corner are two parts; the outer ring comes first."""
    assert [len(part) for part in trace(np.eye(2, dtype=bool))] == [1, 1]
    hollow = np.ones((5, 5), bool)
    hollow[1, 1] = hollow[3, 3] = hollow[2, 3] = False
    (part,) = trace(hollow)
    assert [len(ring) for ring in part] == [4, 4, 4]
    assert part[0].min() == 0 and part[0].max() == 5
    assert trace(np.zeros((3, 3), bool)) == []


def test_seams_stay_inside() -> None:
    """Also a program that draws the lines of a polygon finds no pixel of another object in them."""
    y, x = np.mgrid[:24, :31]
    mask = (y % 3 == 0) | (x % 4 == 1)
    for part in trace(mask):
        ring = joined(part)
        for (x0, y0), (x1, y1) in zip(ring.tolist(), np.roll(ring, -1, 0).tolist(), strict=True):
            assert x0 == x1 or y0 == y1
            if y0 == y1:
                left, right = sorted((x0, x1))
                above, below = (mask[row, left:right] for row in (max(y0 - 1, 0), min(y0, 23)))
                assert above.all() or below.all()
