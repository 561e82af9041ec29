"""Parquet files of data sets on the Hugging Face hub. Needs pyarrow.

Written by `datasets` (looked at: datasets 4). An image or a mask is a struct of its bytes and its path; the classes of
numbers are in the schema. Label maps are PNG files in a column such as `mask`; tags are numbers or texts in a column
such as `label`. The images themselves are not read: they are found by their paths.
"""

from __future__ import annotations

import io
import json
import re
from functools import partial
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from cian.data.images import refuse_large
from cian.data.problems import counted, file_error, reason
from cian.data.table import TRAIN
from cian.errors import CianError
from cian.formats.annotations import Annotated, Annotations, Given, LabelFormat, Shape, Size, label_map_shapes
from cian.formats.columns import IMAGE_COLUMNS, TAG_COLUMNS, TAGS_COLUMNS
from cian.formats.label_maps import class_names_of, decode_ids
from cian.formats.split_names import SPLIT_NAMES
from cian.formats.tree import Tree

_MASKS = ("mask", "annotation", "segmentation", "segmentation_mask", "semantic_segmentation", "label_map", "label")


def _recognises(tree: Tree) -> bool:
    return bool(tree.ending(".parquet"))


def _read(tree: Tree, given: Given) -> Annotations:
    images: list[Annotated] = []
    names: dict[int, str] | None = None
    splits = set()
    for file in tree.ending(".parquet"):
        where = tree.where(file)
        split = _split(file)
        splits.add(split)
        for number, (name, mask, tags) in enumerate(_rows(tree, file)):
            place = f"{where}, row {number}"
            size: Size | None = None
            shapes: tuple[Shape, ...] = ()
            if mask is not None:
                names = names or dict(enumerate(class_names_of(tree, given)))
                size, shapes = label_map_shapes(partial(_ids, mask, place), names, place)
            image = name or f"{PurePosixPath(file).stem}-{number}"
            images.append(Annotated(image, size, shapes, tags, split, place))
    classes = () if names is None else tuple(names.values())
    return Annotations(tree.path, f"Parquet, {counted(len(images), 'image')}", images, classes, splits=splits > {TRAIN})


def _split(file: str) -> str:
    """The split that a file is called after: train-00000-of-00002.parquet."""
    word = re.match("[a-z]*", PurePosixPath(file).name.casefold())
    return SPLIT_NAMES.get(word[0] if word else "", TRAIN)


def _rows(tree: Tree, file: str) -> list[tuple[str | None, bytes | None, list[str]]]:
    """(name of the image, mask, tags) of each row. Only these columns are read."""
    where = tree.where(file)
    try:
        import pyarrow.parquet  # imported here because it is optional
    except ImportError:
        raise file_error(where, "is Parquet, which needs pyarrow", "Run `pip install pyarrow`") from None
    try:
        path = tree.file(file)
        source = pyarrow.parquet.ParquetFile(io.BytesIO(tree.read(file)) if path is None else path)
        names = source.schema_arrow.names
        structs = [name for name in names if str(source.schema_arrow.field(name).type).startswith("struct<bytes")]
        mask = next((name for name in _MASKS if name in structs), None)
        image = next((name for name in structs if name != mask), None)
        named = next((name for name in IMAGE_COLUMNS if name in names and name not in structs), None)
        tags = next((name for name in (*TAGS_COLUMNS, *TAG_COLUMNS) if name in names and name not in structs), None)
        wanted = [f"{image}.path" if image else None, *((f"{mask}.bytes", f"{mask}.path") if mask else ()), named, tags]
        table = source.read(columns=[name for name in wanted if name]).to_pylist()
        classes = _classes(source.schema_arrow.metadata or {}, tags)
    except CianError:
        raise
    except Exception as error:  # noqa: BLE001 (of a damaged file, pyarrow raises errors of its own)
        raise file_error(where, f"cannot be read ({reason(error)})", "Download it again") from None
    rows = []
    for number, row in enumerate(table):
        name = row.get(named) if named else None
        name = name if isinstance(name, str) else (row.get(image) or {}).get("path") if image else None
        stored = (row.get(mask) or {}) if mask else {}
        content = stored.get("bytes")
        if content is None and stored.get("path"):
            what = f"holds the path of a mask ({stored['path']}), not its pixels"
            raise file_error(f"{where}, row {number}", what, "Embed the files when you write it")
        value = row.get(tags) if tags else None
        listed = value if isinstance(value, list) else [] if value is None else [value]
        rows.append((name, content, [_name(each, classes) for each in listed]))
    return rows


def _classes(metadata: dict[bytes, bytes], column: str | None) -> list[str]:
    """The names of a column's numbers."""
    content = json.loads(metadata.get(b"huggingface", b"{}"))
    feature: Any = content.get("info", {}).get("features", {}).get(column, {})
    while isinstance(feature, list) or (isinstance(feature, dict) and "feature" in feature):
        feature = feature[0] if isinstance(feature, list) else feature["feature"]
    return [str(name) for name in feature.get("names", [])]


def _name(value: Any, classes: list[str]) -> str:
    return classes[value] if isinstance(value, int) and 0 <= value < len(classes) else str(value)


def _ids(content: bytes, where: str) -> np.ndarray:
    """(H, W) ids of a PNG."""
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            refuse_large(where, image.height, image.width)
            return decode_ids(image, (), where)
    except CianError:
        raise
    except Exception as error:  # noqa: BLE001 (Pillow's decoders raise anything for a broken file)
        raise file_error(where, f"its mask is no PNG that can be read ({reason(error)})", "Correct it") from None


FORMAT = LabelFormat("parquet", "Parquet of the Hugging Face hub (needs pyarrow)", _recognises, _read)
