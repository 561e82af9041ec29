"""Labels as a person would draw them, from true masks: a stroke along the middle of each object, or a click on it.

Nothing is random: a mask always gives the same labels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import distance_transform_edt, label
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra

from cian.data.table import IGNORE

Kind = Literal["masks", "strokes", "clicks"]
Path = list[tuple[int, int]]  # (row, column) of pixels, one after the other

SMALLEST = 0.001  # share of an image; smaller parts of a mask get no label
WIDTH = 0.01  # of a stroke and of a click, in lengths of the image's long side
TRIMMED = 0.1  # share of a line at each end: people do not draw to the tip
CELLS = 64  # the line is found on a grid of about CELLS × CELLS in the region


def drawn(mask: np.ndarray, kind: Kind) -> np.ndarray:
    """A label map: the mask itself, or a stroke or a click for each connected object and two in the background.

    The two in the background are in its largest parts, or both in its only part. A stroke is never longer than the
    image's short side. Labels do not leave the region that they are drawn in.

    Shape:
        mask: (H, W) uint8, 0 = background, 255 = ignored. Returns (H, W) uint8, 255 = not labelled.
    """
    if kind == "masks":
        return mask
    labels = np.full_like(mask, IGNORE)
    for class_id in np.unique(mask[mask != IGNORE]):
        regions = parts(mask == class_id, most=2 if class_id == 0 else None)
        if class_id == 0 and len(regions) == 1 and kind == "clicks":
            regions *= 2
        before = np.zeros(mask.shape, bool)
        for region in regions:
            path = middle(region, min(mask.shape)) if kind == "strokes" else [_deepest(region & ~before)]
            line = _line(path, mask.shape, max(2, round(WIDTH * max(mask.shape)))) & region
            labels[line] = class_id
            if class_id == 0:  # the second click is far from the first one
                before |= line
    return labels


def parts(region: np.ndarray, most: int | None) -> list[np.ndarray]:
    """The connected parts (H, W) bool of a region, largest first; its largest one is always among them."""
    found, count = label(region, np.ones((3, 3)))
    sizes = np.bincount(found.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")[:most]
    return [found == i + 1 for i in order if i == order[0] or sizes[i] >= SMALLEST * region.size]


def _depth(region: np.ndarray) -> np.ndarray:
    """(H, W), how far each pixel is from the outside, which begins at the border of the image too."""
    return distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]


def _deepest(region: np.ndarray) -> tuple[int, int]:
    row, column = np.unravel_index(_depth(region).argmax(), region.shape)
    return int(row), int(column)


def middle(region: np.ndarray, longest: float) -> Path:
    """The line between the two ends of a region that keeps far from its border."""
    step = max(1, round(math.sqrt(region.sum()) / CELLS))
    depth = _depth(region)[step // 2 :: step, step // 2 :: step]
    small = parts(depth > 0, most=1)
    if not small or small[0].sum() < 2:
        return [_deepest(region)]
    inside = small[0]
    places = np.argwhere(inside)
    start = int(np.argmax(depth[inside]))
    lengths = _graph(inside, lambda a, b: np.ones(len(a)))
    first = int(dijkstra(lengths, indices=start).argmax())
    last = int(dijkstra(lengths, indices=first).argmax())
    thin = (depth.max() / depth[inside]) ** 2
    costs = _graph(inside, lambda a, b: thin[a] + thin[b])
    before = dijkstra(costs, indices=first, return_predecessors=True)[1]
    line = [last]
    while line[-1] != first:
        line.append(int(before[line[-1]]))
    cut = max(round(TRIMMED * len(line)), math.ceil((len(line) - longest / step) / 2))
    kept = line[cut : len(line) - cut] or line[len(line) // 2 :][:1]
    return [(int(row) * step + step // 2, int(column) * step + step // 2) for row, column in places[kept]]


def _graph(inside: np.ndarray, weight: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> csr_array:
    """Neighbouring pixels of a region, numbered as by `np.argwhere`; `weight` of two of them times their distance."""
    number = np.full(np.add(inside.shape, 2), -1)
    number[1:-1, 1:-1][inside] = np.arange(inside.sum())
    centre = number[1:-1, 1:-1]
    height, width = inside.shape
    pairs, values = [], []
    for row, column in ((0, 1), (1, 0), (1, 1), (1, -1)):
        other = number[1 + row : 1 + row + height, 1 + column : 1 + column + width]
        both = (centre >= 0) & (other >= 0)
        pairs.append(np.stack((centre[both], other[both])))
        values.append(weight(*pairs[-1]) * math.hypot(row, column))
    a, b = np.concatenate(pairs, 1)
    value = np.concatenate(values)
    size = int(inside.sum())
    return csr_array((np.concatenate((value, value)), (np.append(a, b), np.append(b, a))), shape=(size, size))


def _line(path: Path, shape: tuple[int, ...], width: int) -> np.ndarray:
    """(H, W) bool, a line with round ends; a single place is a dot."""
    canvas = Image.new("1", (shape[1], shape[0]))
    draw = ImageDraw.Draw(canvas)
    points = [(column, row) for row, column in path]
    if len(points) > 1:
        draw.line(points, fill=1, width=width)
    for column, row in (points[0], points[-1]):
        draw.ellipse((column - width / 2, row - width / 2, column + width / 2, row + width / 2), fill=1)
    return np.array(canvas)
