"""VIA, the VGG Image Annotator: polygons, rectangles, circles and ellipses of its JSON and CSV.

Written by VIA 1 and 2: the annotations, or the whole project; and by VIA 3: the project. The class of a region is its
attribute, whose values are texts or boxes that are ticked; of several attributes, the one that is called `label`,
`class` or the like. Attributes of files that are called so are tags. VIA does not say the sizes of images.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from cian.data.problems import counted, file_error, quoted
from cian.formats.annotations import Annotated, Annotations, Given, LabelFormat, Shape, numbers
from cian.formats.columns import TAG_COLUMNS
from cian.formats.shapes import ellipse, polygons, rectangle
from cian.formats.text import JsonObject, decode_json, entries, fields
from cian.formats.tree import Tree

_SHAPE_COLUMN, _LABEL_COLUMN, _FILE_COLUMN = "region_shape_attributes", "region_attributes", "file_attributes"
_POINTS = {
    2: ("rect", "x", "y", "width", "height"),
    3: ("circle", "cx", "cy", "r"),
    4: ("ellipse", "cx", "cy", "rx", "ry"),
}
_CLASS_KEYS = (*TAG_COLUMNS, "name", "type", "object", "species")
_NAMES = {1: "point", 5: "line", 6: "polyline", 7: "polygon", 8: "extreme_rectangle", 9: "extreme_circle"}


def _files(content: Any) -> list[dict[str, Any]]:
    """What the file says of each image; none if it is no file of VIA."""
    keys = fields(content)
    if {"metadata", "attribute", "file", "view"} <= keys.keys():
        return _files_of_3(keys)
    found = [fields(each) for each in fields(keys.get("_via_img_metadata", content)).values()]
    return found if found and all({"filename", "regions"} <= each.keys() for each in found) else []


def _files_of_3(keys: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The content of VIA 3 as VIA 2 writes it."""
    attributes = {key: fields(value) for key, value in fields(keys["attribute"]).items()}
    names = {key: str(fields(value).get("fname", "")) for key, value in fields(keys["file"]).items()}
    found: dict[str, dict[str, Any]] = {}
    for view, value in fields(keys["view"]).items():
        files = [names[str(file)] for file in entries(fields(value).get("fid_list")) if str(file) in names]
        if len(files) == 1:
            found[view] = {"filename": files[0], "regions": [], _FILE_COLUMN: JsonObject()}
    for value in fields(keys["metadata"]).values():
        entry = fields(value)
        image = found.get(str(entry.get("vid")))
        if image is None:
            continue
        named = []
        for key, text in fields(entry.get("av")).items():
            attribute = attributes.get(key, {})
            options = fields(attribute.get("options"))
            chosen = (str(options.get(each, each)) for each in (str(text).split(",") if options else [str(text)]))
            ticked = JsonObject((each, True) for each in chosen if each.strip())
            named.append((str(attribute.get("aname", key)), ticked))
        labels, points = JsonObject(named), entries(entry.get("xy"))
        if points:
            region = [("shape_attributes", _shape_of_3(points)), (_LABEL_COLUMN, labels)]
            image["regions"].append(JsonObject(region))
        else:
            image[_FILE_COLUMN] = labels
    return list(found.values())


def _shape_of_3(points: list[Any]) -> JsonObject:
    """The shape of a list [kind, x, y, …]."""
    kind, *values = points
    if kind in _POINTS:
        name, *keys = _POINTS[kind]
        return JsonObject([("name", name), *zip(keys, values, strict=False)])
    outline = [("all_points_x", values[::2]), ("all_points_y", values[1::2])]
    return JsonObject([("name", _NAMES.get(kind, str(kind))), *outline])


def _rows(text: str, where: str) -> list[dict[str, Any]]:
    """What the CSV of VIA says of each image."""
    found: dict[str, dict[str, Any]] = {}
    for row in csv.DictReader(io.StringIO(text.lstrip("#"))):
        name = row.get("filename") or ""
        image = found.setdefault(name, {"filename": name, "regions": [], _FILE_COLUMN: JsonObject()})
        cells = {key: _cell(row.get(key), where) for key in (_SHAPE_COLUMN, _LABEL_COLUMN, _FILE_COLUMN)}
        image[_FILE_COLUMN] = cells[_FILE_COLUMN] or image[_FILE_COLUMN]
        if cells[_SHAPE_COLUMN]:
            region = [("shape_attributes", cells[_SHAPE_COLUMN]), (_LABEL_COLUMN, cells[_LABEL_COLUMN])]
            image["regions"].append(JsonObject(region))
    return list(found.values())


def _cell(text: str | None, where: str) -> JsonObject:
    value = decode_json((text or "{}").encode(), where, "Export it again")
    return value if isinstance(value, JsonObject) else JsonObject()


def _recognises(tree: Tree) -> bool:
    if len(tree.names) != 1:
        return False
    (name,) = tree.names
    if tree.ending(".csv"):
        return tree.holds(name, _SHAPE_COLUMN.encode())
    return bool(tree.ending(".json") and _files(tree.json_or_none(name)))


def _read(tree: Tree, given: Given) -> Annotations:
    (name,) = tree.names
    where = tree.where(name)
    files = _rows(tree.text(name), where) if tree.ending(".csv") else _files(tree.json(name))
    images: list[Annotated] = []
    unread: Counter[str] = Counter()
    without = 0
    for each in files:
        place = f"{where}, {each['filename']}"
        shapes = []
        attributes = fields(each.get(_FILE_COLUMN)).items()
        tags = [label for key, value in attributes if key.casefold() in _CLASS_KEYS for label in _labels(value)]
        for number, region in enumerate(_regions(each), start=1):
            values = fields(region.get("shape_attributes"))
            draw = _DRAW.get(str(values.get("name")))
            labels = _class(region.get(_LABEL_COLUMN), f"{place}, region {number}")
            without += not labels
            if draw is None:
                unread[str(values.get("name"))] += bool(values)
                tags += labels
                continue
            shapes += [Shape(label, partial(draw, values), f"{place}, region {number}") for label in labels]
        image = str(each["filename"])
        images.append(Annotated(image, given.image_size(image), shapes, tags, where=place))
    notes = [f"regions of type {kind} ({count}) are tags alone" for kind, count in unread.items() if count]
    notes += [f"regions without a class ({without}) are left out"] if without else []
    for text in notes:
        given.problems.add(where, text, "Correct this in VIA if it matters", fatal=False)
    return Annotations(tree.path, f"VIA, {counted(len(images), 'image')}", images)


def _regions(each: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A list in VIA 2, a map of numbers in VIA 1."""
    value = each["regions"]
    return [fields(region) for region in (fields(value).values() if isinstance(value, JsonObject) else entries(value))]


def _class(attributes: Any, where: str) -> list[str]:
    """The class of a region: its only attribute, or the one that is called so.

    Raises:
        FileError: there are several, and none of them is called like a class.
    """
    named = {key: labels for key, value in fields(attributes).items() if (labels := _labels(value))}
    known = next((key for key in fields(attributes) if key.casefold() in _CLASS_KEYS), None)
    if known is None and len(named) > 1:
        value = f"has the attributes {', '.join(map(quoted, named))}, and does not say which is the class"
        raise file_error(where, value, "Call it `class` in VIA")
    return named.get(known, []) if known else next(iter(named.values()), [])


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

FORMAT = LabelFormat("via", "the JSON or CSV of VIA", _recognises, _read)
