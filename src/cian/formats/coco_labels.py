"""COCO's shapes: polygons and run lengths of instances, and panoptic PNG with JSON. See `coco` for its tags.

Read are the JSON files of COCO itself, CVAT, Label Studio, Roboflow and others, alone, in a folder or in an archive.
Written are run lengths, compressed as pycocotools does it, or polygons. An area is a number of pixels, a box is
[x, y, width, height]. COCO cannot say that an image is unlabelled in part, so background is then a category.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from cian.data.problems import counted, file_error, quoted
from cian.data.table import BACKGROUND, TRAIN
from cian.files import write_text
from cian.formats.annotations import (
    Annotated,
    Annotations,
    Given,
    Item,
    LabelFormat,
    Region,
    Shape,
    Target,
    recently,
    size_of,
)
from cian.formats.class_names import class_names
from cian.formats.coco import CURE, Instance, read_annotations, split_of
from cian.formats.coco import Annotations as CocoFile
from cian.formats.coco_masks import shape_pixels
from cian.formats.devkits import COCO_CLASSES
from cian.formats.outlines import joined, trace
from cian.formats.run_lengths import coco_counts, compress
from cian.formats.text import clean, entries, fields
from cian.formats.tree import Tree

_NAMES = ("instances", "panoptic", "_annotations.coco")


def _recognises(tree: Tree) -> bool:
    return any(_is_coco(tree, name) for name in _json_files(tree))


def _json_files(tree: Tree) -> list[str]:
    """The files that may hold annotations: a file given alone, or those that are called as COCO calls them."""
    names = tree.ending(".json")
    if len(tree.names) <= 1 or len(names) == 1:
        return names
    return [name for name in names if PurePosixPath(name).name.startswith(_NAMES)]


def _is_coco(tree: Tree, name: str) -> bool:
    return {"images", "annotations", "categories"} <= fields(tree.json_or_none(name)).keys()


def _is_panoptic(tree: Tree, name: str) -> bool:
    annotations = entries(fields(tree.json_or_none(name)).get("annotations"))
    return any("segments_info" in fields(item) for item in annotations[:1])


def _read(tree: Tree, given: Given) -> Annotations:
    images: list[Annotated] = []
    classes: dict[str, None] = {}
    splits = set()
    names = [name for name in _json_files(tree) if _is_coco(tree, name)]
    for name in names:
        read = _panoptic if _is_panoptic(tree, name) else _instances
        split = split_of(tree.path / name.replace("panoptic_", "instances_"))
        listed, found = read(tree, name, given, split, len(names) > 1)
        classes.update(dict.fromkeys(listed))
        images += found
        splits.add(split)
    saw = f"COCO JSON{', panoptic' * any(_is_panoptic(tree, name) for name in names)}, {counted(len(images), 'image')}"
    return Annotations(tree.path, saw, images, tuple(classes), smallest_on_top=True, splits=splits > {TRAIN})


def _folder(name: str, several: bool) -> str:
    """Where the images of a file of several files are: those of instances_val2017.json in val2017."""
    path = PurePosixPath(name)
    folder = path.parent.name if path.name.startswith("_annotations") else path.stem.partition("_")[2]
    return f"{folder}/" if several and folder else ""


def _instances(
    tree: Tree, name: str, given: Given, split: str, several: bool
) -> tuple[tuple[str, ...], list[Annotated]]:
    where = tree.where(name)
    content = read_annotations(Path(where), tree.json(name), given.problems)
    by_image: dict[Any, list[Instance]] = {key: [] for key in content.images}
    for instance in content.instances:
        by_image[instance.image].append(instance)
    objects = _crowds_that_are_objects(content, given, where)
    without, images = 0, []
    for key, image in content.images.items():
        found, tags = [], []
        for instance in by_image[key]:
            segmentation = instance.content.get("segmentation")
            if segmentation:
                place = f"{where}, annotation {instance.number}"
                drawn = partial(shape_pixels, segmentation)
                found.append(
                    Shape(instance.category, drawn, place, _is_crowd(instance) and instance.category not in objects)
                )
            else:
                tags.append(instance.category)
                without += 1
        path = _folder(name, several) + str(image["file_name"]).strip()
        size = size_of(image.get("height"), image.get("width"))
        images.append(Annotated(path, size, found, tags, split, f"{where}, image {quoted(str(image['file_name']))}"))
    if without:
        value = f"{without} of {len(content.instances)} annotations have no segmentation, so they are tags alone"
        given.problems.add(where, value, "Export polygons or run lengths to use their pixels", fatal=False)
    return content.categories, images


def _is_crowd(instance: Instance) -> bool:
    return bool(instance.content.get("iscrowd"))


def _crowds_that_are_objects(content: CocoFile, given: Given, where: str) -> set[str]:
    """The categories of which every annotation is a crowd, except COCO's own: programs mark each mask of a brush as a
    crowd. What is drawn in spite of its mark, and what is 255 because of it, is noted."""
    total = Counter(instance.category for instance in content.instances)
    crowds = Counter(instance.category for instance in content.instances if _is_crowd(instance))
    own = content.categories == tuple(class_names(COCO_CLASSES))
    objects = {name for name, count in crowds.items() if count == total[name] and not own}
    ignored = [f"{count} of {total[name]} of {name}" for name, count in crowds.items() if name not in objects]
    if objects:
        value = f"every annotation of {', '.join(sorted(objects))} is a crowd (iscrowd), so these are read as objects"
        given.problems.add(where, value, "Remove those that are groups of objects", fatal=False)
    if ignored:
        value = f"crowds (iscrowd) are ignored, their pixels become 255: {', '.join(ignored)}"
        given.problems.add(where, value, "Set iscrowd to 0 where an annotation is one object", fatal=False)
    return objects


def _panoptic(
    tree: Tree, name: str, given: Given, split: str, several: bool
) -> tuple[tuple[str, ...], list[Annotated]]:
    where = tree.where(name)
    parts = fields(tree.json(name))
    categories = {fields(each).get("id"): clean(str(fields(each).get("name"))) for each in entries(parts["categories"])}
    files = {fields(each).get("id"): fields(each) for each in entries(parts.get("images"))}
    images = []
    for number, each in enumerate(entries(parts["annotations"]), start=1):
        values = fields(each)
        place = f"{where}, annotation {number}"
        png = str(values.get("file_name"))
        ids = partial(_segments, tree, _panoptic_file(tree, name, png, place))
        found = []
        for segment in map(fields, entries(values.get("segments_info"))):
            category, key = segment.get("category_id"), segment.get("id")
            if category not in categories or not isinstance(key, int):
                given.problems.add(place, f"there is no category {quoted(str(category))}", CURE)
                continue
            found.append(Shape(categories[category], partial(_segment, ids, key), place, bool(segment.get("iscrowd"))))
        image = files.get(values.get("image_id"), {})
        path = _folder(name, several) + str(image.get("file_name", png)).strip()
        size = size_of(image.get("height"), image.get("width"))
        images.append(Annotated(path, size, found, (), split, place))
    return tuple(categories.values()), images


def _panoptic_file(tree: Tree, name: str, png: str, where: str) -> str:
    """The PNG file of an annotation: beside the JSON file, in a folder that is called like it or in any other."""
    folder = PurePosixPath(name).with_suffix("")
    for path in (str(folder / png), str(folder.parent / png), f"annotations/{folder.name}/{png}", png):
        if path in tree.names:
            return path
    found = tree.called(PurePosixPath(png).name)
    if len(found) == 1:
        return found[0]
    cure = f"Give the folder or the archive that holds both {name} and its PNG files"
    raise file_error(where, f"its file {quoted(png)} is not there", cure)


@recently  # the segments of an image are drawn one after the other
def _segments(tree: Tree, name: str) -> np.ndarray:
    """(H, W) int64: the id of the segment of each pixel."""
    with tree.png(name) as image:
        pixels = np.array(image.convert("RGB"))  # (H, W, 3)
    return pixels @ np.array([1, 256, 65536])


def _segment(ids: Any, key: int, height: int, width: int) -> np.ndarray:
    segments = ids()
    if segments.shape != (height, width):
        raise ValueError(f"its PNG has {segments.shape[1]} x {segments.shape[0]} pixels, its image {width} x {height}")
    return segments == key


def _write(items: Iterable[Item], target: Target) -> list[str]:
    """One JSON file. An object is an annotation; all pixels of a class are one object where nothing else is known."""
    names = list(target.classes)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    partly = empty = tagged = 0
    for number, item in enumerate(items, start=1):
        assert item.size is not None
        height, width = item.size
        images.append({"id": number, "file_name": item.name, "height": height, "width": width})
        regions = [] if item.drawn is None else item.drawn.regions()
        tagged += bool(item.tags) and not regions
        empty += item.drawn is not None and not regions
        partly += any(region.label == BACKGROUND for region in regions)
        for region in regions:
            if region.label not in names:
                names.append(region.label)  # background
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": names.index(region.label) + 1}
                | _instance(region, item.size, target.polygons)
            )
    categories = [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(names, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    write_text(target.path, json.dumps(content, ensure_ascii=False) + "\n")
    lost = []
    if partly:
        lost.append(f"{partly} images are unlabelled in part: their background is the category `{BACKGROUND}`")
    if empty:
        lost.append(f"{empty} images show no object: in COCO they look like images that nobody has labelled")
    if tagged:
        lost.append(f"the tags of {tagged} images: COCO has no tags")
    return lost


def _instance(region: Region, size: tuple[int, int], polygons: bool) -> dict[str, Any]:
    height, width = region.mask.shape
    segmentation: Any
    if polygons:
        rings = [joined(part) + np.array([region.left, region.top]) for part in trace(region.mask)]
        segmentation = [ring.ravel().tolist() for ring in rings]
    else:
        segmentation = {"size": list(size), "counts": compress(coco_counts(region.whole(size)))}
    return {
        "segmentation": segmentation,
        "area": int(region.mask.sum()),
        "bbox": [region.left, region.top, width, height],
        "iscrowd": 0,
    }


FORMAT = LabelFormat(
    "coco", "a COCO JSON file with polygons or run lengths", _recognises, _read, _write, ".json", "names"
)
