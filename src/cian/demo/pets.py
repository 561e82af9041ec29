"""Oxford-IIIT Pet (Parkhi et al. 2012; CC BY-SA 4.0): photographs of cats and dogs, with masks.

torchvision downloads three quarters of a gigabyte: 3,680 images to train on, and 3,669 to score on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from PIL import Image

from cian.config import DataConfig
from cian.data.images import FORMATS
from cian.data.table import BACKGROUND, IGNORE
from cian.demo import Record, data_config, is_complete, write_data_set
from cian.errors import CianError

SPECIES = ("cat", "dog")  # by the number in the lists, from 1
SPLITS = {"trainval": "train", "test": "val"}  # the original name: the name here
_PET, _BACKGROUND, _BORDER = 1, 2, 3  # values of a trimap
_ORIENTATION = 0x0112  # EXIF tag; trimaps belong to the pixels as stored


class _Row(NamedTuple):
    name: str
    tag: str
    split: str


def prepare_pets(
    folder: Path,
    *,
    download: bool = True,
    limit: int | None = None,
    classes: Literal["species", "breed"] = "species",
    source: Path | None = None,
) -> DataConfig:
    """Writes Oxford-IIIT Pet into `folder`. A complete data set with the same parameters is kept.

    The pet's pixels get its class; the border around it is ignored (255).

    Args:
        folder: where `images/`, `masks/`, `tags.csv` and `classes.txt` go.
        download: fetch the originals if they are missing.
        limit: largest number of images in a split, spread evenly over the breeds; None takes all.
        classes: cat and dog, or the 37 breeds.
        source: folder of the originals, as torchvision lays them out; default: FOLDER-source.

    Returns:
        The `data` section of the configuration.

    Raises:
        CianError: the originals are missing or damaged, or `folder` cannot be written.
    """
    folder = Path(folder)
    parameters = {"name": "pets", "version": 1, "classes": classes, "limit": limit}
    if is_complete(folder, parameters):
        return data_config(folder)
    root = _fetch(folder.with_name(f"{folder.name}-source") if source is None else Path(source), download)
    rows = [row for split in SPLITS for row in _rows(root, split, classes == "breed", limit)]
    names = sorted({row.tag for row in rows}) if classes == "breed" else list(SPECIES)
    write_data_set(folder, parameters, (BACKGROUND, *names), _records(root, rows, names))
    return data_config(folder)


def _fetch(source: Path, download: bool) -> Path:
    """The folder of the originals: `images/` and `annotations/`."""
    from torchvision.datasets import OxfordIIITPet

    try:
        OxfordIIITPet(source, target_types=["category", "segmentation"], download=download)
    except Exception as error:  # sockets, archives, checksums: the cure is the same for all
        if isinstance(error, (ValueError, IndexError)) and (source / "oxford-iiit-pet" / "annotations").is_dir():
            return source / "oxford-iiit-pet"  # a damaged list, which `_rows` names; not every torchvision reads them
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CianError(
            f"{source}: Oxford-IIIT Pet is missing and could not be downloaded ({reason}). Connect to the internet, "
            f"or get images.tar.gz and annotations.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/pets/ and unpack "
            f"both into {source / 'oxford-iiit-pet'}."
        ) from error
    return source / "oxford-iiit-pet"


def _rows(root: Path, split: str, breeds: bool, limit: int | None) -> list[_Row]:
    """The images of one of the original splits. A line of its list is `NAME BREED SPECIES NUMBER`."""
    file = root / "annotations" / f"{split}.txt"
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            name, _, species, _ = line.split()
            if Path(name).name != name:  # it becomes that of a file
                raise ValueError
            tag = name.rpartition("_")[0].replace("_", " ").title() if breeds else SPECIES[int(species) - 1]
        except (ValueError, IndexError):
            raise _damaged(file, f"{line!r} is not a line of the list", root) from None
        rows.append(_Row(name, tag, SPLITS[split]))
    if limit is not None and limit < len(rows):
        rows = [rows[i * len(rows) // limit] for i in range(limit)]
    return rows


def _records(root: Path, rows: list[_Row], names: list[str]) -> Iterator[Record]:
    for row in rows:
        class_id = names.index(row.tag) + 1
        trimap_file = root / "annotations" / "trimaps" / f"{row.name}.png"
        image_file = root / "images" / f"{row.name}.jpg"
        try:
            image, size = _image(image_file)
            with Image.open(trimap_file, formats=("PNG",)) as opened:
                trimap = np.asarray(opened)
        except (OSError, SyntaxError) as error:
            raise _damaged(image_file, f"the image or its trimap cannot be read ({error})", root) from None
        if trimap.shape != size:
            raise _damaged(trimap_file, f"has size {trimap.shape}, but its image has {size}", root)
        if not set(np.unique(trimap).tolist()) <= {_PET, _BACKGROUND, _BORDER}:
            raise _damaged(trimap_file, "has values other than 1, 2 and 3", root)
        ids = np.zeros(4, np.uint8)
        ids[[_PET, _BACKGROUND, _BORDER]] = class_id, 0, IGNORE
        yield Record(row.name, image, ids[trimap], [row.tag], row.split)


def _image(file: Path) -> tuple[np.ndarray | Path, tuple[int, int]]:
    """An image and its (height, width): the file if it is an ordinary JPEG, as most are, or else its pixels."""
    with Image.open(file, formats=FORMATS) as opened:
        size = opened.height, opened.width
        if opened.format == "JPEG" and opened.mode == "RGB" and opened.getexif().get(_ORIENTATION, 1) == 1:
            return file, size
        return np.asarray(opened.convert("RGB")), size


def _damaged(file: Path, what: str, root: Path) -> CianError:
    return CianError(f"{file}: {what}. Delete {root} and download it again.")
