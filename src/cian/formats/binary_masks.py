"""Binary masks: a PNG file of black and white for each image and class.

Written by many programs and scripts: CLASS/ID.png, or ID_CLASS.png, or ID.png where there is one class. Values are 0
and 255. The names of classes are those of the folders; otherwise the user gives them. Where masks of two classes
overlap, the class with the higher id lies on top.
"""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath

import numpy as np

from cian.data.images import KNOWN_SUFFIXES
from cian.data.problems import FileError, counted, file_error
from cian.data.table import BACKGROUND
from cian.formats.annotations import Annotated, Annotations, Given, LabelFormat, Shape, Size
from cian.formats.text import clean
from cian.formats.tree import Tree

_PEEK = 12  # files that are looked at, spread over all


def _recognises(tree: Tree) -> bool:
    names = tree.ending(".png")
    if not names or len(names) < len(tree.ending(*KNOWN_SUFFIXES)) or tree.called("labelmap.txt"):
        return False
    seen: set[int] = set()
    for name in names[:: max(1, len(names) // _PEEK)]:
        try:
            with tree.png(name) as image:
                if image.mode not in ("1", "L"):
                    return False
                seen |= {value for value, count in enumerate(image.convert("L").histogram()) if count}
        except FileError:
            return False
    return seen == {0, 255}


def _read(tree: Tree, given: Given) -> Annotations:
    names = tree.ending(".png")
    classes = [] if given.classes is None else list(given.classes[1:])
    found: dict[str, dict[str, str]] = {}
    for name in names:
        image, label = _split(name, names, classes, tree)
        found.setdefault(image, {})[label] = name
    order = classes or sorted({label for files in found.values() for label in files})
    images = []
    for image, files in found.items():
        size = _size(tree, next(iter(files.values())))
        shapes = []
        for label in sorted(files, key=order.index):
            shapes.append(Shape(label, partial(_pixels, tree, files[label]), tree.where(files[label])))
        if not any(_pixels(tree, name, *size).any() for name in files.values()):
            shapes.append(Shape(BACKGROUND, lambda height, width: np.ones((height, width), bool), tree.where(image)))
        images.append(Annotated(image, size, shapes, where=f"{tree.path}/{image}"))
    return Annotations(
        tree.path,
        f"binary masks of {len(order)} classes, {counted(len(images), 'image')}",
        images,
        tuple(order),
    )


def _split(name: str, names: list[str], classes: list[str], tree: Tree) -> tuple[str, str]:
    """(image, class) of a file."""
    path = PurePosixPath(name).with_suffix("")
    if len(classes) == 1 and not (len(path.parts) > 1 and clean(path.parts[-2]) == classes[0]):
        return str(path), classes[0]
    for label in sorted(classes, key=len, reverse=True):
        if path.name.casefold().endswith(f"_{label.casefold()}"):
            return str(path)[: -len(label) - 1], label
    if len(path.parts) > 1:
        return str(PurePosixPath(*path.parts[:-2], path.name)), clean(path.parts[-2])
    cure = "Give the names of the classes with --classes, and masks as ID.png (one class), CLASS/ID.png or ID_CLASS.png"
    raise file_error(tree.where(name), "is black and white, but does not say of which class", cure)


def _size(tree: Tree, name: str) -> Size:
    with tree.png(name) as image:
        return image.height, image.width


def _pixels(tree: Tree, name: str, height: int, width: int) -> np.ndarray:
    with tree.png(name) as image:
        if image.size != (width, height):
            raise ValueError(
                f"has {image.width} x {image.height} pixels, the other masks of its image {width} x {height}"
            )
        return np.array(image.convert("L")) > 127


FORMAT = LabelFormat("binary", "binary masks as CLASS/ID.png, ID_CLASS.png or ID.png", _recognises, _read)
