"""found.csv: which classes each predicted mask shows, in pixels and percent.

It is made from the masks each time. A hidden file beside it, `.masks`, holds what is known of each mask, so that masks
that are unchanged are not read again.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from cian.data.images import find_files
from cian.data.known_files import KnownFiles
from cian.data.masks import read_mask
from cian.data.problems import FileError
from cian.errors import Problem
from cian.files import write_csv
from cian.inference.provenance import read_origin
from cian.parallel import cores, map_ahead
from cian.terminal import Ticker, note

FOUND = "found.csv"
_RECORD = ".masks"
_HEADER = ["image", "class", "pixels", "percent"]
Shares = list[tuple[str, int, str]]  # (class, pixels, percent) of the classes in a mask


def count_classes(mask: np.ndarray, class_names: Sequence[str]) -> Shares:
    """The classes in a mask, their pixels, and their share of the image in percent, without background."""
    counts = Image.fromarray(mask).histogram()  # of 256 values; np.bincount takes eight times the memory
    classes = list(zip(class_names, counts, strict=False))[1:]
    return [(name, n, f"{100 * n / mask.size:.2f}") for name, n in classes if n]


def update_found(
    out: Path,
    counted: Mapping[Path, Shares],
    masks: Iterable[Path],
    class_names: Sequence[str],
    made_with: str,
) -> tuple[int, list[Problem]]:
    """Writes OUT/found.csv: rows of `masks`, and of the other masks in OUT that are of the same model.

    Args:
        counted: the classes in those masks that were made or read now.
        masks: the masks of all images of this call.
        made_with: fingerprint of the model and the settings, which `class_names` belong to.

    Returns:
        How many of `masks` there are, and a problem for each of them that cannot be read.
    """
    _look_at(out / FOUND)
    asked = dict.fromkeys(mask for mask in masks if mask.exists())
    all_masks = list(asked | dict.fromkeys(find_files(out, (".png",))))
    known = KnownFiles(out / _RECORD)
    known.look(map(Path.absolute, all_masks))
    contents = {mask: known.content(mask.absolute()) for mask in all_masks}
    kept = {mask: held for mask, text in contents.items() if (held := _kept(text, made_with)) is not None}
    shares = {**kept, **counted}
    unread = [mask for mask in all_masks if mask not in shares]
    problems: list[Problem] = []

    def count(mask: Path) -> Shares | Problem | None:
        """None if it is no mask of this model."""
        origin = read_origin(mask)
        if origin is not None and origin.made_with != made_with:
            return None
        try:
            return count_classes(read_mask(mask), class_names)
        except FileError as error:
            return error.problem if mask in asked or origin is not None else None

    if unread:
        with Ticker("counting", len(unread), unit="masks") as ticker, ThreadPoolExecutor(cores()) as pool:
            for mask, found in zip(unread, map_ahead(pool, count, unread), strict=True):
                if isinstance(found, Problem):
                    problems.append(found)
                elif found is not None:
                    shares[mask] = found
                ticker.advance()
    for mask in shares.keys() - kept.keys():
        known.learn(mask.absolute(), json.dumps([made_with, shares[mask]]))
    known.save()
    rows = [
        (mask.relative_to(out).with_suffix("").as_posix(), *share) for mask, found in shares.items() for share in found
    ]
    write_csv(out / FOUND, [_HEADER, *sorted(rows)])
    return len(asked.keys() & shares.keys()), problems


def _kept(text: str, made_with: str) -> Shares | None:
    """What was kept of a mask, if it was found for the same model and settings."""
    kept = json.loads(text) if text else None
    return kept[1] if kept and len(kept) == 2 and kept[0] == made_with else None


def _look_at(file: Path) -> None:
    """Notes that a found.csv is damaged. Nothing is read from it."""
    if not file.exists():
        return
    try:
        with file.open(newline="", encoding="utf-8") as opened:
            header, *rows = csv.reader(opened)
        sound = header == _HEADER and all(
            len(row) == 4 and re.fullmatch(r"\d+ \d+\.\d\d", " ".join(row[2:])) for row in rows
        )
    except (OSError, ValueError, csv.Error):
        sound = False
    if not sound:
        note(Problem(str(file), "damaged, or changed by another program", "It is made again"))
