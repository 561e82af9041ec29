"""Outlines of objects: polygons along the edges of pixels, so that drawing them again gives the same pixels.

Corners are whole numbers: pixel (0, 0) covers [0, 1) x [0, 1). Contours through the centres of pixels, as many programs
trace them, lose half a pixel on every side, and objects that are one pixel wide.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

Ring = np.ndarray  # (P, 2) int64 x, y: the corners of a closed line; the last one is joined to the first


def trace(mask: np.ndarray) -> list[list[Ring]]:
    """The outlines of the connected parts of an object.

    Shape:
        mask: (H, W) bool.

    Returns:
        For each part, its outer ring and then those of its holes. A part is connected over edges of pixels; pixels that
        touch at a corner are two parts.
    """
    labels, _ = ndimage.label(mask)
    parts = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        corner = np.array([columns.start, rows.start])
        rings = [ring + corner for ring in _rings(labels[rows, columns] == number)]
        parts.append(sorted(rings, key=lambda ring: -abs(_area(ring))))
    return parts


def joined(rings: list[Ring]) -> Ring:
    """A part as one ring, for formats without holes: a seam leads from each hole to the line at its left and back.

    The seams lie inside the part and cover no pixel.

    Args:
        rings: the outer ring, then the holes, as `trace` gives them.
    """
    whole = rings[0]
    starts = [int(np.lexsort((hole[:, 1], hole[:, 0]))[0]) for hole in rings[1:]]  # the top of the left edge
    holes = [np.roll(hole, -start, 0) for hole, start in zip(rings[1:], starts, strict=True)]
    for hole in sorted(holes, key=lambda ring: tuple(ring[0])):
        x, y = hole[0]
        before, after = whole[:, 0], np.roll(whole, -1, 0)  # the x of an edge; its other end
        low, high = np.minimum(whole[:, 1], after[:, 1]), np.maximum(whole[:, 1], after[:, 1])
        # Edges down or up at the left of the row of pixels below y, in which the hole begins.
        crossed = np.flatnonzero((before == after[:, 0]) & (before < x) & (low <= y) & (y < high))
        edge = crossed[np.argmax(before[crossed])]
        seam = np.array([[before[edge], y]])
        whole = np.concatenate((whole[: edge + 1], seam, hole, hole[:1], seam, whole[edge + 1 :]))
    return whole


def _rings(mask: np.ndarray) -> list[Ring]:
    """All rings around a mask. (H, W) bool.

    Every corner of the outline joins a horizontal and a vertical edge. On each row of corners, sorted by x, the first
    and second are ends of an edge, the third and fourth, and so on; in columns as well. So a ring is found by going
    along edges of the two kinds in turn. Where two pixels touch at a corner, there are two corners at the same place.
    """
    padded = np.pad(mask, 1).astype(np.int8)
    left_up, right_up = padded[:-1, :-1], padded[:-1, 1:]  # (H + 1, W + 1), the four pixels around each corner
    left_down, right_down = padded[1:, :-1], padded[1:, 1:]
    odd = (left_up + right_up + left_down + right_down) % 2
    double = (left_up == right_down) & (right_up == left_down) & (left_up != right_up)
    y, x = np.nonzero(odd)
    double_y, double_x = np.nonzero(double)
    # Of two corners at one place, the first (0) ends the edge at the left, the second (1) begins that at the right.
    order = np.concatenate((np.zeros_like(y), np.zeros_like(double_y), np.ones_like(double_y)))
    rising = np.concatenate((np.zeros_like(y), *[right_up[double_y, double_x]] * 2))  # pixels right up and left down
    y, x = np.concatenate((y, double_y, double_y)), np.concatenate((x, double_x, double_x))
    across = _pairs(np.lexsort((order, x, y)))
    # The pixel at the left keeps its own upper or lower edge, so that the two pixels become two parts.
    down = _pairs(np.lexsort((order ^ rising, y, x)))
    rings, seen = [], np.zeros(len(x), bool)
    for start in range(len(x)):
        if not seen[start]:
            ring, corner = [], start
            while not seen[corner]:
                other = across[corner]
                seen[[corner, other]] = True
                ring += [corner, other]
                corner = down[other]
            rings.append(np.stack((x[ring], y[ring]), 1))
    return rings


def _pairs(order: np.ndarray) -> np.ndarray:
    """(P,) the partner of each, where the first and second in an order are partners, the third and fourth, …"""
    partner = np.empty_like(order)
    partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    return partner


def _area(ring: Ring) -> float:
    x, y = ring.T
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum()) / 2
