"""Label Studio: masks, polygons, rectangles and ellipses of its JSON and JSON-MIN, and tasks with predictions.

Written by its exports "JSON" and "JSON-MIN" (looked at: Label Studio 1.13 to 1.20). A mask is a PNG in a data address,
of which the alpha counts (`BitmaskLabels`), or the packed bytes of a brush (`BrushLabels`). Coordinates are percent of
the image. Of several annotations of an image, the last one that was not skipped counts. Predictions are not read.
Written are tasks to import, and beside them the labelling configuration of the project, NAME.xml.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
from PIL import Image

from cian.data.images import KNOWN_SUFFIXES
from cian.data.palette import COLOURS
from cian.data.table import BACKGROUND
from cian.files import write_text
from cian.formats import run_lengths
from cian.formats.annotations import (
    Annotated,
    Annotations,
    Given,
    Item,
    LabelFormat,
    Region,
    Shape,
    Target,
    numbers,
    size_of,
)
from cian.formats.file_index import spellings
from cian.formats.shapes import ellipse, polygons, rectangle
from cian.formats.text import JsonObject, entries, fields
from cian.formats.tree import Tree

_SOLID = 128  # alpha from which a pixel belongs to an object: brushes have soft edges
_RESULTS = ("annotations", "completions")  # of old versions


def _recognises(tree: Tree) -> bool:
    return any(_is_tasks(tree.json_or_none(name)) for name in tree.ending(".json") if len(tree.names) == 1)


def _is_tasks(content: Any) -> bool:
    tasks = [fields(task) for task in entries(content)[:20]]
    full = any(isinstance(task.get("data"), JsonObject) and {*_RESULTS, "predictions"} & task.keys() for task in tasks)
    return full or any("original_width" in fields(each) for task in tasks for _, each in _min_results(task))


def _min_results(task: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(name of the control, region) of a task of JSON-MIN."""
    for name, value in task.items():
        yield from ((name, each) for each in entries(value))


def _read(tree: Tree, given: Given) -> Annotations:
    (name,) = tree.names
    images: list[Annotated] = []
    unread: dict[str, int] = {}
    several = predicted = 0
    for number, task in enumerate(map(fields, entries(tree.json(name))), start=1):
        where = f"{tree.where(name)}, task {number}"
        image = _image(fields(task["data"]) if isinstance(task.get("data"), JsonObject) else task)
        if image is None:
            given.problems.add(where, "names no image", "Export the tasks of an image project")
            continue
        kept = [
            each for key in _RESULTS for each in map(fields, entries(task.get(key))) if not each.get("was_cancelled")
        ]
        several += len(kept) > 1
        predicted += not kept and bool(entries(task.get("predictions")))
        if "data" in task:
            results = entries(kept[-1].get("result")) if kept else []
            regions = [(fields(each), fields(fields(each).get("value"))) for each in results]
        else:
            regions = [(fields(each), fields(each)) for _, each in _min_results(task)]
        shapes, size = [], None
        names = _labels(regions)
        for place, (result, value) in enumerate(regions, start=1):
            draw = _draw(value)
            labels = _own_labels(value) or names.get(result.get("id"), [])
            if draw is None:
                kind = str(result.get("type", ""))
                if kind and not kind.startswith(("choices", "labels", "rating", "textarea", "taxonomy")):
                    unread[kind] = unread.get(kind, 0) + 1
            elif labels:
                size = size_of(result.get("original_height"), result.get("original_width")) or size
                draw = draw if not result.get("image_rotation") else _refuse_rotation
                shapes += [Shape(label, draw, f"{where}, region {place}") for label in labels]
        images.append(Annotated(image, size, shapes, _choices(task, regions), where=where))
    notes = [f"{count} regions of type {kind} are not read" for kind, count in unread.items()]
    notes += [f"{several} tasks have several annotations, of which the last one counts"] if several else []
    notes += [f"{predicted} tasks have predictions alone, which are not read"] if predicted else []
    for text in notes:
        given.problems.add(tree.where(name), text, "Correct this in Label Studio if it matters", fatal=False)
    return Annotations(tree.path, f"Label Studio's JSON, {len(images)} tasks", images)


def _image(data: Mapping[str, Any]) -> str | None:
    """The address of a task's image: the value that looks like one."""
    texts = {key: value for key, value in data.items() if isinstance(value, str)}
    for value in texts.values():
        if any(PurePosixPath(text).suffix.lower() in KNOWN_SUFFIXES for text in spellings(value)):
            return value
    return texts.get("image") or texts.get("img")


def _labels(regions: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> dict[Any, list[str]]:
    """The labels of each region by its id: shape and label may be two results."""
    found: dict[Any, list[str]] = {}
    for result, value in regions:
        if isinstance(result.get("id"), str):
            found.setdefault(result["id"], []).extend(_own_labels(value))
    return found


def _own_labels(value: Mapping[str, Any]) -> list[str]:
    return [each for key in value if key.endswith("labels") for each in entries(value[key]) if isinstance(each, str)]


def _choices(task: Mapping[str, Any], regions: Iterable[tuple[Any, Mapping[str, Any]]]) -> list[str]:
    """The choices of a task; in JSON-MIN a text, or {"choices": […]} if there are several."""
    if "data" in task:
        found = [each for _, value in regions for each in entries(value.get("choices"))]
    else:
        lists = [fields(value).get("choices") for value in task.values()]
        found = [each for value in lists for each in entries(value)]
        single = [task[key] for key in ("choice", "choices", "class", "tag", "tags", "label") if key in task]
        found += [each for value in single for each in (entries(value) or [value])]
    return [each for each in found if isinstance(each, str)]


def _draw(value: Mapping[str, Any]) -> Callable[[int, int], np.ndarray] | None:
    """How to draw a region; None if it is none that has pixels."""
    if "imageDataURL" in value:
        return partial(_bitmask, value["imageDataURL"])
    if "rle" in value:
        return lambda height, width: run_lengths.brush(entries(value["rle"]), height, width)
    if "points" in value:
        return partial(_polygon, value["points"])
    if "radiusX" in value:
        return partial(_ellipse, value)
    return partial(_rectangle, value) if {"x", "y", "width", "height"} <= value.keys() else None


def _refuse_rotation(height: int, width: int) -> np.ndarray:
    raise ValueError("was drawn on an image that had been rotated, which is not read")


def _polygon(points: Any, height: int, width: int) -> np.ndarray:
    flat = []
    for point in entries(points):
        x, y = numbers(entries(point), 2)
        flat += [x * width / 100, y * height / 100]
    return polygons([flat], height, width)


def _rectangle(value: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    x, y, across, down, turn = numbers([value.get(key, 0) for key in ("x", "y", "width", "height", "rotation")], 5)
    box = (x * width / 100, y * height / 100, across * width / 100, down * height / 100)
    return rectangle(box, turn, height, width)


def _ellipse(value: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    x, y, across, down, turn = numbers([value.get(key, 0) for key in ("x", "y", "radiusX", "radiusY", "rotation")], 5)
    scaled = (x * width / 100, y * height / 100, across * width / 100, down * height / 100)
    return ellipse(scaled, turn, height, width)


def _bitmask(address: Any, height: int, width: int) -> np.ndarray:
    """(H, W) bool of the alpha of a PNG in a data address."""
    if not isinstance(address, str) or not address.startswith("data:image/png;base64,"):
        raise ValueError("its imageDataURL is no PNG in a data address")
    try:
        content = base64.b64decode(address.partition(",")[2], validate=True)
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            size = image.size
            pixels = np.array(image.convert("RGBA"))[..., 3] if size == (width, height) else None
    except (binascii.Error, OSError, ValueError, SyntaxError):
        raise ValueError("its imageDataURL holds no PNG") from None
    if pixels is None:
        raise ValueError(f"its mask has {size[0]} x {size[1]} pixels, its image {width} x {height}")
    return pixels >= _SOLID


def _write(items: Iterable[Item], target: Target) -> list[str]:
    """Tasks with predictions, to import or to put into a storage, and the labelling configuration."""
    tasks = []
    partly = empty = 0
    tags: dict[str, None] = {}
    for item in items:
        regions = [] if item.drawn is None else item.drawn.regions()
        empty += item.drawn is not None and not regions
        partly += any(region.label == BACKGROUND for region in regions)
        tags |= dict.fromkeys(item.tags)
        results = [_result(region, item, number) for number, region in enumerate(regions, start=1)]
        if item.tags:
            choices = {"choices": list(item.tags)}
            results.append({"type": "choices", "from_name": "tags", "to_name": "image", "value": choices})
        predictions = [{"model_version": "cian", "result": results}] if results else []
        tasks.append({"data": {"image": target.prefix + quote(item.name)}, "predictions": predictions})
    write_text(target.path, json.dumps(tasks, ensure_ascii=False) + "\n")
    labels = [*[BACKGROUND][: bool(partly)], *target.classes]
    write_text(target.path.with_suffix(".xml"), _configuration(labels, list(tags)))
    lost = []
    if partly:
        lost.append(f"{partly} images are unlabelled in part: their background is the label `{BACKGROUND}`")
    if empty:
        lost.append(f"{empty} images show no object: their tasks look like tasks without a prediction")
    return lost


def _result(region: Region, item: Item, number: int) -> dict[str, Any]:
    assert item.size is not None
    height, width = item.size
    mask = Image.fromarray(region.whole(item.size).astype(np.uint8), "P")
    mask.putpalette([0, 0, 0] * 2)
    stream = io.BytesIO()
    mask.save(stream, format="PNG", bits=1, transparency=bytes([0, 255]))  # black on nothing, as Label Studio draws
    address = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    return {
        "id": f"region{number}",
        "type": "bitmasklabels",
        "from_name": "labels",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {"imageDataURL": address, "bitmasklabels": [region.label]},
    }


def _configuration(labels: Iterable[str], tags: list[str]) -> str:
    """The labelling configuration of a project, to paste into its settings."""
    lines = ["<View>", '  <Image name="image" value="$image" smoothing="false" zoom="true" zoomControl="true"/>']
    lines.append('  <BitmaskLabels name="labels" toName="image">')
    for label, colour in zip(labels, COLOURS[1:].tolist(), strict=False):
        lines.append(f'    <Label value={quoteattr(label)} background="#{bytes(colour).hex()}"/>')
    lines.append("  </BitmaskLabels>")
    if tags:
        lines.append('  <Choices name="tags" toName="image" choice="multiple">')
        lines += [f"    <Choice value={quoteattr(tag)}/>" for tag in tags]
        lines.append("  </Choices>")
    return "\n".join([*lines, "</View>", ""])


FORMAT = LabelFormat(
    "label-studio", "Label Studio's JSON or JSON-MIN", _recognises, _read, _write, ".json", "names", beside=".xml"
)
