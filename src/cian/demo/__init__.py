"""Data sets to try cian on. All have the same layout on disk.

images/NAME.jpg     images
masks/NAME.png      indexed masks, used only for scores
tags.csv            image,tags,split
classes.txt         one class name a line, in the order of the class ids, background first
dataset.json        what the data set was made from; written last, so a folder that has it is complete
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from cian.config import DataConfig
from cian.errors import CianError
from cian.files import lock, remove

_MARKER = "dataset.json"
_NAMES = ("animals", "pets")
_LAYOUT = {"images", "masks", "tags.csv", "classes.txt", _MARKER}
_JPEG_QUALITY = 92


class Record(NamedTuple):
    """One image of a data set.

    Attributes:
        name: file name without suffix.
        image: (H, W, 3) uint8, or the path of a JPEG file to copy.
        mask: (H, W) uint8 class ids, 255 = ignore.
        tags: names of the classes in the image.
        split: name of its split.
    """

    name: str
    image: np.ndarray | Path
    mask: np.ndarray
    tags: Sequence[str]
    split: str


def data_config(folder: Path) -> DataConfig:
    """The `data` section of the configuration for a folder in this layout."""
    folder = Path(folder)
    paths = {"images": "images", "tags": "tags.csv", "masks": "masks", "classes": "classes.txt"}
    return DataConfig.model_validate({key: folder / name for key, name in paths.items()} | {"split_column": "split"})


def is_complete(folder: Path, parameters: Mapping[str, Any]) -> bool:
    """Whether `folder` holds all files of the data set made from `parameters`."""
    marker = _marker(folder)
    counts = {len(_visible(folder / name)) for name in ("images", "masks")}
    return (
        marker.get("parameters") == dict(parameters)
        and counts == {marker.get("images")}
        and not _added(folder)
        and all((folder / name).is_file() for name in ("tags.csv", "classes.txt"))
    )


def write_data_set(
    folder: Path, parameters: Mapping[str, Any], classes: Sequence[str], records: Iterable[Record]
) -> None:
    """Writes a data set into `folder`, all of it or nothing.

    An incomplete or different data set of cian is replaced. `parameters` are plain JSON values, with the `name` of the
    data set among them; `is_complete` compares them.

    Raises:
        CianError: `folder` cannot be written, holds other files, or another process writes it.
    """
    folder = folder.absolute()
    cure = "Give a new or empty folder for the data set; for `cian demo`, another --out"
    try:
        strangers = {path.name for path in folder.iterdir()} if folder.exists() else set()
    except NotADirectoryError:
        raise CianError(f"{folder}: is a file. {cure}.") from None
    if _is_ours(folder):
        strangers = (strangers - _LAYOUT) | _added(folder)
    if strangers:
        raise CianError(f"{folder}: holds other files ({min(strangers)}) that would be lost. {cure}.")
    partial = folder.with_name(f".{folder.name}.partial")  # what a killed process has left here is replaced
    try:
        with lock(partial, "writes this data set"):
            try:
                remove(partial / folder.name)
                _write(partial / folder.name, parameters, classes, records)
                shutil.rmtree(folder, ignore_errors=True)
                (partial / folder.name).replace(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    except OSError as error:
        raise CianError(
            f"{folder}: cannot be written ({error.strerror}). Give a folder with space to write."
        ) from error


def _visible(folder: Path) -> list[Path]:
    """The files of a folder, without those that file managers add."""
    return [path for path in folder.glob("*") if not path.name.startswith(".") and path.name != "Thumbs.db"]


def _added(folder: Path) -> set[str]:
    """Images and masks that are not in the tags.csv of the data set."""
    try:
        with (folder / "tags.csv").open(encoding="utf-8", newline="") as file:
            names = {Path(row["image"]).stem for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError):
        return set()
    files = [path for name in ("images", "masks") for path in _visible(folder / name)]
    return {path.relative_to(folder).as_posix() for path in files if path.stem not in names}


def _marker(folder: Path) -> dict[str, Any]:
    """What `folder` was made from; empty if this is not known."""
    try:
        marker = json.loads((folder / _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return marker if isinstance(marker, dict) else {}


def _is_ours(folder: Path) -> bool:
    parameters = _marker(folder).get("parameters")
    return isinstance(parameters, dict) and parameters.get("name") in _NAMES


def _write(folder: Path, parameters: Mapping[str, Any], classes: Sequence[str], records: Iterable[Record]) -> None:
    from cian.data.masks import write_mask

    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    count = 0
    with (folder / "tags.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("image", "tags", "split"))
        for record in records:
            image = f"{record.name}.jpg"
            if isinstance(record.image, Path):
                shutil.copyfile(record.image, folder / "images" / image)
            else:
                Image.fromarray(record.image).save(folder / "images" / image, quality=_JPEG_QUALITY)
            write_mask(folder / "masks" / f"{record.name}.png", record.mask)
            table.writerow((image, ";".join(record.tags), record.split))
            count += 1
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
    marker = {"parameters": dict(parameters), "images": count}
    (folder / _MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")
