"""Strokes: what people draw on an image, and the pixels that it covers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from cian.app.refusal import Refusal, number, whole
from cian.data.table import IGNORE

MOST_STROKES, MOST_POINTS, MOST_FILLS = 2000, 100_000, 100
UNTOUCHED = -1
_KINDS = ("brush", "polygon", "fill", "erase")
_MOST_PAINT = 400.0  # times the image: what all strokes together may paint


@dataclass(frozen=True)
class Stroke:
    """
    Attributes:
        kind: "brush" (a line), "polygon" (its inside), "fill" (the connected part of the mask that holds its point), or
            "erase" (a line where strokes before it are taken back).
        class_id: what its pixels are; 255 is "not sure".
        size: of the brush, its diameter in pixels of the image.
        points: (x, y) in pixels of the image.
    """

    kind: str
    class_id: int
    size: float
    points: tuple[tuple[float, float], ...]

    def as_json(self) -> dict[str, object]:
        return {"class": self.class_id, "size": self.size, "points": self.points, "kind": self.kind}


def parse_strokes(value: object, num_classes: int, size: tuple[int, int]) -> tuple[Stroke, ...]:
    """Checks the strokes that a client sends for an image of `size` (height, width).

    Raises:
        Refusal: they are not strokes, or too many.
    """
    if not isinstance(value, list):
        raise Refusal(400, "strokes is not a list. Reload the page.")
    if len(value) > MOST_STROKES:
        raise Refusal(413, f"There are more than {MOST_STROKES} strokes. Accept the mask, and go on from there.")
    side = max(size)
    strokes, points, paint = [], 0, 0.0
    for each in value:
        if not isinstance(each, dict) or each.get("kind") not in _KINDS or not isinstance(each.get("points"), list):
            raise Refusal(400, f"A stroke has a kind ({', '.join(_KINDS)}) and points. Reload the page.")
        points += len(each["points"])
        if points > MOST_POINTS:
            raise Refusal(
                413, f"The strokes have more than {MOST_POINTS} points. Accept the mask, and go on from there."
            )
        class_id = whole(each.get("class", IGNORE), "class", 0, IGNORE)
        if num_classes <= class_id != IGNORE:
            raise Refusal(400, f"class {class_id} is no class of this run. Reload the page.")
        width = number(each.get("size", 1), "size", 0, 4 * side)
        stroke = Stroke(each["kind"], class_id, max(width, 1.0), tuple(_point(pair, side) for pair in each["points"]))
        if stroke.points:
            strokes.append(stroke)
            paint += _paint(stroke, size)
    if paint > _MOST_PAINT or sum(stroke.kind == "fill" for stroke in strokes) > MOST_FILLS:
        raise Refusal(413, "The strokes cover the image too often. Accept the mask, and go on from there.")
    return tuple(strokes)


def _point(pair: object, side: int) -> tuple[float, float]:
    if not isinstance(pair, list) or len(pair) != 2:
        raise Refusal(400, "A point is [x, y]. Reload the page.")
    x, y = (number(value, "A coordinate", -1e6, 1e6) for value in pair)
    return min(max(x, -side), 2.0 * side), min(max(y, -side), 2.0 * side)


def _paint(stroke: Stroke, size: tuple[int, int]) -> float:
    """About how much of the image a stroke paints, counting what it paints again."""
    if stroke.kind in ("polygon", "fill"):
        return 1.0
    points = np.array(stroke.points)
    length = float(np.hypot(*np.diff(points, axis=0).T).sum())
    return (length + stroke.size) * stroke.size / (size[0] * size[1])


def draw(stroke: Stroke, drawn: np.ndarray, size: tuple[int, int], mask: np.ndarray | None = None) -> None:
    """Draws a stroke into `drawn`.

    Args:
        mask: for a fill, the mask that it fills a part of.

    Shape:
        drawn: (h, w) int16, `UNTOUCHED`, a class id or 255; mask: (h, w); size: (height, width) of the image.
    """
    scale = (drawn.shape[1] / size[1], drawn.shape[0] / size[0])
    points = [(x * scale[0], y * scale[1]) for x, y in stroke.points]
    if stroke.kind == "fill":
        if mask is not None:
            drawn[_part(mask, points[0])] = stroke.class_id
        return
    canvas = Image.new("1", drawn.shape[::-1])
    pen = ImageDraw.Draw(canvas)
    if stroke.kind == "polygon":
        if len(points) > 2:
            pen.polygon(points, fill=1)
    else:
        width = max(1.0, stroke.size * (scale[0] + scale[1]) / 2)
        kept = _thinned(points, width / 8)
        if len(kept) > 1:
            pen.line(kept, fill=1, width=max(1, round(width)))
        for x, y in kept:
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=1)
    drawn[np.asarray(canvas)] = UNTOUCHED if stroke.kind == "erase" else stroke.class_id


def _thinned(points: list[tuple[float, float]], step: float) -> list[tuple[float, float]]:
    """The points without those that lie closer than `step` to the last one kept."""
    kept = points[:1]
    for point in points[1:-1]:
        if math.dist(point, kept[-1]) >= max(step, 0.5):
            kept.append(point)
    return kept + points[1:][-1:]


def _part(mask: np.ndarray, point: tuple[float, float]) -> np.ndarray:
    """(h, w) bool: the connected pixels of one class that hold a point."""
    from scipy.ndimage import label  # slow to import

    x, y = (min(max(int(value), 0), side - 1) for value, side in zip(point, mask.shape[::-1], strict=True))
    parts, _ = label(mask == mask[y, x])
    return parts == parts[y, x]
