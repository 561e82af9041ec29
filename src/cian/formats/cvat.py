"""CVAT: the XML of "CVAT for images 1.1", alone or in its archive. See `label_maps` for its "Segmentation mask 1.1".

Written by CVAT's exports of tasks, jobs and projects (looked at: CVAT 2.0 to 2.80; specification: "XML annotation
format" of its documentation). Read are masks, polygons, boxes and ellipses, which lie over each other by `z_order`, and
tags. Written are masks, as run lengths along the rows of their boxes, and tags; the ids of images have no gaps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from xml.etree.ElementTree import Element
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from cian.data.palette import COLOURS
from cian.data.problems import FileError, counted, file_error
from cian.data.table import BACKGROUND, TRAIN
from cian.files import atomic
from cian.formats import run_lengths
from cian.formats.annotations import Annotated, Annotations, Given, Item, LabelFormat, Region, Shape, Target, size_of
from cian.formats.shapes import ellipse, polygons, rectangle
from cian.formats.split_names import split_name
from cian.formats.text import clean
from cian.formats.tree import Tree
from cian.formats.xml import tag_name


def _recognises(tree: Tree) -> bool:
    return any(_is_cvat(tree, name) for name in _xml_files(tree))


def _xml_files(tree: Tree) -> list[str]:
    return [name for name in tree.ending(".xml") if len(tree.names) == 1 or name.endswith("annotations.xml")]


def _is_cvat(tree: Tree, name: str) -> bool:
    try:
        root = tree.xml(name)
    except FileError:
        return False
    return tag_name(root) == "annotations" and (root.find("image") is not None or root.find("track") is not None)


def _read(tree: Tree, given: Given) -> Annotations:
    images: list[Annotated] = []
    classes: dict[str, None] = {}
    unread: Counter[str] = Counter()
    for name in _xml_files(tree):
        where = tree.where(name)
        root = tree.xml(name)
        if root.find("track") is not None:
            cure = 'Export the task again as "CVAT for images 1.1"'
            raise file_error(where, "holds tracks of a video, whose frames have no names", cure)
        classes |= dict.fromkeys(clean(label.text or "") for label in root.iterfind("meta//labels/label/name"))
        images += [_image(image, where, unread) for image in root.iterfind("image")]
    for kind, count in unread.items():
        value = f"{count} shapes <{kind}> are not read"
        given.problems.add(tree.path, value, "Draw masks or polygons to use them", fatal=False)
    names = tuple(filter(None, classes))
    splits = any(image.split != TRAIN for image in images)
    return Annotations(tree.path, f"CVAT's XML, {counted(len(images), 'image')}", images, names, splits=splits)


def _image(image: Element, where: str, unread: Counter[str]) -> Annotated:
    name = image.get("name", "")
    place = f"{where}, image {image.get('id', '?')} ({name})"
    shapes: list[tuple[float, Shape]] = []
    tags = []
    for number, child in enumerate(image, start=1):
        label = clean(child.get("label", ""))
        if child.tag == "tag":
            tags.append(label)
        elif (draw := _DRAW.get(child.tag)) is not None:
            shape = Shape(label, partial(draw, child.attrib), f"{place}, shape {number}")
            shapes.append((_depth(child.attrib), shape))
        elif label:
            unread[child.tag] += 1
    shapes.sort(key=lambda item: item[0])
    size = size_of(image.get("height"), image.get("width"))
    split = split_name(image.get("subset", "")) or TRAIN
    return Annotated(name, size, [shape for _, shape in shapes], tags, split, place)


def _depth(values: Mapping[str, str]) -> float:
    try:
        return _number(values, "z_order", 0)
    except ValueError:
        return 0


def _number(values: Mapping[str, str], key: str, missing: float | None = None) -> float:
    """
    Raises:
        ValueError: there is no such number.
    """
    try:
        number = float(values[key])
    except (KeyError, ValueError):
        number = np.nan if missing is None else missing
    if not abs(number) < 1e9:
        raise ValueError(f"has no number {key!r}")
    return number


def _whole(values: Mapping[str, str], key: str) -> int:
    number = _number(values, key)
    if number != int(number):
        raise ValueError(f"its {key!r} is no whole number")
    return int(number)


def _mask(values: Mapping[str, str], height: int, width: int) -> np.ndarray:
    left, top, columns, rows = (_whole(values, key) for key in ("left", "top", "width", "height"))
    try:
        lengths = [int(text) for text in values.get("rle", "").split(",")]
    except ValueError:
        raise ValueError("its run lengths are no numbers") from None
    return run_lengths.in_box(lengths, (left, top, columns, rows), height, width)


def _polygon(values: Mapping[str, str], height: int, width: int) -> np.ndarray:
    try:
        points = [float(text) for point in values.get("points", "").split(";") for text in point.split(",")]
    except ValueError:
        raise ValueError("its points are no numbers") from None
    return polygons([points], height, width)


def _box(values: Mapping[str, str], height: int, width: int) -> np.ndarray:
    left, top, right, bottom = (_number(values, key) for key in ("xtl", "ytl", "xbr", "ybr"))
    turn = _number(values, "rotation", 0)
    return rectangle((left, top, right - left, bottom - top), turn, height, width, about_centre=True)


def _ellipse(values: Mapping[str, str], height: int, width: int) -> np.ndarray:
    x, y, across, down = (_number(values, key) for key in ("cx", "cy", "rx", "ry"))
    return ellipse((x, y, across, down), _number(values, "rotation", 0), height, width)


_DRAW: dict[str, Callable[[Mapping[str, str], int, int], np.ndarray]] = {
    "mask": _mask,
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
}


def _write(items: Iterable[Item], target: Target) -> list[str]:
    """One XML file. CVAT takes it for a task that holds images of these names."""
    partly = empty = count = 0
    images: list[str] = []
    for count, item in enumerate(items, start=1):
        if item.size is None:
            raise file_error(item.name, "the size of the image is not known", "Give the images: --images DIR")
        regions = [] if item.drawn is None else item.drawn.regions()
        partly += any(region.label == BACKGROUND for region in regions)
        empty += item.drawn is not None and not regions
        height, width = item.size
        images.append(f'  <image id="{count - 1}" name={quoteattr(item.name)} width="{width}" height="{height}">')
        images += [f"    {_element(region)}" for region in regions]
        images += [f'    <tag label={quoteattr(tag)} source="auto"/>' for tag in item.tags]
        images.append("  </image>")
    labels = [*[BACKGROUND][: bool(partly)], *target.classes]
    with atomic(target.path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in (*_head(labels, count), *images, "</annotations>"))
    lost = []
    if partly:
        value = f"{partly} images are unlabelled in part: CVAT cannot say this, so their background is the label"
        lost.append(f"{value} `{BACKGROUND}`, which your task in CVAT needs")
    if empty:
        lost.append(f"{empty} images show no object: in CVAT they look like images that nobody has labelled")
    return lost


def _head(labels: list[str], count: int) -> list[str]:
    lines = ['<?xml version="1.0" encoding="utf-8"?>', "<annotations>", "  <version>1.1</version>", "  <meta>"]
    lines += ["    <task>", "      <name>cian</name>", f"      <size>{count}</size>", "      <mode>annotation</mode>"]
    lines.append("      <labels>")
    for label, colour in zip(labels, COLOURS[1:].tolist(), strict=False):
        name = f"<name>{escape(label)}</name><color>#{bytes(colour).hex()}</color>"
        lines.append(f"        <label>{name}<type>any</type><attributes></attributes></label>")
    return [*lines, "      </labels>", "    </task>", "  </meta>"]


def _element(region: Region) -> str:
    height, width = region.mask.shape
    lengths = ", ".join(map(str, run_lengths.counts(region.mask.ravel())))
    box = f'left="{region.left}" top="{region.top}" width="{width}" height="{height}"'
    return f'<mask label={quoteattr(region.label)} source="auto" occluded="0" rle="{lengths}" {box} z_order="0"/>'


FORMAT = LabelFormat("cvat", 'CVAT\'s XML "CVAT for images 1.1"', _recognises, _read, _write, ".xml", "names")
