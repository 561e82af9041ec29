"""LabelMe: a JSON file for each image, with polygons and other shapes.

Written by labelme (looked at: 4.5 to 5.8) and the programs that follow it, such as AnyLabeling. Read are polygons,
rectangles, circles and masks; later shapes lie over earlier ones. Flags that are set are tags. Written are polygons,
with a seam to each hole; the files name their images by the way from one folder to the other.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from cian.data.problems import counted, file_error
from cian.data.table import BACKGROUND
from cian.files import write_text
from cian.formats.annotations import (
    Annotated,
    Annotations,
    Given,
    Item,
    LabelFormat,
    Shape,
    Target,
    numbers,
    safe_path,
    size_of,
)
from cian.formats.outlines import joined, trace
from cian.formats.shapes import ellipse, polygons, rectangle
from cian.formats.text import entries, fields
from cian.formats.tree import Tree

_VERSION = "5.0.0"  # labelme's, which the files are written for


def _recognises(tree: Tree) -> bool:
    names = (name for name in tree.ending(".json")[:3] if tree.holds(name, b'"shapes"', b'"imagePath"'))
    return any(_is_labelme(tree.json_or_none(name)) for name in names)


def _is_labelme(content: Any) -> bool:
    keys = fields(content)
    return {"shapes", "imagePath"} <= keys.keys() and isinstance(keys["shapes"], list)


def _read(tree: Tree, given: Given) -> Annotations:
    images: list[Annotated] = []
    unread: Counter[str] = Counter()
    others = 0
    for name in tree.ending(".json"):
        content = fields(tree.json(name))
        tree.forget(name)  # it may hold the image
        if not {"shapes", "imagePath"} <= content.keys():
            others += 1
            continue
        where = tree.where(name)
        path = PurePosixPath(str(content["imagePath"]).replace("\\", "/"))
        shapes = []
        for number, shape in enumerate(map(fields, entries(content["shapes"])), start=1):
            kind = str(shape.get("shape_type") or "polygon")
            draw = _DRAW.get(kind)
            if draw is None:
                unread[kind] += 1
            else:
                place = f"{where}, shape {number}"
                shapes.append(Shape(str(shape.get("label", "")), partial(draw, _slim(shape)), place))
        tags = [key for key, value in fields(content.get("flags")).items() if value is True]
        size = size_of(content.get("imageHeight"), content.get("imageWidth"))
        images.append(Annotated(str(PurePosixPath(name).parent / path.name), size, shapes, tags, where=where))
    for kind, count in unread.items():
        value = f"{count} shapes of type {kind} are not read"
        given.problems.add(tree.path, value, "Draw polygons to use them", fatal=False)
    if others:
        value = f"{others} JSON files are not labelme's"
        given.problems.add(tree.path, value, "They are left out", fatal=False)
    return Annotations(tree.path, f"LabelMe's JSON, {counted(len(images), 'image')}", images)


def _slim(shape: dict[str, Any]) -> dict[str, Any]:
    return {key: shape[key] for key in ("points", "mask") if key in shape}


def _points(shape: dict[str, Any]) -> list[list[float]]:
    return [numbers(entries(point), 2) for point in entries(shape.get("points"))]


def _polygon(shape: dict[str, Any], height: int, width: int) -> np.ndarray:
    return polygons([[value for point in _points(shape) for value in point]], height, width)


def _rectangle(shape: dict[str, Any], height: int, width: int) -> np.ndarray:
    points = np.array(_points(shape))
    if len(points) < 2:
        raise ValueError("is no rectangle")
    left, top = points.min(0)
    across, down = np.ptp(points, 0)
    return rectangle((left, top, across, down), 0, height, width)


def _circle(shape: dict[str, Any], height: int, width: int) -> np.ndarray:
    points = _points(shape)
    if len(points) != 2:
        raise ValueError("is no circle")
    (x, y), (edge_x, edge_y) = points
    radius = float(np.hypot(edge_x - x, edge_y - y))
    return ellipse((x, y, radius, radius), 0, height, width)


def _mask(shape: dict[str, Any], height: int, width: int) -> np.ndarray:
    """A PNG of the pixels from the first point to the second one, which is still in it."""
    points = _points(shape)
    if len(points) != 2:
        raise ValueError("its mask has no two corners")
    (left, top), (right, bottom) = (map(round, point) for point in points)
    if left < 0 or top < 0 or right >= width or bottom >= height or left > right or top > bottom:
        raise ValueError(f"its mask leaves the image of {width} x {height} pixels")
    try:
        content = base64.b64decode(str(shape.get("mask")), validate=True)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            if image.size != (right - left + 1, bottom - top + 1):
                raise ValueError
            pixels = np.array(image.convert("L")) > 0
    except (binascii.Error, OSError, ValueError, SyntaxError):
        raise ValueError("its mask is no PNG of its size") from None
    whole = np.zeros((height, width), bool)
    whole[top : bottom + 1, left : right + 1] = pixels
    return whole


_DRAW: dict[str, Callable[[dict[str, Any], int, int], np.ndarray]] = {
    "polygon": _polygon,
    "oriented_rectangle": _polygon,
    "rotation": _polygon,
    "rectangle": _rectangle,
    "circle": _circle,
    "mask": _mask,
}


def _write(items: Iterable[Item], target: Target) -> list[str]:
    """A folder with NAME.json for each image."""
    partly = empty = 0
    for item in items:
        if item.size is None:
            raise file_error(item.name, "the size of the image is not known", "Give the images: --images DIR")
        path = target.path / safe_path(item.name).with_suffix(".json")
        shapes = []
        regions = [] if item.drawn is None else item.drawn.regions()
        partly += any(region.label == BACKGROUND for region in regions)
        empty += item.drawn is not None and not regions
        for number, region in enumerate(regions, start=1):
            for part in trace(region.mask):
                points = (joined(part) + np.array([region.left, region.top])).tolist()
                shapes.append(
                    {"label": region.label, "points": points, "group_id": number, "shape_type": "polygon", "flags": {}}
                )
        image = safe_path(item.name).name if item.file is None else os.path.relpath(item.file, path.parent)
        content = {
            "version": _VERSION,
            "flags": dict.fromkeys(item.tags, True),
            "shapes": shapes,
            "imagePath": image.replace("\\", "/"),
            "imageData": None,
            "imageHeight": item.size[0],
            "imageWidth": item.size[1],
        }
        write_text(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    lost = []
    if partly:
        lost.append(f"{partly} images are unlabelled in part: their background is the label `{BACKGROUND}`")
    if empty:
        lost.append(f"{empty} images show no object: they look like images that nobody has labelled")
    return lost


FORMAT = LabelFormat("labelme", "a folder of LabelMe's JSON files", _recognises, _read, _write, "", "names")
