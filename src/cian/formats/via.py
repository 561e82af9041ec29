"""VIA, the VGG Image Annotator: polygons, rectangles, circles and ellipses of its JSON.

Written by VIA 1 and 2: the annotations, or the whole project. The class of a region is its attribute, whose values are
texts or boxes that are ticked; of several attributes, the one that is called `label`, `class` or the like. VIA does not
say the sizes of images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from cian.formats.annotations import Annotated, Annotations, Given, LabelFormat, Shape, numbers
from cian.formats.columns import TAG_COLUMNS
from cian.formats.shapes import ellipse, polygons, rectangle
from cian.formats.text import JsonObject, entries, fields
from cian.formats.tree import Tree


def _files(content: Any) -> list[dict[str, Any]]:
    """What the file says of each image; none if it is no file of VIA."""
    keys = fields(content)
    found = [fields(each) for each in fields(keys.get("_via_img_metadata", content)).values()]
    return found if found and all({"filename", "regions"} <= each.keys() for each in found) else []


def _recognises(tree: Tree) -> bool:
    return any(_files(tree.json_or_none(name)) for name in tree.ending(".json") if len(tree.names) == 1)


def _read(tree: Tree, given: Given) -> Annotations:
    (name,) = tree.names
    where = tree.where(name)
    files = _files(tree.json(name))
    attribute = _attribute(files)
    images: list[Annotated] = []
    unread: Counter[str] = Counter()
    without = 0
    for each in files:
        place = f"{where}, {each['filename']}"
        shapes = []
        for number, region in enumerate(_regions(each), start=1):
            values = fields(region.get("shape_attributes"))
            draw = _DRAW.get(str(values.get("name")))
            labels = _labels(fields(region.get("region_attributes")).get(attribute))
            without += not labels
            if draw is None:
                unread[str(values.get("name"))] += 1
                continue
            shapes += [Shape(label, partial(draw, values), f"{place}, region {number}") for label in labels]
        image = str(each["filename"])
        images.append(Annotated(image, given.image_size(image), shapes, where=place))
    notes = [f"{count} regions of type {kind} are not read" for kind, count in unread.items()]
    notes += [f"{without} regions have no attribute {attribute!r}, so no class"] if without else []
    for text in notes:
        given.problems.add(where, text, "Correct this in VIA if it matters", fatal=False)
    return Annotations(tree.path, f"VIA's JSON, {len(images)} images", images)


def _regions(each: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A list in VIA 2, a map of numbers in VIA 1."""
    value = each["regions"]
    return [fields(region) for region in (fields(value).values() if isinstance(value, JsonObject) else entries(value))]


def _attribute(files: list[dict[str, Any]]) -> str:
    """The attribute of regions that is their class."""
    regions = [region for each in files for region in _regions(each)]
    counts = Counter(key for region in regions for key in fields(region.get("region_attributes")))
    known = [key for key in counts if key.casefold() in (*TAG_COLUMNS, "name", "type", "object")]
    return known[0] if known else max(counts, key=lambda key: counts[key], default="label")


def _labels(value: Any) -> list[str]:
    if isinstance(value, JsonObject):
        return [key for key, ticked in value if ticked is True]
    return [value] if isinstance(value, str) and value.strip() else []


def _polygon(values: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    x, y = entries(values.get("all_points_x")), entries(values.get("all_points_y"))
    if len(x) != len(y):
        raise ValueError("its polygon has other numbers of x and y")
    return polygons([[value for point in zip(x, y, strict=True) for value in point]], height, width)


def _rectangle(values: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    x, y, across, down = numbers([values.get(key) for key in ("x", "y", "width", "height")], 4)
    return rectangle((x, y, across, down), 0, height, width)


def _circle(values: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    x, y, radius = numbers([values.get(key) for key in ("cx", "cy", "r")], 3)
    return ellipse((x, y, radius, radius), 0, height, width)


def _ellipse(values: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    x, y, across, down = numbers([values.get(key) for key in ("cx", "cy", "rx", "ry")], 4)
    (turn,) = numbers([values.get("theta", 0)], 1)
    return ellipse((x, y, across, down), float(np.degrees(turn)), height, width)


_DRAW: dict[str, Callable[[Mapping[str, Any], int, int], np.ndarray]] = {
    "polygon": _polygon,
    "rect": _rectangle,
    "circle": _circle,
    "ellipse": _ellipse,
}

FORMAT = LabelFormat("via", "the JSON of VIA", _recognises, _read)
