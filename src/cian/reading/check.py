"""`cian check`: opens every file of a data set, so that no run stops after hours at a broken one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import compress
from pathlib import Path

import numpy as np

from cian.config import DataConfig
from cian.data.images import DECODING, Decoded, decode, limit_pixels, refuse_large
from cian.data.known_files import KnownFiles
from cian.data.masks import WHOLE, count_ids, fits, read_mask
from cian.data.problems import FileError, ProblemList, few
from cian.data.table import IGNORE, Table
from cian.errors import Problem
from cian.parallel import cores, map_ahead
from cian.reading.advice import MaskContents, note_classes, note_masks
from cian.reading.read import read_dataset

MIN_SIDE = 16  # pixels
_IMAGE, _MASK = f"image/{DECODING} ", f"mask/{DECODING} "  # how what is learnt of a file starts

Size = tuple[int, int]  # (height, width)


def check_dataset(
    config: DataConfig,
    seed: int,
    *,
    known: KnownFiles | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Table | None, list[Problem]]:
    """`read_dataset`, and then every image, mask and label map of the table is read.

    Args:
        known: what earlier checks have found. Files that are unchanged since are not read.
        progress: called with (images done, images to read) after each image that is read.

    Returns:
        As `read_dataset`. The table also says which label maps are whole, and has what is known of its files.
    """
    problems = ProblemList()
    limit_pixels(config.max_megapixels)
    table, found = read_dataset(config, seed)
    for problem in found:
        problems.append(problem)
    if table is None:
        return None, problems.all()
    if known is not None:
        table = replace(table, known=known)
    note_masks(config, table, problems)
    note_classes(config, table, problems)
    contents = MaskContents(table)
    several: list[str] = []
    whole = np.zeros(len(table), bool)
    unread = _unread_rows(table)
    done, total = 0, sum(unread)
    with ThreadPoolExecutor(min(8, cores())) as pool:  # threads help: Pillow's decoders release the interpreter lock
        read = map_ahead(pool, partial(_check_files, table), compress(range(len(table)), unread))
        for row, is_read in enumerate(unread):
            files = next(read) if is_read else _check_files(table, row)
            for problem in files.problems:
                problems.append(problem)
            whole[row] = files.whole
            if files.several:
                several.append(table.images[row].name)
            contents.add(row, files.in_mask, files.in_labels)
            done += is_read
            if is_read and progress is not None:
                progress(done, total)
    if several:
        value = f"{few(several)} of several frames or pages, of which the first is read"
        cure = "Save the others as files of their own, to use them"
        problems.add(config.images or table.images[0].parent, value, cure, fatal=False)
    contents.report(problems)
    return replace(table, whole=whole), problems.all()


@dataclass
class _Files:
    """What the files of one image hold.

    Attributes:
        in_mask, in_labels: the class ids in its mask and in its label map.
        whole: whether the label map is whole.
        several: whether the image is one of several frames or pages in its file.
    """

    problems: list[Problem] = field(default_factory=list)
    in_mask: list[int] = field(default_factory=list)
    in_labels: list[int] = field(default_factory=list)
    whole: bool = False
    several: bool = False


def _unread_rows(table: Table) -> list[bool]:
    """(N,) whether the image, or its mask or label map, must be read: it has changed since it was, or never was."""
    unread = [False] * len(table)
    for column in (table.images, table.masks, table.labels):
        table.known.look(path for path in column if path is not None)
        for row, path in enumerate(column):
            if path is not None and not table.known.content(path).startswith((_IMAGE, _MASK)):
                unread[row] = True
    return unread


def _check_files(table: Table, row: int) -> _Files:
    files = _Files()
    mask, labels = table.masks[row], table.labels[row]
    size = _check_image(table.images[row], table, files)
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


def _check_image(path: Path, table: Table, files: _Files) -> Size | None:
    """The size of an image; None if it cannot be read."""
    try:
        height, width, files.several = _decoded(path, table.known)
        refuse_large(path, height, width)  # the limit may have been higher when it was read
    except FileError as error:
        files.problems.append(error.problem)
        return None
    if min(height, width) < MIN_SIDE:
        cure = f"Give images of at least {MIN_SIDE} x {MIN_SIDE} pixels"
        files.problems.append(Problem(str(path), f"{width} x {height} pixels", cure))
    return height, width


def _decoded(path: Path, known: KnownFiles) -> Decoded:
    """What an image is, which is read if it is not known."""
    if (content := known.content(path)).startswith(_IMAGE):
        _, height, width, several = content.split(" ")
        return Decoded(int(height), int(width), several == "1")
    found = decode(path)
    known.learn(path, f"{_IMAGE}{found.height} {found.width} {int(found.several)}")
    return found


def _mask_content(path: Path, known: KnownFiles) -> tuple[Size, np.ndarray]:
    """The size of a mask, and (256,) its pixels of each id in the file. The mask is read if it is not known."""
    if (content := known.content(path)).startswith(_MASK):
        _, height, width, *pairs = content.split(" ")
        counts = np.zeros(256, np.int64)
        for class_id, _, count in (pair.partition(":") for pair in pairs):
            counts[int(class_id)] = int(count)
        return (int(height), int(width)), counts
    values = read_mask(path)
    counts = count_ids(values)
    pairs = [f"{class_id}:{counts[class_id]}" for class_id in np.flatnonzero(counts)]
    known.learn(path, _MASK + " ".join((*map(str, values.shape), *pairs)))
    return values.shape, counts


def _check_mask(path: Path, image: Size | None, table: Table, problems: list[Problem]) -> np.ndarray | None:
    """(256,) pixels of each class id in a mask or a label map; None if it cannot be read.

    Args:
        image: the size of its image, if that can be read.
    """
    try:
        size, counts = _mask_content(path, table.known)
        refuse_large(path, *size)
    except FileError as error:
        problems.append(error.problem)
        return None
    _check_ids(path, np.flatnonzero(counts).tolist(), table, problems)
    if image is not None and not fits(size, image):
        value = f"the mask has {size[1]} x {size[0]} pixels, its image {image[1]} x {image[0]}"
        cure = "Give a mask of the image's size, or a larger one of the same proportions"
        if size == image[::-1]:
            cure += " (width and height are swapped: turn the mask as the EXIF orientation turns the image)"
        problems.append(Problem(str(path), value, cure))
    return counts if table.mask_ids is None else np.bincount(table.mask_ids, counts, minlength=256).astype(np.int64)


def _check_ids(path: Path, values: list[int], table: Table, problems: list[Problem]) -> None:
    known = 1 + len(table.classes if table.mask_classes is None else table.mask_classes)
    unknown = [str(value) for value in values if known <= value != IGNORE]
    if unknown:
        shown = ", ".join(unknown[:5]) + ", …" * (len(unknown) > 5)
        value = f"holds the values {shown}, but class ids are 0 to {known - 1}, and {IGNORE} is ignore"
        problems.append(Problem(str(path), value, "Correct the mask, or give all classes in data.classes"))
