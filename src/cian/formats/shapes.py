"""Shapes that annotation files hold, drawn into pixels: polygons and COCO's run lengths.

Run lengths are specified by `maskApi.c` of COCO's API (pycocotools): counts of 0 and 1 in turn, down the columns.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from cian.data.problems import quoted

_CORNERS = 720  # of an ellipse: at a radius of 1000 pixels, the sides are 0.01 pixels off
_AT_ONCE = 1 << 20  # crossings of edges and rows that are computed together, which bounds the memory


def polygons(parts: Any, height: int, width: int) -> np.ndarray:
    """The pixels that any of several polygons covers.

    Args:
        parts: see `polygon_points`.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: a part is no polygon, or none covers an area.
    """
    shape = np.zeros((height, width), bool)
    for points in polygon_points(parts):
        shape |= fill_polygon(points, height, width)
    return shape


def polygon_points(parts: Any) -> list[np.ndarray]:
    """The points (P, 2) of each of several polygons. Parts of one or two points, which editors leave behind, have no
    area and are left out.

    Args:
        parts: a list of [x, y, x, y, x, y, …], as JSON holds it, or one such list.

    Raises:
        ValueError: a part is no polygon, or no part has an area.
    """
    if not isinstance(parts, list) or not parts:
        raise ValueError("has no segmentation")
    if len(parts) >= 6 and all(isinstance(value, int | float) for value in parts):
        parts = [parts]
    points = [_points(part) for part in parts]
    found = [part for part in points if len(part) >= 3]
    if not found:
        raise ValueError(f"{quoted(str(parts[0]))} is no polygon [x, y, x, y, x, y, …]")
    return found


def _points(part: Any) -> np.ndarray:
    """(P, 2) of [x, y, …].

    Raises:
        ValueError: it is not a list of pairs of finite numbers.
    """
    if (
        not isinstance(part, list)
        or not part
        or len(part) % 2
        or not all(isinstance(value, int | float) for value in part)
        or not np.isfinite(points := np.array(part, np.float64).reshape(-1, 2)).all()
    ):
        raise ValueError(f"{quoted(str(part))} is no polygon [x, y, x, y, x, y, …]")
    return points


def fill_polygon(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels whose centre is inside a polygon (even-odd rule).

    Shape:
        points: (P, 2) x, y; pixel (0, 0) covers [0, 1) x [0, 1). Returns (H, W) bool.
    """
    x, y = points.T
    next_x, next_y = np.roll(points, -1, 0).T
    first = np.ceil(np.minimum(y, next_y) - 0.5).clip(0, height).astype(np.int64)  # rows whose centre an edge crosses
    last = np.ceil(np.maximum(y, next_y) - 0.5).clip(0, height).astype(np.int64)
    crossings = np.zeros((height, width + 1), np.uint8)
    for edges in np.array_split(np.arange(len(x)), 1 + int((last - first).sum()) // _AT_ONCE):
        edge = np.repeat(edges, (last - first)[edges])
        row = np.arange(len(edge)) + np.repeat(first[edges] - _starts(last - first, edges), (last - first)[edges])
        at = x[edge] + (row + 0.5 - y[edge]) * (next_x - x)[edge] / (next_y - y)[edge]
        np.add.at(crossings, (row, np.ceil(at - 0.5).clip(0, width).astype(np.int64)), 1)
    return np.bitwise_xor.accumulate(crossings[:, :width] & 1, 1).astype(bool)


def _starts(counts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Where the rows of each of some edges begin, when the rows of all of them stand one after the other."""
    return np.cumsum(counts[edges]) - counts[edges]


def rectangle(
    box: tuple[float, float, float, float], degrees: float, height: int, width: int, about_centre: bool = False
) -> np.ndarray:
    """(H, W) bool of a rectangle.

    Args:
        box: x, y, width, height.
        degrees: by which it is turned about its corner (x, y), or about its centre, clockwise.
    """
    x, y, across, down = box
    corners = np.array([[0, 0], [across, 0], [across, down], [0, down]])
    pivot = np.array([across / 2, down / 2]) if about_centre else np.zeros(2)
    return fill_polygon((corners - pivot) @ _turn(degrees) + pivot + np.array([x, y]), height, width)


def ellipse(axes: tuple[float, float, float, float], degrees: float, height: int, width: int) -> np.ndarray:
    """(H, W) bool of an ellipse.

    Args:
        axes: x and y of the centre, and the radii along x and y.
        degrees: by which it is turned about its centre, clockwise.
    """
    x, y, across, down = axes
    angles = np.linspace(0, 2 * np.pi, _CORNERS, endpoint=False)
    outline = np.stack((across * np.cos(angles), down * np.sin(angles)), 1)
    return fill_polygon(outline @ _turn(degrees) + np.array([x, y]), height, width)


def _turn(degrees: float) -> np.ndarray:
    """(2, 2): turns rows of x, y clockwise, as y points down."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cos, sin], [-sin, cos]])


def run_lengths(counts: Any, size: Any, height: int, width: int) -> np.ndarray:
    """The pixels of run lengths.

    Args:
        counts: a list of numbers, or COCO's compressed text.
        size: [height, width] that the file states.

    Returns:
        (H, W) bool.

    Raises:
        ValueError: the counts are none, or not of the image's size.
    """
    counts = checked_counts(counts, size, height, width)
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def checked_counts(counts: Any, size: Any, height: int, width: int) -> list[int]:
    """The counts of run lengths. Arguments and errors are those of `run_lengths`."""
    if isinstance(counts, str):
        counts = decompress(counts)
    if not isinstance(counts, list) or not all(isinstance(count, int) and count >= 0 for count in counts):
        raise ValueError("its segmentation has no counts")
    if size != [height, width] or sum(counts) != height * width:
        raise ValueError(f"its run lengths are not of the image's size, {width} x {height} pixels")
    return counts


def decompress(text: str) -> list[int]:
    """The counts of COCO's compressed run lengths: groups of 5 bits, the lowest first, as differences to the last but
    one.

    Raises:
        ValueError: the text holds characters that compressed run lengths do not.
    """
    counts: list[int] = []
    value = shift = 0
    for sign in text:
        code = ord(sign) - 48
        if not 0 <= code < 64:
            raise ValueError(f"its counts hold {quoted(sign)}, which compressed run lengths do not")
        value |= (code & 31) << shift
        shift += 5
        if not code & 32:  # the last group of a number; its highest bit is the sign
            if code & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    return counts
