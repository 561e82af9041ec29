"""`cian check`: opens every file of a data set, so that no run stops after hours at a broken one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from cian.config import DataConfig
from cian.data.advice import MaskContents, note_classes, note_masks
from cian.data.images import read_image
from cian.data.masks import fits, read_mask
from cian.data.problems import FileError, ProblemList
from cian.data.read import read_dataset
from cian.data.table import IGNORE, Table
from cian.errors import Problem
from cian.parallel import cores, map_ahead

MIN_SIDE = 16  # pixels
LARGE = 100_000_000  # pixels
WHOLE = 0.5  # a label map is whole if at most this share of its pixels is unlabelled

Size = tuple[int, int]  # (height, width)


def check_dataset(
    config: DataConfig, seed: int, *, progress: Callable[[int, int], None] | None = None
) -> tuple[Table | None, list[Problem]]:
    """`read_dataset`, and then every image, mask and label map of the table is read.

    Args:
        progress: called with (images done, images in all) after each image.

    Returns:
        As `read_dataset`. The table also says which label maps are whole.
    """
    problems = ProblemList()
    table, found = read_dataset(config, seed)
    for problem in found:
        problems.append(problem)
    if table is None:
        return None, problems.all()
    note_masks(config, table, problems)
    note_classes(config, table, problems)
    contents = MaskContents(table)
    whole = np.zeros(len(table), bool)
    with ThreadPoolExecutor(min(8, cores())) as pool:  # threads help: Pillow's decoders release the interpreter lock
        for row, files in enumerate(map_ahead(pool, partial(_check_files, table), range(len(table)))):
            for problem in files.problems:
                problems.append(problem)
            whole[row] = files.whole
            contents.add(row, files.in_mask, files.in_labels)
            if progress is not None:
                progress(row + 1, len(table))
    contents.report(problems)
    return replace(table, whole=whole), problems.all()


@dataclass
class _Files:
    """What the files of one image hold.

    Attributes:
        in_mask, in_labels: the class ids in its mask and in its label map.
        whole: whether the label map is whole.
    """

    problems: list[Problem] = field(default_factory=list)
    in_mask: list[int] = field(default_factory=list)
    in_labels: list[int] = field(default_factory=list)
    whole: bool = False


def _check_files(table: Table, row: int) -> _Files:
    files = _Files()
    mask, labels = table.masks[row], table.labels[row]
    size = _check_image(table.images[row], files.problems)
    counts = None if mask is None else _check_mask(mask, size, table, files.problems)
    if counts is not None:
        files.in_mask = np.flatnonzero(counts).tolist()
    if labels is not None:
        if labels != mask:
            counts = _check_mask(labels, size, table, files.problems)
        if counts is not None:
            files.in_labels = np.flatnonzero(counts).tolist()
            files.whole = bool(counts[IGNORE] <= WHOLE * counts.sum())
    return files


def _check_image(path: Path, problems: list[Problem]) -> Size | None:
    """The size of an image; None if it cannot be read."""
    try:
        height, width = read_image(path).shape[:2]
    except FileError as error:
        problems.append(error.problem)
        return None
    value = f"{width} x {height} pixels"
    if min(height, width) < MIN_SIDE:
        problems.append(Problem(str(path), value, f"Give images of at least {MIN_SIDE} x {MIN_SIDE} pixels"))
    elif height * width > LARGE:
        cure = f"Over {LARGE // 10**6} megapixels: cut it into tiles if memory runs out"
        problems.append(Problem(str(path), value, cure, fatal=False))
    return height, width


def _check_mask(path: Path, image: Size | None, table: Table, problems: list[Problem]) -> np.ndarray | None:
    """(256,) pixels of each class id in a mask or a label map; None if it cannot be read.

    Args:
        image: the size of its image, if that can be read.
    """
    try:
        values = read_mask(path)
    except FileError as error:
        problems.append(error.problem)
        return None
    counts = np.bincount(values.ravel(), minlength=256)
    _check_ids(path, np.flatnonzero(counts).tolist(), table, problems)
    size: Size = values.shape
    if image is not None and not fits(size, image):
        value = f"the mask has {size[1]} x {size[0]} pixels, its image {image[1]} x {image[0]}"
        cure = "Give a mask of the image's size, or a larger one of the same proportions"
        if size == image[::-1]:
            cure += " (one is turned against the other: an image is shown as its EXIF orientation says)"
        problems.append(Problem(str(path), value, cure))
    return counts if table.mask_ids is None else np.bincount(table.mask_ids, counts, minlength=256).astype(np.int64)


def _check_ids(path: Path, values: list[int], table: Table, problems: list[Problem]) -> None:
    known = 1 + len(table.classes if table.mask_classes is None else table.mask_classes)
    unknown = [str(value) for value in values if known <= value != IGNORE]
    if unknown:
        shown = ", ".join(unknown[:5]) + ", …" * (len(unknown) > 5)
        value = f"holds the values {shown}, but class ids are 0 to {known - 1}, and {IGNORE} is ignore"
        problems.append(Problem(str(path), value, "Correct the mask, or give all classes in data.classes"))
