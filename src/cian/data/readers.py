"""Reads a user's data set into a `Table`: brings together images, tags, classes, splits and masks.

All problems are collected, so that a user can cure them in one go. Every step is a loop over rows with look-ups in
dictionaries: linear in the number of images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cian.config import DataConfig
from cian.data.classes import class_names, resolve_classes
from cian.data.lookup import FileIndex, find_image, find_masks, index_images
from cian.data.problems import ProblemList, printable, show
from cian.data.table import TRAIN, Table
from cian.data.tags import EXAMPLE, TagSource, open_tags
from cian.data.textfiles import read_lines, text_encoding
from cian.errors import Problem

VAL = "val"


def read_dataset(config: DataConfig, seed: int) -> tuple[Table | None, list[Problem]]:
    """The table of a data set, and all that is wrong with it; image and mask files are found but not opened.

    Rows name images by file name, by path under `config.images`, or by either without suffix. Names are compared in
    Unicode normal form C. Images without a row are left out, unless a list file of a split other than `train` names
    them: these are kept with `tagged=False`. Images in no list file are left out.

    Returns:
        The table (None if nothing usable is left) and the problems. A table that comes with a fatal problem is good
        to be looked at, not to be trained on.
    """
    problems = ProblemList()
    table = _read(config, seed, problems)
    return table, problems.all()


@dataclass
class _Rows:
    """What the rows say, by image."""

    tags: list[tuple[str, ...] | None]  # None: no row
    splits: list[str | None]  # None: not in the table


def _read(config: DataConfig, seed: int, problems: ProblemList) -> Table | None:
    _check_settings(config, problems)
    images, given = None, None
    with problems.collecting():
        images = index_images(config.images) if config.images else None
    with problems.collecting():
        given = class_names(config.classes) if config.classes else None
    if images is None:
        _check_readable(config, problems)
        return None

    source, rows = None, _Rows([None] * len(images), [None] * len(images))
    with problems.collecting():
        opened = open_tags(config, images, problems)
        _collect(opened, images, rows, problems)
        source = opened
    if config.splits:
        _read_lists(config.splits, images, rows, problems)
    if source is None:
        return None
    _check_rows(config, source, images, rows, problems)
    _check_ids(images, rows, problems)

    kept = [i for i, split in enumerate(rows.splits) if split is not None]
    tags = [rows.tags[i] for i in kept]
    splits = [split for split in rows.splits if split is not None]
    if not kept:
        problems.add(source.path, "names no image that exists", "Check data.images, data.tags and data.splits")
        return None
    classes = resolve_classes(config, source, given, tags, problems)
    if not classes:
        return None
    numbers = {name: i for i, name in enumerate(classes, start=1)}
    numbered = [None if row is None else [numbers[name] for name in row if name in numbers] for row in tags]
    if config.val_fraction and not config.splits and not config.split_column:
        _draw_val(numbered, splits, config, seed, problems)
    _check_counts(numbered, splits, classes, config, source, problems)
    ids = [images.ids[i] for i in kept]
    masks = find_masks(config.masks, ids, problems)
    return Table.build(classes, ids, [images.files[i] for i in kept], numbered, splits, masks)


def _check_settings(config: DataConfig, problems: ProblemList) -> None:
    if config.images is None:
        problems.add("settings", "data.images is not given", "Give a folder of images")
    ways = {
        "data.splits": bool(config.splits),
        "data.split_column": config.split_column is not None,
        "data.val_fraction": config.val_fraction > 0,
    }
    used = [name for name, is_used in ways.items() if is_used]
    if len(used) > 1:
        problems.add("settings", " and ".join(used) + " are given", "Give one of them: each says what is held out")
    if config.split_column is not None and config.tags is None:
        problems.add("settings", "data.split_column is given without data.tags", "Give the CSV that has this column")


def _check_readable(config: DataConfig, problems: ProblemList) -> None:
    """Without images nothing can be matched; says at least which other files cannot be read."""
    for path in (config.tags, *config.splits.values()):
        if path is not None:
            with problems.collecting():
                text_encoding(path)


def _collect(source: TagSource, images: FileIndex, rows: _Rows, problems: ProblemList) -> None:
    """Sorts the rows by image into `rows`."""
    number = 0
    for number, row in enumerate(source.rows, start=1):  # noqa: B007
        for tag in row.tags:
            source.first.setdefault(tag, row.line)
        index = find_image(row.image, images, source.at(row.line), problems)
        if index is None:
            continue
        before = rows.tags[index]
        if before is None:
            rows.tags[index] = row.tags
            rows.splits[index] = row.split
            continue
        if source.merge:
            rows.tags[index] = before + tuple(tag for tag in row.tags if tag not in before)
        elif set(before) != set(row.tags):
            value = (
                f"{show(row.image)} had other tags before ({show(', '.join(before))}, now {show(', '.join(row.tags))})"
            )
            cure = "Keep one row per image, or call the column `tag` if each row is one image and one tag"
            problems.add(source.at(row.line), value, cure)
        if rows.splits[index] != row.split:
            value = f"{show(row.image)} is in split {show(rows.splits[index] or '')} too"
            problems.add(source.at(row.line), value, "Keep it in one split")
    if not number and source.unit:
        problems.add(source.path, "holds no rows", EXAMPLE)


def _read_lists(splits: dict[str, Path], images: FileIndex, rows: _Rows, problems: ProblemList) -> None:
    """Sets `rows.splits` from list files, one image a line."""
    rows.splits[:] = [None] * len(images)
    for split, path in splits.items():
        with problems.collecting():
            for number, line in enumerate(read_lines(path), start=1):
                if not line.strip():
                    continue
                where = f"{path}, line {number}"
                row = find_image(line.strip(), images, where, problems)
                if row is None:
                    continue
                other = rows.splits[row]
                if other not in (None, split):
                    problems.add(where, f"{show(line.strip())} is in split {other} too", "Keep it in one split")
                else:
                    rows.splits[row] = split


def _check_rows(config: DataConfig, source: TagSource, images: FileIndex, rows: _Rows, problems: ProblemList) -> None:
    """Images without a row, and rows without a tag."""
    without: list[str] = []
    held_out = bool(config.splits) or config.split_column is not None
    for i, (tags, split) in enumerate(zip(rows.tags, rows.splits, strict=True)):
        if split is None and tags is None and not config.splits:
            without.append(images.paths[i])
        elif split == TRAIN and tags is None:
            problems.add(images.files[i], "listed for training, but has no tags", f"Add it to {source.path}")
        elif split is not None and tags == () and config.untagged == "error":
            if held_out and split != TRAIN:
                rows.tags[i] = None
            else:
                problems.add(
                    images.files[i],
                    f"has no tag in {source.path}",
                    "Tag it, remove it, or set data.untagged=negative if it shows none of the classes",
                )
    if without:
        count = f"{len(without)} image{'s' * (len(without) > 1)}"
        names = ", ".join(without[:3]) + ", …" * (len(without) > 3)
        if config.tags is None:
            problems.add(source.path, f"{count} in no class folder ({names})", "Move them to the folder of their class")
        else:
            problems.add(
                source.path, f"no row for {count} ({names})", "Add rows, or ignore this: not used", fatal=False
            )


def _check_ids(images: FileIndex, rows: _Rows, problems: ProblemList) -> None:
    """Two images of one id would overwrite each other's masks; the second is left out."""
    first: dict[str, int] = {}
    for i, name in enumerate(images.ids):
        if rows.splits[i] is None:
            continue
        if printable(name) != name:
            problems.add(images.files[i], "the file name is not valid text", "Rename it")
        elif (other := first.setdefault(name, i)) != i:
            pair = f"differs from {images.paths[other]} only in its suffix"
            problems.add(images.files[i], pair, "Rename or remove one of them: both masks would be called alike")
        else:
            continue
        rows.splits[i] = None


def _check_counts(
    tags: Sequence[list[int] | None],
    splits: Sequence[str],
    classes: Sequence[str],
    config: DataConfig,
    source: TagSource,
    problems: ProblemList,
) -> None:
    """Every class needs images to learn from."""
    if TRAIN not in splits:
        present = ", ".join(sorted(set(splits)))
        problems.add(source.path, f"no image in split {TRAIN} (splits: {present})", f"Call one split {TRAIN}")
        return
    counts = Counter(tag for row, split in zip(tags, splits, strict=True) if split == TRAIN for tag in row or ())
    for class_id, name in enumerate(classes, start=1):
        if (count := counts[class_id]) < config.min_images:
            problems.add(
                source.where(name),
                f"class {show(name)} has {count} training image{'s' * (count != 1)}, fewer than {config.min_images}",
                "Add images, drop the class, or lower data.min_images",
            )


def _draw_val(
    tags: Sequence[list[int] | None], splits: list[str], config: DataConfig, seed: int, problems: ProblemList
) -> None:
    """Moves a fraction of the images to `val`, as long as each of their classes keeps enough for training."""
    left = Counter(tag for row in tags for tag in row or ())
    wanted = max(1, round(config.val_fraction * len(splits)))
    drawn = 0
    for i in np.random.default_rng(seed).permutation(len(splits)).tolist():
        if drawn == wanted:
            break
        row = tags[i] or []
        if all(left[tag] > config.min_images for tag in row) and drawn < len(splits) - 1:
            for tag in row:
                left[tag] -= 1
            splits[i] = VAL
            drawn += 1
    if drawn < wanted:
        value = f"data.val_fraction={config.val_fraction} asks for {wanted} images, {drawn} could be held out"
        problems.add("settings", value, "Add images of the rare classes, or lower data.val_fraction", fatal=False)
