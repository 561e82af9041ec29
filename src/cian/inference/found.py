"""found.csv: which classes each predicted mask shows, in pixels and percent."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from cian.data.masks import read_mask
from cian.files import atomic
from cian.parallel import cores, map_ahead
from cian.terminal import Ticker

FOUND = "found.csv"
_HEADER = ["image", "class", "pixels", "percent"]
Rows = list[list[str]]


def count_classes(image_id: str, mask: np.ndarray, class_names: Sequence[str]) -> Rows:
    """The rows of one image: its ID, a class, the class's pixels, and their share of the image in percent.

    Background has no row.
    """
    counts = Image.fromarray(mask).histogram()  # of 256 values; np.bincount takes eight times the memory
    classes = list(zip(class_names, counts, strict=False))[1:]
    return [[image_id, name, str(n), f"{100 * n / mask.size:.2f}"] for name, n in classes if n]


def update_found(
    out: Path, counted: Mapping[str, Rows], masks: Mapping[str, Path], class_names: Sequence[str]
) -> dict[str, Rows]:
    """Writes OUT/found.csv.

    A mask that was not counted now is read only if it is newer than found.csv, which is written after all masks: a
    killed process has left it, or somebody has corrected it. Rows of images that are not in `masks` are kept as long as
    their masks exist.

    Args:
        counted: rows of the images whose masks were counted now, by ID.
        masks: the masks of all images of this call, by ID.

    Returns:
        The rows of the images in `masks` that have a mask, by ID.
    """
    before = _read(out / FOUND)
    written = modified(out / FOUND)
    rows = dict(counted)
    unread: list[str] = []
    for image_id, mask in masks.items():
        if image_id in rows or not (time := modified(mask)):
            continue
        if time < written:
            rows[image_id] = before.get(image_id, [])
        else:
            unread.append(image_id)

    def read(image_id: str) -> Rows:
        return count_classes(image_id, read_mask(masks[image_id]), class_names)

    if unread:
        with Ticker("counting", len(unread), unit="masks") as ticker, ThreadPoolExecutor(cores()) as pool:
            for image_id, lines in zip(unread, map_ahead(pool, read, unread), strict=True):
                rows[image_id] = lines
                ticker.advance()
    others = {key: lines for key, lines in before.items() if key not in rows and (out / f"{key}.png").is_file()}
    _write(out / FOUND, {**others, **rows})
    return rows


def modified(file: Path) -> int:
    """When a file was written, in ns; 0 if there is no such file."""
    return file.stat().st_mtime_ns if file.exists() else 0


def _read(path: Path) -> dict[str, Rows]:
    """The rows by ID; lines that are not of this form are left out."""
    rows: dict[str, Rows] = {}
    if path.exists():
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            for row in list(csv.reader(file))[1:]:
                if len(row) == len(_HEADER):
                    rows.setdefault(row[0], []).append(row)
    return rows


def _write(path: Path, rows: Mapping[str, Rows]) -> None:
    lines = sorted(line for found in rows.values() for line in found)
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_HEADER, *lines])
