"""COCO: one JSON of images, categories and instances, a folder of instances_SPLIT.json, or one JSON in each of the
folders train, valid and test, as Roboflow exports it.

Written by COCO itself (Lin et al. 2014, arXiv 1405.0312) and the COCO exports of CVAT, Label Studio, Roboflow, FiftyOne
and others. Specification: "Object Detection" of https://cocodataset.org/#format-data. As tags, an image has the
categories of its instances, crowds included; areas, boxes and keypoints are not read. Shapes are drawn by `coco_masks`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from cian.data.problems import ProblemList, file_error, quoted
from cian.data.table import TRAIN
from cian.formats.format import Format, Request, TagRow, TagSource, without_shapes
from cian.formats.split_names import SPLIT_NAMES, split_name
from cian.formats.text import JsonObject, clean, parse_json

CURE = "Export it again as COCO JSON, with images, annotations and categories"
_IN_FOLDER = "_annotations.coco.json"  # Roboflow's name
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
        categories: all names in the order of their ids, including those that do not occur.
        instances: all of them, in the order of the file.
    """

    path: Path
    images: dict[Any, dict[str, Any]]
    categories: tuple[str, ...]
    instances: tuple[Instance, ...]

    def tags(self) -> dict[Any, tuple[str, ...]]:
        """The categories of each image by its id, including those of crowds."""
        tags: dict[Any, dict[str, None]] = {image: {} for image in self.images}
        for instance in self.instances:
            tags[instance.image][instance.category] = None
        return {image: tuple(names) for image, names in tags.items()}


def _recognises(request: Request) -> bool:
    if request.images_alone:
        return False
    if request.path.is_dir():
        return bool(instance_files(request.path))
    return request.is_json and _is_coco(request.json)


def _is_coco(content: Any) -> bool:
    """Whether a JSON is COCO's, and not a map of tags."""
    return isinstance(content, JsonObject) and {"images", "annotations"} <= {key for key, _ in content}


def _read(request: Request) -> TagSource:
    path = request.path
    if not path.is_dir():
        request.refuse_split_column(path, "COCO JSON")
        return TagSource(path, "COCO JSON", _rows(request, [path], [request.json], [TRAIN]), files=[path])
    files = instance_files(path)
    request.refuse_split_column(files[0], "COCO JSON")
    contents = (parse_json(file, CURE, without_shapes) for file in files)  # one at a time: they are large
    splits = [split_of(file) for file in files]
    saw = f"COCO JSON, {', '.join(file.name for file in files)}"
    rows = _rows(request, files, contents, splits)
    return TagSource(path, saw, rows, files=files, splits=set(splits) != {TRAIN})


def _rows(request: Request, files: Sequence[Path], contents: Iterable[Any], splits: Sequence[str]) -> Iterator[TagRow]:
    """The categories of each image. Images of instances_NAME.json are looked for in the folder NAME first, those of
    NAME/_annotations.coco.json in NAME."""
    for number, (file, content, split) in enumerate(zip(files, contents, splits, strict=True)):
        labels = read_annotations(file, content, request.problems)
        for image, tags in labels.tags().items():
            name = labels.images[image]["file_name"].strip()
            folder = file.parent.name if file.name == _IN_FOLDER else file.stem.removeprefix("instances_")
            inner = f"{folder}/{name}"
            is_inner = request.images.find(inner) >= 0 and not request.images.is_guess(inner)
            yield TagRow(number, inner if is_inner else name, tags, split)


def instance_files(folder: Path) -> list[Path]:
    """The instances_*.json of a folder, sorted, or else the annotations in its folders of splits."""
    found = sorted(folder.glob("instances_*.json"))
    return found or [file for file in sorted(folder.glob(f"*/{_IN_FOLDER}")) if split_name(file.parent.name)]


def split_of(file: Path) -> str:
    """The split of a file of annotations, by the first word of its name: instances_val2014.json is `val`. Files whose
    names say no split are `train`. Annotations in a folder of a split have its split."""
    if file.name == _IN_FOLDER:
        return split_name(file.parent.name) or TRAIN
    word = re.match("[a-z]*", file.stem.removeprefix("instances_").casefold())
    return SPLIT_NAMES.get(word[0] if word else "", TRAIN)


def read_annotations(path: Path, content: Any, problems: ProblemList) -> Annotations:
    """What a file of annotations says. Parts that cannot be used become problems and are left out.

    Args:
        content: its JSON, from `parse_json`.

    Raises:
        FileError: the file is of another kind.
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
        image, category = (_plain_id(values.get(key)) for key in ("image_id", "category_id"))
        for key, value, known in (("image_id", image, images), ("category_id", category, names)):
            if not isinstance(value, int | float | str) or value not in known:
                problems.add(f"{path}, annotation {number}", f"there is no {key} {quoted(str(value))}", CURE)
                break
        else:
            instances.append(Instance(number, image, names[category], values))
    order = sorted(names, key=lambda key: (isinstance(key, str), key))
    return Annotations(path, images, tuple(dict.fromkeys(names[key] for key in order)), tuple(instances))


def _plain_id(value: Any) -> Any:
    """An id; a number where it is written as text, because programs mix both."""
    return int(value) if isinstance(value, str) and re.fullmatch("0|[1-9][0-9]{0,17}", value) else value


def _by_id(
    path: Path, what: str, name: str, items: Iterable[Any], problems: ProblemList
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """(id, what the file says of it) of images or categories, each with an id that occurs once and a name."""
    seen: set[Any] = set()
    for number, item in enumerate(items, start=1):
        values = dict(item) if isinstance(item, JsonObject) else {}
        key, text = _plain_id(values.get("id")), values.get(name)
        where = f"{path}, {what} {number}"
        if not isinstance(key, int | float | str):
            problems.add(where, "has no id", CURE)
        elif not isinstance(text, str) or not clean(text):
            problems.add(where, f"has no {name}", CURE)
        elif name == "file_name" and not _names_a_file(text):
            problems.add(where, f"its file_name {quoted(text)} is no name of a file", CURE)
        elif key in seen:
            problems.add(where, f"its id {quoted(str(key))} occurred before", CURE)
        else:
            seen.add(key)
            yield key, values


def _names_a_file(text: str) -> bool:
    """Whether a file can have this path. Its last part must not be empty, as of "." and "/"."""
    try:
        encoded = os.fsencode(text)
    except UnicodeEncodeError:  # half a character
        return False
    return b"\0" not in encoded and bool(PurePosixPath(text.strip().replace("\\", "/")).name)


FORMAT = Format("a COCO JSON file, or a folder of COCO's instances_*.json", _recognises, _read)
