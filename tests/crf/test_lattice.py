"""The permutohedral lattice."""

from __future__ import annotations

import numpy as np
import pytest

from cian.crf import lattice
from cian.crf.dense import dense_crf
from cian.crf.parts import one_after_another
from tests.crf.helpers import scene

IMAGE, UNARY = scene(7, 5, 48, 60)
KERNELS = (3, 3), (80, 13, 10)


def test_part_over_position_is_kept_for_images_of_the_same_size(monkeypatch):
    expected = dense_crf(IMAGE, UNARY)
    lattice._position_lattice.cache_clear()
    monkeypatch.setattr(lattice, "_KEPT", IMAGE.shape[0] * IMAGE.shape[1])
    np.testing.assert_array_equal(dense_crf(IMAGE, UNARY), expected)
    dense_crf(IMAGE[::-1], UNARY)
    dense_crf(np.vstack([IMAGE, IMAGE]), np.hstack([UNARY, UNARY]))  # larger: not kept
    narrow = dense_crf(IMAGE, UNARY, gaussian=(2, 3))
    np.testing.assert_array_equal(dense_crf(IMAGE, UNARY), expected)
    assert np.abs(narrow - expected).max() > 0.01
    cache = lattice._position_lattice.cache_info()
    assert (cache.hits, cache.misses) == (2, 2)


def test_each_pixel_lies_among_its_corners():
    """Without the kernels' normalisation, the weights are barycentric coordinates."""
    found = lattice.build_lattice(IMAGE, *KERNELS, one_after_another)
    pixels = IMAGE.shape[0] * IMAGE.shape[1]
    assert found.vertices.shape == found.weights.shape == (pixels, 3 + 6)
    position, vertices = found.first[1], found.first[2]
    assert found.vertices[:, :3].min() == 1 and found.vertices[:, :3].max() == position
    assert found.vertices[:, 3:].min() == position + 1 and found.vertices[:, 3:].max() == vertices
    assert found.weights.min() > -1e-4
    for columns in (slice(0, 3), slice(3, 9)):
        shares = found.weights[:, columns] / found.weights[:, columns].sum(axis=1, keepdims=True)
        assert shares.min() > -1e-5 and shares.max() <= 1 + 1e-5


def test_neighbours_know_each_other():
    for axes in lattice.build_lattice(IMAGE, *KERNELS, one_after_another).neighbours:
        assert not axes[:, 0].any()  # vertex 0 has none
        for axis in axes:
            has = np.flatnonzero(axis[:, 0])
            np.testing.assert_array_equal(axis[axis[has, 0], 1], has)


def test_kernels_too_narrow_for_the_lattice():
    with pytest.raises(ValueError, match="too small: the image spans 255000 standard deviations"):
        lattice.key_layout(lattice.image_features(np.full((8, 8, 3), 255, np.uint8), 80, 1e-3))
