"""COCO's annotations (Lin et al. 2014, arXiv 1405.0312), as annotation tools export them too: one JSON of images,
categories and instances. Their categories are tags; their shapes can be drawn into a mask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from cian.data.problems import ProblemList, file_error, quoted
from cian.data.table import IGNORE
from cian.formats.text import JsonObject, clean

CURE = "Export it again as COCO JSON, with images, annotations and categories"
_PARTS = ("images", "categories", "annotations")


class Instance(NamedTuple):
    """One annotation. `number` counts them in the file, from 1."""

    number: int
    image: Any  # id
    category: str
    content: dict[str, Any]


@dataclass(frozen=True)
class Annotations:
    """A file of annotations.

    Attributes:
        images: by id, what the file says of each image; `file_name` is a text.
        categories: names in the order of their ids, of those too that do not occur.
        instances: all of them, in the order of the file.
    """

    path: Path
    images: dict[Any, dict[str, Any]]
    categories: tuple[str, ...]
    instances: tuple[Instance, ...]

    def tags(self) -> dict[Any, tuple[str, ...]]:
        """The categories of each image by its id, those of crowds too."""
        tags: dict[Any, dict[str, None]] = {image: {} for image in self.images}
        for instance in self.instances:
            tags[instance.image][instance.category] = None
        return {image: tuple(names) for image, names in tags.items()}


def without_shapes(pairs: list[tuple[str, Any]]) -> JsonObject:
    """For `parse_json`: reads instances without their shapes, which fill the memory and tell no tag."""
    if any(key == "category_id" for key, _ in pairs):
        return JsonObject(pair for pair in pairs if pair[0] != "segmentation")
    return JsonObject(pairs)


def is_coco(content: Any) -> bool:
    """Whether JSON as of `parse_json` is of this kind, and not a map of tags."""
    return isinstance(content, JsonObject) and {"images", "annotations"} <= {key for key, _ in content}


def read_annotations(path: Path, content: Any, problems: ProblemList) -> Annotations:
    """What a file of annotations says; its unusable parts become problems and are left out.

    Args:
        content: its JSON, as of `parse_json`.

    Raises:
        CianError: it is of another kind.
    """
    parts = dict(content) if isinstance(content, JsonObject) else {}
    for part in _PARTS:
        if not isinstance(parts.get(part), list) or isinstance(parts[part], JsonObject):
            raise file_error(path, f"has no list {quoted(part)}", CURE)
    images = dict(_by_id(path, "image", "file_name", parts["images"], problems))
    categories = dict(_by_id(path, "category", "name", parts["categories"], problems))
    names = {key: clean(category["name"]) for key, category in categories.items()}
    instances = []
    for number, item in enumerate(parts["annotations"], start=1):
        values = dict(item) if isinstance(item, JsonObject) else {}
        image, category = (values.get(key) for key in ("image_id", "category_id"))
        for key, value, known in (("image_id", image, images), ("category_id", category, names)):
            if not isinstance(value, int | float | str) or value not in known:
                problems.add(f"{path}, annotation {number}", f"there is no {key} {quoted(str(value))}", CURE)
                break
        else:
            instances.append(Instance(number, image, names[category], values))
    order = sorted(names, key=lambda key: (isinstance(key, str), key))
    return Annotations(path, images, tuple(dict.fromkeys(names[key] for key in order)), tuple(instances))


def _by_id(
    path: Path, what: str, name: str, items: Iterable[Any], problems: ProblemList
) -> Iterable[tuple[Any, dict[str, Any]]]:
    """(id, what is said of it) of images or categories, each with a unique id and a name."""
    seen: set[Any] = set()
    for number, item in enumerate(items, start=1):
        values = dict(item) if isinstance(item, JsonObject) else {}
        key, text = values.get("id"), values.get(name)
        where = f"{path}, {what} {number}"
        if not isinstance(key, int | float | str):
            problems.add(where, "has no id", CURE)
        elif not isinstance(text, str) or not clean(text):
            problems.add(where, f"has no {name}", CURE)
        elif key in seen:
            problems.add(where, f"its id {quoted(str(key))} occurred before", CURE)
        else:
            seen.add(key)
            yield key, values


def render(
    instances: Sequence[Instance], size: tuple[int, int], class_ids: dict[str, int], where: str = "annotations"
) -> np.ndarray:
    """Draws the instances of one image, smaller ones over larger ones; crowds are ignored where nothing else lies.

    Args:
        size: (height, width) of the image.
        class_ids: by category.
        where: what errors call the file.

    Returns:
        (H, W) uint8 class ids, 0 = background, 255 = ignore.

    Raises:
        CianError: a shape is none, or not of the image's size.
    """
    shapes: list[tuple[int, int, np.ndarray]] = []
    crowd = np.zeros(size, bool)
    for instance in instances:
        try:
            shape = _shape(instance.content.get("segmentation"), *size)  # (H, W)
        except ValueError as error:
            raise file_error(
                f"{where}, annotation {instance.number}", str(error), "Export polygons or run lengths, not boxes"
            ) from None
        if instance.content.get("iscrowd"):
            crowd |= shape
        else:
            shapes.append((int(shape.sum()), class_ids[instance.category], shape))
    mask = np.zeros(size, np.uint8)
    for _, class_id, shape in sorted(shapes, key=lambda item: -item[0]):
        mask[shape] = class_id
    mask[crowd & (mask == 0)] = IGNORE
    return mask


def _shape(segmentation: Any, height: int, width: int) -> np.ndarray:
    """(H, W) bool of a list of polygons, or of run lengths (plain or compressed)."""
    if isinstance(segmentation, JsonObject):
        return _runs(dict(segmentation), height, width)
    if not isinstance(segmentation, list) or not segmentation:
        raise ValueError("has no segmentation")
    shape = np.zeros((height, width), bool)
    for polygon in segmentation:
        if (
            not isinstance(polygon, list)
            or len(polygon) < 6
            or len(polygon) % 2
            or not all(isinstance(value, int | float) for value in polygon)
            or not np.isfinite(points := np.array(polygon, np.float64).reshape(-1, 2)).all()
        ):
            raise ValueError(f"{quoted(str(polygon))} is no polygon [x, y, x, y, x, y, …]")
        shape |= fill_polygon(points, height, width)
    return shape


def fill_polygon(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """The pixels whose centre lies within a polygon (even-odd rule).

    Shape:
        points: (P, 2) x, y; pixel (0, 0) covers [0, 1) x [0, 1). Returns (H, W) bool.
    """
    x, y = points.T
    next_x, next_y = np.roll(points, -1, 0).T
    rows = np.arange(height) + 0.5
    edge, row = np.nonzero((y[:, None] <= rows) != (next_y[:, None] <= rows))  # where an edge crosses a row of centres
    at = x[edge] + (rows[row] - y[edge]) * (next_x - x)[edge] / (next_y - y)[edge]
    crossings = np.zeros((height, width + 1), np.int32)
    np.add.at(crossings, (row, np.ceil(at - 0.5).clip(0, width).astype(np.int64)), 1)
    return crossings[:, :width].cumsum(1) % 2 == 1


def _runs(segmentation: dict[str, Any], height: int, width: int) -> np.ndarray:
    """(H, W) bool of run lengths: of 0 and of 1 in turn, down the columns."""
    counts = segmentation.get("counts")
    if isinstance(counts, str):
        counts = _decompress(counts)
    if not isinstance(counts, list) or not all(isinstance(count, int) and count >= 0 for count in counts):
        raise ValueError("its segmentation has no counts")
    if segmentation.get("size") != [height, width] or sum(counts) != height * width:
        raise ValueError(f"its run lengths are not of the image's size, {width} x {height} pixels")
    return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(width, height).T


def _decompress(text: str) -> list[int]:
    """Run lengths of COCO's text: groups of 5 bits, the lowest first, as differences to the last but one."""
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
