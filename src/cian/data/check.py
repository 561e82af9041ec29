"""`cian check`: opens every file of a data set, so that no run stops hours later at a broken one; and its summary."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from cian.config import DataConfig
from cian.data.images import read_image
from cian.data.masks import only_ignored, read_mask
from cian.data.problems import FileError, ProblemList
from cian.data.read import read_dataset
from cian.data.summary import summary_data
from cian.data.table import IGNORE, TRAIN, Table
from cian.errors import Problem
from cian.parallel import cores, map_ahead

MIN_SIDE = 16
LARGE = 100_000_000  # pixels
_FEW = 20  # training images of a class
WHOLE = 0.5  # a label map is whole where at most this share of its pixels is not labelled
_MISTAGGED = 0.05  # of the masks may show what is not tagged before it is said: small things are left out of tags
Size = tuple[int, int]


def check_dataset(
    config: DataConfig, seed: int, *, progress: Callable[[int, int], None] | None = None
) -> tuple[Table | None, list[Problem]]:
    """`read_dataset`, and every image, mask and label map of its table read.

    Args:
        progress: called with (images done, images in all) after each image.

    Returns:
        As `read_dataset`; the table knows which label maps are whole.
    """
    problems = ProblemList()
    table, found = read_dataset(config, seed)
    for problem in found:
        problems.append(problem)
    if table is None:
        return None, problems.all()
    _add_notes(config, table, problems)
    check = partial(_check_row, table)
    held: dict[int, Path] = {}  # by class id, the first mask that holds it
    untagged: list[Path] = []  # masks that show a class which their image is not tagged with
    contradicting: list[str] = []  # label maps with a class that is not among the tags of their image
    whole = np.zeros(len(table), bool)
    with ThreadPoolExecutor(min(8, cores())) as pool:  # Pillow's decoders release the interpreter lock
        for row, found_in_row in enumerate(map_ahead(pool, check, range(len(table)))):
            for problem in found_in_row.problems:
                problems.append(problem)
            whole[row] = found_in_row.whole
            known = {0, IGNORE, *table.tags(row).tolist()} if table.tagged[row] else set(range(256))
            if (mask := table.masks[row]) is not None:
                held = dict.fromkeys(found_in_row.in_mask, mask) | held
                if not known.issuperset(found_in_row.in_mask):
                    untagged.append(mask)
            other = [table.class_names[i] for i in found_in_row.in_labels if i not in known and i < table.num_classes]
            if other:
                contradicting.append(f"{table.labels[row]} ({_listed(other)})")
            if progress is not None:
                progress(row + 1, len(table))
    _check_held(table, held, problems)
    compared = sum(mask is not None and bool(known) for mask, known in zip(table.masks, table.tagged, strict=True))
    if len(untagged) > compared * _MISTAGGED:
        value = (
            f"{len(untagged)} of {compared} masks show a class that their image is not tagged with, e.g. {untagged[0]}"
        )
        problems.add("data", value, "Correct the order of the classes (--classes), the masks or the tags", fatal=False)
    if contradicting:
        value = f"label maps with a class that is not among the tags of their image: {_listed(contradicting, 3)}"
        problems.add("data", value, "The label map counts there. Correct it, or add the tag", fatal=False)
    return replace(table, whole=whole), problems.all()


def _add_notes(config: DataConfig, table: Table, problems: ProblemList) -> None:
    """What stops no run, but may make its masks or its scores worse."""
    if any(table.masks) and config.classes is None and config.voc is None and config.coco is None:
        value = "no data.classes (--classes): mask ids are taken as "
        value += _listed([f"{i} = {name}" for i, name in enumerate(table.classes, start=1)])
        problems.add("settings", value, "Give that file if the masks have another order", fatal=False)
    training = table.split(TRAIN)
    together = np.array(summary_data(training)["co_occurrence"])
    _add_contrasts(training, together, problems)
    counts = zip(table.classes, together.diagonal().tolist(), strict=True)
    few = [f"{name} {n}" for name, n in counts if len(training) and config.min_images <= n < _FEW]
    if few:
        value = f"few training images: {_listed(few)}"
        problems.add("data", value, "Some dozens of each class give better masks", fatal=False)
    held_out = [mask for mask, split in zip(table.masks, table.splits, strict=True) if split != TRAIN]
    if held_out and any(table.masks) and not any(held_out):
        value = "no held-out image has a mask, so nothing that the model has not seen is scored"
        cure = "Name images with masks in --split val=FILE, or draw masks of held-out ones"
        problems.add("data", value, cure, fatal=False)


def _add_contrasts(training: Table, together: np.ndarray, problems: ProblemList) -> None:
    """Classes that tags do not tell from what is around them, or from each other.

    Args:
        together: (C, C) numbers of training images that show both classes.
    """
    counts = together.diagonal()
    if always := [name for name, n in zip(training.classes, counts, strict=True) if n == len(training) > 0]:
        value = f"every training image shows {_listed(always)}, so nothing tells it from what is around it"
        cure = "Add images without it: of other classes, or of none, with an empty tag and data.untagged=negative"
        problems.add("data", value, cure, fatal=False)
    first, second = np.nonzero(np.triu((together == counts[:, None]) & (together == counts[None]) & (together > 0), 1))
    alike = [f"{training.classes[i]} and {training.classes[j]}" for i, j in zip(first, second, strict=True)]
    if alike and not always:
        value = f"always in the same training images: {_listed(alike)}, so nothing tells one from the other"
        problems.add("data", value, "Add images of each alone, or make them one class", fatal=False)


def _listed(texts: list[str], most: int = 10) -> str:
    return ", ".join(texts[:most]) + f", … ({len(texts)} in all)" * (len(texts) > most)


def _check_held(table: Table, held: dict[int, Path], problems: ProblemList) -> None:
    """What only all masks together tell, by the class ids that they hold."""
    if IGNORE in held and not any(0 < i < IGNORE for i in held):
        problems.append(only_ignored(held[IGNORE]).problem)
        return
    masked = np.fromiter((mask is not None for mask in table.masks), bool, len(table))  # (N,)
    tagged = np.unique(table.tag_ids[np.repeat(masked, np.diff(table.tag_offsets))])
    absent = [table.class_names[i] for i in tagged if i not in held]
    if absent:
        value = f"tagged, but in none of the masks of these images: {_listed(absent)}"
        problems.add("data", value, "Correct the masks or their order of classes, or the tags", fatal=False)


@dataclass
class _Found:
    """What the files of an image hold: problems, the class ids in its mask and its label map, and whether that is
    whole."""

    problems: list[Problem] = field(default_factory=list)
    in_mask: list[int] = field(default_factory=list)
    in_labels: list[int] = field(default_factory=list)
    whole: bool = False


def _check_row(table: Table, row: int) -> _Found:
    found = _Found()
    mask, labels = table.masks[row], table.labels[row]
    size = _check_image(table.images[row], found.problems)
    counts = None if mask is None else _check_mask(mask, size, table, found.problems)
    if counts is not None:
        found.in_mask = np.flatnonzero(counts).tolist()
    if labels is not None:
        if labels != mask:
            counts = _check_mask(labels, size, table, found.problems)
        if counts is not None:
            found.in_labels = np.flatnonzero(counts).tolist()
            found.whole = bool(counts[IGNORE] <= WHOLE * counts.sum())
    return found


def _check_image(path: Path, problems: list[Problem]) -> Size | None:
    """(height, width), or None if the image cannot be read."""
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
    """(256,) pixels of each class id in a mask or label map; None if it cannot be read.

    Args:
        image: the size of its image, if that can be read.
    """
    try:
        mask = read_mask(path)
    except FileError as error:
        problems.append(error.problem)
        return None
    counts = np.bincount(mask.ravel(), minlength=256)
    known = 1 + len(table.classes if table.mask_classes is None else table.mask_classes)
    _check_ids(path, np.flatnonzero(counts).tolist(), known, problems)
    size: Size = mask.shape
    if image is not None and not fits(size, image):
        value = f"the mask has {size[1]} x {size[0]} pixels, its image {image[1]} x {image[0]}"
        cure = "Give a mask of the image's size, or a larger one of the same proportions"
        if size == image[::-1]:
            cure += " (one is turned against the other: an image is shown as its EXIF orientation says)"
        problems.append(Problem(str(path), value, cure))
    return counts if table.mask_ids is None else np.bincount(table.mask_ids, counts, minlength=256).astype(np.int64)


def _check_ids(path: Path, ids: list[int], num_classes: int, problems: list[Problem]) -> None:
    unknown = [str(i) for i in ids if num_classes <= i != IGNORE]
    if unknown:
        shown = ", ".join(unknown[:5]) + ", …" * (len(unknown) > 5)
        value = f"holds the values {shown}, but class ids are 0 to {num_classes - 1}, and {IGNORE} is ignore"
        problems.append(Problem(str(path), value, "Correct the mask, or give all classes in data.classes"))


def fits(mask: Size, image: Size) -> bool:
    """Whether a mask can score its image: the same (height, width), or that of a larger original of the image."""
    return mask[0] >= image[0] and mask[1] >= image[1] and proportional(mask, image)


def proportional(first: Size, second: Size) -> bool:
    """Whether one (height, width) is the other reduced: up to the rounding of one side to whole pixels."""
    (height, width), (large_height, large_width) = sorted((first, second))
    off_height = abs(large_height * width / large_width - height)
    off_width = abs(large_width * height / large_height - width)
    return min(off_height, off_width) <= 1
