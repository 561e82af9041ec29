"""Reads a user's data set into a `Table`: brings together images, tags, classes, splits and masks.

All problems are collected, so that a user can cure them in one go. Every step is a loop over rows with look-ups in
dictionaries: linear in the number of images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cian.config import DataConfig
from cian.data.classes import class_names, resolve_classes
from cian.data.problems import ProblemList, printable, quoted
from cian.data.table import TRAIN, Table
from cian.errors import Problem
from cian.formats.devkits import Layout, Lists, find_layout
from cian.formats.file_index import MISSING, NO_IMAGE, FileIndex, find_image, index_images, skipped
from cian.formats.format import TagSource
from cian.formats.mask_folders import find_masks
from cian.formats.registry import open_tags
from cian.formats.split_names import VAL
from cian.formats.text import read_lines, text_encoding

ADD_ROWS = "Add rows if they should be"


def read_dataset(config: DataConfig, seed: int, training: bool = True) -> tuple[Table | None, list[Problem]]:
    """The table of a data set, and all that is wrong with it; image and mask files are found but not opened.

    Rows name images by file name, by path under `config.images`, or by either without suffix. Names are compared in
    Unicode normal form C. Images without a row are left out, unless a list file of a split other than `train` names
    them: these are kept with `tagged=False`. Images in no list file are left out. What the settings do not give comes
    from a devkit, if there is one (see `layouts`).

    Args:
        training: each class needs `data.min_images` training images.

    Returns:
        The table (None if nothing usable is left) and the problems. A table that comes with a fatal problem is good
        to be looked at, not to be trained on.
    """
    problems = ProblemList()
    table = _read(config, seed, training, problems)
    return table, problems.all()


@dataclass
class _Rows:
    """What the rows say, by image."""

    tags: list[tuple[str, ...] | None]  # None: no row
    splits: list[str | None]  # None: not in the table


def _read(config: DataConfig, seed: int, training: bool, problems: ProblemList) -> Table | None:
    layout = None
    with problems.collecting():
        layout = find_layout(config, problems)
    if layout is None:
        return None
    config = layout.config
    _check_settings(layout, problems)
    images, given = None, None
    with problems.collecting():
        images = index_images(config.images, layout.folders, layout.masks + layout.labels) if config.images else None
    with problems.collecting():
        given = class_names(config.classes) if config.classes else None
    if images is None:
        _check_readable(layout, problems)
        return None
    if images.unread is not None:
        problems.add(str(config.images), *skipped(images.unread.files), fatal=False)

    source, rows = None, _Rows([None] * len(images), [None] * len(images))
    listed = _read_lists(layout.lists, images, problems) if layout.lists else None
    with problems.collecting():
        opened = open_tags(config, images, listed, problems)
        _collect(opened, images, rows, problems)
        source = opened
    if listed is not None:
        rows.splits = listed
    if source is None:
        return None
    held_out = listed is not None or config.split_column is not None or source.splits
    if source.splits and config.val_fraction:
        value = f"data.val_fraction is given, but {source.path} says what is held out"
        problems.add("settings", value, "Leave it out" + ", or give one of its files as data.tags" * bool(source.files))
    _check_rows(config, source, images, rows, listed is not None, held_out, problems)
    _check_ids(images, rows, problems)

    kept = [i for i, split in enumerate(rows.splits) if split is not None]
    tags = [rows.tags[i] for i in kept]
    splits = [split for split in rows.splits if split is not None]
    if not kept:
        if not problems.stop(but=NO_IMAGE):  # else it is said already why
            problems.add(source.path, "names no image that exists", "Check data.images, data.tags and data.splits")
        return None
    classes = resolve_classes(config, source, given, tags, problems)
    if not classes:
        return None
    numbers = {name: i for i, name in enumerate(classes, start=1)}
    numbered = [None if row is None else [numbers[name] for name in row if name in numbers] for row in tags]
    if config.val_fraction and not held_out:
        _draw_val(numbered, splits, config, seed, problems)
    if training:
        _check_counts(numbered, splits, classes, config, source, problems)
    ids = [images.ids[i] for i in kept]
    masks = find_masks(layout.masks, ids, problems)
    labels = find_masks(layout.labels, ids, problems)
    return Table.build(classes, ids, [images.files[i] for i in kept], numbered, splits, masks, labels)


def _check_settings(layout: Layout, problems: ProblemList) -> None:
    config = layout.config
    if config.images is None:
        problems.add("settings", "data.images is not given", "Give a folder of images")
    ways = {
        "data.voc" if config.voc else "data.splits": bool(layout.lists),
        "data.split_column": config.split_column is not None,
        "data.val_fraction": config.val_fraction > 0,
    }
    used = [name for name, is_used in ways.items() if is_used]
    if len(used) > 1:
        problems.add("settings", " and ".join(used) + " are given", "Give one of them: each says what is held out")
    if config.split_column is not None and config.tags is None:
        problems.add("settings", "data.split_column is given without data.tags", "Give the CSV that has this column")


def _check_readable(layout: Layout, problems: ProblemList) -> None:
    """Without images nothing can be matched; says at least which other files cannot be read."""
    tags = layout.config.tags
    for path in (tags, *(file for lists in layout.lists.values() for file in lists.files)):
        if path is not None and not (path == tags and path.is_dir()):
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
            earlier, now = quoted(", ".join(before)), quoted(", ".join(row.tags))
            value = f"{quoted(row.image)} had other tags before ({earlier}, now {now})"
            cure = "Keep one row per image, or call the column `tag` if each row is one image and one tag"
            problems.add(source.at(row.line), value, cure)
        if rows.splits[index] != row.split:
            value = f"{quoted(row.image)} is in split {quoted(rows.splits[index] or '')} too"
            problems.add(source.at(row.line), value, "Keep it in one split")
    if not number and source.if_empty:
        problems.add(source.path, "holds no rows", source.if_empty)


def _read_lists(lists: dict[str, Lists], images: FileIndex, problems: ProblemList) -> list[str | None]:
    """The split of each image by list files, one image a line; None where it is in none of them."""
    splits: list[str | None] = [None] * len(images)
    for split, files in lists.items():
        left_out = {row for file in files.without for _, _, row in _listed(file, images, ProblemList())}
        for file in files.files:
            for where, name, row in _listed(file, images, problems):
                other = splits[row]
                if row in left_out:
                    continue
                if other not in (None, split):
                    problems.add(where, f"{quoted(name)} is in split {other} too", "Keep it in one split")
                else:
                    splits[row] = split
    return splits


def _listed(path: Path, images: FileIndex, problems: ProblemList) -> Iterator[tuple[str, str, int]]:
    """(where, what the line says, row of the image) of the lines of a list file.

    An image is named by a whole line or, as in the lists of PASCAL VOC's users, by its first column, which may start
    with a slash: `/JPEGImages/ID.jpg /SegmentationClassAug/ID.png`.
    """
    with problems.collecting():
        for number, line in enumerate(read_lines(path), start=1):
            name = line.strip()
            if not name:
                continue
            where = f"{path}, line {number}"
            first = name.split()[0]
            keys = (name, first, first.lstrip("/"))
            key = next((key for key in keys if images.find(key) != MISSING), name)
            row = find_image(key, images, where, problems)
            if row is not None:
                yield where, name, row


def _check_rows(
    config: DataConfig,
    source: TagSource,
    images: FileIndex,
    rows: _Rows,
    listed: bool,
    held_out: bool,
    problems: ProblemList,
) -> None:
    """Images without a row, and rows without a tag."""
    without: list[str] = []
    for i, (tags, split) in enumerate(zip(rows.tags, rows.splits, strict=True)):
        if split is None and tags is None and not listed:
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
            cure = "Move them to the folder of their class, or give --tags FILE"
            problems.add(source.path, f"{count} in no class folder ({names})", cure)
        else:
            value = f"no row for {count} ({names}), which will not be used"
            problems.add(source.path, value, ADD_ROWS, fatal=False)


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
        cure = f"Give its list too: --split {TRAIN}=FILE" if config.splits else f"Call one split {TRAIN}"
        problems.add(source.path, f"no image in split {TRAIN} (splits: {present})", cure)
        return
    counts = Counter(tag for row, split in zip(tags, splits, strict=True) if split == TRAIN for tag in row or ())
    for class_id, name in enumerate(classes, start=1):
        if (count := counts[class_id]) < config.min_images:
            problems.add(
                source.where(name),
                f"class {quoted(name)} has {count} training image{'s' * (count != 1)}, fewer than {config.min_images}",
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
