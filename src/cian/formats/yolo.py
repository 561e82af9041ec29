"""YOLO segmentation: names of classes, and a text file of polygons for each image.

Written by Ultralytics' tools and the exports of CVAT, Roboflow and Label Studio (looked at: Ultralytics 8, CVAT 2.80).
The names are in data.yaml; in classes.txt, as Label Studio writes them; or in obj.names, as older exports of CVAT do.
The labels of images/train/a.jpg are in labels/train/a.txt, those of train/images/a.jpg in train/labels/a.txt. A line is
the number of a class, from 0, and x, y of the corners of a polygon, as shares of the width and the height. A line of
four numbers is a box: it counts as a tag. Class folders, as YOLO classification has them, are read by `class_folders`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import yaml

from cian.data.images import KNOWN_SUFFIXES
from cian.data.problems import FileError, counted, file_error, reason
from cian.data.table import BACKGROUND, TRAIN
from cian.files import copy_file, write_text
from cian.formats.annotations import Annotated, Annotations, Given, Item, LabelFormat, Shape, Target, safe_path
from cian.formats.outlines import joined, trace
from cian.formats.shapes import polygons
from cian.formats.split_names import TEST, VAL, split_name
from cian.formats.text import clean
from cian.formats.tree import Tree

_BOX = 4  # numbers of a box
_MOST_YAML = 1 << 20  # characters
_DARKNET = re.compile(r"obj_\w+_data")  # folders of images and labels of older exports


def _class_names(tree: Tree) -> Any:
    """The names of the classes in data.yaml, or in classes.txt or obj.names beside files of labels; None if there are
    neither."""
    for name in sorted(tree.ending(".yaml", ".yml"), key=lambda name: (name.count("/"), name)):
        content = _load(tree, name)
        known = isinstance(content, dict) and content.get("names")
        if known and ({TRAIN, VAL, TEST, "path"} & content.keys() or _label_files(tree)):
            return content["names"]
    lists = [*tree.called("classes.txt"), *tree.called("obj.names")]
    if lists and _label_files(tree):
        lines = [line.strip() for line in tree.text(lists[0]).splitlines()]
        return [line for line in lines if line] or None
    return None


def _label_files(tree: Tree) -> dict[str, str]:
    """The text files of labels, and the image of each, without its suffix."""
    found = {}
    for name in tree.ending(".txt"):
        path = PurePosixPath(name).with_suffix("")
        parts = list(path.parts)
        if "labels" in parts[:-1]:
            parts[len(parts) - 2 - parts[-2::-1].index("labels")] = "images"
            found[name] = "/".join(parts)
        elif any(_DARKNET.fullmatch(part) for part in parts[:-1]):
            found[name] = str(path)
    return found


def _load(tree: Tree, name: str) -> Any:
    try:
        text = tree.text(name)
        if len(text) > _MOST_YAML or any(isinstance(each, yaml.AliasEvent) for each in yaml.parse(text)):
            return None  # aliases can grow without bounds
        return yaml.safe_load(text)
    except (FileError, yaml.YAMLError, RecursionError, ValueError, AttributeError, LookupError):
        return None


def _recognises(tree: Tree) -> bool:
    return _class_names(_whole(tree)) is not None


def _whole(tree: Tree) -> Tree:
    """The folder of data.yaml, if this file is given alone."""
    alone = tree.path.is_file() and not tree.is_archive and tree.path.suffix.lower() in (".yaml", ".yml")
    return Tree(tree.path.parent) if alone else tree


def _read(tree: Tree, given: Given) -> Annotations:
    tree = _whole(tree)
    names = _names(_class_names(tree), tree)
    files = {str(PurePosixPath(name).with_suffix("")): name for name in tree.ending(*KNOWN_SUFFIXES)}
    images, boxes = [], 0
    for name, image in _label_files(tree).items():
        parts = PurePosixPath(name).parts
        shapes, tags = [], []
        for number, line in enumerate(tree.text(name).splitlines(), start=1):
            if not line.strip():
                continue
            where = f"{tree.where(name)}, line {number}"
            label, numbers = _line(line, names, where)
            if len(numbers) > _BOX + 1:
                shapes.append(Shape(label, partial(_polygon, numbers), where))
            else:
                tags.append(label)
        boxes += len(tags)
        split = next((found for part in parts if (found := split_name(part)) is not None), TRAIN)
        file = files.get(image)
        size = given.image_size(file or image)
        images.append(Annotated(file or image, size, shapes, tags, split, tree.where(name)))
    if boxes:
        value = f"{boxes} lines are boxes, so they are tags alone"
        given.problems.add(tree.path, value, "Export polygons to use their pixels", fatal=False)
    splits = any(image.split != TRAIN for image in images)
    return Annotations(
        tree.path,
        f"YOLO's text files, {counted(len(images), 'image')}",
        images,
        tuple(names.values()),
        True,
        splits,
    )


def _names(value: Any, tree: Tree) -> dict[int, str]:
    """The class of each number."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value if isinstance(value, list) else [])
    try:
        return {int(key): clean(str(name)) for key, name in pairs}
    except (TypeError, ValueError) as error:
        raise file_error(tree.path, f"its names of classes are no list ({reason(error)})", "Correct it") from None


def _line(line: str, names: dict[int, str], where: str) -> tuple[str, list[float]]:
    """(class, numbers) of a line.

    Raises:
        FileError: it is none, or its class has no name.
    """
    try:
        number, *numbers = [float(text) for text in line.split()]
        label = names[int(number)]
    except (ValueError, OverflowError):
        raise file_error(where, "holds no numbers", "Export the labels again as YOLO segmentation") from None
    except KeyError:
        value = f"the class {int(number)} has no name; there are {len(names)} names"
        raise file_error(where, value, "Add its name, or correct the line") from None
    if len(numbers) < _BOX:
        raise file_error(where, f"has {len(numbers)} numbers", "Export the labels again as YOLO segmentation")
    return label, numbers


def _polygon(numbers: list[float], height: int, width: int) -> np.ndarray:
    scaled = [value * (height if i % 2 else width) for i, value in enumerate(numbers)]
    return polygons([scaled], height, width)


def _write(items: Iterable[Item], target: Target) -> list[str]:
    """A folder with data.yaml, images/SPLIT and labels/SPLIT."""
    names = list(target.classes)
    splits: set[str] = set()
    partly = tagged = 0
    for item in items:
        assert item.file is not None
        splits.add(item.split)
        path = Path(item.split) / safe_path(item.name)
        copy_file(item.file, target.path / "images" / path)
        if item.drawn is None:
            tagged += bool(item.tags)
            continue
        lines = []
        height, width = item.drawn.owner.shape
        for region in item.drawn.regions():
            if region.label not in names:
                names.append(region.label)  # background
                partly += 1
            for part in trace(region.mask):
                corners = (joined(part) + np.array([region.left, region.top])) / np.array([width, height])
                points = " ".join(f"{value:.6f}" for value in corners.ravel())
                lines.append(f"{names.index(region.label)} {points}")
        write_text((target.path / "labels" / path).with_suffix(".txt"), "".join(f"{line}\n" for line in lines))
    content: dict[str, Any] = {TRAIN: f"images/{TRAIN}", VAL: f"images/{VAL if VAL in splits else TRAIN}"}
    content |= {split: f"images/{split}" for split in sorted(splits - {TRAIN, VAL})}
    content["names"] = dict(enumerate(names))
    write_text(target.path / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    lost = ["which parts are one object: each part of an object is an object"]
    if BACKGROUND in names and BACKGROUND not in target.classes:
        lost.append(f"that images are unlabelled in part: their background is the class `{BACKGROUND}`")
    if tagged:
        lost.append(f"the tags of {tagged} images without labels")
    return lost


FORMAT = LabelFormat("yolo", "a folder of YOLO segmentation with data.yaml", _recognises, _read, _write, "", "files")
