"""Parquet of the Hugging Face hub becomes labels and tags."""

from __future__ import annotations

import importlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cian.data.masks import read_mask
from cian.data.problems import FileError
from cian.errors import CianError
from cian.formats.convert import convert
from tests.formats.helpers import opened, read, splits_of, tags_of, write

SIZE = (10, 20)  # height, width
BOX = np.zeros(SIZE, np.uint8)
BOX[2:6, 5:15] = 2


def png(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, format="PNG")
    return stream.getvalue()


def parquet(path: Path, columns: dict[str, list[Any]], classes: list[str] | None = None) -> Path:
    """A file as `datasets` writes it."""
    pyarrow = pytest.importorskip("pyarrow", reason="needs pyarrow")
    table = pyarrow.table(columns)
    if classes is not None:
        feature = {"feature": {"names": classes, "_type": "ClassLabel"}, "_type": "List"}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": {"labels": feature}}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    importlib.import_module("pyarrow.parquet").write_table(table, path)
    return path


def struct(name: str | None, content: bytes = b"not read") -> dict[str, Any]:
    return {"bytes": content, "path": name}


def test_masks(tmp_path: Path) -> None:
    """Images are called by their paths; those without one by the file and the row."""
    columns = {
        "image": [struct("a.jpg"), struct(None)],
        "mask": [struct(None, png(BOX)), struct(None, png(BOX // 2))],
    }
    source = parquet(tmp_path / "data" / "validation-00000-of-00001.parquet", columns)
    names = write(tmp_path / "names.txt", "cat\ndog\n")
    made = convert(source, "masks", tmp_path / "out", classes=names)
    assert made.saw == "Parquet, 2 images"
    assert np.array_equal(read_mask(tmp_path / "out" / "a.png"), BOX)
    assert np.array_equal(read_mask(tmp_path / "out" / "validation-00000-of-00001-1.png"), BOX // 2)


def test_tags(tmp_path: Path) -> None:
    """Numbers are classes of the schema; files are splits."""
    for split, name, labels in (("train", "a.jpg", [0, 1]), ("test", "b.jpg", [1])):
        columns = {"image": [struct(name)], "labels": [labels]}
        parquet(tmp_path / "data" / f"{split}-00000-of-00001.parquet", columns, ["fox", "rabbit"])
    table, _ = read(tmp_path, None, "a b", tags=tmp_path / "data", min_images=0)
    assert tags_of(table) == {"a": ("fox", "rabbit"), "b": ("rabbit",)}
    assert splits_of(table) == {"a": "train", "b": "test"}


def test_masks_that_are_not_in_the_file(tmp_path: Path) -> None:
    """`datasets` writes paths unless the files are embedded."""
    mask = {"bytes": None, "path": "masks/a.png"}
    source = parquet(tmp_path / "a.parquet", {"image": [struct("a.jpg")], "mask": [mask]})
    with pytest.raises(FileError, match=r"row 0: holds the path of a mask \(masks/a\.png\), not its pixels. Embed"):
        opened(source)


def test_broken_files(tmp_path: Path) -> None:
    names = write(tmp_path / "names.txt", "cat\ndog\n")
    source = parquet(tmp_path / "a.parquet", {"image": [struct("a.jpg")], "mask": [struct(None, b"x")]})
    with pytest.raises(CianError, match="row 0: its mask is no PNG"):
        convert(source, "masks", tmp_path / "out", classes=names)
    source.write_bytes(source.read_bytes()[:-20])
    with pytest.raises(CianError, match=r"a\.parquet: cannot be read"):
        convert(source, "masks", tmp_path / "out", classes=names)
