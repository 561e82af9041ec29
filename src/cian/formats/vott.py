"""VoTT, Microsoft's Visual Object Tagging Tool: polygons and rectangles of its JSON.

Written by VoTT 2: the export (`NAME-export.json`), or the project with a file for each image (`ID-asset.json`). A
region may have several tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from cian.data.problems import counted
from cian.formats.annotations import Annotated, Annotations, Given, LabelFormat, Shape, numbers, size_of
from cian.formats.shapes import polygons, rectangle
from cian.formats.text import entries, fields
from cian.formats.tree import Tree


def _assets(content: Any) -> list[dict[str, Any]]:
    """What the file says of each image; none if it is no file of VoTT."""
    keys = fields(content)
    found = [fields(each) for each in fields(keys.get("assets")).values()] if "assets" in keys else [keys]
    return found if found and all({"asset", "regions"} <= each.keys() for each in found) else []


def _recognises(tree: Tree) -> bool:
    names = tree.ending(".json")
    if len(tree.names) > 1:
        names = [name for name in names if name.endswith(("-asset.json", "-export.json"))]
    return bool(names) and bool(_assets(tree.json_or_none(names[0])))


def _read(tree: Tree, given: Given) -> Annotations:
    images = []
    for name in tree.ending(".json"):
        for each in _assets(tree.json_or_none(name)):
            asset = fields(each["asset"])
            image, size = str(asset.get("name", "")), fields(asset.get("size"))
            where = f"{tree.where(name)}, {image}"
            shapes = []
            for number, region in enumerate(map(fields, entries(each["regions"])), start=1):
                draw = _polygon if region.get("type") == "POLYGON" else _box
                tags = [tag for tag in entries(region.get("tags")) if isinstance(tag, str)]
                shapes += [Shape(tag, partial(draw, region), f"{where}, region {number}") for tag in tags]
            size_there = size_of(size.get("height"), size.get("width")) or given.image_size(image)
            images.append(Annotated(image, size_there, shapes, where=where))
    return Annotations(tree.path, f"VoTT's JSON, {counted(len(images), 'image')}", images)


def _polygon(region: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    points = [fields(point) for point in entries(region.get("points"))]
    return polygons([[point.get(key) for point in points for key in ("x", "y")]], height, width)


def _box(region: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    box = fields(region.get("boundingBox"))
    x, y, across, down = numbers([box.get(key) for key in ("left", "top", "width", "height")], 4)
    return rectangle((x, y, across, down), 0, height, width)


FORMAT = LabelFormat("vott", "the JSON of VoTT", _recognises, _read)
