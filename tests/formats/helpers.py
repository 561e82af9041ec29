"""Small data sets in every format, and what the readers make of them."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from cian.config import DataConfig
from cian.data.problems import ProblemList
from cian.data.table import Table
from cian.errors import Problem
from cian.formats.annotations import Annotations, Given
from cian.formats.registry import open_labels
from cian.reading.read import read_dataset

PETS = {"a": ("dog",), "b": ("cat",), "c": ("cat", "dog"), "d": ("cat", "dog")}
PETS_CSV = "image,tags\na.jpg,dog\nb.jpg,cat\nc.jpg,dog;cat\nd.jpg,cat;dog\n"


def images(folder: Path, names: str | list[str]) -> Path:
    """Image files, which readers find but do not open."""
    for name in names.split() if isinstance(names, str) else names:
        path = folder / (name if "." in name else f"{name}.jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def opened(path: Path, problems: ProblemList | None = None, size: tuple[int, int] | None = None) -> Annotations:
    """What a file, a folder or an archive of labels holds.

    Args:
        size: (height, width) of every image, for formats that do not say it.
    """
    given = Given(problems or ProblemList())
    found = open_labels(path, given if size is None else replace(given, image_size=lambda name: size))
    assert found is not None
    return found


def write(path: Path, content: str | bytes | Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not isinstance(content, str | bytes):
        content = json.dumps(content)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(
    tmp_path: Path,
    content: str | bytes | Any = None,
    names: str | list[str] = "a b c d",
    file: str = "tags.csv",
    **config,
) -> tuple[Table | None, list[Problem]]:
    shutil.rmtree(tmp_path / "images", ignore_errors=True)
    folder = images(tmp_path / "images", names)
    folder.mkdir(exist_ok=True)
    tags = None if content is None else write(tmp_path / file, content)
    return read_dataset(DataConfig(images=folder, **{"tags": tags, "min_images": 1, **config}), seed=0)


def tags_of(table: Table | None) -> dict[str, tuple[str, ...] | None]:
    assert table is not None
    names = table.class_names
    return {
        name: tuple(names[tag] for tag in table.tags(i)) if table.tagged[i] else None
        for i, name in enumerate(table.ids)
    }


def splits_of(table: Table | None) -> dict[str, str]:
    assert table is not None
    return dict(zip(table.ids, table.splits, strict=True))


def fatal(problems: list[Problem]) -> list[str]:
    return [str(problem) for problem in problems if problem.fatal]


def only(problems: list[Problem], is_fatal: bool = True) -> str:
    assert [problem.fatal for problem in problems] == [is_fatal], problems
    return str(problems[0])
