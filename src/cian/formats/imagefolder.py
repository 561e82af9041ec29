"""Hugging Face's `imagefolder`: images, and a file metadata.jsonl or metadata.csv that says more about them.

Read by `datasets.load_dataset("imagefolder")` (looked at: datasets 4). A row names an image by `file_name`. Label maps
are PNG files in a column `mask_file_name`, which `datasets` opens as the column `mask`; tags are a list or a text in a
column such as `tags` or `label`. Folders called train, validation and test are splits.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Any

from cian.data.problems import FileError, counted, file_error, quoted, reason
from cian.data.table import BACKGROUND, TRAIN
from cian.files import copy_file, write_text
from cian.formats.annotations import (
    Annotated,
    Annotations,
    Given,
    Item,
    LabelFormat,
    Shape,
    Size,
    Target,
    label_map_shapes,
    safe_path,
)
from cian.formats.columns import TAG_COLUMNS, TAGS_COLUMNS, distinct, split_tags
from cian.formats.label_maps import class_names_of, read_ids, save_indexed
from cian.formats.split_names import VAL, split_name
from cian.formats.text import decode_json, entries, fields
from cian.formats.tree import Tree

_MASKS = ("mask_file_name", "mask", "annotation_file_name", "segmentation_file_name", "label_file_name")
_FOLDERS = {VAL: "validation"}


def _files(tree: Tree) -> list[str]:
    return [*tree.called("metadata.jsonl"), *tree.called("metadata.csv")]


def _recognises(tree: Tree) -> bool:
    try:
        return any("file_name" in row for name in _files(tree)[:1] for row in _rows(tree, name)[:1])
    except FileError:
        return False


def _rows(tree: Tree, name: str) -> list[dict[str, Any]]:
    text = tree.text(name)
    if name.endswith(".jsonl"):
        lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
        where = tree.where(name)
        return [fields(decode_json(line.encode(), f"{where}, line {number}", "Correct it")) for number, line in lines]
    try:
        return [{key: value for key, value in row.items() if key} for row in csv.DictReader(io.StringIO(text))]
    except csv.Error as error:
        raise file_error(tree.where(name), f"is not CSV ({reason(error)})", "Correct it") from None


def _read(tree: Tree, given: Given) -> Annotations:
    images = []
    names: dict[int, str] | None = None
    known = set(tree.names)
    for file in _files(tree):
        folder = PurePosixPath(file).parent
        split = next((found for part in folder.parts if (found := split_name(part)) is not None), TRAIN)
        for number, row in enumerate(_rows(tree, file), start=1):
            where = f"{tree.where(file)}, row {number}"
            image = row.get("file_name")
            if not isinstance(image, str) or not image:
                raise file_error(where, "has no file_name", "Name its image")
            mask = next((row[key] for key in _MASKS if isinstance(row.get(key), str) and row[key]), None)
            size: Size | None = None
            shapes: Sequence[Shape] = ()
            if mask is not None:
                path = str(folder / mask)
                if path not in known:
                    raise file_error(where, f"its mask {quoted(mask)} is not there", "Add it, or correct its name")
                names = names or dict(enumerate(class_names_of(tree, given)))
                size, shapes = label_map_shapes(partial(read_ids, tree, path, ()), names, tree.where(path))
            images.append(Annotated(str(folder / image), size, shapes, _tags(row), split, where))
    classes = () if names is None else tuple(names.values())
    splits = any(image.split != TRAIN for image in images)
    return Annotations(tree.path, f"an imagefolder, {counted(len(images), 'image')}", images, classes, splits=splits)


def _tags(row: dict[str, Any]) -> tuple[str, ...]:
    for key in (*TAGS_COLUMNS, *TAG_COLUMNS):
        value = row.get(key)
        if isinstance(value, str):
            return split_tags(value, ";")
        if listed := [name for name in entries(value) if isinstance(name, str)]:
            return distinct(listed)
    return ()


def _write(items: Iterable[Item], target: Target) -> list[str]:
    """A folder for each split, with images/, masks/ and metadata.jsonl; and classes.txt."""
    rows: dict[str, list[str]] = {}
    write_text(target.path / "classes.txt", "\n".join([BACKGROUND, *target.classes]) + "\n")
    for item in items:
        assert item.file is not None
        split = _FOLDERS.get(item.split, item.split)
        image = PurePosixPath("images") / safe_path(item.name)
        row: dict[str, Any] = {"file_name": str(image)}
        copy_file(item.file, target.path / split / image)
        if item.drawn is not None:
            mask = PurePosixPath("masks") / safe_path(item.name).with_suffix(".png")
            save_indexed(target.path / split / mask, item.drawn.label_map(target.class_ids))
            row["mask_file_name"] = str(mask)
        row["tags"] = [name for name in target.classes if name in item.classes()]
        rows.setdefault(split, []).append(json.dumps(row, ensure_ascii=False))
    for split, lines in rows.items():
        write_text(target.path / split / "metadata.jsonl", "".join(f"{line}\n" for line in lines))
    return []


FORMAT = LabelFormat(
    "imagefolder", "Hugging Face's imagefolder with metadata.jsonl or .csv", _recognises, _read, _write, "", "files"
)
