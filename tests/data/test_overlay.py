"""Masks over images: each object can be seen on each background, and what is unlabelled is no object."""

from __future__ import annotations

import numpy as np
import pytest

from cian.data.overlay import mask_layer, overlay
from cian.data.palette import COLOURS


def test_tint_contour_and_background() -> None:
    image = np.full((11, 14, 3), 100, np.uint8)
    mask = np.zeros((11, 14), np.uint8)
    mask[2:8, 2:8] = 1
    shown = overlay(image, mask, alpha=0.25)
    assert shown.shape == image.shape and shown.dtype == np.uint8
    assert (image == 100).all()
    assert np.abs(shown[3:7, 3:7] - (75 + 0.25 * COLOURS[1])).max() <= 1
    assert (shown[2, 2:8] == COLOURS[1]).all() and (shown[2:8, 7] == COLOURS[1]).all()  # solid, inside
    assert len(np.unique(shown[8, 1:9], axis=0)) == 1 and shown[8, 4].tolist() in ([0, 0, 0], [255, 255, 255])
    assert (shown[9:] == 100).all() and (shown[:, 9:] == 100).all()


@pytest.mark.parametrize("class_id", range(1, 41))
def test_an_object_is_seen_on_every_background(class_id: int) -> None:
    """Also on one of its own colour: one of the contour's two lines differs from it by a quarter of the range."""
    mask = np.zeros((9, 9), np.uint8)
    mask[3:6, 3:6] = class_id
    for background in ((0, 0, 0), (255, 255, 255), (128, 128, 128), COLOURS[class_id]):
        image = np.broadcast_to(np.array(background, np.uint8), (9, 9, 3))
        shown = overlay(image, mask)
        lines = np.stack([shown[3, 4], shown[2, 4]]).astype(int)
        assert np.abs(lines - background).max() >= 64, background


def test_unlabelled_pixels_are_hatched_in_grey() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[...] = (30, 160, 60)
    mask = np.full((40, 60), 255, np.uint8)
    shown = overlay(image, mask).reshape(-1, 3)
    stripes = np.unique(shown, axis=0)
    assert len(stripes) == 2  # dark and light
    grey = stripes.astype(int).max(1) - stripes.astype(int).min(1)
    assert grey.max() < 0.5 * (160 - 30)  # paler than the image below
    assert 0.4 < (shown == stripes[0]).all(1).mean() < 0.6


def test_neighbours_share_no_line() -> None:
    mask = np.ones((6, 12), np.uint8)
    mask[:, 6:] = 2
    shown = overlay(np.full((6, 12, 3), 90, np.uint8), mask)
    assert (shown[:, 5] == COLOURS[1]).all() and (shown[:, 6] == COLOURS[2]).all()


def test_lines_grow_with_the_image() -> None:
    mask = np.zeros((1200, 1800), np.uint8)
    mask[300:900, 300:900] = 5
    layer, _ = mask_layer(mask)
    row = layer[600]
    assert (row[300:303] == row[300]).all() and row[303] != row[300]  # 3 px
    assert (row[297:300] == row[299]).all() and row[296] == row[0]


def test_as_many_classes_as_a_mask_can_hold() -> None:
    mask = np.arange(255, dtype=np.uint8).repeat(9).reshape(255, 9).repeat(3, 0)
    layer, table = mask_layer(mask)
    assert (table[layer[3 * 254 + 1, 4], :3] == COLOURS[254]).all()


def test_nothing_to_show() -> None:
    image = np.random.default_rng(0).integers(0, 255, (5, 1, 3), np.uint8)
    assert (overlay(image, np.zeros((5, 1), np.uint8)) == image).all()
    with pytest.raises(ValueError, match=r"the mask is \(5, 2\), but the image \(5, 1, 3\)"):
        overlay(image, np.zeros((5, 2), np.uint8))
