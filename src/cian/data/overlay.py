"""Draws masks over images, so that every object can be seen on every background."""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

from cian.data.palette import COLOURS
from cian.data.table import IGNORE

_LINE = 1 / 600  # width of a contour's lines, in parts of the longer side; at least 1 px
_STRIPE = 4  # width of a stripe of the hatching, in widths of a line
_DARK, _LIGHT = (0, 0, 0), (255, 255, 255)
_HATCHING = ((60, 60, 60, 140), (190, 190, 190, 140))
_CLEAR, _FIRST_STRIPE, _BESIDE_LIGHT, _BESIDE_DARK, _FIRST_CLASS = 0, 1, 3, 4, 5  # rows of the table of colours


def mask_layer(mask: np.ndarray, alpha: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """What is laid over an image to show its mask.

    Each object is tinted in the colour of its class. Its contour has two lines: a solid one in this colour inside, and
    a black or white one outside, whichever differs more from it. So one of them differs from any background. Background
    is clear. Unlabelled and ignored pixels (255) are hatched in grey.

    Args:
        alpha: how much of a class's colour covers the image, 0 … 1.

    Shape:
        mask: (H, W) uint8. Returns (H, W) uint16, the row of each pixel in a table of colours, and this table, (n, 4)
        uint8 RGBA.
    """
    width = max(1, round(max(mask.shape) * _LINE))
    unlabelled = mask == IGNORE
    objects = np.where(unlabelled, 0, mask)  # (H, W)
    nearby = maximum_filter(objects, 2 * width + 1)
    inside = objects > 0
    contour = inside & (minimum_filter(objects, 2 * width + 1) != nearby)

    classes = np.unique(objects[inside])
    colours = COLOURS[classes]  # (n, 3)
    is_light = colours @ (0.299, 0.587, 0.114) > 128  # (n,)
    table = [(0, 0, 0, 0), *_HATCHING, (*_DARK, 255), (*_LIGHT, 255)]
    table += [(*colour, round(255 * alpha)) for colour in colours.tolist()]
    table += [(*colour, 255) for colour in colours.tolist()]

    layer = np.full(mask.shape, _CLEAR, np.uint16)
    rows, columns = np.nonzero(unlabelled)
    layer[rows, columns] = _FIRST_STRIPE + (rows + columns) // (_STRIPE * width) % 2
    places, beside = np.zeros((2, 256), np.uint16)
    places[classes] = _FIRST_CLASS + np.arange(len(classes))
    beside[classes] = np.where(is_light, _BESIDE_LIGHT, _BESIDE_DARK)
    outside = ~inside & (nearby > 0)
    layer[outside] = beside[nearby[outside]]
    layer[inside] = places[objects[inside]]
    layer[contour] += len(classes)
    return layer, np.array(table, np.uint8)


def overlay(image: np.ndarray, mask: np.ndarray, alpha: float = 0.5) -> np.ndarray:
    """The image under its mask, see `mask_layer`.

    Shape:
        image: (H, W, 3) uint8; mask: (H, W) uint8; result: (H, W, 3) uint8.

    Raises:
        ValueError: the mask is not of the image's size.
    """
    if image.shape != (*mask.shape, 3):
        raise ValueError(f"the mask is {mask.shape}, but the image {image.shape}")
    layer, table = mask_layer(mask, alpha)
    colours, opacity = Image.fromarray(table[layer, :3]), Image.fromarray(table[layer, 3])
    return np.array(Image.composite(colours, Image.fromarray(image), opacity))
